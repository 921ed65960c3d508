"""How long a network takes for a prediction, measured as it would be served.

Each network is exported as a bundle's is and run by ONNX Runtime on the CPU. Networks are measured
in turns, round after round: when the machine is busy with something else, it is so for all of them,
and the ratio of two networks' times is that of paired rounds. Within a turn a quick network runs
once unmeasured first, since the one before it emptied the processor's caches.

Measured times differ from one minute to the next. So a study keeps them in a file of its own and
reads them again when it is repeated: it then says the same.
"""

import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layerwise.config import from_mapping, read_json, to_mapping, write_json
from layerwise.data.storage.rows import cannot_write
from layerwise.errors import LayerwiseError, ModelError
from layerwise.models.onnx_graph import export_graph
from layerwise.models.onnx_session import Session
from layerwise.training.network import TransferNetwork

MOST_ROUNDS = 30
FEWEST_ROUNDS = 3  # whatever the time: a single round says nothing of the noise
QUICK = 0.05  # seconds; what is quicker is run TURN times in a round, after one run unmeasured
TURN = 3
DECIMALS = 4  # of milliseconds
OUTPUT = "logits"


@dataclass(frozen=True)
class Latency:
    """What one batch takes a network.

    Attributes:
        median_ms: Milliseconds a batch, the median of the rounds.
        low_ms: Their lower quartile.
        high_ms: Their upper quartile.
        runs: How many runs were timed.
        rounds: Milliseconds of each round, the median of its runs.
        sitting: Latencies of one sitting were measured in turns: their rounds are pairs.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    runs: int
    rounds: tuple[float, ...]
    sitting: int


def measure_latency(
    networks: Mapping[str, TransferNetwork],
    image_size: tuple[int, int],
    channels: int,
    *,
    threads: int,
    batches: Sequence[int] = (1, 16),
    seconds: float = 60.0,
    kept: Path,
) -> dict[str, dict[int, Latency]]:
    """Latencies of several networks, in turns; those in the kept file are read, not measured.

    Args:
        networks: By names that tell them apart; the device they are on does not matter.
        image_size: Height and width of the uint8 pictures that they take.
        channels: Of the pictures, 1 or 3.
        threads: Of ONNX Runtime.
        batches: Pictures at a time.
        seconds: After which no new round is begun, exports not counted; three rounds are made in
            any case, at most thirty.
        kept: A JSON file, made when it is not there; new latencies are added to it, all together.
            One is found again for the same name, number of parameters, pictures, batch, threads
            and processor.

    Returns:
        {name: {batch: latency}}, in the order of the networks.

    Raises:
        ModelError: A network has no ONNX form.
        LayerwiseError: The kept file is damaged, or can not be written.
    """
    found = _read(kept)
    around = f"{image_size[0]}×{image_size[1]}×{channels}", f"{threads} threads, {processor()}"
    keys = {
        (name, batch): f"{name}, {_parameters(network)} parameters, {around[0]}, batch {batch}, "
        + around[1]
        for name, network in networks.items()
        for batch in batches
    }
    missing = {place: key for place, key in keys.items() if key not in found}
    if missing:
        pictures = np.random.default_rng(0).integers(
            0, 256, (max(batches), *image_size, channels), dtype=np.uint8
        )
        sessions = {
            name: _session(name, networks[name], pictures, threads)
            for name in dict.fromkeys(name for name, _ in missing)
        }
        rounds, runs = in_turns(
            {place: _run(sessions[place[0]], pictures[: place[1]]) for place in missing}, seconds
        )
        sitting = 1 + max((latency.sitting for latency in found.values()), default=0)
        found |= {
            key: summary(rounds[place], runs[place], sitting) for place, key in missing.items()
        }
        _write(kept, found)
    return {name: {batch: found[keys[name, batch]] for batch in batches} for name in networks}


def speedup(a: Latency, b: Latency, *, draws: int = 1000, seed: int = 0) -> dict[str, float]:
    """How many times as fast the second is: the ratio of medians, first over second.

    The 95% interval is that of resampled rounds, the same rounds of both where they were measured
    in turns. It holds what a noisy machine does within a sitting, not the difference between days
    or machines.

    Returns:
        "value", "low", "high"; the bounds are NaN for fewer than two rounds.
    """
    value = a.median_ms / b.median_ms
    first, second = np.array(a.rounds), np.array(b.rounds)
    if min(len(first), len(second)) < 2:
        return {"value": value, "low": float("nan"), "high": float("nan")}
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(first), (draws, len(first)))
    if a.sitting == b.sitting and len(first) == len(second):
        also = drawn
    else:
        also = generator.integers(0, len(second), (draws, len(second)))
    ratios = np.median(first[drawn], axis=1) / np.median(second[also], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high)}


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine()])[0]


def in_turns(
    runs: Mapping[Any, Callable[[], object]],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[dict[Any, list[float]], dict[Any, int]]:
    """Time several things round by round.

    Each is run twice to begin with; the second time tells whether it is quick. Every other round
    goes backwards, so that none follows the same one always.

    Args:
        runs: What to time, under any key.
        seconds: After which no round is begun that would be over it, but for the fewest.
        clock: Seconds.

    Returns:
        Seconds of each round under each key, and how many runs were timed.
    """
    order = list(runs)
    quick = {}
    began = clock()
    for key in order:
        runs[key]()  # memory is laid out in the first run
        quick[key] = _timed(runs[key], clock) < QUICK
    rounds: dict[Any, list[float]] = {key: [] for key in order}
    longest = 0.0
    for turn in range(MOST_ROUNDS):
        start = clock()
        if turn >= FEWEST_ROUNDS and start - began + longest > seconds:
            break
        for key in order[::-1] if turn % 2 else order:
            if quick[key]:
                runs[key]()
            times = [_timed(runs[key], clock) for _ in range(TURN if quick[key] else 1)]
            rounds[key].append(float(np.median(times)))
        longest = max(longest, clock() - start)
    return rounds, {key: len(rounds[key]) * (TURN if quick[key] else 1) for key in order}


def summary(seconds: Sequence[float], runs: int, sitting: int) -> Latency:
    """A latency from the seconds of its rounds."""
    rounds = tuple(round(1000 * value, DECIMALS) for value in seconds)
    low, median, high = (round(float(q), DECIMALS) for q in np.percentile(rounds, [25, 50, 75]))
    return Latency(median, low, high, runs, rounds, sitting)


def _timed(run: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start


def _session(
    name: str, network: TransferNetwork, pictures: NDArray[np.uint8], threads: int
) -> Session:
    """The network as ONNX Runtime serves it."""
    example = torch.from_numpy(pictures[:1]).to(next(network.parameters()).device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        try:
            export_graph(network, (example,), path, [OUTPUT])
        except ModelError as error:
            raise ModelError(f"{name}: its latency can not be measured: {error}") from error
        return Session(path, threads)


def _run(session: Session, pictures: NDArray[np.uint8]) -> Callable[[], object]:
    return lambda: session.run(pictures)


def _parameters(network: TransferNetwork) -> int:
    return sum(p.numel() for p in network.parameters())


def _read(kept: Path) -> dict[str, Latency]:
    """What the kept file holds; nothing when there is none."""
    if not kept.exists():
        return {}
    entries = read_json(kept)
    if not isinstance(entries, dict):
        raise LayerwiseError(f"{kept}: holds no latencies; remove it, and they are measured again")
    try:
        return {key: from_mapping(Latency, entry, key) for key, entry in entries.items()}
    except LayerwiseError as error:
        raise LayerwiseError(
            f"{kept}: {error}; or remove the file, and latencies are measured again"
        ) from error


def _write(kept: Path, found: Mapping[str, Latency]) -> None:
    try:
        write_json(kept, {key: to_mapping(latency) for key, latency in found.items()})
    except OSError as error:
        raise cannot_write(kept.parent, error) from error

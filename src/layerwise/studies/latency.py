"""How long a network takes for a prediction, measured as it would be served.

Each network is exported as a bundle's is and run by ONNX Runtime on the CPU, in turns with the
others.

Measured times differ from one minute to the next. So a study keeps them in a file of its own and
reads them again when it is repeated: it then says the same.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from layerwise.config import from_mapping, read_json, to_mapping, write_json
from layerwise.data.storage.rows import cannot_write
from layerwise.errors import LayerwiseError, ModelError
from layerwise.evaluation.timing import Latency, in_turns, processor, speedup, summary
from layerwise.models.onnx_graph import export_graph
from layerwise.models.onnx_session import Session
from layerwise.training.network import TransferNetwork

__all__ = ["Latency", "measure_latency", "speedup"]

OUTPUT = "logits"


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

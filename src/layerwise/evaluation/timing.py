"""How long something takes, compared fairly: several things in turns, round after round.

When the machine is busy with something else, it is so for all of them, and the ratio of two times
is that of paired rounds. Within a turn a quick thing runs once unmeasured first, since the one
before it emptied the processor's caches.
"""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MOST_ROUNDS = 30
FEWEST_ROUNDS = 3  # whatever the time: a single round says nothing of the noise
QUICK = 0.05  # seconds; what is quicker is run TURN times in a round, after one run unmeasured
TURN = 3
DECIMALS = 4  # of milliseconds


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


def speedup(a: Latency, b: Latency, *, draws: int = 1000, seed: int = 0) -> dict[str, float]:
    """How many times as fast the second is.

    Measured in turns, the median over rounds of the ratio within a round: a machine that is slow
    for a while is so for both. Otherwise the ratio of the medians. The 95% interval is that of
    resampled rounds. It holds what a noisy machine does within a sitting, not the difference
    between days or machines.

    Returns:
        "value", "low", "high"; the bounds are NaN for fewer than two rounds.
    """
    first, second = np.array(a.rounds), np.array(b.rounds)
    paired = a.sitting == b.sitting and len(first) == len(second)
    value = float(np.median(first / second)) if paired else a.median_ms / b.median_ms
    if min(len(first), len(second)) < 2:
        return {"value": value, "low": float("nan"), "high": float("nan")}
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(first), (draws, len(first)))
    if paired:
        ratios = np.median((first / second)[drawn], axis=1)
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

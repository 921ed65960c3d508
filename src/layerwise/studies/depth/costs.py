"""What runs of a depth study cost, from a few measured steps; how many fit into a time.

Training steps are timed at a few depths, in the way the runs are trained (as many threads as a
worker has), and read off by multiply–adds in between. What is not measured is never promised: runs
that took longer than this said make later ones count as longer too (`pace_of`).
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from layerwise.data.balance import Epochs
from layerwise.models.cuts import Cut
from layerwise.studies.planner import Speed, measure_speed
from layerwise.studies.workspace import Workspace
from layerwise.training.memory import freed_memory_kept
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

START = 1.5  # seconds that any run takes to make its network and write its result
SLOWER = 0.25  # paces are rounded to multiples of this


@dataclass(frozen=True)
class Measured:
    """The cost of a network that ends at some depth and learns as a whole."""

    cut: str  # where it ends; as `Transfer.keep`
    macs: int  # multiply–adds below
    step: float  # seconds of a training step
    evaluate: float  # seconds of one image without training


@dataclass(frozen=True)
class Costs:
    """Costs of runs on these data, in seconds.

    Attributes:
        measured: By ascending multiply–adds.
        steps: Of an epoch.
        validation: Images scored after an epoch.
        images: All of them.
        augmented: Images of which augmented views are cached where a bottom is frozen.
    """

    measured: tuple[Measured, ...]
    steps: int
    validation: int
    images: int
    augmented: int

    def run(self, macs: float, epochs: int) -> float:
        """A network that learns as a whole, of so many multiply–adds."""
        return START + epochs * self._epoch(macs)

    def frozen(self, macs: float, below: float, epochs: int, views: int) -> float:
        """One whose layers of `below` multiply–adds are frozen and computed once."""
        once = self._evaluate(below) * (self.images + views * self.augmented)
        epoch = max(self._epoch(macs) - self._epoch(below), 0.05 * self._epoch(macs))
        return min(START + once + epochs * epoch, self.run(macs, epochs))

    def _epoch(self, macs: float) -> float:
        return self.steps * self._read(macs, "step") + self.validation * self._evaluate(macs)

    def _evaluate(self, macs: float) -> float:
        return self._read(macs, "evaluate")

    def _read(self, macs: float, what: str) -> float:
        x = [float(one.macs) for one in self.measured]
        return float(np.interp(macs, x, [getattr(one, what) for one in self.measured]))


def measure_costs(
    work: Workspace, rungs: Sequence[Cut], full: int, base: Recipe, threads: int
) -> Costs:
    """Time a few steps at the bottom, the middle and the top of the network.

    Args:
        work: Data and network.
        rungs: Where truncated networks may end, bottom to top.
        full: Multiply–adds of the full network.
        base: The recipe.
        threads: Of a worker.
    """
    epochs = Epochs(base.balance, work.manifest.targets, work.rows("train"), work.seed)
    spread = [rungs[round(share * (len(rungs) - 1))] for share in (0.0, 0.33, 0.67)]
    ends = [*dict.fromkeys((cut.name, cut.macs) for cut in spread), (work.keep, full)]
    found = []
    with _threads(threads), freed_memory_kept(work.device):
        for name, macs in ends:
            transfer = Transfer(work.weights_name, keep=name, copy=name)
            speed: Speed = measure_speed(replace(work, threads=threads), transfer, base)
            found.append(Measured(name, macs, speed.step, speed.evaluate))
    found.sort(key=lambda one: one.macs)
    for i in reversed(range(len(found) - 1)):  # a part is never dearer than the whole
        part, more = found[i], found[i + 1]
        step, evaluate = min(part.step, more.step), min(part.evaluate, more.evaluate)
        found[i] = replace(part, step=step, evaluate=evaluate)
    return Costs(
        tuple(found),
        max(1, math.ceil(epochs.size / base.batch)),
        len(work.rows("val")),
        len(work.store),
        len(epochs.augmented),
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def makespan(seconds: Sequence[float], workers: int) -> float:
    """When runs end that are handed out in order, each to the worker that is free first."""
    free = [0.0] * max(1, workers)
    for one in seconds:
        heapq.heapreplace(free, free[0] + one)
    return max(free)


def pace_of(planned: float, taken: float) -> float:
    """How much longer runs take than planned, to the nearest quarter; at least 1.

    Rounded, so that the noise of a machine does not decide what a study does.
    """
    return max(1.0, round(taken / planned / SLOWER) * SLOWER) if planned > 0 else 1.0

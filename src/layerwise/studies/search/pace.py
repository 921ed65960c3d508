"""How long trials take, how many epochs each gets, and when the time is up.

The number of epochs is fixed before the search begins, the same for every trial: so that the time
holds the trials that are asked for if none of them were pruned. What pruning saves goes into more
trials or, where their number is given, into ending early.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from layerwise.data.balance import Epochs
from layerwise.errors import LayerwiseError
from layerwise.studies.planner import measure_speed, median_seconds, most_epochs
from layerwise.studies.search.settings import Settings
from layerwise.studies.workspace import Workspace
from layerwise.training.activations import extra_views
from layerwise.training.inputs import ImageInputs
from layerwise.training.memory import freed_memory_kept

START = 0.5  # seconds that a trial takes beside its epochs
TRIALS = 50  # that the time is to hold where nothing else is said
FEWEST_EPOCHS = 3  # of a trial; where the time does not hold all with so many, it holds fewer
SAFETY = 0.95  # of the time is planned with
RESERVE = 30.0  # seconds at most for the test, the importances and the report
AT_MOST = 1.06  # of the time: the running trial ends at an epoch before it
MEASURING = 0.06  # of the time may go into measuring
MOST_MEASURED = 8  # settings whose steps are timed


@dataclass(frozen=True)
class Cost:
    """What a trial takes, in seconds."""

    once: float  # beside its epochs
    epoch: float  # each epoch, with its validation

    def trial(self, epochs: int) -> float:
        """All of it."""
        return self.once + epochs * self.epoch


def measure_cost(work: Workspace, settings: Settings) -> Cost:
    """Time a few steps with these settings; the weights used are thrown away."""
    recipe = settings.recipe
    space = replace(work, arguments=settings.arguments, _cuts=[])
    rows = work.rows("train")
    epochs = Epochs(recipe.balance, work.manifest.targets, rows, work.seed)
    with freed_memory_kept(work.device):
        speed = measure_speed(space, settings.transfer, recipe)
    batch = np.resize(rows, recipe.batch)
    once, read = START, 0.0
    if speed.bottom:  # computed once, then read from the cache
        views = extra_views(recipe.augment, recipe.views, vertical_flip=recipe.vertical_flip)
        once += speed.bottom * (len(work.store) + views * len(epochs.augmented))
    else:
        inputs = ImageInputs(work.store, recipe.augment, work.seed, recipe.vertical_flip)
        read = median_seconds(work.device, lambda: inputs.read(batch, 0), 2)
    steps = max(1, epochs.size // recipe.batch)
    return Cost(once, steps * (speed.step + read) + len(work.rows("val")) * speed.evaluate)


def measure_costs(
    work: Workspace,
    settings: Sequence[Settings],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Cost:
    """The mean cost of the dearer half of these settings; few are timed if the time is short.

    Not of all: a search goes where scores are good, and there networks are mostly large.

    Args:
        work: The data.
        settings: Drawn from the space, at least one.
        seconds: For the whole search.
        clock: Seconds from any beginning.
    """
    started, found = clock(), []
    for one in settings[:MOST_MEASURED]:
        found.append(measure_cost(work, one))
        if len(found) > 1 and clock() - started > MEASURING * seconds:
            break
    found = sorted(found, key=lambda c: c.epoch)[len(found) // 2 :]
    return Cost(fmean(c.once for c in found), fmean(c.epoch for c in found))


def allot(cost: Cost, seconds: float, trials: int, images: int) -> tuple[int, int]:
    """Epochs of every trial, and how many trials the time then holds if none is pruned.

    Args:
        cost: Of a trial, as of `measure_costs`.
        seconds: For all trials.
        trials: That are wanted.
        images: Of the training part: few of them need many epochs.

    Raises:
        LayerwiseError: Not even one trial fits.
    """
    fits = (seconds / trials - cost.once) / max(cost.epoch, 1e-9)
    epochs = int(np.clip(fits, FEWEST_EPOCHS, most_epochs(images)))
    return epochs, holds(cost, seconds, epochs)


def holds(cost: Cost, seconds: float, epochs: int) -> int:
    """How many whole trials of so many epochs the time holds.

    Raises:
        LayerwiseError: Not even one.
    """
    one = cost.trial(epochs)
    if one > seconds:
        wanted = math.ceil((one / SAFETY + RESERVE) / 10) * 10
        raise LayerwiseError(
            f"--time is too short for one trial: {epochs} epochs take about {one:.0f} s and "
            f"{max(0.0, seconds):.0f} s are left for trials; give --time {wanted}s or more (about "
            f"{math.ceil(wanted * TRIALS / 600) * 10}m for {TRIALS} trials), fewer --epochs, or a "
            "smaller --image-size"
        )
    return int(seconds / one)


class Budget:
    """The time of a search over all its sittings: may another trial begin, must this one end?"""

    def __init__(
        self,
        seconds: float,
        spent: float,
        started: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Of one sitting.

        Args:
            seconds: For everything.
            spent: On trials in earlier sittings.
            started: When this sitting began, by the clock.
            clock: Seconds from any beginning.
        """
        self._seconds, self._spent, self._started, self._clock = seconds, spent, started, clock
        self._reserve = min(RESERVE, 0.05 * seconds)

    @property
    def left(self) -> float:
        """Seconds for trials."""
        return self._seconds - self._reserve - self._spent - (self._clock() - self._started)

    def may_begin(self, expected: float) -> bool:
        """Whether a trial of so many seconds would end nearer to the end of the time than now."""
        return expected / 2 <= self.left

    def must_end(self, epoch: float) -> bool:
        """Whether one more epoch of so many seconds would end too late."""
        return epoch > self.left + (AT_MOST - 1) * self._seconds

"""How long a transferability study takes on this machine, from a few timed steps: for `--quick`.

A step of the whole network is timed, and one above frozen layers at some of the cuts; the other
cuts take the pace of the nearest timed one below. The rest is counting: steps, images through the
frozen layers, images that are scored after each epoch.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from layerwise.data.balance import Epochs
from layerwise.studies.planner import Speed, measure_speed
from layerwise.studies.study import Run
from layerwise.studies.transferability.experiment import (
    BASE,
    FROZEN,
    Plan,
    Scope,
    plan_bases,
    plan_others,
)
from layerwise.studies.transferability.pairs import Tasks
from layerwise.studies.workspace import Workspace
from layerwise.training.activations import extra_views
from layerwise.training.memory import freed_memory_kept
from layerwise.training.transfer import Transfer

TIMED = 4  # cuts at which a step is timed
QUICK_SECONDS = 480.0  # of training in a study of ten minutes; the rest is for data and page
QUICK_CUTS = 3  # more epochs say more than more cuts: the base must be trained
FEWEST_EPOCHS = 3  # with fewer even the base has learnt little
FEWEST_PER_CLASS = 20  # training images of a class in the mean that --quick leaves
OVERHEAD = 1.0  # seconds of a run beside training: making, checking, saving a network
TOGETHER = 1.15  # how much slower each of several processes is than one alone
CAUTION = 1.1  # machines are noisy


@dataclass(frozen=True)
class Cost:
    """Seconds of one process that a study takes with all its training images.

    Attributes:
        fixed: However many epochs and training images there are.
        fixed_images: However many epochs there are; in proportion to the training images.
        epoch: For one epoch of the bases, however many training images there are.
        epoch_images: The same, in proportion to them.
        runs: How many runs.
        workers: How many processes.
    """

    fixed: float
    fixed_images: float
    epoch: float
    epoch_images: float
    runs: int
    workers: int

    def seconds(self, epochs: int, fraction: float = 1.0) -> float:
        """Of wall-clock time with so many epochs of a fraction of the training images."""
        alone = self.fixed + fraction * self.fixed_images
        alone += epochs * (self.epoch + fraction * self.epoch_images)
        slower = TOGETHER if self.workers > 1 else 1.0
        return (alone * slower * CAUTION + self.runs * OVERHEAD) / self.workers


def spread(names: Sequence[str], most: int) -> tuple[str, ...]:
    """At most so many of the names, evenly from the first to the last."""
    if len(names) <= most:
        return tuple(names)
    places = {round(i * (len(names) - 1) / (most - 1)) for i in range(most)}
    return tuple(names[i] for i in sorted(places))


def cost_of(tasks: Tasks, scope: Scope, smaller: Mapping[float, str], workers: int) -> Cost:
    """What a study costs here; takes some seconds.

    Args:
        tasks: As from `with_fewer_images`, as is `smaller`.
        scope: What is to be measured.
        smaller: The spaces of the overfitting measurement.
        workers: How many processes share the workspaces' threads.
    """

    def not_trained(key: str, repeat: int) -> Run:
        return Run("base", "trained", {"space": key, "repeat": repeat})

    plan = [*plan_bases(tasks, scope), *plan_others(tasks, scope, not_trained, smaller)]
    work = next(iter(tasks.spaces.values()))
    work = replace(work, threads=max(1, work.threads // workers))
    with _threads(work.threads), freed_memory_kept(work.device):
        speeds = _speeds(work, scope)
    return add_up(plan, tasks.spaces, scope, speeds, workers)


def add_up(
    plan: Plan,
    spaces: Mapping[str, Workspace],
    scope: Scope,
    speeds: Mapping[str, Speed],
    workers: int,
) -> Cost:
    """The cost of planned runs.

    Args:
        plan: The runs.
        spaces: Their workspaces.
        scope: What is measured.
        speeds: By the cut up to which layers are frozen, "none" for none.
        workers: How many processes there are.
    """
    fixed = fixed_images = epoch = epoch_images = 0.0
    for place, planned in plan:
        work, recipe = spaces[planned.task], planned.recipe
        train, validation, test = (len(work.rows(part)) for part in ("train", "val", "test"))
        epochs = Epochs(recipe.balance, work.manifest.targets, work.rows("train"), work.seed)
        speed = speeds[planned.transfer.freeze]
        longer = recipe.epochs / scope.recipe.epochs
        epoch_images += longer * max(1, epochs.size // recipe.batch) * speed.step
        epoch += longer * validation * speed.evaluate
        views = extra_views(recipe.augment, recipe.views, vertical_flip=recipe.vertical_flip)
        fixed += speed.bottom * (validation + test) + speed.evaluate * test
        fixed_images += speed.bottom * (train + views * len(epochs.augmented))
        fixed_images += speed.evaluate * (train if place.treatment == BASE else 0)
    return Cost(fixed, fixed_images, epoch, epoch_images, len(plan), workers)


def fitting(cost: Cost, most: int, classes: int, images: int) -> tuple[int, float]:
    """Epochs, and the fraction of the training images, with which a quick study is done in time.

    Args:
        cost: Of the study.
        most: Epochs that are enough.
        classes: Of the largest task.
        images: Its training images.
    """
    for epochs in range(most, FEWEST_EPOCHS - 1, -1):
        if cost.seconds(epochs) <= QUICK_SECONDS:
            return epochs, 1.0
    few = min(most, FEWEST_EPOCHS)
    least = min(1.0, FEWEST_PER_CLASS * classes / max(1, images))
    none, all_of_them = cost.seconds(few, 0.0), cost.seconds(few)
    fraction = (QUICK_SECONDS - none) / max(1e-9, all_of_them - none)
    return few, round(min(1.0, max(least, fraction)), 3)


def _speeds(work: Workspace, scope: Scope) -> dict[str, Speed]:
    """The pace of every cut, and of nothing frozen."""
    recipe = scope.even
    out = {"none": measure_speed(work, Transfer(copy="none"), recipe)}
    timed = spread(scope.cuts, TIMED) if _freezes(scope) else ()
    for cut in timed:
        out[cut] = measure_speed(work, Transfer("untrained", copy=cut, freeze=cut), recipe)
    for cut in scope.cuts:
        below = [c for c in timed if scope.cuts.index(c) <= scope.cuts.index(cut)]
        out.setdefault(cut, out[below[-1]] if below else out["none"])
    return out


def _freezes(scope: Scope) -> bool:
    return bool(set(FROZEN) & set(scope.treatments))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads of torch, as a worker has."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

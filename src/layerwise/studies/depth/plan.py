"""The plan of a depth study: OUT/plan.json, written before each stage's training begins.

What is trained and for how many epochs follows from measured costs and from what earlier stages
found. It is written down before it is done, so that a study that was killed does the same work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from layerwise.config import from_mapping, read_json, to_mapping, write_json
from layerwise.errors import LayerwiseError
from layerwise.studies.depth.costs import Costs, makespan
from layerwise.studies.plan import Plan
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

Kind = Literal["full", "truncated", "hybrid", "frozen"]
COARSE, FINE, ALTERNATIVES = 0.5, 0.8, 0.92  # of the time, by the end of each stage
COARSE_CUTS = 4  # beside those with a name in the literature
ENOUGH_EPOCHS = 5  # with fewer, fewer cuts are tried instead
FEWEST_EPOCHS = 2


@dataclass(frozen=True)
class StageRun:
    """One training run of a stage."""

    kind: Kind  # what it is
    transfer: Transfer  # what is kept, copied and frozen
    recipe: Recipe  # how the rest learns
    seed: int  # of order, augmentation and every weight at random
    seconds: float  # how long it should take, by the measured costs
    reason: str  # why it is in the plan


@dataclass(frozen=True)
class LeftOut:
    """A run that the time does not hold."""

    name: str  # in words
    reason: str  # why it is not trained


@dataclass(frozen=True)
class Stage:
    """Runs that are decided on together."""

    name: str  # "coarse", "fine 1", "alternatives", "repeats"
    runs: tuple[StageRun, ...]  # what is trained
    left_out: tuple[LeftOut, ...] = ()  # what would have been, with more time
    pace: float = 1.0  # how much longer earlier stages took than planned


@dataclass(frozen=True)
class DepthSettings:
    """What the flags of `study depth` say beside those of every command."""

    metric: Literal["auprc", "auroc"] = "auprc"  # what quality is
    cuts: tuple[str, ...] = ()  # these and no search; empty: the search
    repeats: int = 3  # of the finalists, at most
    epochs: int | None = None  # of every run; None: by the time
    workers: int = 1  # runs at the same time
    training: dict[str, Any] = field(default_factory=dict)  # fields of the recipe, as given

    def identity(self) -> dict[str, Any]:
        """What decides the results, JSON-able; workers do too, but are kept as they were."""
        found = {k: v for k, v in to_mapping(self).items() if k != "workers"}
        return {"study": "depth", **found}


@dataclass(frozen=True)
class DepthPlan:
    """Everything that decides what the study does."""

    setup: Plan  # data, network and pictures, as a fit has them
    settings: DepthSettings  # the study's own flags
    seconds: float  # for training
    costs: Costs  # as measured
    recipe: Recipe  # of every run
    count: int  # cuts of the coarse stage
    reasons: tuple[str, ...] = ()  # why, in sentences
    stages: tuple[Stage, ...] = ()  # in their order
    study: str = "depth"

    def with_stage(self, stage: Stage) -> "DepthPlan":
        """The plan with one more stage."""
        return replace(self, stages=(*self.stages, stage))

    def spent(self) -> float:
        """Seconds that all stages so far take, at the pace that was planned with."""
        workers = self.settings.workers
        return sum(makespan([run.seconds for run in s.runs], workers) for s in self.stages)

    def fitting(
        self, runs: Sequence[StageRun], share: float, pace: float, *, whole: bool = False
    ) -> tuple[list[StageRun], list[StageRun]]:
        """Those of the runs that end within a share of the time, in order; and the others.

        Args:
            runs: The most wanted one first; one that does not fit does not keep out the next.
            share: Of `seconds`, counted from the beginning of training.
            pace: How much longer runs take than planned.
            whole: All of them or none.
        """
        room = share * self.seconds / pace - self.spent()
        taken: list[StageRun] = []
        for run in runs:
            wall = makespan([r.seconds for r in [*taken, run]], self.settings.workers)
            if wall <= room:
                taken.append(run)
        if whole and len(taken) < len(runs):
            taken = []
        return taken, [run for run in runs if run not in taken]


def read_depth_plan(path: Path) -> DepthPlan:
    """The plan of a depth study, every key checked.

    Raises:
        LayerwiseError: The file is damaged, or it is the plan of another command.
    """
    found = read_json(path)
    if not isinstance(found, Mapping) or found.get("study") != "depth":
        what = found.get("study") if isinstance(found, Mapping) else None
        other = f"`layerwise study {what}`" if what else "`layerwise fit`"
        raise LayerwiseError(
            f"{path} is the plan of {other}, not of a depth study; name another folder with --out"
        )
    return from_mapping(DepthPlan, found, str(path))


def write_depth_plan(plan: DepthPlan, path: Path) -> None:
    """Write a plan so that a person can read it."""
    write_json(path, to_mapping(plan))


def allot(
    costs: Costs,
    full: int,
    cuts: Sequence[int],
    named: int,
    seconds: float,
    settings: DepthSettings,
    most: int,
) -> tuple[int, int] | None:
    """Epochs of every run, and how many cuts the coarse stage tries; None: not even one.

    The full network and all truncated ones learn for the same number of epochs. Wanted are
    COARSE_CUTS cuts with ENOUGH_EPOCHS at least; where the time does not hold both, cuts are given
    up down to two, then epochs down to FEWEST_EPOCHS, then the second cut.

    Args:
        costs: As measured.
        full: Multiply–adds of the full network.
        cuts: Those of the cuts, in the order in which they are tried.
        named: How many of them have a name in the literature.
        seconds: For all training.
        settings: Epochs and cuts as asked for.
        most: Epochs beyond which there is no use.
    """
    share = FINE if settings.cuts else COARSE
    lowest = len(cuts) if settings.cuts else min(2, len(cuts))
    wanted = len(cuts) if settings.cuts else min(len(cuts), COARSE_CUTS + named)

    def wall(epochs: int, count: int) -> float:
        return makespan([costs.run(m, epochs) for m in (full, *cuts[:count])], settings.workers)

    def longest(count: int, limit: float) -> int:
        fits = [e for e in range(1, most + 1) if wall(e, count) <= limit]
        return fits[-1] if fits else 0

    if settings.epochs is not None:
        fits = [n for n in range(1, wanted + 1) if wall(settings.epochs, n) <= share * seconds]
        if not settings.cuts and fits:
            return settings.epochs, fits[-1]
        least = wanted if settings.cuts else 1
        return (settings.epochs, least) if wall(settings.epochs, least) <= seconds else None
    for count in range(wanted, lowest - 1, -1):
        epochs = longest(count, share * seconds)
        if epochs >= min(ENOUGH_EPOCHS, most):
            return epochs, count
    for count in dict.fromkeys((lowest, lowest if settings.cuts else 1)):
        epochs = longest(count, share * seconds) or 0
        epochs = epochs if epochs >= FEWEST_EPOCHS else longest(count, seconds)
        if epochs >= min(FEWEST_EPOCHS, most):
            return min(epochs, ENOUGH_EPOCHS), count
    return None

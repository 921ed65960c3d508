"""The quick test: the advised strategy against its two neighbours, under a small budget.

All three learn from the same training images, as many as let the one that learns everything see
each twice, and are scored on the same validation images, about as many. Seconds are shared out and
not epochs: a head on cached activations goes through the images in milliseconds, and holding it to
the two passes of a network that learns as a whole would compare nothing but speeds. No picture is
augmented, since a few passes gain nothing from it.

**What it can not say.** Learning more layers pays with more images and more passes than a small
budget has. One that learns more and is ahead already will hardly be overtaken in a long training;
one that learns less may well be. So where the strategy that is behind learns more and had only a
few passes, nothing is concluded.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from layerwise.data.balance import Epochs
from layerwise.evaluation.estimates import Estimate, estimate, holm
from layerwise.studies.advice.matrix import STRATEGIES, Strategy
from layerwise.studies.advice.sample import sample
from layerwise.studies.advice.strategies import Way
from layerwise.studies.engine import Done, Engine, Planned
from layerwise.studies.planner import SAFETY, Speed, base_recipe, measure_speed, most_epochs
from layerwise.studies.workspace import Workspace
from layerwise.training.memory import freed_memory_kept
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

TASK = "quick"  # the workspace's key
SHARES: dict[Strategy, float] = {"none": 0.15, "some": 0.3, "all": 0.55}  # of the time
FEWEST_EPOCHS = 2
FEWEST_IMAGES = 64  # or all, where there are fewer
FEWEST_SCORED = 100  # validation images, likewise; else as many as training images
FEW_EPOCHS = 5  # of a strategy that learns more: with fewer it has not come to its end
SIGNIFICANT = 0.05  # of p-values, after Holm

HELD, FAILED, UNTOLD, UNTESTED = "held", "did not hold", "can not be told", "not tested"


@dataclass(frozen=True)
class QuickRun:
    """One strategy in the quick test."""

    strategy: Strategy  # which layers learn
    transfer: Transfer  # as in the advice
    recipe: Recipe  # with the epochs that its share of the time pays for
    seconds: float  # what it should take


@dataclass(frozen=True)
class QuickTest:
    """What the quick test consists of."""

    images: int  # training images asked for; patients are whole, so a few less may be taken
    scored: int  # validation images, likewise
    runs: tuple[QuickRun, ...] = ()  # in the order in which they are made
    why_not: str = ""  # why there is no test


@dataclass(frozen=True)
class Cost:
    """What a strategy costs here, in seconds.

    Attributes:
        speed: Of a step, of an image through the frozen bottom, and of scoring one.
        once: For building the network, whatever is learnt.
        batch: Images of the step.
    """

    speed: Speed
    once: float
    batch: int

    def seconds(self, images: int, scored: int, epochs: int) -> float:
        """Of a run.

        Args:
            images: An epoch's.
            scored: Validation images, after each epoch and at the end.
            epochs: Passes.
        """
        step, evaluate = self.speed.step / self.batch, self.speed.evaluate
        below = self.speed.bottom * (images + scored)
        return self.once + below + epochs * (images * step + scored * evaluate) + scored * evaluate

    def epochs(self, images: int, scored: int, seconds: float) -> int:
        """How many passes some seconds pay for; 0 or more."""
        none = self.seconds(images, scored, 0)
        return max(0, int((seconds - none) / (self.seconds(images, scored, 1) - none)))


def costs(work: Workspace, strategies: Sequence[Way]) -> dict[Strategy, Cost]:
    """Measure what each strategy costs here, by a few steps on noise."""
    out: dict[Strategy, Cost] = {}
    for way in strategies:
        started = time.monotonic()
        with freed_memory_kept(work.device):  # as in training
            speed = measure_speed(work, way.transfer, way.recipe)
        steps = 8 * speed.step + 3 * way.recipe.batch * speed.evaluate  # what was not building
        once = max(0.0, time.monotonic() - started - steps)
        out[way.strategy] = Cost(speed, once, way.recipe.batch)
    return out


def plan_quick(
    work: Workspace,
    strategies: Sequence[Way],
    cost: Mapping[Strategy, Cost],
    seconds: float,
) -> QuickTest:
    """Which images, and how many epochs of each strategy, the seconds pay for.

    What a strategy does not use up goes to the next, dearer one.

    Args:
        work: The sample that was probed.
        strategies: All three.
        cost: Of each.
        seconds: That are left for the test.
    """
    train, validation = len(work.rows("train")), len(work.rows("val"))
    recipe = strategies[0].recipe
    more = Epochs(recipe.balance, work.manifest.targets, work.rows("train"), work.seed).size / train
    budget = seconds * SAFETY
    fewest = min(train, FEWEST_IMAGES)

    def scored_with(images: int) -> int:
        return min(validation, max(FEWEST_SCORED, images))

    def needed(strategy: Strategy, images: int) -> float:
        size = round(images * more)
        return cost[strategy].seconds(size, scored_with(images), FEWEST_EPOCHS)

    def together(images: int) -> float:
        return sum(needed(strategy, images) for strategy in STRATEGIES)

    images = train
    while images > fewest and (
        needed("all", images) > budget * SHARES["all"] or together(images) > budget
    ):
        images = max(fewest, int(0.9 * images))
    scored, least = scored_with(images), together(images)
    if least > seconds:
        return QuickTest(
            images,
            scored,
            why_not=f"{FEWEST_EPOCHS} passes of each strategy over {images:,} images would need "
            f"about {least:.0f} s, and {max(0.0, seconds):.0f} s were left; give more --time",
        )
    size, left = round(images * more), budget
    runs = []
    for strategy in ("none", "some", "all"):
        way = next(way for way in strategies if way.strategy == strategy)
        share = left if strategy == "all" else budget * SHARES[way.strategy]
        epochs = cost[way.strategy].epochs(size, scored, share)
        epochs = int(np.clip(epochs, FEWEST_EPOCHS, most_epochs(size)))
        taken = cost[way.strategy].seconds(size, scored, epochs)
        left -= taken
        quick = replace(way.recipe, epochs=epochs, augment="none", views=1, vertical_flip=False)
        if quick.balance == "augment":  # copies that are not augmented: so drawn more often
            quick = replace(quick, balance="sampling")
        runs.append(QuickRun(way.strategy, way.transfer, quick, round(taken, 1)))
    return QuickTest(images, scored, tuple(runs))


def sampled(work: Workspace, test: QuickTest) -> Workspace:
    """The workspace of the quick test: fewer of the images that were probed."""
    return sample(work, test.images, test.scored)


def planned(work: Workspace, test: QuickTest) -> list[Planned]:
    """Its runs; the batch suits the number of images.

    Args:
        work: As `sampled` gives it.
        test: What it consists of.
    """
    batch = base_recipe(work, "none").batch
    return [
        Planned(
            TASK,
            run.strategy,
            run.transfer,
            replace(run.recipe, batch=min(batch, run.recipe.batch)),
            work.seed,
            parts=(),
        )
        for run in test.runs
    ]


@dataclass(frozen=True)
class Compared:
    """The advised strategy against a neighbour.

    Attributes:
        strategy: The neighbour.
        difference: AUROC of the advised one less its own: {"value", "low", "high"}, paired.
        p: Two-sided; NaN where it is not defined.
        adjusted: By Holm's method for both neighbours.
        unfinished: Whether the one behind learns more, and had fewer than FEW_EPOCHS passes.
    """

    strategy: Strategy
    difference: dict[str, float]
    p: float
    adjusted: float
    unfinished: bool = False

    @property
    def verdict(self) -> str:
        """Of the advised one: better, worse, within noise, too few passes, or not known."""
        if np.isnan(self.adjusted):
            return "not known"
        if self.adjusted >= SIGNIFICANT:
            return "within noise"
        if self.unfinished:
            return "too few passes"
        return "better" if self.difference["value"] > 0 else "worse"


@dataclass(frozen=True)
class Checked:
    """What the quick test found.

    Attributes:
        test: What it consisted of.
        work: The workspace it was made in; None where it was not made.
        done: What became of its runs.
        scores: Validation AUROC of those that did not fail.
        compared: The advised one against each neighbour; none where it failed.
        verdict: HELD: better than a neighbour and worse than none, beyond noise; FAILED: worse
            than one; UNTOLD: all is within noise, too early to say, or not known; UNTESTED.
    """

    test: QuickTest
    work: Workspace | None
    done: tuple[Done, ...]
    scores: Mapping[Strategy, Estimate]
    compared: tuple[Compared, ...]
    verdict: str


def run_quick(engine: Engine, work: Workspace, test: QuickTest, advised: Strategy) -> Checked:
    """Make the runs that are not finished, and compare.

    Args:
        engine: With `work` under the key TASK.
        work: As `sampled` gives it.
        test: What it consists of.
        advised: The strategy that is tested.
    """
    done = engine.run(planned(work, test))
    scores: dict[Strategy, Estimate] = {}
    for run, one in zip(test.runs, done, strict=True):
        if one.outcome is not None:
            said = one.outcome.validation
            scores[run.strategy] = estimate(
                "auroc",
                work.manifest.task,
                said.targets,
                [said.scores],
                said.groups,
                seed=work.seed,
            )
    compared = compare(scores, advised, {run.strategy: run.recipe.epochs for run in test.runs})
    return Checked(test, work, tuple(done), scores, compared, verdict(compared))


def compare(
    scores: Mapping[Strategy, Estimate], advised: Strategy, epochs: Mapping[Strategy, int]
) -> tuple[Compared, ...]:
    """The advised strategy against each of the others that has a score.

    Args:
        scores: AUROC of each.
        advised: One of them.
        epochs: Passes that each had.
    """
    if advised not in scores:
        return ()
    others = [s for s in STRATEGIES if s != advised and s in scores]
    differences = [(scores[advised] - scores[other]).interval() for other in others]
    p = [(scores[advised] - scores[other]).p() for other in others]
    out = []
    for other, found, own, adjusted in zip(others, differences, p, holm(p), strict=True):
        behind, ahead = (other, advised) if found["value"] > 0 else (advised, other)
        more = STRATEGIES.index(behind) < STRATEGIES.index(ahead)  # "all" comes first
        unfinished = more and epochs[behind] < FEW_EPOCHS
        span = {s: found[s] for s in ("value", "low", "high")}
        out.append(Compared(other, span, own, adjusted, unfinished))
    return tuple(out)


def verdict(compared: Sequence[Compared]) -> str:
    """Whether the advice held; see `Checked`."""
    found = {one.verdict for one in compared}
    if "worse" in found:
        return FAILED
    return HELD if "better" in found else UNTOLD

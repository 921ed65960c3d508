"""The three strategies of Marcelino as transfers and recipes, with cuts and rates as measured.

1. *Train the entire model*: every layer starts from the source and learns.
2. *Train some layers and leave the others frozen*: the layers up to a cut are frozen. On similar
   data it is the lowest cut whose probe is not measurably worse than the best one: up to there the
   features are as good as any, and "the classifier and the top layers of the convolutional base"
   are left to learn. On different data "you'll need to go deeper": it is the lowest cut at which
   the probes have come half of the way from the lowest to the best. The paper does not say how
   much deeper.
3. *Freeze the convolutional base*: a linear layer on the features of the cut with the best probe;
   what lies above is cut off, since it only takes away from them.

**Rates.** "It's smart to use a small learning rate because high learning rates increase the risk of
losing previous knowledge." Copied layers learn at a tenth of the new ones' rate where data are well
inside of what the source was trained for, and at three tenths, the rate of `layerwise fit`, from
twice the border on; between them the rate grows with the distance. Every block further down has
nine tenths of the rate of the one above, since lower layers are more general.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from layerwise.evaluation.estimates import Estimate, within_noise
from layerwise.models.cuts import Cut
from layerwise.studies.advice.matrix import Likeness, Strategy
from layerwise.studies.advice.measure import Profile
from layerwise.studies.planner import most_epochs
from layerwise.studies.profile import probe_transfer
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

HALF_WAY = 0.5  # between the lowest cut's probe and the best one
GENTLE, USUAL = 0.1, 0.3  # of the new layers' rate, for copied ones


@dataclass(frozen=True)
class Way:
    """One strategy for these data."""

    strategy: Strategy  # which layers learn
    transfer: Transfer  # what is copied, frozen, cut off
    recipe: Recipe  # how the rest learns, on all training images
    cut: str  # frozen up to here; "" where all learn


def ways(
    source: str, profile: Profile, like: Likeness, base: Recipe, images: int
) -> tuple[Way, Way, Way]:
    """The strategies 1, 2 and 3 for these data.

    Args:
        source: What transfers call the source.
        profile: Of the source's features.
        like: How similar the data are.
        base: What recipes begin with.
        images: Of the whole training part.
    """
    cuts = [probe.cut for probe in profile.probes]
    recipe = replace(base, epochs=most_epochs(images), copied_lr=copied_rate(like.far["value"]))
    some = cuts[frozen_cut(profile.scores, similar=like.similar)].name
    best = cuts[profile.best].name
    return (
        Way("all", Transfer(source), recipe, ""),
        Way("some", Transfer(source, freeze=some), recipe, some),
        Way("none", probe_transfer(best, source), recipe, best),
    )


def copied_rate(far: float) -> float:
    """The rate of copied layers as a fraction of the new ones'.

    Args:
        far: How far the data are, in borders.
    """
    return round(float(np.clip(USUAL * far / 2, GENTLE, USUAL)), 3)


def frozen_cut(scores: Sequence[Estimate], *, similar: bool) -> int:
    """Up to which cut strategy 2 freezes: its index; below the last one, so that layers learn.

    Args:
        scores: Of the probes, bottom to top, on the same resamples.
        similar: Whether the data are similar to the source's.
    """
    values = [one.value for one in scores]
    best = int(np.argmax(values))
    equal = next(i for i, one in enumerate(scores) if _equal(scores[best], one, i == best))
    half = values[0] + HALF_WAY * (values[best] - values[0])
    deeper = next(i for i, value in enumerate(values) if value >= half)
    chosen = equal if similar else min(deeper, equal)
    return max(0, min(chosen, len(scores) - 2))


def _equal(best: Estimate, one: Estimate, same: bool) -> bool:
    """Whether a probe is not measurably worse than the best."""
    return same or within_noise((best - one).interval())


def rates(recipe: Recipe, cuts: Sequence[Cut], frozen: str) -> dict[str, float]:
    """The peak learning rate of the classifier and of each block that learns, from the top down.

    Args:
        recipe: Of a strategy.
        cuts: Main cuts, bottom to top.
        frozen: Up to here nothing learns; "" where all does.
    """
    names = [cut.name for cut in cuts]
    learning = names[names.index(frozen) + 1 :] if frozen else names
    out = {"classifier": recipe.lr}
    for depth, name in enumerate(reversed(learning)):
        # As `make_optimizer` has it: depth 0 is above the last cut, 1 the block that ends there.
        out[name] = recipe.lr * recipe.copied_lr * recipe.layer_decay**depth
    return out

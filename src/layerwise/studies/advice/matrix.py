"""The size–similarity matrix of Marcelino 2018, §4, with both of its sides measured.

**Size**: training images of the smallest class, against 1,000. "Consider that your dataset is small
if it has less than 1000 images per class." What is learnt of a class hangs on its own images, so
the smallest class counts, not the mean.

**Similarity**: "let common sense prevail", says the paper. Here two things are measured, and the
data are called similar if both lie below their borders:

1. *What is left of the error*: (1 − AUROC of the best probe) / (1 − AUROC of the best probe on
   random filters), on validation. The border is ½: below it the source's features take away more
   than half of what an untrained network of the same form gets wrong, so more of the work is done
   by what was learnt there than is left to do.
2. *The shift of activations*, see `distance.py`, against half of a standard deviation, a medium
   effect by Cohen 1988. Above it the layers are fed by other pictures than those they were trained
   on, however well a probe gets along with what they make of these. A network without batch norms
   has no such number, and 1 decides alone.

How far the data are, in borders, is the larger of both numbers over its border: 1 is the border.
It is the larger one because each of them can show that data differ, and none alone that they do
not: features may separate classes by what any filter sees, and pictures may look as usual and show
what the source knows nothing of.

LogME has no border (its unit is nats an image of these very images); it stands beside the probes.

The quadrants and their strategies are the paper's:

    1  large, different  train the entire model
    2  large, similar    train some layers and leave the others frozen
    3  small, different  the same, but deeper, and with augmentation
    4  small, similar    freeze the convolutional base
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from layerwise.data.manifest import Manifest
from layerwise.evaluation.estimates import Estimate
from layerwise.evaluation.intervals import percentile_interval
from layerwise.evaluation.metrics import Floats
from layerwise.studies.advice.distance import Distance

LARGE = 1000  # images of a class; Marcelino 2018, §4
ERROR_LEFT = 0.5  # of random filters' error
SHIFT = 0.5  # standard deviations; Cohen 1988, §2.2
MOST_LEFT = 100.0  # times random filters' error
NEAR = 1.5  # times a border, either way: another draw of images, or another rule, may tip it

Strategy = Literal["all", "some", "none"]  # which layers learn
STRATEGIES: tuple[Strategy, ...] = ("all", "some", "none")  # Marcelino's 1, 2 and 3
QUADRANTS: dict[int, Strategy] = {1: "all", 2: "some", 3: "some", 4: "none"}


@dataclass(frozen=True)
class Size:
    """How many images there are.

    Attributes:
        images: Training images of the smallest class; of a label, those that have it.
        label: That class.
        each: Training images of every class.
    """

    images: int
    label: str
    each: dict[str, int]

    @property
    def large(self) -> bool:
        """Whether there are 1,000 images of every class."""
        return self.images >= LARGE

    @property
    def near(self) -> bool:
        """Whether it is a matter of few images more or less."""
        return LARGE / NEAR < self.images < LARGE * NEAR


@dataclass(frozen=True)
class Likeness:
    """How similar the data are to those of the pretraining.

    Attributes:
        error_left: {"value", "low", "high"}: of random filters' error; at most MOST_LEFT, which
            stands for all where these make none and the source does.
        shift: {"value", "low", "high"} in standard deviations; None without batch norms.
    """

    error_left: dict[str, float]
    shift: dict[str, float] | None

    @property
    def parts(self) -> dict[str, dict[str, float]]:
        """Each measure over its border: 1 is the border, above it data are different."""
        found = {"probe": _over(self.error_left, ERROR_LEFT)}
        if self.shift is not None:
            found["batch norm"] = _over(self.shift, SHIFT)
        return found

    @property
    def decided_by(self) -> str:
        """The measure that is further out."""
        return max(self.parts, key=lambda name: self.parts[name]["value"])

    @property
    def far(self) -> dict[str, float]:
        """How far the data are, in borders, with the 95% interval of what decides it."""
        return self.parts[self.decided_by]

    @property
    def similar(self) -> bool:
        """Whether both measures are at or below their borders."""
        return self.far["value"] <= 1

    @property
    def near(self) -> bool:
        """Whether the border lies within the interval, or within a factor of NEAR."""
        far = self.far
        return far["low"] <= 1 <= far["high"] or 1 / NEAR < far["value"] < NEAR


def size_of(manifest: Manifest) -> Size:
    """The training images of each class; of labels without any the next larger one counts."""
    counts = manifest.per_label(manifest.indices("train"))
    there = np.flatnonzero(counts)
    k = int(there[counts[there].argmin()])
    each = dict(zip(manifest.labels, counts.tolist(), strict=True))
    return Size(int(counts[k]), manifest.labels[k], each)


def likeness(source: Estimate, random: Estimate, distance: Distance) -> Likeness:
    """From the AUROC of the best probes and the batch norms.

    Args:
        source: Of the source's features.
        random: Of random filters; on the same resamples.
        distance: By the batch norms.
    """
    value = _left(np.array([source.value]), np.array([random.value]))[0]
    draws = _left(source.draws, random.draws)
    error_left = percentile_interval(float(value), draws)
    if not distance.layers:
        return Likeness(error_left, None)
    shift = {"value": distance.shift, "low": distance.low, "high": distance.high}
    return Likeness(error_left, shift)


def quadrant(size: Size, like: Likeness) -> int:
    """1 to 4, as in the paper's Figure 3."""
    if size.large:
        return 2 if like.similar else 1
    return 4 if like.similar else 3


def _left(source: Floats, random: Floats) -> Floats:
    """The share of random filters' error that the source's features leave; 0 where neither errs."""
    errs, erred = 1 - source, 1 - random
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.minimum(np.where(errs == 0, 0.0, errs / erred), MOST_LEFT)


def _over(interval: dict[str, float], border: float) -> dict[str, float]:
    return {side: interval[side] / border for side in ("value", "low", "high")}

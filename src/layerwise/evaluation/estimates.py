"""Numbers of a study with their resamples, so that differences and means keep their pairing.

Treatments of one task are scored on the same images. Scored on the same *resamples* of them too,
what makes an image hard cancels in their difference: the interval of ``a - b`` is that of paired
differences. So every estimate keeps its draws, and sums, differences and means are taken draw by
draw.

A resample draws images by patient (`intervals.resamples`) and, where a treatment was repeated with
several seeds, as many repeats as there are, both with replacement. The score of a draw is the mean
over its repeats of the metric on its images. Both kinds of draws depend on the seed and on the
numbers of images and repeats alone. So:

- treatments of one task take the same seed: their differences are paired by image and, where the
  repeats of both have the same seeds in the same order, by repeat;
- tasks that have nothing to do with each other take different seeds.

**Few repeats understate their own variance.** Drawn with replacement, R repeats show (R − 1)/R of
the variance that they estimate: nothing for one repeat, half for two, two thirds for three. The
interval of three repeats is that of these images and nearly these three seeds; the standard
deviation over repeats stands beside it.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from layerwise.evaluation.intervals import Interval, percentile_interval, resamples
from layerwise.evaluation.metrics import METRICS, Array, Floats, Prepared, Task, Threshold

K = TypeVar("K", bound=Hashable)

REPEATS_STREAM = 1
"""Added to a seed, it gives the draws of repeats: not those of the images."""
ROUNDING = 1e-12
"""What is nearer to 0 is 0: sums of equal numbers in another order."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number with its resamples.

    Attributes:
        value: On the images themselves, the mean over the repeats; NaN where not defined.
        draws: (D,) float64, the value in each resample; NaN where it is not defined there.
        repeats: The value of each repeat on the images themselves. Empty for a sum, difference or
            mean of estimates with unequal numbers of repeats: their repeats are no pairs.
    """

    value: float
    draws: Floats
    repeats: tuple[float, ...] = ()

    def __add__(self, other: "Estimate") -> "Estimate":
        """The sum, draw by draw and repeat by repeat."""
        return _combined([self, other], (1.0, 1.0))

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference, draw by draw and repeat by repeat: paired for equal seeds."""
        return _combined([self, other], (1.0, -1.0))

    def scale(self, factor: float) -> "Estimate":
        """``factor`` times this."""
        return _combined([self], (factor,))

    @property
    def sd(self) -> float:
        """The sample deviation over repeats; NaN for fewer than two."""
        if len(self.repeats) < 2:
            return float("nan")
        return float(np.std(self.repeats, ddof=1))

    def interval(self) -> dict[str, Any]:
        """The value, its 95% percentile interval, and the repeats.

        Returns:
            "value", "low", "high", "sd" (floats; NaN where not defined) and "repeats", the list of
            their values.
        """
        found = percentile_interval(self.value, self.draws)
        return {**found, "sd": self.sd, "repeats": list(self.repeats)}

    def p(self) -> float:
        """The two-sided bootstrap p-value of the hypothesis that the true value is 0.

        Twice the smaller share of the draws on one side of 0, draws at 0 counted on both, and one
        draw added to both sides and to the whole (Davison & Hinkley 1997, §4.2). It agrees with the
        percentile interval but at the very edge: below 0.05 where that does not hold 0. It is
        never below 2/(D + 1), 0.002 for 1000 draws: they can not show more. Like the interval it
        understates what few repeats do not know. Draws that are not defined do not count.

        Returns:
            From 2/(D + 1) to 1; NaN where the value is not defined.
        """
        draws = self.draws[~np.isnan(self.draws)]
        if not len(draws) or np.isnan(self.value):
            return float("nan")
        fewer = 1 + min(int((draws <= ROUNDING).sum()), int((draws >= -ROUNDING).sum()))
        return min(1.0, 2 * fewer / (len(draws) + 1))


def estimate(
    metric: str,
    task: Task,
    targets: Array,
    scores: Sequence[Array],
    groups: Array | Sequence[str] | None = None,
    *,
    threshold: Threshold = None,
    label: int | None = None,
    counts: Floats | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Estimate:
    """A metric of one treatment, the mean over its repeats, with its resamples.

    Args:
        metric: One of ``metrics.METRICS``.
        task: As in `metrics.measure`.
        targets: Class indices (N,), or 0/1/NaN (N, K) for multi-label.
        scores: Probabilities, (N, 1) or (N, K) a repeat, all of the same images in the same order.
        groups: As in `intervals.bootstrap`: (N,) the patient of each image.
        threshold: As in `metrics.measure`, the same for every repeat.
        label: The metric of this label alone, against the rest: a number from 0 among
            ``metrics.scored_labels``. None: the task's own.
        counts: (N,) what each image counts whenever it is drawn; None: all the same.
        draws: The number of resamples.
        seed: Equal seeds, equal resamples of images and, for as many repeats, of repeats.

    Raises:
        ValueError: The metric or the label is unknown, there are no scores, or shapes differ.
    """
    prepared = _prepared([metric], task, targets, scores, threshold)
    many = len(prepared[0].labels)
    if label is not None and not 0 <= label < many:
        raise ValueError(f"there is no label {label}; there are {many}, counted from 0")

    def scored(one: Prepared, weights: Floats) -> dict[int, Floats]:
        weights = weights if counts is None else weights * counts
        return {0: _score(one, weights, metric, label)}

    return _resampled(prepared, scored, groups, draws, seed)[0]


def label_estimates(
    metrics: Sequence[str],
    task: Task,
    targets: Array,
    scores: Sequence[Array],
    groups: Array | Sequence[str] | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> list[dict[str, Estimate]]:
    """Several metrics of every label against the rest, from one pass over the resamples.

    The numbers are those of `estimate` with ``label`` 0, 1, …; arguments as there.

    Returns:
        For each of ``metrics.scored_labels`` its estimates by metric.
    """

    def scored(one: Prepared, weights: Floats) -> dict[tuple[int, str], Floats]:
        each = enumerate(one.each(weights, metrics))
        return {(j, name): values for j, label in each for name, values in label.items()}

    prepared = _prepared(metrics, task, targets, scores, None)
    found = _resampled(prepared, scored, groups, draws, seed)
    labels = range(len(prepared[0].labels))
    return [{name: found[j, name] for name in metrics} for j in labels]


def task_estimates(
    metrics: Sequence[str],
    task: Task,
    targets: Array,
    scores: Sequence[Array],
    groups: Array | Sequence[str] | None = None,
    *,
    thresholds: Sequence[Threshold] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Several metrics of the task from one pass over the resamples, each repeat at its threshold.

    The numbers are those of `estimate`; arguments as there, but for:

    Args:
        metrics: By which the result is keyed.
        task: As there.
        targets: As there.
        scores: As there.
        groups: As there.
        thresholds: One a repeat: each repeat has its own validation scores, and so a threshold of
            its own. None: that of `metrics.measure` for all.
        draws: As there.
        seed: As there.
    """
    prepared = _prepared(metrics, task, targets, scores, None)
    if thresholds is not None:
        pairs = zip(scores, thresholds, strict=True)
        prepared = [Prepared.of(task, targets, one, limit) for one, limit in pairs]
    return _resampled(
        prepared, lambda one, weights: one.overall(weights, metrics), groups, draws, seed
    )


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The mean over tasks or cuts: of values, draws, and repeats of equal number.

    A draw that is not defined for one of them is not defined for the mean.

    Raises:
        ValueError: There are none, or the numbers of draws differ.
    """
    if not estimates:
        raise ValueError("a mean needs at least one estimate")
    return _combined(estimates, [1 / len(estimates)] * len(estimates))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for the number of tests (Holm 1979), in the order given.

    One below 0.05 is significant with a chance of at most 5% that any of all these is by accident,
    however the tests depend on each other. A NaN stays one and is no test.
    """
    tested = sorted((p, i) for i, p in enumerate(p_values) if not np.isnan(p))
    adjusted = [float("nan")] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        adjusted[i] = highest
    return adjusted


def within_noise(interval: Interval | dict[str, Any]) -> bool:
    """Whether the 95% interval of a difference holds 0, or is not defined."""
    return not (interval["low"] > ROUNDING or interval["high"] < -ROUNDING)


def _prepared(
    metrics: Sequence[str],
    task: Task,
    targets: Array,
    scores: Sequence[Array],
    threshold: Threshold,
) -> list[Prepared]:
    """Every repeat, checked and sorted."""
    for metric in metrics:
        if metric not in METRICS:
            raise ValueError(f"unknown metric {metric!r}; known are {', '.join(METRICS)}")
    if not len(scores):
        raise ValueError("an estimate needs the scores of at least one repeat")
    return [Prepared.of(task, targets, one, threshold) for one in scores]


def _resampled(
    prepared: Sequence[Prepared],
    scored: Callable[[Prepared, Floats], dict[K, Floats]],
    groups: Array | Sequence[str] | None,
    draws: int,
    seed: int,
) -> dict[K, Estimate]:
    """The estimate of everything that `scored` gives, (D,) for weights (D, N) of one repeat."""
    count = prepared[0].count
    whole = [scored(one, np.ones((1, count))) for one in prepared]
    parts: list[dict[K, list[Floats]]] = [{key: [] for key in values} for values in whole]
    for weights in resamples(count, groups, draws=draws, seed=seed):
        for one, mine in zip(prepared, parts, strict=True):
            for key, values in scored(one, weights).items():
                mine[key].append(values)
    times = _times(len(prepared), draws, seed)  # (R, D)
    out = {}
    for key in whole[0]:
        repeats = [float(values[key][0]) for values in whole]
        each = np.stack([np.concatenate([*mine[key], np.empty(0)]) for mine in parts])  # (R, D)
        drawn = (each * times).sum(0) / len(prepared)
        out[key] = Estimate(float(np.mean(repeats)), drawn, tuple(repeats))
    return out


def _score(prepared: Prepared, weights: Floats, metric: str, label: int | None) -> Floats:
    """The metric of the task or of one label: (D, N) → (D,)."""
    if label is None:
        return prepared.overall(weights, [metric])[metric]
    return prepared.labels[label].scores(weights, [metric])[metric]


def _times(repeats: int, draws: int, seed: int) -> Floats:
    """How often each repeat is drawn: (R, D), columns with the sum R."""
    generator = np.random.default_rng([seed, REPEATS_STREAM])
    drawn = generator.integers(0, repeats, (draws, repeats))  # (D, R)
    return np.stack([(drawn == r).sum(1) for r in range(repeats)]).astype(float)


def _combined(estimates: Sequence[Estimate], factors: Sequence[float]) -> Estimate:
    """The weighted sum, draw by draw."""
    if len({len(one.draws) for one in estimates}) > 1:
        raise ValueError("estimates with different numbers of draws are no pairs")
    pairs = list(zip(factors, estimates, strict=True))
    value = sum(f * e.value for f, e in pairs)
    draws = np.sum([f * e.draws for f, e in pairs], axis=0)
    repeats: tuple[float, ...] = ()
    if len({len(one.repeats) for one in estimates}) == 1:
        repeats = tuple(map(float, np.sum([np.multiply(f, e.repeats) for f, e in pairs], axis=0)))
    return Estimate(float(value), draws, repeats)

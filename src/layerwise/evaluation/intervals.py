"""95% percentile bootstrap intervals, resampled by patient where patients are known.

A resample of groups is kept as the number of times each image was drawn, never as a copy of the
images: AUROC and average precision then need one sort for all resamples and cumulative sums of
weights for each (`metrics.Label.curve`). Resamples are worked on a few at a time, so that memory
does not grow with their number.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from layerwise.evaluation.metrics import (
    METRICS,
    Array,
    Floats,
    Label,
    Prepared,
    Task,
    Threshold,
    ratio,
    scored_labels,
    two_dimensional,
)

Interval = dict[str, float]
Band = dict[str, Floats]

CELLS = 1 << 20  # weights held at a time (draws × images): 8 MiB, and a few arrays like it


def bootstrap(
    task: Task,
    targets: Array,
    scores: Array,
    threshold: Threshold = None,
    groups: Array | Sequence[str] | None = None,
    *,
    labels: Sequence[str] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Every metric with its 95% interval.

    Resamples in which a metric is not defined (a class is missing) do not count for it.

    Args:
        task: As in `metrics.measure`, as are the next three.
        targets: Class indices (N,), or 0/1/NaN (N, K) for multi-label.
        scores: Probabilities, (N, 1) or (N, K).
        threshold: One number, one a label, or None.
        groups: (N,) the patient of each image; images of one patient are drawn together. An
            empty name means unknown, and such an image stands alone. None: every image does.
        labels: Where given, the result has "per_label" too: {label: {metric: interval}}.
        draws: The number of resamples.
        seed: Equal seeds, equal resamples.

    Returns:
        {metric: {"value", "low", "high"}}; the value is that of the images themselves.
    """
    prepared = Prepared.of(task, targets, scores, threshold)
    n = prepared.count
    parts = [_scores(prepared, np.ones((1, n)))]
    parts += [_scores(prepared, w) for w in resamples(n, groups, draws=draws, seed=seed)]
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    result: dict[str, Any] = {name: _interval(joined[-1, name]) for name in METRICS}
    if labels is not None:
        result["per_label"] = {
            label: {name: _interval(joined[j, name]) for name in METRICS}
            for j, label in enumerate(scored_labels(task, labels))
        }
    return result


def paired_difference(
    metric: str,
    task: Task,
    targets: Array,
    scores_a: Array,
    scores_b: Array,
    groups: Array | Sequence[str] | None = None,
    *,
    threshold_a: Threshold = None,
    threshold_b: Threshold = None,
    counts: Floats | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """How much better A is than B on the same images, A − B, both scored on the same resamples.

    An interval that holds 0 says that the difference is within noise. Arguments as in
    `bootstrap`; ``metric`` is one of ``metrics.METRICS``; ``counts`` (N,) is what each image
    counts whenever it is drawn, None: all the same.

    Raises:
        ValueError: The metric is unknown or the shapes differ.
    """
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; known are {', '.join(METRICS)}")
    a = Prepared.of(task, targets, scores_a, threshold_a)
    b = Prepared.of(task, targets, scores_b, threshold_b)

    def difference(weights: Floats) -> Floats:
        weights = weights if counts is None else weights * counts
        return a.overall(weights, [metric])[metric] - b.overall(weights, [metric])[metric]

    parts = [difference(np.ones((1, a.count)))]
    parts += [difference(w) for w in resamples(a.count, groups, draws=draws, seed=seed)]
    return _interval(np.concatenate(parts))


def roc_band(
    targets: Array,
    scores: Array,
    groups: Array | Sequence[str] | None = None,
    *,
    draws: int = 300,
    seed: int = 0,
    points: int = 101,
) -> Band:
    """The ROC curve's pointwise 95% band: the true positive rate at given false positive rates.

    Args:
        targets: 0/1/NaN of one label, (N,).
        scores: Its probabilities, (N,).
        groups: As in `bootstrap`.
        draws: The number of resamples.
        seed: Equal seeds, equal resamples.
        points: How many false positive rates from 0 to 1.

    Returns:
        "grid", "mean", "low", "high", each (points,); NaN where a class is missing.
    """
    label, grid = _one(targets, scores), np.linspace(0, 1, points)
    curves = []
    for weights in resamples(len(targets), groups, draws=draws, seed=seed):
        true, false = _rates(*label.curve(weights))
        curves += [np.interp(grid, f, t) for t, f in zip(true, false, strict=True) if t[-1] == 1]
    return _band(grid, curves)


def pr_band(
    targets: Array,
    scores: Array,
    groups: Array | Sequence[str] | None = None,
    *,
    draws: int = 300,
    seed: int = 0,
    points: int = 101,
) -> Band:
    """The precision–recall curve's pointwise 95% band: precision at given recalls.

    Precision is read where a recall is first reached, without interpolation, as in the average
    precision. Arguments and result as in `roc_band`.
    """
    label, grid = _one(targets, scores), np.linspace(0, 1, points)
    wanted = np.maximum(grid, 1e-12)  # at recall 0: the precision of the first that is found
    curves = []
    for weights in resamples(len(targets), groups, draws=draws, seed=seed):
        tp, fp = label.curve(weights)
        precision = ratio(tp, tp + fp, empty=1.0)
        for t, f, p in zip(tp, fp, precision, strict=True):
            if len(t) and t[-1] > 0 and f[-1] > 0:
                curves.append(p[np.searchsorted(t / t[-1], wanted - 1e-12)])
    return _band(grid, curves)


def resamples(
    count: int, groups: Array | Sequence[str] | None = None, *, draws: int, seed: int
) -> Iterator[Floats]:
    """How often each image is drawn, a few resamples at a time.

    As many groups are drawn, with replacement, as there are. The draws depend on the seed alone,
    not on how many are handed out at a time.

    Yields:
        Whole numbers as float64, (D, N), D·N near ``CELLS``; D sums to ``draws``. In memory an
        image's D weights lie together.
    """
    member = _members(count, groups)  # (N,)
    total = int(member.max()) + 1 if count else 0
    step = max(1, CELLS // max(count, 1))
    if draws <= step:  # treatments of one task ask for these again and again
        yield _kept(total, draws, seed)[member].T
        return
    generator = np.random.default_rng(seed)
    for first in range(0, draws, step):
        yield _drawn(generator, total, min(step, draws - first))[member].T


@lru_cache(maxsize=2)
def _kept(total: int, draws: int, seed: int) -> Floats:
    return _drawn(np.random.default_rng(seed), total, draws)


def _drawn(generator: np.random.Generator, total: int, draws: int) -> Floats:
    """How often each group is drawn: (total, draws)."""
    times = np.empty((draws, total))
    for row in times:
        row[:] = np.bincount(generator.integers(0, total, total), minlength=total)
    return np.ascontiguousarray(times.T)


def percentile_interval(value: float, draws: Floats) -> Interval:
    """A value with the 2.5 and 97.5 percentiles of those of its resamples that are defined."""
    defined = draws[~np.isnan(draws)]
    if not len(defined) or np.isnan(value):
        return {"value": value, "low": float("nan"), "high": float("nan")}
    low, high = np.percentile(defined, [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high)}


def _members(count: int, groups: Array | Sequence[str] | None) -> Array:
    """The group number of each image; those of unknown group each have their own."""
    if groups is None:
        return np.arange(count)
    names = np.asarray(groups)
    if names.shape != (count,):
        raise ValueError(f"groups of shape {names.shape} do not fit {count} images")
    unknown = names == "" if names.dtype.kind in "UO" else np.zeros(count, bool)
    _, member = np.unique(names.astype(str), return_inverse=True)
    member = np.where(unknown, count + np.arange(count), member)
    return np.unique(member, return_inverse=True)[1]


def _scores(prepared: Prepared, weights: Floats) -> dict[tuple[int, str], Floats]:
    """Each label's scores under (label number, metric), and the task's own under -1."""
    each = prepared.each(weights)
    own = prepared.combine(each, weights)
    return {(j, m): v for j, one in [(-1, own), *enumerate(each)] for m, v in one.items()}


def _interval(values: Floats) -> Interval:
    """The interval of the first value from the rest."""
    return percentile_interval(float(values[0]), values[1:])


def _one(targets: Array, scores: Array) -> Label:
    """One label's known images, sorted."""
    truth, score = np.asarray(targets, float), two_dimensional(scores)[:, 0]
    return Label.of(truth == 1, score, score >= 0.5, truth >= 0)


def _rates(tp: Floats, fp: Floats) -> tuple[Floats, Floats]:
    """True and false positive rates from (0, 0) on; all 0 where a class is missing."""
    zero = np.zeros((len(tp), 1))
    if not tp.shape[1]:
        return zero, zero
    both = (tp[:, -1:] > 0) & (fp[:, -1:] > 0)
    true = ratio(tp, np.where(both, tp[:, -1:], 0) + 0 * tp, empty=0.0)
    false = ratio(fp, np.where(both, fp[:, -1:], 0) + 0 * fp, empty=0.0)
    return np.hstack([zero, true]), np.hstack([zero, false])


def _band(grid: Floats, curves: Sequence[Floats]) -> Band:
    """Mean and percentiles at each point."""
    if not curves:
        return {"grid": grid, **{name: np.full(len(grid), np.nan) for name in _SIDES}}
    stacked = np.stack(curves)  # (D, points)
    low, high = np.percentile(stacked, [2.5, 97.5], axis=0)
    return {"grid": grid, "mean": stacked.mean(0), "low": low, "high": high}


_SIDES = ("mean", "low", "high")

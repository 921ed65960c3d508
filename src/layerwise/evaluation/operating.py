"""Where decisions are made: the threshold, and whether the probabilities mean what they say."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from layerwise.errors import LayerwiseError
from layerwise.evaluation.intervals import resamples
from layerwise.evaluation.metrics import (
    Array,
    Floats,
    Label,
    Task,
    Threshold,
    ratio,
    two_dimensional,
)

Policy = Literal["balanced"]

EDGE = 1e-6  # scores nearer to 0 or 1 are taken as this far away, or their logits would rule


def choose_threshold(
    task: Task,
    targets: Array,
    scores: Array,
    groups: Array | Sequence[str] | None = None,
    policy: Policy = "balanced",
    *,
    draws: int = 200,
    seed: int = 0,
) -> float | list[float] | None:
    """The threshold at or above which a score is a positive decision, from validation alone.

    "balanced" maximises balanced accuracy, that is Youden's J = recall + specificity − 1. On a
    validation part that is nearly separable a few images decide where that maximum lies: it is
    a wide plateau, or one of several equal peaks, and another sample of patients would move it
    far. So the peak of each of many resamples (by patient) is taken at the middle of its
    plateau, and these are averaged; both in logits, where a plateau from 0.02 to 0.98 and one
    from 0.0002 to 0.02 are comparable and probabilities crowded at 0 or 1 are spread out.

    Args:
        task: "binary", "multiclass" or "multilabel".
        targets: Validation targets, (N,) or (N, K) with NaN for unknown.
        scores: Validation probabilities, (N, 1), (N,) or (N, K).
        groups: (N,) patients, or None.
        policy: "balanced".
        draws: The number of resamples.
        seed: Equal seeds, equal thresholds.

    Returns:
        A number for binary, one a label for multi-label (0.5 where a class is missing), None for
        multi-class, which decides by argmax.

    Raises:
        LayerwiseError: The policy is unknown.
    """
    if policy != "balanced":
        raise LayerwiseError(f"threshold policy {policy!r} is unknown; use 'balanced'")
    if task == "multiclass":
        return None
    scores = two_dimensional(scores)
    truth = np.asarray(targets, float).reshape(scores.shape)
    labels = [
        Label.of(truth[:, j] == 1, scores[:, j], scores[:, j] >= 0.5, truth[:, j] >= 0)
        for j in range(scores.shape[1])
    ]
    peaks: list[list[float]] = [[] for _ in labels]
    for weights in resamples(len(scores), groups, draws=draws, seed=seed):
        for label, found in zip(labels, peaks, strict=True):
            found += _peaks(label, weights)
    chosen = [float(1 / (1 + np.exp(-np.mean(p)))) if p else 0.5 for p in peaks]
    return chosen[0] if task == "binary" else chosen


def decide(task: Task, scores: Array, threshold: Threshold) -> NDArray[np.int64]:
    """Decisions at a threshold.

    Args:
        task: "binary", "multiclass" or "multilabel".
        scores: Probabilities, (N, 1) for binary, else (N, K).
        threshold: One number, one a label, or None: 0.5; of multiclass it is not looked at.

    Returns:
        int64: (N,) the label's number for binary and multiclass, (N, K) of 0 and 1 for multilabel.
    """
    if task == "multiclass":
        return np.asarray(scores.argmax(axis=1), np.int64)
    limits = np.asarray(0.5 if threshold is None else threshold, np.float64)
    positive = np.asarray(scores.astype(np.float64) >= limits, np.int64)  # (N, 1 or K)
    return positive[:, 0] if task == "binary" else positive


def _peaks(label: Label, weights: Floats) -> list[float]:
    """The logit in the middle of the best plateau of each resample that has both classes."""
    tp, fp = label.curve(weights)  # (D, E)
    if not tp.shape[1]:
        return []
    logits = _logit(label.ranked[label.ends])  # (E,) falling
    below = np.append(logits[1:], logits[-1])  # any threshold in (below, logits] decides alike
    found = []
    for true, false in zip(tp, fp, strict=True):
        if true[-1] == 0 or false[-1] == 0:
            continue
        # Whole numbers, so that equal peaks are equal and not apart by a rounding error.
        gain = true * false[-1] - false * true[-1]
        best = np.flatnonzero(gain == gain.max())
        plateaus = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
        high, low = max(
            ((logits[p[0]], below[p[-1]]) for p in plateaus), key=lambda side: side[0] - side[1]
        )
        found.append(float((high + low) / 2))
    return found


def _logit(p: Floats) -> Floats:
    p = np.clip(p, EDGE, 1 - EDGE)
    out: Floats = np.log(p) - np.log1p(-p)
    return out


def reliability(targets: Array, scores: Array, bins: int = 10) -> dict[str, Any]:
    """Whether a score of 0.8 is right 8 times in 10, in bins of equal width.

    Args:
        targets: 0/1/NaN, (N,): the event came, did not, or is unknown.
        scores: Its probability, (N,).
        bins: How many bins from 0 to 1.

    Returns:
        "score" and "rate" (the mean probability and the share of events, NaN in empty bins),
        "low" and "high" (Wilson's 95% interval of the rate) and "count", each (bins,), and
        "error": the expected calibration error Σ count/N · |rate − score|.
    """
    truth, score = np.asarray(targets, float), two_dimensional(scores)[:, 0]
    truth, score = truth[~np.isnan(truth)], score[~np.isnan(truth)]
    place = np.minimum((score * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins).astype(float)
    mean = ratio(np.bincount(place, score, minlength=bins), count)
    rate = ratio(np.bincount(place, truth, minlength=bins), count)
    gap = np.where(count > 0, np.abs(rate - mean), 0)
    z = 1.96
    middle = (rate + z * z / 2 / np.maximum(count, 1)) / (1 + z * z / np.maximum(count, 1))
    half = (
        z
        / (1 + z * z / np.maximum(count, 1))
        * np.sqrt(rate * (1 - rate) / np.maximum(count, 1) + (z / 2 / np.maximum(count, 1)) ** 2)
    )
    return {
        "score": mean,
        "rate": rate,
        "low": middle - half,
        "high": middle + half,
        "count": count.astype(int),
        "error": float(count @ gap / count.sum()) if len(score) else float("nan"),
    }

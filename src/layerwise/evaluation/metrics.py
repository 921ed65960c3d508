"""Scores of predictions, from plain arrays, with one weight an image.

Everything is computed for a matrix of weights, (D, N): D resamples of N images, each weight the
number of times the image was drawn. A plain score is the case of one row of ones, so that the
value in a report and its bootstrap interval can not come from two implementations.

Every task is reduced to labels one against the rest. Definitions, where they could differ:

- AUPRC is the average precision, Σ (Rᵢ − Rᵢ₋₁) Pᵢ, without interpolation.
- Precision is 0 where nothing is called positive (as scikit-learn's ``zero_division=0``).
- What needs a class that is not there is NaN: recall, precision and F1 need positives,
  specificity needs negatives, AUROC, AUPRC and balanced accuracy need both.
- Multi-class: decisions are by argmax; AUROC, AUPRC, precision, recall, specificity and F1 are
  means over the classes (one against the rest) for which they are defined; balanced accuracy is
  the mean recall; the Brier score is the mean over images of the squared error summed over
  classes (Brier 1950), from 0 to 2.
- Multi-label: every score is the mean over the labels that have both classes; unknown targets
  (NaN) are left out label by label.
- Binary Brier: mean (p − y)², from 0 to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Task = Literal["binary", "multiclass", "multilabel"]
Threshold = float | Sequence[float] | None
Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

METRICS = (
    "auroc",
    "auprc",
    "accuracy",
    "balanced_accuracy",
    "f1",
    "precision",
    "recall",
    "specificity",
    "brier",
)
AREAS = ("auroc", "auprc")
"""Those that look at every threshold."""

BLOCK = 1 << 16  # weights looked at together: 512 KiB


def measure(
    task: Task,
    targets: Array,
    scores: Array,
    threshold: Threshold = None,
    weights: Floats | None = None,
) -> dict[str, float]:
    """Every metric of a set of predictions.

    Args:
        task: "binary", "multiclass" or "multilabel".
        targets: Class indices, int (N,); for multi-label 0/1/NaN, float (N, K).
        scores: Probabilities, (N, 1) or (N,) for binary, (N, K) otherwise.
        threshold: A score at or above it is a positive decision: one number for binary, one a
            label for multi-label (a number alone serves all), ignored for multi-class; None
            means 0.5.
        weights: What each image counts, (N,), from 0 on; None: all the same.

    Returns:
        The nine numbers of ``METRICS``, NaN where not defined.

    Raises:
        ValueError: The shapes do not fit the task, or a score is not finite.
    """
    prepared = Prepared.of(task, targets, scores, threshold)
    values = prepared.overall(np.ones((1, prepared.count)) if weights is None else weights[None])
    return {name: float(values[name][0]) for name in METRICS}


def per_label(
    task: Task,
    labels: Sequence[str],
    targets: Array,
    scores: Array,
    threshold: Threshold = None,
) -> dict[str, dict[str, float]]:
    """Every metric of each label against the rest; for binary of the positive label alone.

    Args:
        task: As in `measure`.
        labels: The names, 2 for binary, K otherwise.
        targets: As in `measure`.
        scores: As in `measure`.
        threshold: As in `measure`.
    """
    prepared = Prepared.of(task, targets, scores, threshold)
    once = np.ones((1, prepared.count))
    return {
        name: {metric: float(value[0]) for metric, value in label.scores(once).items()}
        for name, label in zip(scored_labels(task, labels), prepared.labels, strict=True)
    }


def scored_labels(task: Task, labels: Sequence[str]) -> Sequence[str]:
    """The labels that have a score of their own: the second alone where there are only two."""
    return labels[1:] if task == "binary" else labels


@dataclass(frozen=True)
class Label:
    """One label against the rest, its M known images sorted by falling score."""

    count: int  # N
    rows: npt.NDArray[np.intp]  # (M,) image numbers, by falling score
    positive: npt.NDArray[np.bool_]  # (M,) in that order, as all that follow
    ranked: Floats  # (M,) the scores
    decided: npt.NDArray[np.bool_]  # (M,) called positive
    squared_error: Floats  # (M,)

    @classmethod
    def of(cls, positive: Array, score: Array, decided: Array, known: Array) -> "Label":
        """From arrays of all N images and the mask of those whose truth is known."""
        rows = np.flatnonzero(known)
        rows = rows[np.argsort(-score[rows], kind="stable")]
        truth = positive[rows].astype(bool)
        return cls(len(known), rows, truth, score[rows], decided[rows], (score[rows] - truth) ** 2)

    @cached_property
    def ends(self) -> npt.NDArray[np.intp]:
        """(E,) where each group of equal scores ends: no threshold can part a tie."""
        if not len(self.ranked):
            return np.zeros(0, np.intp)
        return np.append(np.flatnonzero(np.diff(self.ranked)), len(self.ranked) - 1)

    @cached_property
    def steps(self) -> "Steps":
        """Where the curve rises: its positives, and the negatives above each."""
        return Steps.of(self)

    @cached_property
    def columns(self) -> Floats:
        """(N, 5): known and positive, negative, hit, false alarm, squared error; else 0."""
        truth, called = self.positive, self.decided
        kinds = [truth, ~truth, called & truth, called & ~truth, self.squared_error]
        spread = np.zeros((self.count, 5))
        spread[self.rows] = np.stack(kinds, 1)
        return spread

    def curve(self, weights: Floats) -> tuple[Floats, Floats]:
        """True and false positives at every possible threshold, from the highest: two (D, E)."""
        mine = weights[:, self.rows]  # (D, M)
        true = np.cumsum(mine * self.positive, axis=1)[:, self.ends]
        return true, np.cumsum(mine, axis=1)[:, self.ends] - true

    def scores(
        self, weights: Floats, names: Sequence[str] = METRICS, sums: Floats | None = None
    ) -> dict[str, Floats]:
        """The named metrics, each (D,), for weights (D, N); ``sums`` where they are known."""
        areas = [name for name in names if name in AREAS]
        values = self.steps.areas(weights, areas) if areas else {}
        if len(areas) < len(names):
            values |= self._decisions(weights @ self.columns if sums is None else sums)
        return {name: values[name] for name in names}

    def _decisions(self, sums: Floats) -> dict[str, Floats]:
        """All metrics that are sums over images, from those of `columns`, (D, 5)."""
        positives, negatives, true, false, error = sums.T
        recall = ratio(true, positives)
        specificity = ratio(negatives - false, negatives)
        everything = positives + negatives
        return {
            "accuracy": ratio(true + negatives - false, everything),
            "balanced_accuracy": (recall + specificity) / 2,
            "f1": ratio(2 * true, np.where(positives > 0, true + false + positives, 0)),
            "precision": np.where(positives > 0, ratio(true, true + false, empty=0.0), np.nan),
            "recall": recall,
            "specificity": specificity,
            "brier": ratio(error, everything),
        }


@dataclass(frozen=True)
class Steps:
    """The P positives of a label and how its negatives lie among them.

    Areas under both curves need the curves only where they rise. So only negatives are summed up
    in order, and only positives looked at: a fifth of the work of the whole curve, and for whole
    weights the same numbers to the bit for AUROC.
    """

    positives: npt.NDArray[np.intp]  # (P,) image numbers, by falling score
    negatives: npt.NDArray[np.intp]  # (Q,) likewise
    above: npt.NDArray[np.intp]  # (P,) how many negatives score higher than this positive
    through: npt.NDArray[np.intp]  # (P,) how many score at least as high
    ties: npt.NDArray[np.intp]  # where each group of equal scores among the positives begins

    @classmethod
    def of(cls, label: Label) -> "Steps":
        """From a label's sorted images."""
        falling = -label.ranked
        positive, negative = falling[label.positive], falling[~label.positive]
        return cls(
            label.rows[label.positive],
            label.rows[~label.positive],
            np.searchsorted(negative, positive, "left"),
            np.searchsorted(negative, positive, "right"),
            np.flatnonzero(np.diff(positive, prepend=np.nan) != 0),
        )

    def areas(self, weights: Floats, names: Sequence[str] = AREAS) -> dict[str, Floats]:
        """AUROC (a tie counts half), average precision, or both: (D, N) → (D,) each."""
        step = max(1, BLOCK // (len(self.positives) + len(self.negatives) + 1))
        parts = [self._some(weights[i : i + step], names) for i in range(0, len(weights), step)]
        found = np.concatenate(parts, axis=1) if parts else np.empty((len(names), 0))
        return dict(zip(names, found, strict=True))

    def _some(self, weights: Floats, names: Sequence[str]) -> Floats:
        """The same for as many resamples as the processor's cache holds, (len(names), D)."""
        across = weights.T  # an image's weights lie together in the resamples of `intervals`
        false = np.zeros((len(self.negatives) + 1, len(weights)))
        np.cumsum(across[self.negatives], axis=0, out=false[1:])  # (Q + 1, D)
        mine = across[self.positives]  # (P, D)
        through, of_all, total = false[self.through], false[-1], mine.sum(0)
        values = {}
        if "auroc" in names:
            # twice the pairs in order: below this positive, and half of those that tie with it
            above = through if np.array_equal(self.above, self.through) else false[self.above]
            pairs = 2 * total * of_all - np.einsum("pd,pd->d", mine, above + through)
            values["auroc"] = ratio(pairs, 2 * total * of_all)
        if "auprc" in names:
            if len(self.ties) < len(self.positives):
                mine, through = np.add.reduceat(mine, self.ties, axis=0), through[self.ties]
            true = np.cumsum(mine, axis=0)
            precision = ratio(true, true + through, empty=0.0)
            values["auprc"] = ratio(np.einsum("pd,pd->d", mine, precision), total)
        both = (total > 0) & (of_all > 0)
        return np.stack([np.where(both, values[name], np.nan) for name in names])


@dataclass(frozen=True)
class Prepared:
    """Predictions of one task, sorted once and scored under many weights."""

    task: Task
    count: int  # N
    labels: tuple[Label, ...]
    right: npt.NDArray[np.bool_] | None  # (N,) the argmax is right; multi-class only

    @classmethod
    def of(
        cls, task: Task, targets: Array, scores: Array, threshold: Threshold = None
    ) -> "Prepared":
        """Check the shapes and sort every label once; arguments as in `measure`."""
        scores = two_dimensional(scores)
        targets = np.asarray(targets)
        expected = scores.shape if task == "multilabel" else (len(scores),)
        if targets.shape != expected or (task == "binary") != (scores.shape[1] == 1):
            raise ValueError(
                f"{task}: targets of shape {targets.shape} do not fit scores {scores.shape}"
            )
        n, k = scores.shape
        known = np.ones(n, bool)
        if task == "multiclass":
            choice = scores.argmax(1) if n else np.zeros(0, int)
            each = [Label.of(targets == j, scores[:, j], choice == j, known) for j in range(k)]
            return cls(task, n, tuple(each), choice == targets)
        limits = np.broadcast_to(0.5 if threshold is None else np.asarray(threshold, float), (k,))
        truth = targets.reshape(n, k).astype(float)
        each = [
            Label.of(truth[:, j] == 1, scores[:, j], scores[:, j] >= limits[j], truth[:, j] >= 0)
            for j in range(k)
        ]
        return cls(task, n, tuple(each), None)

    def overall(self, weights: Floats, names: Sequence[str] = METRICS) -> dict[str, Floats]:
        """The task's own scores, each (D,), for weights (D, N)."""
        needed = list(names)
        if self.task == "multiclass":  # these two are not means of the labels' own
            needed = [name for name in names if name not in ("accuracy", "balanced_accuracy")]
            if "balanced_accuracy" in names and "recall" not in names:
                needed.append("recall")
        values = self.combine(self.each(weights, needed), weights)
        return {name: values[name] for name in names}

    def each(self, weights: Floats, names: Sequence[str] = METRICS) -> list[dict[str, Floats]]:
        """The scores of every label, each (D,), for weights (D, N): their sums in one product."""
        if set(names) <= set(AREAS):
            return [label.scores(weights, names) for label in self.labels]
        sums = np.split(weights @ self.columns, len(self.labels), axis=1)
        pairs = zip(self.labels, sums, strict=True)
        return [label.scores(weights, names, own) for label, own in pairs]

    @cached_property
    def columns(self) -> Floats:
        """(N, 5 K): the columns of all labels."""
        return np.hstack([label.columns for label in self.labels])

    def combine(self, each: Sequence[dict[str, Floats]], weights: Floats) -> dict[str, Floats]:
        """The task's own scores from those of its labels under the same weights."""
        if self.task == "binary":
            return each[0]
        stacked = {name: np.stack([label[name] for label in each]) for name in each[0]}  # (K, D)
        if self.task == "multilabel":
            both = self._has_both(weights)
            return {name: _mean(np.where(both, v, np.nan)) for name, v in stacked.items()}
        values = {name: _mean(v) for name, v in stacked.items()}
        if "brier" in values:
            values["brier"] = stacked["brier"].sum(0)
        assert self.right is not None
        values["accuracy"] = ratio(weights @ self.right.astype(float), weights.sum(1))
        if "recall" in values:
            values["balanced_accuracy"] = values["recall"]
        return values

    def _has_both(self, weights: Floats) -> npt.NDArray[np.bool_]:
        """Which labels have both classes in a resample: (D, N) → (K, D)."""
        sides = weights @ np.hstack([label.columns[:, :2] for label in self.labels])  # (D, 2 K)
        return np.asarray((sides.reshape(len(weights), -1, 2) > 0).all(2).T)


def two_dimensional(scores: Array) -> Floats:
    """Scores as float64 (N, K); ValueError where one is not finite."""
    scores = np.asarray(scores, np.float64)
    scores = scores[:, None] if scores.ndim == 1 else scores
    if scores.ndim != 2 or not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite and of shape (N, K), got {scores.shape}")
    return scores


def ratio(above: Array, below: Array, empty: float = np.nan) -> Floats:
    """``above / below``, and ``empty`` where ``below`` is not positive."""
    out = np.full(np.shape(below), empty, float)
    np.divide(above, below, out=out, where=np.asarray(below) > 0)
    return out


def _mean(values: Floats) -> Floats:
    """The mean over the first axis of what is not NaN; NaN where nothing is."""
    there = ~np.isnan(values)
    return ratio(np.where(there, values, 0).sum(0), there.sum(0))

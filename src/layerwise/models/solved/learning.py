"""Learning curves of a linear SVM: how it does with fewer images, all sizes and folds together.

What scikit-learn's `learning_curve` does with `LinearSVC` (Marcelino 2018, Figure 9): at each size
a model for every fold, learnt from the images of that size outside the fold and asked about the
whole fold, and about what it has learnt. The features are turned once (`rotation`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerwise.models.solved.grid import AT_ONCE, check_folds, encode
from layerwise.models.solved.linear import Linear
from layerwise.models.solved.margin_losses import SquaredHinge
from layerwise.models.solved.newton import TOLERANCE, minimise
from layerwise.models.solved.rotation import Columns, Turned, turn

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Learnt:
    """What an SVM learns from some of the images.

    Attributes:
        images: How many they are.
        without_fold: (F,) of them, those outside each fold, which its model learns from.
        train: (F,) accuracy of each fold's model on what it has learnt from.
        held_out: (F,) on the whole fold, whatever size is looked at.
        linear: Learnt from all these images; raw margins.
    """

    images: int
    without_fold: tuple[int, ...]
    train: tuple[float, ...]
    held_out: tuple[float, ...]
    linear: Linear


def learning_curve(
    columns: Columns,
    targets: NDArray[np.generic],
    fold: NDArray[np.int64],
    task: str,
    subsets: Sequence[Mask],
    penalties: Sequence[float],
    *,
    standardise: bool = False,
    labels: Sequence[str] = (),
    tolerance: float = TOLERANCE,
) -> list[Learnt]:
    """The SVM of every subset and fold, at the C that was chosen with all images.

    Args:
        columns: Features (n, d).
        targets: int64 (n,), or float32 (n, K) with NaN where unknown.
        fold: (n,) the fold in which each row is held out, from 0 on.
        task: "binary", "multiclass" or "multilabel".
        subsets: (n,) each, which rows belong to a size.
        penalties: C: one, or for multilabel one a label.
        standardise: See `grid.search`.
        labels: Names of classes or labels, for errors.
        tolerance: Of `newton.minimise`.

    Returns:
        One entry a subset.

    Raises:
        DataError: A fold has no image of a class.
        TrainingError: See `rotation.turn`.
    """
    wanted, known = encode(targets, task)  # (K, n) each
    check_folds(targets, fold, task, labels)
    turned = turn(columns, standardise=standardise, free=False)
    each = np.broadcast_to(np.asarray(penalties, float), len(wanted))  # C of each class or label
    folds = int(fold.max()) + 1
    # (F + 1, n) what is learnt from in each fold; the last one holds nothing out.
    outside = np.stack([fold != f for f in range(folds)] + [np.ones(len(fold), np.bool_)])
    out = []
    for subset in subsets:
        rows = subset & outside
        margins, weights = _solve(turned, wanted, known, rows, each, tolerance)
        right, counted = _right(margins, wanted, known, task)  # (F + 1, J, n), (J, n)
        weight, bias = turned.weights(weights)
        penalty = float(each[0]) if len(set(each.tolist())) == 1 else None
        out.append(
            Learnt(
                int(subset.sum()),
                tuple(rows[:folds].sum(axis=1).tolist()),
                tuple(_share(right[f], counted & rows[f]) for f in range(folds)),
                tuple(_share(right[f], counted & (fold == f)) for f in range(folds)),
                Linear(weight, bias, penalty, None),
            )
        )
    return out


def _solve(
    turned: Turned, wanted: Floats, known: Mask, rows: Mask, penalties: Floats, tolerance: float
) -> tuple[Floats, Floats]:
    """Margins (F + 1, K, n) of all rows, and the coefficients (K, r) of the last entry of `rows`.

    Args:
        turned: The features.
        wanted: (K, n).
        known: (K, n).
        rows: (F + 1, n) what each model learns from.
        penalties: (K,) C.
        tolerance: Of `minimise`.
    """
    count, (k, n) = len(rows), wanted.shape
    margins = np.empty((count, k, n))
    whole = np.empty((k, len(turned.design.ridge)))
    every = [(f, j) for j in np.argsort(penalties, kind="stable") for f in range(count)]
    step = max(1, AT_ONCE // n)
    for penalty in np.unique(penalties):
        mine = [(f, j) for f, j in every if penalties[j] == penalty]
        for start in range(0, len(mine), step):
            part = mine[start : start + step]
            f, j = (np.array(side) for side in zip(*part, strict=True))
            weights = (rows[f] & known[j]).astype(np.float64)[:, None]  # (P, 1, n)
            loss = SquaredHinge(wanted[j][:, None], weights)
            begin = np.zeros((len(part), 1, whole.shape[1]))
            done = minimise(turned.design, loss, float(penalty), begin, tolerance=tolerance)
            margins[f, j] = done.margins[:, 0]
            last = f == count - 1
            whole[j[last]] = done.coefficients[last, 0]
    return margins, whole


def _right(margins: Floats, wanted: Floats, known: Mask, task: str) -> tuple[Mask, Mask]:
    """Whether each answer (F + 1, J, n) is right, and which (J, n) count: J is 1, or the labels."""
    if task == "multiclass":
        return (margins.argmax(axis=1) == wanted.argmax(axis=0))[:, None], known[:1]
    return (margins > 0) == (wanted == 1), known


def _share(right: Mask, counted: Mask) -> float:
    """The share of right answers, the mean over labels; NaN where none is counted."""
    counts = counted.sum(axis=1)
    shares = (right & counted).sum(axis=1)[counts > 0] / counts[counts > 0]
    return float(shares.mean()) if len(shares) else float("nan")

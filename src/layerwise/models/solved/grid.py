"""Linear classifiers by cross-validation: all folds and classes solved together, for each C.

What scikit-learn's `GridSearchCV` does with `LinearSVC(dual=False)` or `LogisticRegression` one fit
after another (Marcelino 2018, §6.3.3; Tang 2013): the same objective, the same folds, the same
accuracy, the same choice. Here the features are turned once (`rotation`), each C starts where the
last one ended, and the model of all images is just one more fold, in which nothing is held out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from layerwise.errors import DataError, TrainingError
from layerwise.models.solved.linear import Linear
from layerwise.models.solved.margin_losses import Logistic, Loss, Softmax, SquaredHinge
from layerwise.models.solved.newton import TOLERANCE, minimise
from layerwise.models.solved.rotation import Columns, Turned, turn

Floats = NDArray[np.floating]
Kind = Literal["squared hinge", "logistic"]

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)  # Marcelino 2018, §6.3.3
AT_ONCE = 8 * 2**20  # margins of all problems that are solved together, 8 bytes each


@dataclass(frozen=True)
class Searched:
    """What a grid search found.

    Attributes:
        linear: Learnt from all rows at the chosen C; raw margins.
        grid: The values of C, ascending.
        scores: (C, 1) mean accuracy of the folds, or (C, K) label by label for multilabel.
        penalties: The chosen C; for multilabel one a label.
        objectives: scikit-learn's objective of each problem of all rows at the chosen C: one a
            label or class, or a single one for multinomial regression.
        held_out: (n, outputs) margins of each row by the model at the chosen C that has not seen
            the row's fold.
    """

    linear: Linear
    grid: tuple[float, ...]
    scores: Floats
    penalties: tuple[float, ...]
    objectives: tuple[float, ...]
    held_out: Floats


def search(
    columns: Columns,
    targets: NDArray[np.generic],
    fold: NDArray[np.int64],
    task: str,
    *,
    kind: Kind,
    penalties: Sequence[float] = PENALTIES,
    standardise: bool = False,
    balanced: bool = False,
    labels: Sequence[str] = (),
    at_once: int = AT_ONCE,
    tolerance: float = TOLERANCE,
) -> Searched:
    """The linear classifier at the C with the best mean accuracy of the folds, the least if equal.

    Several classes are one problem each against the rest with the squared hinge, and one joint
    problem with the logistic loss. Several labels are one problem each on the rows where they are
    known, each with a C of its own.

    Args:
        columns: Features (n, d).
        targets: int64 (n,), or float32 (n, K) with NaN where unknown.
        fold: (n,) the fold in which each row is held out, from 0 on.
        task: "binary", "multiclass" or "multilabel".
        kind: "squared hinge": the intercept is restrained like a weight, as in `LinearSVC` with
            `intercept_scaling=1`. "logistic": it is not.
        penalties: The grid of C.
        standardise: Learn from features of mean 0 and deviation 1 (over all rows: nothing of a
            label enters); it is folded into the answer.
        balanced: Let every class weigh the same, as scikit-learn's class_weight="balanced".
        labels: Names of classes or labels, for errors.
        at_once: Margins of all problems that are solved together; fewer take less memory.
        tolerance: Of `newton.minimise`.

    Raises:
        DataError: A fold has no image of a class, or a label is not both seen and not seen in it.
        TrainingError: No usable C, or see `rotation.turn`.
    """
    grid = _ascending(penalties)
    wanted, known = encode(targets, task)  # (K, n) each
    check_folds(targets, fold, task, labels)
    turned = turn(columns, standardise=standardise, free=kind == "logistic")
    joint = kind == "logistic" and task == "multiclass"
    folds = int(fold.max()) + 1
    # Problems: every class in every fold; number `folds` holds nothing out.
    every = [(f, k) for k in range(1 if joint else len(wanted)) for f in range(folds + 1)]
    size = (len(wanted) if joint else 1, len(turned.design.ridge))
    margins = np.empty((len(grid), *wanted.shape))  # held out
    whole = np.empty((len(grid), *wanted.shape[:1], size[1]))  # coefficients of all rows
    objectives = np.empty((len(grid), 1 if joint else len(wanted)))
    step = max(1, at_once // (size[0] * len(fold)))
    for start in range(0, len(every), step):
        part = every[start : start + step]
        loss = _loss(part, wanted, known, fold, kind, task, balanced)
        v: Floats = np.zeros((len(part), *size))
        for c, penalty in enumerate(grid):
            done = minimise(turned.design, loss, penalty, v, tolerance=tolerance)
            v = done.coefficients
            for p, (f, k) in enumerate(part):
                which = slice(None) if joint else slice(k, k + 1)
                if f == folds:
                    whole[c, which], objectives[c, k] = v[p], done.objective[p]
                else:
                    held = np.flatnonzero(fold == f)
                    margins[c, which][:, held] = done.margins[p][:, held]
    scores = _accuracy(margins, wanted, known, fold, task)  # (C, 1 or K)
    best = scores.argmax(axis=0)  # the first of equal ones
    return _answer(turned, grid, scores, best, margins, whole, objectives)


def _answer(
    turned: Turned,
    grid: tuple[float, ...],
    scores: Floats,
    best: NDArray[np.int64],
    margins: Floats,
    whole: Floats,
    objectives: Floats,
) -> Searched:
    """What was found at the best C of each label, or of all classes."""
    each = np.broadcast_to(best, margins.shape[1])
    k = np.arange(len(each))
    weight, bias = turned.weights(whole[each, k])
    chosen = tuple(grid[c] for c in best)
    reached = objectives[np.broadcast_to(best, objectives.shape[1]), np.arange(len(objectives[0]))]
    linear = Linear(weight, bias, chosen[0] if len(chosen) == 1 else None, None)
    held = margins[each, k].T
    return Searched(linear, grid, scores, chosen, tuple(reached.tolist()), held)


def _ascending(penalties: Sequence[float]) -> tuple[float, ...]:
    """The grid of C in order, each once."""
    grid = tuple(sorted({float(c) for c in penalties}))
    if not grid or not all(np.isfinite(c) and c > 0 for c in grid):
        raise TrainingError(f"penalties {list(penalties)}: give one or more numbers above 0")
    return grid


def encode(targets: NDArray[np.generic], task: str) -> tuple[Floats, NDArray[np.bool_]]:
    """(K, n) 0 or 1 for each class or label, and whether it is known; binary has one."""
    if task == "multilabel":
        y = targets.T.astype(np.float64)
        return np.nan_to_num(y, nan=0.0), ~np.isnan(y)
    y = targets.astype(np.int64)
    wanted = (np.arange(1, 2) if task == "binary" else np.arange(y.max() + 1))[:, None] == y
    return wanted.astype(np.float64), np.ones(wanted.shape, np.bool_)


def check_folds(
    targets: NDArray[np.generic], fold: NDArray[np.int64], task: str, labels: Sequence[str] = ()
) -> None:
    """Refuse folds in which a class is missing: its model could not be learnt or not be scored.

    Args:
        targets: As of `search`, like the rest.
        fold: (n,) from 0 on.
        task: "binary", "multiclass" or "multilabel".
        labels: Names, for the error.

    Raises:
        DataError: Naming the fold and the label; or there is one fold only.
    """
    wanted, known = encode(targets, task)
    folds = int(fold.max()) + 1
    if folds < 2:
        raise DataError("one fold leaves nothing to learn from: take two --folds or more")
    yes = np.stack([(wanted * known)[:, fold == f].sum(axis=1) for f in range(folds)], axis=1)
    no = np.stack([known[:, fold == f].sum(axis=1) for f in range(folds)], axis=1) - yes
    for k in range(len(wanted)):
        name = repr(labels[k + (task == "binary")]) if labels else f"number {k}"
        for count, what in ((yes[k], "with"), (no[k], "without")):
            if (count == 0).any():
                raise DataError(
                    f"fold {int(count.argmin()) + 1} of {folds} has no image {what} the label "
                    f"{name} ({int(count.sum())} training images {what} it in all); take fewer "
                    "--folds, add such images, or leave the label out"
                )


def _loss(
    part: list[tuple[int, int]],
    wanted: Floats,
    known: NDArray[np.bool_],
    fold: NDArray[np.int64],
    kind: Kind,
    task: str,
    balanced: bool,
) -> Loss:
    """The loss of some problems: which rows count in each, how much, and what they should be."""
    weights = np.empty((len(part), 1, len(fold)))
    for p, (f, k) in enumerate(part):
        weights[p, 0] = (fold != f) & known[k]
        if balanced:
            _balance(weights[p, 0], wanted if task == "multiclass" else wanted[k : k + 1])
    if kind == "logistic" and task == "multiclass":
        return Softmax(np.broadcast_to(wanted, (len(part), *wanted.shape)), weights)
    target = wanted[[k for _, k in part]][:, None]  # (P, 1, n)
    return SquaredHinge(target, weights) if kind == "squared hinge" else Logistic(target, weights)


def _balance(weights: Floats, wanted: Floats) -> None:
    """Let the rows (n,) of each class weigh the same in all, in place."""
    classes = np.concatenate([1 - wanted, wanted]) if len(wanted) == 1 else wanted
    counts = classes @ weights
    weights *= weights.sum() / (len(classes) * np.maximum(counts, 1)) @ classes


def _accuracy(
    margins: Floats,
    wanted: Floats,
    known: NDArray[np.bool_],
    fold: NDArray[np.int64],
    task: str,
) -> Floats:
    """(C, 1 or K): the mean over folds of the share of right answers, as `GridSearchCV` has it."""
    if task == "multiclass":
        right = (margins.argmax(axis=1) == wanted.argmax(axis=0))[:, None]  # (C, 1, n)
        known = known[:1]
    else:
        right = (margins > 0) == (wanted == 1)
    each = [
        (right & known)[..., fold == f].sum(axis=2) / known[:, fold == f].sum(axis=1)
        for f in range(int(fold.max()) + 1)
    ]
    return np.asarray(np.average(np.stack(each, axis=2), axis=2))

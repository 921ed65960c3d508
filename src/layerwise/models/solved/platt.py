"""Margins → probabilities, learnt from margins of rows that the classifier had not seen.

A margin is first multiplied with a slope and moved by an offset; then the sigmoid, or over classes
the softmax, makes a probability of it. Both steps fold into a linear layer.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from layerwise.models.solved.linear import Linear
from layerwise.models.solved.margin_losses import Floats, Logistic, Softmax


def calibrate(
    linear: Linear,
    held_out: Floats,
    targets: NDArray[np.generic],
    task: str,
    *,
    offsets: bool = True,
) -> Linear:
    """A linear layer whose logits make calibrated probabilities.

    For two classes and for every label this is Platt scaling (Platt 1999) with the targets and
    priors of Lin, Lin & Weng 2007. For several classes every class has a slope and an offset too,
    but all are learnt together for the softmax over them ("vector scaling", Guo et al. 2017), with
    the same priors: so the probabilities of an image come to 1 by themselves, and the bundle needs
    no layer beyond the linear one.

    Args:
        linear: Its logits are margins.
        held_out: (n, outputs) margins of rows by models that had not seen them.
        targets: Theirs: int64 (n,), or float32 (n, K) with NaN.
        task: "binary", "multiclass" or "multilabel".
        offsets: Otherwise only one slope, for each label or for all classes: no decision is changed
            ("temperature scaling", Guo et al. 2017).
    """
    margins = held_out.T  # (K, n)
    spread = np.maximum(np.abs(margins).mean(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    if task == "multiclass":
        spread = np.full_like(spread, spread.mean())
    x = margins / spread
    loss = _loss(targets, task)
    k, shared = len(x), task == "multiclass" and not offsets

    def parts(flat: Floats) -> tuple[Floats, Floats]:
        slope = np.broadcast_to(flat[:1] if shared else flat[:k], k)
        return slope[:, None], (flat[k:, None] if offsets else np.zeros((k, 1)))

    def objective(flat: Floats) -> tuple[float, Floats]:
        slope, offset = parts(flat)
        f = (slope * x + offset)[None] if task == "multiclass" else (slope * x + offset)[:, None]
        down = loss.slope(f).reshape(x.shape)
        by_slope = (down * x).sum(axis=1)
        by_slope = by_slope.sum(keepdims=True) if shared else by_slope
        by_offset = down.sum(axis=1) if offsets else np.zeros(0)
        return float(loss.value(f).sum()) / n, np.concatenate([by_slope, by_offset]) / n

    n = x.shape[1]
    start = np.concatenate([np.ones(1 if shared else k), np.zeros(k if offsets else 0)])
    options = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x
    slope, offset = parts(found)
    slope = slope / spread
    return Linear(
        (linear.weight * slope).astype(np.float32),
        (linear.bias * slope[:, 0] + offset[:, 0]).astype(np.float32),
        linear.penalty,
        linear.objective,
    )


def _loss(targets: NDArray[np.generic], task: str) -> Logistic | Softmax:
    """The loss of probabilities with targets that are not quite 0 and 1 (Platt 1999, §2.2).

    A row of a class with N rows is wanted with (N + 1) / (N + classes) and with 1 / (N + classes)
    for every other class: with certain targets, margins that separate would ask for a slope
    without end.
    """
    if task == "multiclass":
        classes = int(targets.max()) + 1
        y = targets.astype(np.int64)
        rows = np.bincount(y, minlength=classes)[y] + classes  # (n,)
        wanted = ((np.arange(classes)[:, None] == y) * (rows - classes) + 1) / rows
        return Softmax(wanted[None], np.ones((1, 1, len(y))))
    each = np.atleast_2d(targets.T.astype(np.float64))[:, None]  # (K, 1, n)
    positive = (each == 1).sum(axis=2, keepdims=True)
    negative = (each == 0).sum(axis=2, keepdims=True)
    sure = np.where(each == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    return Logistic(sure, (~np.isnan(each)).astype(np.float64))

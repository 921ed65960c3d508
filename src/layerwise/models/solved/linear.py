"""Logistic regression on features that may not fit into memory: the linear probe.

The objective is scikit-learn's (``LogisticRegression``, l2): ½‖w‖² + C·Σ sᵢ·lossᵢ, on features
brought to mean 0 and deviation 1; sᵢ is what an image counts, times what lets its class count the
same as others. It is solved by L-BFGS whose every gradient is summed over chunks of rows, so memory
does not grow with the number of images. scikit-learn's own solver needs all rows at once; a test
holds the two against each other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Features = NDArray[np.float32]
Read = Callable[[NDArray[np.int64]], Features]

CHUNK = 4096  # rows at a time
IN_MEMORY = 128 * 2**20  # bytes of features that are kept instead of read again
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # the grid of C


@dataclass(frozen=True)
class Linear:
    """Logits of raw features x (n, d): x @ weight.T + bias; the standardisation is folded in.

    Attributes:
        weight: (outputs, d) float32.
        bias: (outputs,) float32.
        penalty: The C that was used; None where there is none, or where each label has its own.
        objective: The reached objective, divided by C·Σs; None where it is not known.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    penalty: float | None = None
    objective: float | None = None

    def logits(self, features: Features) -> NDArray[np.float32]:
        """(n, outputs) of features (n, d)."""
        return features @ self.weight.T + self.bias


class _Problem:
    """Chunks of standardised features with their targets, and the objective over them."""

    def __init__(
        self,
        read: Read,
        rows: NDArray[np.int64],
        targets: NDArray[np.generic],
        task: str,
        importance: Floats | None,
    ) -> None:
        self._read, self._rows, self.task = read, rows, task
        own = np.ones(len(rows)) if importance is None else importance
        mean, square, self.width, start = 0.0, 0.0, 0, 0
        for part in self._parts():
            x = read(part).astype(np.float64)
            self.width = x.shape[1]
            counted = x * own[start : start + len(x), None]
            mean, square = mean + counted.sum(axis=0), square + (counted * x).sum(axis=0)
            start += len(x)
        self.mean: Floats = np.asarray(mean) / own.sum()
        deviation = np.sqrt(np.maximum(np.asarray(square) / own.sum() - self.mean**2, 0))
        self.scale: Floats = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0)
        self.wanted, self.weights = _encode(targets, task, own)  # (n, outputs) each
        n = len(rows)
        self.total = float(self.weights.sum())
        self.outputs = self.wanted.shape[1]
        small = n * self.width * 4 <= IN_MEMORY
        self._kept = [self._chunk(p) for p in self._parts()] if small else None

    def _parts(self) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(self._rows), CHUNK):
            yield self._rows[start : start + CHUNK]

    def _chunk(self, part: NDArray[np.int64]) -> Features:
        x = self._read(part)
        return ((x - self.mean.astype(np.float32)) * self.scale.astype(np.float32)).astype(
            np.float32
        )

    def chunks(self) -> Iterator[Features]:
        """Standardised features, CHUNK rows at a time."""
        if self._kept is not None:
            yield from self._kept
        else:
            for part in self._parts():
                yield self._chunk(part)

    def objective(self, flat: Floats, penalty: float) -> tuple[float, Floats]:
        """The objective over C·Σs, and its gradient, at flat = (weights, biases)."""
        w = flat[: -self.outputs].reshape(self.outputs, self.width)
        b = flat[-self.outputs :]
        w32, b32 = w.astype(np.float32), b.astype(np.float32)
        loss, grad_w, grad_b = 0.0, np.zeros_like(w), np.zeros_like(b)
        start = 0
        for x in self.chunks():
            stop = start + len(x)
            value, slope = _loss(
                (x @ w32.T + b32).astype(np.float64),
                self.wanted[start:stop],
                self.weights[start:stop],
                self.task,
            )
            loss += value
            grad_w += slope.T.astype(np.float32) @ x
            grad_b += slope.sum(axis=0)
            start = stop
        scale = 1 / self.total
        ridge = scale / penalty
        value = loss * scale + 0.5 * ridge * float((w * w).sum())
        return value, np.concatenate([(grad_w * scale + ridge * w).ravel(), grad_b * scale])


def fit_logistic(
    read: Read,
    rows: NDArray[np.int64],
    targets: NDArray[np.generic],
    task: str,
    penalties: Sequence[float] = (1.0,),
    importance: Floats | None = None,
) -> list[Linear]:
    """A linear model for each C, from the smallest to the largest, each started at the last.

    Args:
        read: Rows → features (n, d) float32.
        rows: Which rows to learn from.
        targets: Theirs: int64 (n,) for binary and multiclass, float32 (n, K) with NaN.
        task: "binary", "multiclass" or "multilabel".
        penalties: Values of C; larger ones restrain the weights less.
        importance: (n,) how many images each row counts as; None: one.
    """
    problem = _Problem(read, rows, targets, task, importance)
    flat: Floats = np.zeros(problem.outputs * (problem.width + 1))
    found = []
    for penalty in sorted(penalties):
        result = minimize(
            problem.objective,
            flat,
            args=(penalty,),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 300, "ftol": 1e-9, "gtol": 1e-6, "maxcor": 20},
        )
        flat = result.x
        w = flat[: -problem.outputs].reshape(problem.outputs, problem.width) * problem.scale
        b = flat[-problem.outputs :] - w @ problem.mean
        found.append(Linear(w.astype(np.float32), b.astype(np.float32), penalty, float(result.fun)))
    return found


def choose_logistic(
    read: Read,
    rows: NDArray[np.int64],
    targets: NDArray[np.generic],
    groups: NDArray[np.str_],
    task: str,
    *,
    seed: int,
    penalties: Sequence[float] = PENALTIES,
    importance: Floats | None = None,
) -> Linear:
    """The linear model at the C with the lowest loss on a held-out fifth, learnt from all rows.

    The held-out fifth is drawn by group (patient) from the rows themselves, so the validation
    part stays untouched for comparing cuts.

    Args:
        read: Rows → features (n, d) float32.
        rows: Which rows to learn from.
        targets: Theirs.
        groups: Theirs, (n,); one group never stands on both sides.
        task: "binary", "multiclass" or "multilabel".
        seed: Of the held-out fifth.
        penalties: The grid of C.
        importance: (n,) how many images each row counts as; None: one.
    """
    own = np.ones(len(rows)) if importance is None else importance
    names, member = np.unique(groups, return_inverse=True)
    held = (np.random.default_rng(seed).permutation(len(names)) < max(1, len(names) // 5))[member]
    if held.all() or not _covers(targets[~held], targets, task):
        return fit_logistic(read, rows, targets, task, [1e-2], own)[0]
    wanted, weights = _encode(targets[held], task, own[held], like=targets)
    losses = {}
    models = fit_logistic(read, rows[~held], targets[~held], task, penalties, own[~held])
    for penalty, model in zip(sorted(penalties), models, strict=True):
        logits = model.logits(read(rows[held])).astype(np.float64)
        losses[penalty] = _loss(logits, wanted, weights, task)[0]
    best = min(losses, key=lambda penalty: (losses[penalty], penalty))
    return fit_logistic(read, rows, targets, task, [best], own)[0]


def _covers(part: NDArray[np.generic], whole: NDArray[np.generic], task: str) -> bool:
    """Whether every class of the whole is also in the part."""
    return task == "multilabel" or len(np.unique(part)) == len(np.unique(whole))


def _encode(
    targets: NDArray[np.generic],
    task: str,
    own: Floats,
    like: NDArray[np.generic] | None = None,
) -> tuple[Floats, Floats]:
    """Targets as (n, outputs) zeros and ones, and what they weigh; unknown ones weigh 0.

    That is what the image counts, `own` (n,), times what lets each class count the same.
    """
    if task == "multilabel":
        known = ~np.isnan(targets.astype(np.float64))
        wanted = np.where(known, targets, 0).astype(np.float64)
        positive, every = own @ wanted, own @ known  # (K,) each
        with np.errstate(divide="ignore", invalid="ignore"):  # of a side that no image has
            sides = np.where(wanted == 1, every / 2 / positive, every / 2 / (every - positive))
        return wanted, own[:, None] * np.where(known, sides, 0)
    classes = int((targets if like is None else like).max()) + 1
    counts = np.bincount(targets.astype(np.int64), own, minlength=classes)
    present = max(1, int((counts > 0).sum()))
    weight = own.sum() / (present * np.where(counts > 0, counts, 1))
    each = (own * weight[targets.astype(np.int64)])[:, None]  # (n, 1)
    if task == "binary":
        return targets.astype(np.float64)[:, None], each
    return np.eye(classes)[targets.astype(np.int64)], each


def _loss(logits: Floats, wanted: Floats, weights: Floats, task: str) -> tuple[float, Floats]:
    """Weighted sum of cross-entropies, and its slope (n, outputs) in the logits."""
    if task == "multiclass":
        top = logits.max(axis=1, keepdims=True)
        e = np.exp(logits - top)
        total = e.sum(axis=1, keepdims=True)
        value = (weights[:, 0] * (np.log(total[:, 0]) + top[:, 0] - (logits * wanted).sum(1))).sum()
        return float(value), weights * (e / total - wanted)
    value = (weights * (np.logaddexp(0, logits) - wanted * logits)).sum()
    return float(value), weights * (0.5 * (1 + np.tanh(0.5 * logits)) - wanted)

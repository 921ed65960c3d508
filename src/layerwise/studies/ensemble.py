"""Ensembles of finished runs: what is said together, and who may say how much.

Three ways, all chosen by what the runs say of the validation part:

- "mean": every run counts the same. Nothing is chosen.
- "weighted": weights that are not negative, by logistic regression of the truth on the runs'
  probabilities (the super learner of van der Laan, Polley & Hubbard 2007; that no weight may be
  negative is Breiman's, 1996), divided by their sum. Its slope and intercepts are for the fit
  only: the score by which runs are chosen, AUROC, is the same with and without them. Weights of
  the smallest log loss of the mean itself were worse in trials, because a mean of runs that err
  independently is too cautious, and that loss then prefers one sure run. And weights in
  proportion to each run's own score do not see who only repeats the others. Every class (of
  several labels: each label's both answers) counts the same in the loss, as in training.
- "greedy": forward selection with replacement by the validation score (Caruana et al. 2004):
  start with the best run, then add again and again whichever run, those that are in it already
  included, makes the mean of all best; the best of all these ensembles is taken.

A score on the pictures by which one has chosen is too good. `cross_fitted` says what the same way
of choosing reaches on patients that it has not seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

from layerwise.errors import LayerwiseError
from layerwise.evaluation.metrics import Task
from layerwise.evaluation.predictions import Predictions

Way = Literal["mean", "weighted", "greedy"]
WAYS: tuple[Way, ...] = get_args(Way)
Choice = Way | Literal["best"]  # "best" is no ensemble: the run with the highest score alone
Floats = NDArray[np.float64]

ROUNDS = 30  # runs that greedy selection adds at most
FOLDS = 5  # of the cross-fitted estimate
SMALLEST = 1e-3  # shares below it are left out: a run costs its whole time for them
RIDGE = 1e-3  # so that weights stay finite where the runs tell the classes apart without error
TIE = 1e-12  # scores nearer to each other than this are equal


@dataclass(frozen=True)
class Combined:
    """Runs put together.

    Attributes:
        way: How they were.
        weights: By name; only those above 0, of sum 1, in the order the runs were given in.
        validation: What they say together; the score on it is optimistic, as they were chosen by
            it.
        score: The validation score, (macro) AUROC; −1 where undefined.
        unseen: What is said of each validation picture when runs and weights are chosen without
            its fold; None where there are too few patients.
        unseen_score: The score of it.
    """

    way: Way
    weights: dict[str, float]
    validation: Predictions
    score: float
    unseen: Predictions | None
    unseen_score: float


def combine(
    task: Task, runs: Mapping[str, Predictions], way: Way, *, folds: int = FOLDS, seed: int = 0
) -> Combined:
    """Put runs together.

    Args:
        task: "binary", "multiclass" or "multilabel".
        runs: What each says of the validation part, by name; two or more.
        way: One of `WAYS`.
        folds: Of the cross-fitted estimate.
        seed: Of the folds.

    Raises:
        LayerwiseError: The runs have not answered for the same pictures, or are too few.
    """
    scores = aligned(runs)
    weights = choose(task, scores, next(iter(runs.values())).targets, way)
    validation = mean_of(list(runs.values()), weights)
    unseen = cross_fitted(task, runs, way, folds=folds, seed=seed)
    return Combined(
        way,
        {name: float(w) for name, w in zip(runs, weights, strict=True) if w > 0},
        validation,
        auroc(task, validation.targets, validation.scores),
        unseen,
        -1.0 if unseen is None else auroc(task, unseen.targets, unseen.scores),
    )


def aligned(runs: Mapping[str, Predictions]) -> Floats:
    """(runs, n, outputs) float64: all scores, after a check that they are of the same pictures.

    Raises:
        LayerwiseError: Fewer than two runs, or two that differ in pictures, targets, patients or
            number of outputs.
    """
    if len(runs) < 2:
        raise LayerwiseError("an ensemble needs two runs or more; name another one")
    (first, one), *rest = runs.items()
    for name, other in rest:
        for what in ("ids", "targets", "groups"):
            a, b = getattr(one, what), getattr(other, what)
            # NaN, an unknown label, is equal to itself here.
            if a.shape != b.shape or not ((a == b) | ((a != a) & (b != b))).all():
                raise LayerwiseError(
                    f"{first} and {name} have answered for different validation pictures (their "
                    f"{what} differ); put together runs of the same data and split"
                )
        if one.scores.shape != other.scores.shape:
            raise LayerwiseError(
                f"{first} has {one.scores.shape[1]} outputs and {name} {other.scores.shape[1]}; "
                "put together runs of the same labels"
            )
    return np.stack([p.scores.astype(np.float64) for p in runs.values()])


def mean_of(said: Sequence[Predictions], weights: Sequence[float] | Floats) -> Predictions:
    """The weighted mean of aligned predictions; weights of sum 1, those of 0 are left out."""
    scores = sum(
        w * p.scores.astype(np.float64) for p, w in zip(said, weights, strict=True) if w > 0
    )
    one = said[0]
    return Predictions(one.ids, one.targets, np.asarray(scores, np.float32), one.groups)


def auroc(task: Task, targets: NDArray[np.generic], scores: NDArray[np.floating]) -> float:
    """The (macro) AUROC by which runs are chosen, as `Workspace.score`; −1 where undefined."""
    return float(aurocs(task, targets, scores[None])[0])


def aurocs(task: Task, targets: NDArray[np.generic], scores: NDArray[np.floating]) -> Floats:
    """(runs,) the AUROC of each run of scores (runs, n, outputs), all sorted at once.

    By the ranks of the positive images, equal scores sharing theirs (Mann & Whitney 1947).
    """
    values = []
    for label in range(scores.shape[2]):
        truth = targets == label if task == "multiclass" else _column(targets, label)
        known = ~np.isnan(truth.astype(np.float64))
        positive = truth[known] == 1
        yes, no = int(positive.sum()), int((~positive).sum())
        if yes and no:
            ranks = rankdata(scores[:, known, label], axis=1)[:, positive].sum(axis=1)
            values.append((ranks - yes * (yes + 1) / 2) / (yes * no))
    return np.mean(values, axis=0) if values else np.full(len(scores), -1.0)


def _column(targets: NDArray[np.generic], label: int) -> NDArray[np.generic]:
    return targets if targets.ndim == 1 else targets[:, label]


def choose(task: Task, scores: Floats, targets: NDArray[np.generic], way: Choice) -> Floats:
    """(runs,) weights of sum 1 that a way of putting together gives.

    Args:
        task: "binary", "multiclass" or "multilabel".
        scores: (runs, n, outputs) probabilities.
        targets: (n,) or (n, K).
        way: One of `WAYS`, or "best".
    """
    if way == "best":
        alone = aurocs(task, targets, scores)
        return np.asarray(np.arange(len(scores)) == np.argmax(alone > alone.max() - TIE), float)
    if way == "mean":
        return np.full(len(scores), 1 / len(scores))
    if way == "weighted":
        return stacked_weights(task, scores, targets)
    return greedy_weights(task, scores, targets)


def stacked_weights(task: Task, scores: Floats, targets: NDArray[np.generic]) -> Floats:
    """Non-negative logistic regression on the runs' probabilities, see the top of the file.

    It minimises Σ b·loss + ½·`RIDGE`·‖w‖² over images and outputs, b of sum 1; the logit of
    output j is Σₖ wₖ·pₖⱼ + aⱼ, so a run has one weight for all labels or classes.

    Args:
        task: "binary", "multiclass" or "multilabel".
        scores: (runs, n, outputs) probabilities.
        targets: (n,) or (n, K); unknown labels are left out.

    Returns:
        (runs,) of sum 1; those below `SMALLEST` are 0. All the same where none is above 0.
    """
    count = len(scores)
    wanted, balance = _encode(task, targets, scores.shape[2])  # (n, outputs) each

    def loss(values: Floats) -> tuple[float, Floats]:
        weights, shift = values[:count], values[count:]
        logits = np.tensordot(weights, scores, axes=1) + shift  # (n, outputs)
        value = (balance * (np.logaddexp(0, logits) - wanted * logits)).sum()
        slope = balance * (expit(logits) - wanted)
        down = np.tensordot(scores, slope, axes=2) + RIDGE * weights
        return float(value + 0.5 * RIDGE * weights @ weights), np.append(down, slope.sum(axis=0))

    start = np.concatenate([np.ones(count), np.zeros(scores.shape[2])])
    bounds = [(0, None)] * count + [(None, None)] * scores.shape[2]
    how = {"ftol": 1e-14, "gtol": 1e-8, "maxiter": 2000}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=how)
    weights = found.x[:count]
    if not weights.sum() > 0:
        return np.full(count, 1 / count)
    weights = np.where(weights < SMALLEST * weights.sum(), 0, weights)
    return np.asarray(weights / weights.sum())


def _encode(task: Task, targets: NDArray[np.generic], outputs: int) -> tuple[Floats, Floats]:
    """Truths (n, outputs) as zeros and ones, and what each counts, (n, outputs) of sum 1."""
    if task == "multiclass":
        truth = np.eye(outputs)[targets.astype(np.int64)]
    else:
        truth = targets.reshape(-1, outputs).astype(np.float64)
    known = ~np.isnan(truth)
    kinds = 2 * np.arange(outputs) + (truth == 1)  # (n, outputs): a label and its answer
    counts = np.bincount(kinds[known], minlength=2 * outputs)
    each = 1 / (np.maximum(counts, 1)[kinds] * (counts > 0).sum())
    return np.where(known, truth, 0), np.where(known, each, 0)


def greedy_weights(
    task: Task, scores: Floats, targets: NDArray[np.generic], rounds: int = ROUNDS
) -> Floats:
    """How often each run was chosen, as shares, in the best ensemble on the way.

    Of equally good ones that with fewer runs is taken; in a round, runs that are in the ensemble
    already before others, and then those that were given first.

    Args:
        task: "binary", "multiclass" or "multilabel".
        scores: (runs, n, outputs) probabilities.
        targets: (n,) or (n, K).
        rounds: Runs that are added at most, repeats counted.
    """
    counts = np.zeros(len(scores), np.int64)
    total = np.zeros(scores.shape[1:])
    best_score, best = -np.inf, counts
    for size in range(1, rounds + 1):
        tried = aurocs(task, targets, (total + scores) / size)
        top = tried.max() - TIE
        among = [k for k, value in enumerate(tried) if value >= top]
        added = min(among, key=lambda k: (counts[k] == 0, k))
        counts, total = counts.copy(), total + scores[added]
        counts[added] += 1
        better = tried[added] > best_score + TIE
        equal = tried[added] > best_score - TIE
        if better or (equal and (counts > 0).sum() < (best > 0).sum()):
            best_score, best = tried[added], counts
    return np.asarray(best / best.sum())


def cross_fitted(
    task: Task, runs: Mapping[str, Predictions], way: Choice, *, folds: int = FOLDS, seed: int = 0
) -> Predictions | None:
    """What is said of each picture when runs and weights are chosen on the other folds.

    Patients are shared out at random, in equal numbers. That the runs' own epochs were chosen on
    the same pictures is not undone by it.

    Args:
        task: "binary", "multiclass" or "multilabel".
        runs: What each says of the validation part, by name.
        way: One of `WAYS`, or "best".
        folds: How many; fewer where there are fewer patients.
        seed: Of the folds.

    Returns:
        None where there are fewer than two patients, or a fold leaves nothing to choose by.

    Raises:
        LayerwiseError: As `aligned`.
    """
    scores = aligned(runs)
    one = next(iter(runs.values()))
    names, patient = np.unique(one.groups, return_inverse=True)
    count = min(folds, len(names))
    if count < 2:
        return None
    fold = (np.random.default_rng(seed).permutation(len(names)) % count)[patient]  # (n,)
    out = np.empty(scores.shape[1:], np.float32)
    for number in range(count):
        held = fold == number
        if auroc(task, one.targets[~held], scores[0][~held]) < 0:  # one class only
            return None
        weights = choose(task, scores[:, ~held], one.targets[~held], way)
        out[held] = np.tensordot(weights, scores[:, held], axes=1)
    return Predictions(one.ids, one.targets, out, one.groups)

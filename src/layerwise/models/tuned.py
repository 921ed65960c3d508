"""Random forest and kernel SVM with settings chosen by cross-validation (Buluttekin §4.1).

The settings with the highest mean AUROC over k folds are taken; a fold holds whole patients, and
its classes in the shares of the whole (scikit-learn's ``StratifiedGroupKFold``, ``GridSearchCV``).
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from layerwise.models.classic import Classic, Estimator, Features, Groups, forest

FOLDS = 5
MOST_KERNEL = 4_000  # training rows of a kernel SVM, whose time grows with their square
TREES = (100, 300)
MAX_FEATURES = ("sqrt", "log2", 0.1)  # tried at each branch: of d, √d, log₂ d, d/10
PENALTIES = (0.1, 1.0, 10.0, 100.0)  # C
WIDTHS = (0.1, 1.0, 10.0)  # γ in units of 1/d, that is of scikit-learn's "scale"

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]  # rows learnt from, rows held out


def group_folds(
    targets: NDArray[np.int64], groups: Groups, count: int = FOLDS, *, seed: int
) -> list[Fold]:
    """Folds of whole groups, stratified by class; [] where fewer than two are of use.

    A fold is of no use if its rows, or those that are learnt from, are of one class.

    Args:
        targets: (n,) classes.
        groups: (n,) what may not be torn apart.
        count: How many; fewer where there are not as many groups, or rows of a class.
        seed: Of the order of the groups.
    """
    count = min(count, len(np.unique(groups)), int(np.bincount(targets).max()))
    if count < 2:
        return []
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        found = list(folds.split(targets, targets, groups))
    usable = [f for f in found if all(len(np.unique(targets[part])) > 1 for part in f)]
    return usable if len(usable) > 1 else []


def auroc(estimator: Any, features: Features, targets: NDArray[np.int64]) -> float:  # noqa: ANN401
    """Mean over classes, one against the rest, of those that the rows have; as a scorer."""
    scores = margins(estimator, features)  # (n, classes)
    values = [
        roc_auc_score(targets == label, scores[:, column])
        for column, label in enumerate(estimator.classes_)
        if 0 < (targets == label).sum() < len(targets)
    ]
    return float(np.mean(values)) if values else 0.5


def margins(estimator: Any, features: Features) -> NDArray[np.float64]:  # noqa: ANN401
    """What an estimator sorts rows by, for every class: (n, classes) float64."""
    if not hasattr(estimator, "decision_function"):
        return np.asarray(estimator.predict_proba(features), np.float64)
    found = np.asarray(estimator.decision_function(features), np.float64)
    return np.stack([-found, found], axis=1) if found.ndim == 1 else found


def search(
    estimator: Any,  # noqa: ANN401 - any of scikit-learn's
    grid: Mapping[str, Sequence[Any]],
    features: Features,
    targets: NDArray[np.int64],
    folds: Sequence[Fold],
    threads: int,
) -> tuple[Any, dict[str, float]]:
    """The estimator with the best settings of a grid, fitted to all rows.

    Args:
        estimator: Still to be fitted.
        grid: Values by parameter; of equally good settings those that come first are taken.
        features: (n, d).
        targets: (n,).
        folds: As `group_folds` gives them.
        threads: How many fits at a time.

    Returns:
        The fitted estimator, and {"auroc": mean over the folds, "auroc_deviation": over them}.
    """
    found = GridSearchCV(estimator, grid, scoring=auroc, cv=list(folds), n_jobs=threads)
    # Threads and not processes: the work is done outside of Python's lock, and rows are not copied.
    with joblib.parallel_config(backend="threading"):
        found.fit(features, targets)
    at = found.best_index_
    return found.best_estimator_, {
        "auroc": float(found.cv_results_["mean_test_score"][at]),
        "auroc_deviation": float(found.cv_results_["std_test_score"][at]),
    }


class TunedForest(Classic):
    """A random forest; number of trees and `max_features` by cross-validation (§4.1.1).

    Where there are too few patients for two folds: 200 trees and √d.
    """

    def __init__(
        self,
        task: str,
        labels: int,
        *,
        seed: int,
        threads: int,
        folds: int = FOLDS,
        trees: Sequence[int] = TREES,
        max_features: Sequence[str | float] = MAX_FEATURES,
        balanced: bool = True,
    ) -> None:
        """`labels` is the number of labels; binary has 2. Smaller forests are tried first.

        Classes weigh the same if `balanced`, else rows do.
        """
        super().__init__(task, labels)
        self._seed, self._threads, self._count = seed, threads, folds
        self._balanced = balanced
        self._grid: dict[str, Sequence[Any]] = {
            "n_estimators": list(trees),
            "max_features": list(max_features),
        }

    def learn(
        self, features: Features, targets: NDArray[np.int64], groups: Groups, number: int
    ) -> tuple[Estimator, dict[str, Any]]:
        """Choose, then grow a forest on all rows."""
        folds = group_folds(targets, groups, self._count, seed=self._seed)
        if not folds:
            alone = forest(
                self._seed, trees=200, threads=self._threads, balanced=self._balanced
            ).fit(features, targets)
            return alone, _forest_settings(alone) | {"folds": 0}
        start = forest(self._seed, trees=200, balanced=self._balanced)
        best, scores = search(start, self._grid, features, targets, folds, self._threads)
        return best, _forest_settings(best) | {"folds": len(folds), **scores}


def _forest_settings(trees: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"trees": trees.n_estimators, "max_features": trees.max_features}


class KernelSVM(Classic):
    """A support vector machine with Gaussian kernel; C and γ by cross-validation (§4.1.2).

    Features are brought to mean 0 and deviation 1 first. Several classes
    are told apart in pairs, and a class's margin is made of its pairs' (scikit-learn's "ovr").
    Probabilities are sigmoids of the margins (Platt 1999), fitted to those of held-out folds, so
    that they are not those of rows learnt by heart, in the shares that the classes have; with
    several classes one sigmoid a class, brought to sum 1 (Zadrozny & Elkan 2002).

    Where there are too few patients for two folds: C = 1, γ = 1/d, and the margins of the rows
    learnt from. Memory grows with the square of the rows, see `MOST_KERNEL`.
    """

    def __init__(
        self,
        task: str,
        labels: int,
        *,
        seed: int,
        threads: int,
        folds: int = FOLDS,
        penalties: Sequence[float] = PENALTIES,
        widths: Sequence[float] = WIDTHS,
        kernel: str = "rbf",
        balanced: bool = True,
    ) -> None:
        """`labels` is the number of labels; `widths` are γ·d; any kernel that `SVC` has.

        Classes weigh the same if `balanced`, else rows do.
        """
        super().__init__(task, labels)
        self._balanced = balanced
        self._seed, self._threads, self._count = seed, threads, folds
        self._penalties, self._widths, self._kernel = penalties, widths, kernel

    def learn(
        self, features: Features, targets: NDArray[np.int64], groups: Groups, number: int
    ) -> tuple[Estimator, dict[str, Any]]:
        """Choose, fit to all rows, and fit the sigmoids to held-out margins."""
        if len(np.unique(targets)) == 1:
            return DummyClassifier(strategy="most_frequent").fit(features, targets), {}
        width = 1 / features.shape[1]
        svm = make_pipeline(
            StandardScaler(),
            SVC(
                gamma=width,
                kernel=self._kernel,
                class_weight="balanced" if self._balanced else None,
            ),
        )
        folds = group_folds(targets, groups, self._count, seed=self._seed)
        scores: dict[str, float] = {}
        if not folds:
            svm.fit(features, targets)
            held = margins(svm, features)
        else:
            grid = {
                "svc__C": sorted(self._penalties),
                "svc__gamma": [w * width for w in sorted(self._widths)],
            }
            svm, scores = search(svm, grid, features, targets, folds, self._threads)
            held = held_out_margins(svm, features, targets, folds)
        inner = svm[-1]
        chosen = {"C": inner.C, "gamma": inner.gamma, "kernel": inner.kernel, "folds": len(folds)}
        return Platt(svm, held, targets), chosen | scores


def held_out_margins(
    estimator: Any,  # noqa: ANN401 - any of scikit-learn's
    features: Features,
    targets: NDArray[np.int64],
    folds: Sequence[Fold],
) -> NDArray[np.float64]:
    """(n, classes) margins of every row by an estimator that learnt from the other folds.

    NaN for a row in no fold, and for a class that the other folds do not have.
    """
    classes = np.unique(targets)
    out = np.full((len(targets), len(classes)), np.nan)
    for learnt, held in folds:
        fitted = clone(estimator).fit(features[learnt], targets[learnt])
        out[np.ix_(held, np.searchsorted(classes, fitted.classes_))] = margins(
            fitted, features[held]
        )
    return out


class Platt:
    """An estimator's margins as probabilities: one sigmoid a class (Platt 1999, §2.2).

    As scikit-learn's ``CalibratedClassifierCV`` with ``method="sigmoid", ensemble=False``, whose
    folds must hold every row and every class.
    """

    def __init__(
        self,
        estimator: Any,  # noqa: ANN401 - any of scikit-learn's
        held: NDArray[np.float64],
        targets: NDArray[np.int64],
    ) -> None:
        """Fit the sigmoids.

        Args:
            estimator: Fitted, of two or more classes.
            held: (n, classes) margins of rows that were held out; NaN where there is none.
            targets: (n,) theirs.
        """
        self._estimator = estimator
        self.classes_: NDArray[np.int64] = estimator.classes_
        columns = range(len(self.classes_)) if len(self.classes_) > 2 else [1]
        self._sigmoids = {}
        for column in columns:
            there = ~np.isnan(held[:, column])
            self._sigmoids[column] = _sigmoid(
                held[there, column], targets[there] == self.classes_[column]
            )

    def predict_proba(self, features: Features) -> NDArray[np.floating]:
        """(n, classes) probabilities of sum 1."""
        found = margins(self._estimator, features)  # (n, classes)
        parts = [s.predict_proba(found[:, [k]])[:, 1] for k, s in self._sigmoids.items()]
        if len(parts) == 1:
            return np.stack([1 - parts[0], parts[0]], axis=1)
        whole = np.stack(parts, axis=1)
        total = whole.sum(axis=1, keepdims=True)
        out = np.full_like(whole, 1 / whole.shape[1])
        np.divide(whole, total, out=out, where=total > 0)
        return out


def _sigmoid(margin: NDArray[np.float64], positive: NDArray[np.bool_]) -> LogisticRegression:
    """The sigmoid of a margin, fitted by maximum likelihood to Platt's softened targets.

    They are (N₊ + 1) / (N₊ + 2) and 1 / (N₋ + 2) instead of 1 and 0, so that classes that the
    margin separates do not make it a step. A softened target is a row of either class, weighted.
    """
    yes, no = positive.sum(), (~positive).sum()
    target = np.where(positive, (yes + 1) / (yes + 2), 1 / (no + 2))  # (n,)
    rows = np.tile(margin, 2)[:, None]  # (2n, 1)
    labels = np.repeat([1, 0], len(margin))
    weights = np.concatenate([target, 1 - target])
    return LogisticRegression(C=np.inf, tol=1e-8).fit(rows, labels, weights)

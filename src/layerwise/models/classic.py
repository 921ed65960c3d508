"""Classic classifiers, which look at rows of numbers: what a network must beat to be worth it.

The rows are small grey pictures, flattened (`shrink`), or the activations of a network. All have
the same face: ``fit(features, targets, groups)``, then ``predict(features) → scores``, for every
task; the estimators are scikit-learn's. Those with settings to choose are in `tuned.py`.
"""

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier

Features = NDArray[np.uint8] | NDArray[np.float32]  # (n, d)
Targets = NDArray[np.generic]  # int64 (n,), or float32 (n, K) with NaN for unknown
Groups = NDArray[np.str_]  # (n,) patients
Strategy = Literal["prior", "most_frequent", "stratified"]

SIDE = 32  # pixels of the small pictures
TREES = 200  # of a forest in which nothing is chosen (Buluttekin §4.1.1)
UNKNOWN = 0.5  # the answer for a label that no training picture is known to have or not to have
MOST = 20_000  # training pictures a forest is given at most, so that memory stays bounded


def shrink(images: NDArray[np.uint8], side: int = SIDE) -> NDArray[np.uint8]:
    """Pictures (n, H, W, C) uint8 as grey, flattened (n, side²) uint8, by area averaging."""
    out = np.empty((len(images), side * side), np.uint8)
    for index, image in enumerate(images):
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert("L")
        out[index] = np.asarray(picture.resize((side, side), Image.Resampling.BOX)).ravel()
    return out


class Estimator(Protocol):
    """A fitted classifier, as scikit-learn has them."""

    classes_: NDArray[np.int64]

    def predict_proba(self, features: Features) -> NDArray[np.floating]:
        """(n, classes) probabilities, columns as `classes_`."""


class Classic:
    """What all have in common: one estimator, or for several labels one a label.

    Attributes:
        chosen: What each estimator chose by cross-validation, JSON-able; {} where nothing was to
            be chosen, or a label is known for no row.
    """

    def __init__(self, task: str, labels: int) -> None:
        """`labels` is the number of labels; binary has 2."""
        self.task, self._labels = task, labels
        self.chosen: list[dict[str, Any]] = []

    def learn(
        self, features: Features, targets: NDArray[np.int64], groups: Groups, number: int
    ) -> tuple[Estimator, dict[str, Any]]:
        """Fit the estimator of one output.

        Args:
            features: (n, d).
            targets: (n,) classes.
            groups: (n,) what may not be torn apart between folds.
            number: Of the output, from 0.

        Returns:
            The estimator, and what was chosen.
        """
        raise NotImplementedError

    def fit(self, features: Features, targets: Targets, groups: Groups | None = None) -> "Classic":
        """Learn; for several labels each from the rows where it is known.

        Args:
            features: (n, d).
            targets: Classes int64 (n,), or zeros and ones float32 (n, K), NaN for unknown.
            groups: (n,) patients; without them every row is its own.
        """
        if groups is None:
            groups = np.arange(len(targets)).astype(str)
        self._estimators: list[Estimator | None] = []
        self.chosen = []
        columns = list(targets.T) if self.task == "multilabel" else [targets]
        for number, column in enumerate(columns):
            known = ~np.isnan(column.astype(np.float64))
            if not known.any():
                self._estimators.append(None)
                self.chosen.append({})
                continue
            rows = features if known.all() else features[known]
            found = self.learn(rows, column[known].astype(np.int64), groups[known], number)
            self._estimators.append(found[0])
            self.chosen.append(found[1])
        return self

    def predict(self, features: Features) -> NDArray[np.float32]:
        """Probabilities (n, outputs) float32; ½ for a label that was known for no row."""
        columns = [self._every(estimator, features) for estimator in self._estimators]
        if self.task == "multiclass":
            return columns[0]
        return np.stack([c[:, 1] for c in columns], axis=1)

    def _every(self, estimator: Estimator | None, features: Features) -> NDArray[np.float32]:
        """Probabilities with a column for every class, also for those without training rows."""
        classes = self._labels if self.task == "multiclass" else 2
        if estimator is None:
            return np.full((len(features), classes), UNKNOWN, np.float32)
        out = np.zeros((len(features), classes), np.float32)
        out[:, estimator.classes_] = estimator.predict_proba(features)
        return out


class Dummy(Classic):
    """Does not look at the picture (Buluttekin §4.1; scikit-learn's ``DummyClassifier``).

    "prior" answers the frequencies of the training part; "most_frequent" is sure of the most
    frequent class, the first of equal ones; "stratified" draws a class by these frequencies for
    every row, and is sure of it.
    """

    def __init__(
        self, task: str, labels: int, strategy: Strategy = "prior", *, seed: int = 0
    ) -> None:
        """The seed is that of the draws."""
        super().__init__(task, labels)
        self._strategy, self._seed = strategy, seed

    def learn(
        self, features: Features, targets: NDArray[np.int64], groups: Groups, number: int
    ) -> tuple[Estimator, dict[str, Any]]:
        """Count. Every label draws by a seed of its own, or labels would agree by chance."""
        dummy = DummyClassifier(strategy=self._strategy, random_state=self._seed + number)
        return dummy.fit(features, targets), {}


class Forest(Classic):
    """A random forest of `TREES` trees, nothing chosen: quick."""

    def __init__(self, task: str, labels: int, *, seed: int, threads: int) -> None:
        """`labels` is the number of labels; binary has 2."""
        super().__init__(task, labels)
        self._seed, self._threads = seed, threads

    def learn(
        self, features: Features, targets: NDArray[np.int64], groups: Groups, number: int
    ) -> tuple[Estimator, dict[str, Any]]:
        """Grow the trees."""
        trees = forest(self._seed, trees=TREES, threads=self._threads)
        return trees.fit(features, targets), {}


def forest(
    seed: int,
    *,
    trees: int,
    max_features: str | float = "sqrt",
    threads: int = 1,
    balanced: bool = True,
) -> RandomForestClassifier:
    """A forest that is still to grow (Breiman 2001).

    If `balanced`, classes weigh the same in every tree, else every row does.
    """
    return RandomForestClassifier(
        n_estimators=trees,
        max_features=max_features,
        class_weight="balanced_subsample" if balanced else None,
        min_samples_leaf=2,
        random_state=seed,
        n_jobs=threads,
    )

"""Classic baselines on small grey pictures: what a network must beat to be worth its while.

All have the same face: ``fit(pixels, targets)`` then ``predict(pixels) → scores``.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.ensemble import RandomForestClassifier

Pixels = NDArray[np.uint8]
SIDE = 32  # pixels of the small pictures
UNKNOWN = 0.5  # the answer for a label that no training picture is known to have or not to have
MOST = 20_000  # training pictures a forest is given at most, so that memory stays bounded


def shrink(images: NDArray[np.uint8], side: int = SIDE) -> Pixels:
    """Pictures (n, H, W, C) uint8 as grey, flattened (n, side²) uint8, by area averaging."""
    out = np.empty((len(images), side * side), np.uint8)
    for index, image in enumerate(images):
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert("L")
        out[index] = np.asarray(picture.resize((side, side), Image.Resampling.BOX)).ravel()
    return out


class Dummy:
    """Answers the frequencies of the training part whatever the picture (Buluttekin §4.1.1)."""

    def __init__(self, task: str, labels: int) -> None:
        """`labels` is the number of labels; binary has 2."""
        self._task, self._labels = task, labels

    def fit(self, pixels: Pixels, targets: NDArray[np.generic]) -> "Dummy":
        """Count; the pixels are not looked at."""
        if self._task == "multilabel":
            known = ~np.isnan(targets.astype(np.float64))  # (n, K)
            positive = (known & (targets == 1)).sum(axis=0)
            self._share = np.where(
                known.any(axis=0), positive / np.maximum(known.sum(axis=0), 1), UNKNOWN
            )
        else:
            share = np.bincount(targets.astype(np.int64), minlength=self._labels) / len(targets)
            self._share = share[1:] if self._task == "binary" else share
        return self

    def predict(self, pixels: Pixels) -> NDArray[np.float32]:
        """(n, outputs) the same row n times."""
        return np.repeat(self._share[None].astype(np.float32), len(pixels), axis=0)


class Forest:
    """A random forest of 200 trees on flattened pixels (Buluttekin §4.1.2)."""

    def __init__(self, task: str, labels: int, *, seed: int, threads: int) -> None:
        """`labels` is the number of labels; binary has 2."""
        self._task, self._labels, self._seed, self._threads = task, labels, seed, threads

    def _forest(self) -> RandomForestClassifier:
        return RandomForestClassifier(
            n_estimators=200,
            class_weight="balanced_subsample",
            min_samples_leaf=2,
            random_state=self._seed,
            n_jobs=self._threads,
        )

    def fit(self, pixels: Pixels, targets: NDArray[np.generic]) -> "Forest":
        """Learn from (n, side²) uint8; one forest a label for multilabel, on its known rows.

        A label that is known for none of them is answered with ½.
        """
        self._forests: list[RandomForestClassifier | None] = []
        if self._task != "multilabel":
            self._forests.append(self._forest().fit(pixels, targets))
            return self
        for column in targets.T:
            known = ~np.isnan(column.astype(np.float64))
            self._forests.append(
                self._forest().fit(pixels[known], column[known].astype(np.int64))
                if known.any()
                else None
            )
        return self

    def predict(self, pixels: Pixels) -> NDArray[np.float32]:
        """Probabilities (n, outputs) float32."""
        columns = [self._every(f, pixels) for f in self._forests]
        if self._task == "multiclass":
            return columns[0]
        return np.stack([c[:, 1] for c in columns], axis=1)

    def _every(self, forest: RandomForestClassifier | None, pixels: Pixels) -> NDArray[np.float32]:
        """Probabilities with a column for every class, also for those without training pictures."""
        classes = self._labels if self._task == "multiclass" else 2
        if forest is None:
            return np.full((len(pixels), classes), UNKNOWN, np.float32)
        out = np.zeros((len(pixels), classes), np.float32)
        out[:, forest.classes_.astype(np.int64)] = forest.predict_proba(pixels)
        return out

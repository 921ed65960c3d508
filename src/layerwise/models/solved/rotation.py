"""Features turned so that their columns are orthogonal, and no more of them than images.

The weights of a regularised linear model lie in the span of the images, so n images of d values
need at most n coordinates, whatever d is: flattened maps of 7·7·512 values an image become as small
as their number of images. The turn keeps lengths, so the objective is the very same, and it is made
once for every fold, class and C. That the columns are then orthogonal makes the second derivative
of every such problem nearly diagonal, which is what conjugate gradients want (`newton.minimise`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from layerwise.errors import TrainingError
from layerwise.models.solved.newton import Design

Floats = NDArray[np.floating]
Features = NDArray[np.float32]

BLOCK = 64 * 2**20  # bytes of features read at a time
MOST_TURNED = 8192  # the smaller of images and values: the turn costs its cube
MOST_VALUES = 2**27  # turned features: with their copies 2 GB
CONSTANT = 1e-6  # a deviation below this part of the mean is rounding


@dataclass(frozen=True)
class Columns:
    """Features (n, d) that are read a block of columns at a time, so they need not fit in memory.

    Attributes:
        read: (first, last) → the columns from first up to but without last, (n, ·) float32.
        rows: n.
        width: d.
    """

    read: Callable[[int, int], Features]
    rows: int
    width: int

    @staticmethod
    def of(features: Features) -> "Columns":
        """Of an array (n, d) in memory."""
        return Columns(lambda first, last: features[:, first:last], *features.shape)

    def blocks(self) -> Iterator[tuple[slice, Features]]:
        """All columns, `BLOCK` bytes at a time."""
        step = max(1, BLOCK // (4 * max(1, self.rows)))
        for first in range(0, self.width, step):
            last = min(self.width, first + step)
            yield slice(first, last), self.read(first, last)


@dataclass(frozen=True)
class Turned:
    """Features as a `Design`, and the way back.

    Attributes:
        design: (n, r); where the intercept is free, the last column is ones.
        columns: What was turned.
        mean: (d,) that was subtracted.
        scale: (d,) that was multiplied with.
        basis: Coefficients (·, r) @ basis.T are weights (d + 1), the last of them the bias; or,
            where there are more values than images, what each image (n) adds to them.
        by_image: Whether they are the latter.
        free: Whether the intercept is not restrained.
    """

    design: Design
    columns: Columns
    mean: Floats
    scale: Floats
    basis: Floats
    by_image: bool
    free: bool

    def weights(self, coefficients: Floats) -> tuple[Features, Features]:
        """Weight (m, d) and bias (m,), for features as they were, of coefficients (m, r)."""
        v = coefficients[:, :-1] if self.free else coefficients
        found = v @ self.basis.T  # (m, d + 1) or (m, n)
        if self.by_image:
            weight, bias = np.empty((len(v), self.columns.width)), found.sum(axis=1)
            for where, block in self.columns.blocks():
                weight[:, where] = found @ ((block - self.mean[where]) * self.scale[where])
        else:
            weight, bias = found[:, :-1], found[:, -1]
        if self.free:
            bias = coefficients[:, -1]
        weight = weight * self.scale
        return weight.astype(np.float32), (bias - weight @ self.mean).astype(np.float32)


def turn(columns: Columns, *, standardise: bool, free: bool) -> Turned:
    """Turn features once for every linear problem on them.

    Args:
        columns: (n, d) float32.
        standardise: To mean 0 and deviation 1 over all n rows.
        free: Whether the intercept is left out of the restraint, as in scikit-learn's
            `LogisticRegression`; `LinearSVC` restrains it like any weight.

    Raises:
        TrainingError: Values that are not finite, nothing that differs between images, or too many
            images of too many values.
    """
    n, d = columns.rows, columns.width
    size = min(n, d + 1)
    if size > MOST_TURNED or n * size > MOST_VALUES:
        raise TrainingError(
            f"{n} images with {d} values each are too many to solve at once; take pooled "
            "activations instead of flattened ones, a higher cut, or fewer training images"
        )
    by_image = n <= d
    mean, scale, gram = np.zeros(d), np.ones(d), np.zeros((size, size))
    whole = np.full((0 if by_image else n, d + 1), 0 if free else 1, np.float32)
    varied = False
    for where, block in columns.blocks():
        x, mean[where], scale[where], moving = scaled(
            block, standardise=standardise, centred=standardise or free
        )
        varied = varied or moving
        if by_image:
            gram += x @ x.T
        else:
            whole[:, where] = x
    if not varied:
        raise TrainingError(
            "the activations at this cut are the same for every image; take another cut, or look "
            "at the images with `layerwise inspect`"
        )
    exact, basis = _by_image(gram, free) if by_image else _by_value(whole)
    ridge = np.ones(exact.shape[1] + free)
    if free:
        ridge[-1] = 0
        exact = np.concatenate([exact, np.ones((n, 1))], axis=1)
    return Turned(Design.of(exact, ridge), columns, mean, scale, basis, by_image, free)


def _by_image(gram: Floats, free: bool) -> tuple[Floats, Floats]:
    """The turned features (n, r) and their basis, of the images' products (n, n)."""
    gram += 0 if free else 1  # the restrained intercept is one more value, always 1
    values, vectors = eigh(gram, overwrite_a=True, check_finite=False)
    kept = values > max(values[-1], 0) * len(gram) * np.finfo(np.float64).eps
    root = np.sqrt(values[kept])
    return vectors[:, kept] * root, vectors[:, kept] / root


def _by_value(whole: Features) -> tuple[Floats, Floats]:
    """The turned features (n, d + 1) and their basis, of features (n, d + 1)."""
    gram = np.zeros((whole.shape[1], whole.shape[1]))
    for start in range(0, len(whole), 4096):
        x = whole[start : start + 4096].astype(np.float64)
        gram += x.T @ x
    basis = eigh(gram, overwrite_a=True, check_finite=False)[1]
    return np.concatenate([whole[s : s + 4096] @ basis for s in range(0, len(whole), 4096)]), basis


def scaled(
    block: Features, *, standardise: bool, centred: bool
) -> tuple[Floats, Floats, Floats, bool]:
    """Columns (n, m) in float64, brought to their mean and scale.

    Returns:
        (x − mean)·scale, mean (m,), scale (m,), and whether any column differs between images.

    Raises:
        TrainingError: Values that are not finite.
    """
    if not np.isfinite(block).all():
        raise TrainingError(
            "the activations at this cut have values that are not finite; the weights of the "
            "network are damaged or of another network: take other weights, or a lower cut"
        )
    x = block.astype(np.float64)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    moving = deviation > CONSTANT * np.abs(mean)
    scale = np.ones(len(mean))
    if standardise:
        scale = np.where(moving, 1 / np.where(moving, deviation, 1), 0.0)
    if not centred:
        mean = np.zeros(len(mean))
    return (x - mean) * scale, mean, scale, bool(moving.any())

"""How alike two representations of the same images are: linear CKA and SVCCA.

Both compare features (N, P) and (N, Q) of N images, of two layers or of one layer before and after
fine-tuning, and give 1 where each is a linear image of the other of the kind they do not see:

- **CKA** (Kornblith et al. 2019) is not changed by rotating the features or scaling all of them
  alike. Directions of much variance count most.
- **SVCCA** (Raghu et al. 2017) keeps the directions that hold 99% of the variance, then forgets how
  much each holds: it is not changed by any invertible linear map of what it kept.

With few images for many features both are high for features that have nothing in common. For CKA
the unbiased form is 0 there on average. SVCCA **is near 1 by construction** once it keeps about as
many directions as there are images, and `Svcca.chance` says what nothing in common gives: give more
images, or keep fewer directions (``components``).
"""

from dataclasses import dataclass

import numpy as np

from layerwise.errors import DataError
from layerwise.evaluation.metrics import Array, Floats

BLOCK = 512  # columns or rows of a product held at a time


@dataclass(frozen=True)
class Svcca:
    """How alike two representations are by SVCCA.

    Attributes:
        value: The mean canonical correlation, from 0 to 1.
        kept: How many directions of each were kept.
        chance: About what features with nothing in common would have: the root of the mean squared
            correlation of two random subspaces as large as these, √(max(kept) / (N − 1)); the mean
            itself is at most this. A value is worth reading only where this is well below it.
    """

    value: float
    kept: tuple[int, int]
    chance: float


def linear_cka(first: Array, second: Array, *, unbiased: bool = False) -> float:
    """Linear centred kernel alignment, ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) of centred X, Y.

    Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited", equation of
    §3; the norms are Frobenius'. Needs memory for both features in float64, and no product of N × N
    or P × Q at once.

    Args:
        first: Features of N images, (N, P); more dimensions are taken as one row an image.
        second: Of the same images in the same order, (N, Q).
        unbiased: With HSIC estimated without bias (Song et al. 2012, equation 5): for few images,
            where the plain form is too high. May be below 0; needs 4 images.

    Returns:
        From 0 to 1; the unbiased form from −1 to 1.

    Raises:
        DataError: Fewer than 2 images (4), different images, values that are not finite, or
            features that are the same for every image.
    """
    x, y = _centred_pair(first, second, 4 if unbiased else 2)
    inner = _unbiased if unbiased else _cross
    own = inner(x, x) * inner(y, y)
    if not own > 0:  # the unbiased form on images that are alike but for one
        raise DataError(
            f"{len(x)} images are too alike for an unbiased CKA; give more images, or take the "
            "plain form"
        )
    return float(np.clip(inner(x, y) / np.sqrt(own), -1, 1))


def svcca(
    first: Array, second: Array, *, variance: float = 0.99, components: int | None = None
) -> Svcca:
    """Singular vector canonical correlation: the mean correlation of the main directions.

    Raghu et al. 2017, "SVCCA", §2. The mean is over as many correlations as the smaller side kept
    directions. Needs memory for both features, and a square of min(N, P), in float64; minutes for
    min(N, P) above some thousands.

    Args:
        first: As in `linear_cka`.
        second: As in `linear_cka`.
        variance: The share of the variance to keep, above 0, at most 1.
        components: At most so many directions of each. With N images, a tenth of N or fewer leaves
            room to tell likeness from chance.

    Raises:
        DataError: As in `linear_cka`.
        ValueError: ``variance`` or ``components`` is out of range.
    """
    if not 0 < variance <= 1 or (components is not None and components < 1):
        raise ValueError("variance must be above 0 and at most 1, components at least 1")
    x, y = _centred_pair(first, second, 2)
    a, b = _directions(x, variance, components), _directions(y, variance, components)
    correlations = np.clip(np.linalg.svd(a.T @ b, compute_uv=False), 0, 1)
    kept = (a.shape[1], b.shape[1])
    chance = min(1.0, float(np.sqrt(max(kept) / (len(x) - 1))))
    return Svcca(float(correlations.mean()), kept, chance)


def _centred_pair(first: Array, second: Array, least: int) -> tuple[Floats, Floats]:
    """Both as centred float64 of mean square 1 an image, (N, P) and (N, Q)."""
    if len(first) != len(second):
        raise DataError(
            f"features of {len(first)} and {len(second)} images can not be compared; take the same "
            "images in the same order for both"
        )
    if len(first) < least:
        raise DataError(
            f"features of {len(first)} images can not be compared; at least {least} are needed, "
            "and some hundreds for a number worth reading"
        )
    return _centred(first, "first"), _centred(second, "second")


def _centred(features: Array, which: str) -> Floats:
    wide = np.asarray(features).reshape(len(features), -1).astype(np.float64)  # (N, P), a copy
    if not np.isfinite(wide).all():
        raise DataError(
            f"the {which} features hold values that are not finite; training that went astray "
            "leaves such a network: lower its learning rate, or leave the layer out"
        )
    size = np.abs(wide).max(initial=0)
    wide /= size or 1.0  # so that no square under- or overflows
    wide -= wide.mean(0)
    spread = np.sqrt(np.einsum("np,np->", wide, wide) / len(wide))
    if spread <= 1e-12 * np.sqrt(wide.shape[1]):  # what is left of equal numbers is rounding
        raise DataError(
            f"the {which} features are the same for every image, so nothing can be compared; "
            "take other images, or a layer whose activations are not all cut to 0"
        )
    scaled: Floats = wide / spread
    return scaled


def _cross(x: Floats, y: Floats) -> float:
    """‖XᵀY‖², by features or by images, whichever is less work; a block at a time."""
    n, p, q = len(x), x.shape[1], y.shape[1]
    if p * q <= n * (p + q):
        parts = [x[:, i : i + BLOCK].T @ y for i in range(0, p, BLOCK)]
        return sum(float(np.einsum("pq,pq->", part, part)) for part in parts)
    total = 0.0
    for i in range(0, n, BLOCK):
        rows = slice(i, i + BLOCK)
        total += float(np.einsum("ij,ij->", x[rows] @ x.T, y[rows] @ y.T))
    return total


def _unbiased(x: Floats, y: Floats) -> float:
    """HSIC without bias, times N (N − 3); the kernels' diagonals are left out.

    With K = XXᵀ and L = YYᵀ whose diagonals are set to 0:
    tr(KL) + 1ᵀK1 1ᵀL1 / ((N − 1)(N − 2)) − 2 · 1ᵀKL1 / (N − 2).
    """
    n = len(x)
    own_x, own_y = np.einsum("np,np->n", x, x), np.einsum("nq,nq->n", y, y)
    trace = _cross(x, y) - own_x @ own_y
    sums_x, sums_y = x @ x.sum(0) - own_x, y @ y.sum(0) - own_y  # K1, L1
    both = sums_x.sum() * sums_y.sum() / ((n - 1) * (n - 2))
    return float(trace + both - 2 * (sums_x @ sums_y) / (n - 2))


def _directions(x: Floats, variance: float, components: int | None) -> Floats:
    """An orthonormal basis (N, k) of the main directions' images."""
    tall = x.shape[1] <= len(x)
    values, vectors = np.linalg.eigh(x.T @ x if tall else x @ x.T)
    values, vectors = values[::-1], vectors[:, ::-1]  # by falling variance
    there = values > values[0] * max(x.shape) * np.finfo(float).eps
    held = np.cumsum(values[there])
    keep = int(np.searchsorted(held, (variance - 1e-12) * held[-1])) + 1
    keep = min(keep, len(held), components or keep)
    chosen = x @ (vectors[:, :keep] / np.sqrt(values[:keep])) if tall else vectors[:, :keep]
    return np.asarray(np.linalg.qr(chosen)[0])

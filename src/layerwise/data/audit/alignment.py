"""Whether two pictures are one: shifted and scaled onto each other, then compared piece by piece.

Chest X-rays all look alike, so a correlation of whole pictures says little: 0.97 is common between
strangers. What tells a copy is that the fine structure (ribs, vessels) agrees nearly everywhere
once the two are aligned; between strangers only the edges of the film may, in a few blocks.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BLOCKS = 4  # a picture is compared in 4 × 4 blocks
FLAT = 1.0  # grey levels: a block in which both vary less says nothing
FEWEST = 6  # blocks that must say something
REACH = 0.3  # scale and shift stay within ± 30% of half a side
STEP = 0.08  # … and change by no more at a time


def warp(pictures: Floats, placing: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Scale and shift each picture, by linear interpolation.

    Args:
        pictures: float32 (n, m, m).
        placing: float32 (n, 4): vertical scale and shift, horizontal scale and shift. Position
            x in [−1, 1] of the result comes from (1 + scale) x + shift. Zeros change nothing; a
            crop of fractions a and b at the two ends is scale −(a + b), shift a − b.

    Returns:
        The result, of the same shape, and where it comes from inside of the picture (n, m, m).
    """
    side = pictures.shape[1]
    down, inside_y = _weights(placing[:, 0], placing[:, 1], side)
    across, inside_x = _weights(placing[:, 2], placing[:, 3], side)
    moved: Floats = (down @ pictures @ across.transpose(0, 2, 1)).astype(np.float32)
    return moved, inside_y[:, :, None] & inside_x[:, None, :]


def align(first: Floats, second: Floats, placing: Floats, steps: int) -> Floats:
    """The placing (see `warp`) of the second pictures that fits the first, pair by pair.

    Gauss–Newton on the squared difference of the normalised pictures, inverse compositional (Baker
    and Matthews 2004, §3.2): the gradients are those of the first pictures, computed once.

    Args:
        first: float32 (n, m, m).
        second: float32 (n, m, m).
        placing: float32 (n, 4), where to start.
        steps: How many.

    Returns:
        float32 (n, 4).
    """
    count, side = first.shape[:2]
    x = _positions(side)
    steady = normal(first, np.ones(first.shape, np.bool_))
    by_y, by_x = (np.gradient(steady, 2 / side, axis=axis) for axis in (1, 2))
    slopes = np.stack([x[:, None] * by_y, by_y, x * by_x, by_x], axis=1)
    slopes = slopes.reshape(count, 4, -1).astype(np.float32)  # (n, 4, m·m)
    normals = slopes @ slopes.transpose(0, 2, 1)  # (n, 4, 4)
    ridge = np.trace(normals, axis1=1, axis2=2) / 4 * 1e-3 + 1e-6
    inverse = np.linalg.inv(normals + ridge[:, None, None] * np.eye(4, dtype=np.float32))
    for _ in range(steps):
        moved, inside = warp(second, placing)
        differ = (normal(moved, inside) - normal(first, inside)).reshape(count, -1)
        # Not a product of matrices: for one as thin, threads of the BLAS cost more than they do.
        steepest = np.einsum("nij,nj->ni", slopes, differ)
        change = np.clip(np.einsum("nij,nj->ni", inverse, steepest), -STEP, STEP)
        parts = []
        for scale, shift in ((0, 1), (2, 3)):
            ratio = (1 + placing[:, scale]) / (1 + change[:, scale])
            parts += [ratio - 1, placing[:, shift] - ratio * change[:, shift]]
        placing = np.clip(np.stack(parts, axis=1), -REACH, REACH).astype(np.float32)
    return placing


def agreement(first: Floats, second: Floats, placing: Floats) -> tuple[Floats, Floats]:
    """How far two pictures agree once the second is placed on the first.

    Returns:
        (n,) the correlation of the whole pictures, and (n,) the median over 4 × 4 blocks of the
        correlation of their fine structure (what is left without the mean of 5 × 5 pixels);
        blocks that are flat in both are left out, and with fewer than 6 others it is 0.
    """
    side = first.shape[1]
    moved, inside = warp(second, placing)
    whole = (normal(first, inside) * normal(moved, inside)).sum(axis=(1, 2))
    whole /= np.maximum(inside.sum(axis=(1, 2)), 1)
    smooth = _smoothing(side)
    seen = inside.astype(np.float32)
    fine_first = (first - smooth @ first @ smooth.T) * seen
    fine_moved = (moved - smooth @ moved @ smooth.T) * seen
    pixels = np.maximum(_by_block(seen), 1)
    both = _by_block(fine_first * fine_moved) / pixels  # (n, 16)
    own_first = _by_block(fine_first**2) / pixels
    own_moved = _by_block(fine_moved**2) / pixels
    each = both / np.sqrt(own_first * own_moved + 1e-6)
    telling = (own_first > FLAT**2) | (own_moved > FLAT**2)
    ranked = np.sort(np.where(telling, each, np.inf), axis=1)
    middle = np.maximum((telling.sum(axis=1) - 1) // 2, 0)
    median = np.take_along_axis(ranked, middle[:, None], axis=1)[:, 0]
    fine = np.where(telling.sum(axis=1) >= FEWEST, median, 0.0)
    return whole.astype(np.float32), fine.astype(np.float32)


def normal(pictures: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Mean 0 and deviation 1 over what is inside, 0 outside; (n, m, m) float32."""
    count = np.maximum(inside.sum(axis=(1, 2), keepdims=True), 1).astype(np.float32)
    mean = (pictures * inside).sum(axis=(1, 2), keepdims=True) / count
    centred = (pictures - mean) * inside
    spread = np.sqrt((centred * centred).sum(axis=(1, 2), keepdims=True) / count + 1e-6)
    return np.asarray(centred / spread, dtype=np.float32)


def _positions(side: int) -> Floats:
    """(side,) the middles of the pixels, in [−1, 1]."""
    return ((np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1).astype(np.float32)


def _weights(scale: Floats, shift: Floats, side: int) -> tuple[Floats, NDArray[np.bool_]]:
    """(n, side, side) interpolation weights along one axis, and (n, side) what is inside."""
    source = ((1 + scale)[:, None] * _positions(side) + shift[:, None] + 1) * (side / 2) - 0.5
    inside = (source > -0.5) & (source < side - 0.5)
    pixel = np.arange(side, dtype=np.float32)
    away = np.abs(pixel - np.clip(source, 0, side - 1)[:, :, None])
    return np.maximum(1 - away, 0).astype(np.float32), inside


def _smoothing(side: int) -> Floats:
    """(side, side) the mean of five pixels around each, fewer at the ends."""
    pixel = np.arange(side)
    near = (np.abs(pixel[:, None] - pixel) <= 2).astype(np.float32)
    return np.asarray(near / near.sum(axis=1, keepdims=True), dtype=np.float32)


def _by_block(values: NDArray[Any]) -> Floats:
    """Sums (n, 16) over 4 × 4 blocks of (n, m, m); m is a multiple of 4."""
    count, side = values.shape[:2]
    size = side // BLOCKS
    blocks = values.reshape(count, BLOCKS, size, BLOCKS, size).sum(axis=(2, 4))
    return np.asarray(blocks.reshape(count, -1), dtype=np.float32)

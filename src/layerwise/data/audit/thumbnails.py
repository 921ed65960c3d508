"""Small grey versions of stored pictures, in chunks, for whatever must look at all of them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from layerwise.data.storage.store import ImageStore

CHUNK = 64  # pictures read at a time
LUMINANCE = np.asarray([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's "L"

Floats = NDArray[np.float32]


def thumbnails(pictures: NDArray[np.uint8], side: int) -> Floats:
    """Grey means over areas.

    Args:
        pictures: uint8 (n, H, W, C), C = 1 or 3.
        side: Height and width of the result.

    Returns:
        float32 (n, side, side) in [0, 255]; where a picture is smaller, its pixels repeat.
    """
    grey = pictures[..., 0] if pictures.shape[3] == 1 else pictures @ LUMINANCE
    count, height, width = grey.shape
    # Two large products, not two small ones a picture: threads of the BLAS would wait on each.
    across = grey.astype(np.float32).reshape(-1, width) @ _areas(width, side).T
    across = across.reshape(count, height, side).transpose(0, 2, 1).reshape(-1, height)
    down = across @ _areas(height, side).T  # (n · side, side), columns first
    return np.ascontiguousarray(down.reshape(count, side, side).transpose(0, 2, 1))


def all_thumbnails(
    store: ImageStore, side: int, rows: NDArray[np.int64] | None = None
) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    """Thumbnails of a whole store (or of these rows), 64 pictures at a time, with their rows."""
    wanted = np.arange(len(store)) if rows is None else rows
    for start in range(0, len(wanted), CHUNK):
        chunk = wanted[start : start + CHUNK]
        yield chunk, thumbnails(store.read(chunk), side)


def drawn(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """Row numbers (≤ most,) int64, rising: all, or a draw without replacement."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def _areas(size: int, side: int) -> Floats:
    """(side, size) float32: each row averages its share of a line of pixels."""
    edges = np.linspace(0, size, side + 1)
    pixel = np.arange(size)
    covered = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    covered = np.clip(covered, 0, None)
    return np.asarray(covered / covered.sum(axis=1, keepdims=True), dtype=np.float32)

"""How bright the pictures of each label are: histograms and the mean picture, in one pass."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerwise.data.exploration import members
from layerwise.data.manifest import Manifest
from layerwise.data.storage.store import ImageStore

BINS = 64  # of the histogram, each of four values
CHUNK_BYTES = 2**21  # of pixels read at a time
CHUNK = 4096  # pictures read at a time: so many sums of bytes are exact in float32
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL's conversion to grey


@dataclass(frozen=True, eq=False)
class Brightness:
    """What the stored pixels of each label are like; NaN for a label without pictures."""

    histogram: NDArray[np.float64]  # (K, 64) mean over pictures of the share of pixels in a bin
    spread: NDArray[np.float64]  # (K, 64) its standard deviation from picture to picture
    black: NDArray[np.float64]  # (K,) mean over pictures of the share of pixels that are 0
    white: NDArray[np.float64]  # (K,) and 255
    mean: NDArray[np.float64]  # (K,) mean over pictures of their mean brightness, 0 … 255
    deviation: NDArray[np.float64]  # (K,) of the pictures' mean brightness
    contrast: NDArray[np.float64]  # (K,) mean over pictures of the deviation of their pixels
    picture: NDArray[np.float64]  # (K, H, W, C) the mean picture, 0 … 255


def measure(
    manifest: Manifest,
    store: ImageStore,
    progress: Callable[[int, int], None] | None = None,
) -> Brightness:
    """Measure all pictures, each counting the same; colour is taken as its luma (BT.601).

    Args:
        manifest: The data.
        store: Their pictures, row by row.
        progress: Called with (done, total) after every chunk.

    Memory does not grow with the number of pictures.
    """
    has = members(manifest)  # (N, K)
    height, width = store.size
    area = height * width
    step = min(CHUNK, max(1, CHUNK_BYTES // (area * store.channels)))
    labels = has.shape[1]
    first, second = np.zeros((labels, BINS)), np.zeros((labels, BINS))
    moments = np.zeros((labels, 5))  # sums of mean, mean², deviation, black, white
    pixels = np.zeros((labels, area * store.channels))
    values = np.arange(256)
    for start in range(0, len(store), step):
        pictures = store.read(np.arange(start, min(start + step, len(store))))  # (n, H, W, C)
        own = has[start : start + step].T.astype(np.float64)  # (K, n)
        share = _counts(_grey(pictures)) / area  # (n, 256)
        bins = share.reshape(-1, BINS, 256 // BINS).sum(axis=2)  # (n, 64)
        first += own @ bins
        second += own @ bins**2
        mean = share @ values  # (n,)
        deviation = np.sqrt(np.maximum(share @ values**2 - mean**2, 0))
        each = (mean, mean**2, deviation, share[:, 0], share[:, 255])
        moments += own @ np.stack(each, axis=1)
        pixels += own.astype(np.float32) @ pictures.reshape(len(pictures), -1).astype(np.float32)
        if progress is not None:
            progress(min(start + step, len(store)), len(store))
    total = has.sum(axis=0).astype(np.float64)[:, None]  # (K, 1)
    total[total == 0] = np.nan
    mean_share, average = first / total, moments / total
    return Brightness(
        histogram=mean_share,
        spread=np.sqrt(np.maximum(second / total - mean_share**2, 0)),
        black=average[:, 3],
        white=average[:, 4],
        mean=average[:, 0],
        deviation=np.sqrt(np.maximum(average[:, 1] - average[:, 0] ** 2, 0)),
        contrast=average[:, 2],
        picture=(pixels / total).reshape(labels, height, width, store.channels),
    )


def _grey(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (n, H, W, C) → uint8 (n, H·W)."""
    if pictures.shape[3] == 1:
        return pictures.reshape(len(pictures), -1)
    weights = np.asarray(LUMA, np.float32)
    luma = pictures.reshape(len(pictures), -1, 3) @ weights  # (n, H·W)
    return (luma + 0.5).astype(np.uint8)


def _counts(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(n, 256) how often each value occurs in each row of (n, P)."""
    n = len(values)
    slots = values + np.arange(n)[:, None] * 256
    return np.bincount(slots.ravel(), minlength=n * 256).reshape(n, 256)

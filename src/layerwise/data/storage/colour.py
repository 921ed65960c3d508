"""Whether pictures are grey in fact, whatever their files say."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from layerwise.data.manifest import Manifest
from layerwise.data.pictures.images import decode
from layerwise.data.storage.verify import usable_cores
from layerwise.errors import DataError

LOOKED_AT = 100  # colour files looked at, at most; the first coloured one ends it
ENOUGH = (128, 128)  # pixels at which colour still shows; large files are decoded much faster so
NOISE = 12  # grey levels by which channels of a grey picture may differ after JPEG


def all_grey(manifest: Manifest, grey: NDArray[np.bool_], seed: int = 0) -> bool:
    """Whether one channel is enough: every picture is grey by its header, or by its pixels.

    Radiographs are often saved as colour files. Up to 100 of those, drawn at random, are
    decoded; all must have equal channels, up to the noise of compression in one pixel of a
    thousand. If one file in 30 is coloured, one is found in 97 of 100 cases.

    Args:
        manifest: The pictures.
        grey: (N,) bool, whether each is grey by its header (`Headers.grey`).
        seed: Of the draw.
    """
    coloured = np.flatnonzero(~grey)
    chosen = np.random.default_rng(seed).permutation(coloured)[:LOOKED_AT]
    if manifest.pixels is not None:
        return all(_is_grey(manifest.pixels[row]) for row in chosen)
    paths = manifest.table["path"].to_numpy()
    cores = usable_cores()
    with ThreadPoolExecutor(cores) as pool:  # decoding frees the interpreter
        for start in range(0, len(chosen), 4 * cores):
            if not all(pool.map(_grey_file, paths[chosen[start : start + 4 * cores]])):
                return False
    return True


def _grey_file(path: str) -> bool:
    """Whether a file's picture is grey; one that can not be read decides nothing."""
    try:
        return _is_grey(decode(path, 3, ENOUGH))
    except DataError:  # the store will say so
        return True


def _is_grey(picture: NDArray[np.uint8]) -> bool:
    """Whether the channels of (H, W, 3) are equal up to noise."""
    spread = picture.max(axis=2).astype(np.int16) - picture.min(axis=2)  # (H, W)
    return bool((spread > NOISE).mean() <= 1e-3)

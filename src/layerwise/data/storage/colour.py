"""Whether pictures are grey in fact, whatever their files say."""

import numpy as np
from numpy.typing import NDArray

from layerwise.data.manifest import Manifest
from layerwise.data.pictures.images import decode
from layerwise.errors import DataError

LOOKED_AT = 300  # colour files decoded at most; the first coloured one ends it
NOISE = 12  # grey levels by which channels of a grey picture may differ after JPEG


def all_grey(manifest: Manifest, grey: NDArray[np.bool_], seed: int = 0) -> bool:
    """Whether one channel is enough: every picture is grey by its header, or by its pixels.

    Radiographs are often saved as colour files. Up to 300 of those, drawn at random, are
    decoded; all must have equal channels, up to the noise of compression in one pixel of a
    thousand.

    Args:
        manifest: The pictures.
        grey: (N,) bool, whether each is grey by its header (`Headers.grey`).
        seed: Of the draw.
    """
    coloured = np.flatnonzero(~grey)
    if manifest.pixels is not None:
        chosen = np.random.default_rng(seed).permutation(coloured)[:LOOKED_AT]
        return all(_is_grey(manifest.pixels[row]) for row in chosen)
    paths = manifest.table["path"].to_numpy()
    for row in np.random.default_rng(seed).permutation(coloured)[:LOOKED_AT]:
        try:
            picture = decode(paths[row], 3)
        except DataError:  # the store will say so
            continue
        if not _is_grey(picture):
            return False
    return True


def _is_grey(picture: NDArray[np.uint8]) -> bool:
    """Whether the channels of (H, W, 3) are equal up to noise."""
    spread = picture.max(axis=2).astype(np.int16) - picture.min(axis=2)  # (H, W)
    return bool((spread > NOISE).mean() <= 1e-3)

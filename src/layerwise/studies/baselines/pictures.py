"""What of the data is needed before their pictures have a size: how large, and how many."""

import numpy as np

from layerwise.data.balance import Balance, Epochs
from layerwise.data.manifest import Manifest
from layerwise.data.storage.headers import read_headers

LOOKED_AT = 200  # pictures whose headers say how large all are
TRAINED = 0.7  # of all images, where the training part is not known yet


def shorter_side(manifest: Manifest, seed: int) -> float:
    """Pixels of the shorter side of the middle picture; 0 where none can be read."""
    count = min(LOOKED_AT, len(manifest))
    rows = np.random.default_rng(seed).choice(len(manifest), count, replace=False)
    sizes = read_headers(manifest.take(np.sort(rows))).sizes.min(axis=1)  # (n,)
    known = sizes[sizes > 0]
    return float(np.median(known)) if len(known) else 0.0


def images_an_epoch(
    manifest: Manifest, balance: Balance | None, seed: int
) -> tuple[tuple[int, int], int]:
    """About how many pictures an epoch of each form learns from, and how many are validated.

    Args:
        manifest: Before or after its split.
        balance: As asked for; None: copies, where an image has one label.
        seed: Any.
    """
    given = manifest.indices("train")
    rows = given if len(given) else np.arange(len(manifest))
    part = 1.0 if len(given) else TRAINED
    method: Balance = balance or ("weights" if manifest.targets.ndim > 1 else "augment")
    augmented = Epochs(method, manifest.targets, rows, seed).size
    validation = len(manifest.indices("val")) or round(0.15 * len(manifest))
    return (round(part * len(rows)), round(part * augmented)), validation

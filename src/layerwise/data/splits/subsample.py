"""Fewer training images, to see what a method does with few: nested, stratified, whole patients."""

import numpy as np
from numpy.typing import NDArray

from layerwise.data.manifest import Manifest
from layerwise.data.splits.partition import Holdings, assert_disjoint, contents_as_keys, find_units
from layerwise.errors import DataError

GOLDEN = (5**0.5 - 1) / 2  # its multiples modulo 1 fill the unit interval evenly at any length


def subsample(
    manifest: Manifest,
    fraction: float,
    *,
    contents: NDArray[np.uint8] | None = None,
    seed: int = 0,
) -> Manifest:
    """Keep a fraction of the training part; validation and test stay as they are.

    Peng et al. 2021 §3: "To simulate data-poor regimes, we focus on the COVID-19 dataset and
    subsample 5% and 10% of the original training set." (§3.2: 88 of 1,777 positives and 1,451 of
    29,030 negatives; 177 and 2,903. Rounded down, as here.)

    All units (patients, joined by equal content) stand in one order, made by the seed alone, and a
    fraction is the beginning of it: so the 5% lie inside the 10%. The order is one of each stratum
    (the rarest class or label of the unit), in which units of equal size and kind are spread
    evenly; so every beginning has the same share of every class, to within one unit. With several
    labels an image the others come near theirs: within a tenth for 5% of CheXpert.

    Args:
        manifest: With splits.
        fraction: Above 0, at most 1.
        contents: (N, 32) uint8 content digests; None if not known.
        seed: Other seeds, other images.

    Returns:
        Without the images that were left out; the notes say how many.

    Raises:
        DataError: The fraction is out of range, or leaves no image of a class.
    """
    if not 0 < fraction <= 1:
        raise DataError(
            f"--train-fraction {fraction}: it is above 0 and at most 1, like 0.05 for 5%"
        )
    pool = manifest.indices("train")
    if fraction == 1 or not len(pool):
        return manifest
    train = manifest.take(pool)
    unit = find_units(train.groups(), None if contents is None else contents[pool])
    chosen = _beginning(train, unit, fraction, seed)[unit]  # (n,)
    lost = train.per_label(np.flatnonzero(chosen)) == 0
    if manifest.task != "multilabel" and lost.any():
        raise DataError(
            f"{manifest.name}: --train-fraction {fraction} leaves no training image of class "
            f"{manifest.labels[int(lost.argmax())]!r}; keep more"
        )
    stays = np.ones(len(manifest), np.bool_)
    stays[pool[~chosen]] = False
    rows = np.flatnonzero(stays)
    note = (
        f"{int(chosen.sum())} of {len(pool)} training images are kept (--train-fraction "
        f"{fraction:g}, seed {seed}), stratified by label, and {int((~chosen).sum())} are left out"
    )
    kept = manifest.take(rows).replace(note=note)
    _assert_whole(train, chosen)
    keys = [] if contents is None else [contents_as_keys(contents[rows])]
    assert_disjoint(kept.table["split"].to_numpy(dtype=object), kept.table["id"], *keys)
    return kept


def _beginning(
    train: Manifest, unit: NDArray[np.int64], fraction: float, seed: int
) -> NDArray[np.bool_]:
    """(U,) whether each unit is in the first so many of its stratum, and one is in any case."""
    holds = Holdings.of(train, unit)
    _, stratum = holds.rarest()  # (U,)
    entry = np.flatnonzero(holds.mark == np.repeat(stratum, _lengths(holds)))
    weight = holds.held[entry]  # (U,) images of the unit that have its rarest mark
    generator = np.random.default_rng(seed)
    chance, shift = generator.random(len(holds)), generator.random(len(holds.total))
    order = np.lexsort((chance, holds.kinds(), holds.sizes(), stratum))
    # Along this order equal units stand together. The fractional part of a rank times the golden
    # ratio takes from each such group its share at any length (a Kronecker sequence).
    spread = np.empty(len(holds))
    spread[order] = np.arange(len(holds)) * GOLDEN
    order = np.lexsort(((spread + shift[stratum]) % 1, stratum))
    starts = np.flatnonzero(np.diff(stratum[order], prepend=-1))
    so_far = np.cumsum(weight[order])  # (U,)
    offset = np.append(0, so_far)[starts]
    length = np.diff(np.append(starts, len(order)))
    so_far -= np.repeat(offset, length)
    total = np.repeat(so_far[starts + length - 1], length)
    chosen = np.zeros(len(holds), np.bool_)
    chosen[order] = so_far <= np.floor(fraction * total + 1e-9)
    chosen[order[starts]] = True
    return chosen


def _lengths(holds: Holdings) -> NDArray[np.int64]:
    """(U,) how many marks each unit has."""
    return np.diff(np.append(holds.start, len(holds.mark)))


def _assert_whole(train: Manifest, chosen: NDArray[np.bool_]) -> None:
    """No patient of whom one image was kept and another left out."""
    state = np.where(chosen, "kept", "left out").astype(object)
    assert_disjoint(state, train.table["patient"])

"""The pictures that the advisor looks at: as many of train and validation as time allows.

The test part is not looked at: advice that had seen it would spoil what it is kept for.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from layerwise.data.fingerprint import data_key
from layerwise.data.manifest import Manifest
from layerwise.data.splits.subsample import subsample
from layerwise.errors import DataError
from layerwise.studies.workspace import Workspace

LEAST = 5  # training images of a class
LEAST_VALIDATION = 1  # and validation images, without which nothing is measured


def refuse_too_few(manifest: Manifest) -> None:
    """Refuse data of which nothing could be told.

    Raises:
        DataError: A class has fewer than LEAST training or LEAST_VALIDATION validation images; of
            several labels an image, that is so for all of them.
    """
    short = []
    for part, least in (("train", LEAST), ("val", LEAST_VALIDATION)):
        rows = manifest.indices(part)
        counts = manifest.per_label(rows)
        if manifest.task == "multilabel":  # with it and without it
            counts = np.minimum(counts, (manifest.targets[rows] == 0).sum(axis=0))
        words = "training" if part == "train" else "validation"
        few = np.flatnonzero(counts < least)
        if len(few) == len(counts) or (len(few) and manifest.task != "multilabel"):
            k = int(few[0])
            short.append(f"{counts[k]} {words} images of {manifest.labels[k]!r} ({least} needed)")
    if short:
        raise DataError(
            f"{manifest.name}: too few images to measure anything by: {' and '.join(short)}; add "
            "images of it, leave the class out with --only, or make larger parts with "
            "`layerwise split`"
        )


def sample(work: Workspace, train: int, validation: int) -> Workspace:
    """The workspace with about so many training and validation images, and no others.

    They are whole patients, stratified by label; fewer ones lie inside of more.

    Args:
        work: With all three parts.
        train: Images of the training part; at least one patient of each class is kept.
        validation: Likewise.
    """
    parts = {"train": train, "val": validation}
    rows = np.concatenate([_some(work, part, count) for part, count in parts.items()])
    rows = np.sort(rows)
    manifest = work.manifest.replace(pixels=None).take(rows)
    store = work.store.take(rows)
    return replace(
        work, manifest=manifest, store=store, data_key=data_key(manifest, store), _cuts=[]
    )


def _some(work: Workspace, part: str, count: int) -> NDArray[np.int64]:
    """About so many rows of a part; all of them where it has no more."""
    rows = work.rows(part)
    if count >= len(rows):
        return rows
    whole = work.manifest.replace(pixels=None).take(rows)
    whole = whole.replace(split=np.full(len(rows), "train", dtype=object))
    contents, fraction = work.store.digests[rows], max(1, count) / len(rows)
    while True:
        try:
            kept = subsample(whole, fraction, contents=contents, seed=work.seed)
        except DataError:  # a class lies with patients of other classes only, and has lost them
            fraction = min(1.0, 2 * fraction)
            continue
        there = set(kept.table["id"])
        return rows[[name in there for name in whole.table["id"]]]

"""Cross-validation: k folds, and repeats of them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from layerwise.data.manifest import SPLITS, Manifest
from layerwise.data.splits.assign import assign
from layerwise.data.splits.partition import assert_disjoint, contents_as_keys, divide, find_units
from layerwise.errors import DataError


def fold_numbers(
    manifest: Manifest,
    count: int,
    *,
    groups: NDArray[np.str_] | None = None,
    contents: NDArray[np.uint8] | None = None,
    seed: int = 0,
    repeat: int = 0,
) -> NDArray[np.int64]:
    """(N,) int64 the fold of each image, 0 to count − 1: whole patients, labels in equal shares.

    Args:
        manifest: The data; given splits are ignored.
        count: How many folds, two or more.
        groups: (N,) what may not be torn apart; by default the patients (`Manifest.groups`).
        contents: (N, 32) uint8 content digests; None if not known.
        seed: Other seeds, other folds.
        repeat: So do other repeats, from 0 on.

    Raises:
        DataError: Fewer than two folds, or fewer patients of a class than folds.
    """
    if count < 2:
        raise DataError(f"--folds {count}: two or more are needed")
    group = manifest.groups() if groups is None else groups
    unit = find_units(group, contents)
    names = tuple(f"fold {i + 1}" for i in range(count))
    try:
        number = divide(manifest, unit, np.full(count, 1 / count), names, _seed(seed, repeat))
    except DataError as error:
        raise DataError(f"{error}, or take fewer --folds") from error
    keys = [] if contents is None else [contents_as_keys(contents)]
    assert_disjoint(number.astype(object), group, manifest.table["id"], *keys)
    return number


def folds(
    manifest: Manifest,
    count: int,
    *,
    groups: NDArray[np.str_] | None = None,
    contents: NDArray[np.uint8] | None = None,
    val: float = 0.15,
    seed: int = 0,
    repeat: int = 0,
    only: int | None = None,
) -> Iterator[Manifest]:
    """One manifest a fold: it is the test part, and of the others a part is for validation.

    Args:
        manifest: As for `fold_numbers`, like the arguments not named here.
        count: How many folds.
        groups: What may not be torn apart.
        contents: Content digests.
        val: The fraction of all images that is for validation; the folds for training and
            validation are shared out so, again by patient and stratified.
        seed: Other seeds, other folds.
        repeat: So do other repeats.
        only: Only this fold, from 0 on.

    Yields:
        A manifest in which every image has a split, for each fold.

    Raises:
        DataError: As `fold_numbers`, or nothing would be left for training.
    """
    if not 0 < val < 1 - 1 / max(count, 2):
        raise DataError(
            f"--val {val} with --folds {count}: it must be above 0, and with the test part of "
            f"{1 / max(count, 2):.3g} below 1"
        )
    numbers = fold_numbers(
        manifest, count, groups=groups, contents=contents, seed=seed, repeat=repeat
    )
    for i in range(count) if only is None else (only,):
        split = np.where(numbers == i, "test", "train").astype(object)
        made = assign(
            manifest.replace(split=split, settled=False),
            groups=groups,
            contents=contents,
            val=val / (1 - 1 / count),
            seed=_seed(seed, repeat, i),
        )
        how = "by patient" if groups is None and manifest.patients_known else "at random"
        images = ", ".join(f"{len(made.indices(part))} {part}" for part in SPLITS)
        note = (
            f"fold {i + 1} of {count}, repeat {repeat + 1}: {how}, stratified by label, seed "
            f"{seed}; {images}"
        )
        yield made.replace(notes=(*manifest.notes, note))


def _seed(*numbers: int) -> int:
    """One seed from several, all different where these are."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])

"""Train, validation and test parts: stratified, by patient, and disjoint by assertion."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from layerwise.data.manifest import SPLITS, Manifest
from layerwise.data.splits.partition import assert_disjoint, contents_as_keys, divide, find_units
from layerwise.errors import DataError

USABLE = 50  # images a given validation part needs in all …
USABLE_OF_CLASS = 10  # … and of each class; or a tenth of the training part, if that is fewer


def assign(
    manifest: Manifest,
    *,
    groups: NDArray[np.str_] | None = None,
    contents: NDArray[np.uint8] | None = None,
    val: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
) -> Manifest:
    """Complete the split: given parts are kept, missing ones are taken from the training part.

    A given validation part is used if it has 50 images and 10 of each class, or a tenth of what
    train and validation have together where that is fewer. One that has less is joined to the
    training part and another is taken (the official one of the Guangzhou X-rays has 16 images;
    choosing on it would be choosing by luck). The three parts of a manifest that `layerwise split`
    wrote (`Manifest.settled`) are used whatever their size.

    Images of one group, and images of equal content, go to one part together. As far as that
    allows, the parts have the same share of every label.

    Args:
        manifest: The data; images without a split belong to the training part.
        groups: (N,) the patient of each image; by default the manifest's (`Manifest.groups`).
        contents: (N, 32) uint8 content digests, `ImageStore.digests`; None if not known.
        val: Fraction of the training part that becomes validation, if one is taken.
        test: Fraction of the training part that becomes test, if one is taken.
        seed: Other seeds, other parts.

    Returns:
        A manifest in which every image has a split; what was done is in its notes.

    Raises:
        DataError: The fractions make no sense, or a class can not be in every part.
    """
    check_fractions(val, test)
    split = manifest.table["split"].to_numpy(dtype=object).copy()
    had = {part: int((split == part).sum()) for part in (*SPLITS, "")}
    notes = []
    if had[""] and had[""] < len(split):
        notes.append(f"{had['']} images without a split are joined to the training part")
    split[split == ""] = "train"
    if had["val"] and not manifest.settled and (why := _unusable(manifest, split)):
        notes.append(f"the given validation part is not used: {why}; joined to the training part")
        split[split == "val"] = "train"
        had["val"] = 0
    if not (split == "train").any():
        raise DataError(f"{manifest.name}: no training part; add images to train")
    wanted = {p: f for p, f in (("val", val), ("test", test)) if not had[p]}
    if wanted:
        pool = np.flatnonzero(split == "train")
        group = manifest.groups() if groups is None else groups
        inside = None if contents is None else contents[pool]
        names = ("train", *wanted)
        fractions = np.array([1 - sum(wanted.values()), *wanted.values()])
        unit = find_units(group[pool], inside)
        part = divide(manifest.take(pool), unit, fractions, names, seed)
        split[pool] = np.asarray(names, dtype=object)[part]
        keys = [] if inside is None else [contents_as_keys(inside)]
        assert_disjoint(split[pool], group[pool], *keys)
        notes.append(_told(manifest, split, tuple(wanted), seed, groups is None))
    result = manifest.replace(split=split, notes=(*manifest.notes, *notes))
    _require_classes(result)
    return result


def check_fractions(val: float, test: float) -> None:
    """Refuse fractions of validation and test that leave nothing for one of the parts."""
    if not (0 < val < 1 and 0 < test < 1 and val + test < 1):
        raise DataError(f"--val {val} --test {test}: fractions must be above 0, together below 1")


def stratified(
    manifest: Manifest,
    *,
    contents: NDArray[np.uint8] | None = None,
    val: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
) -> Manifest:
    """A new random split, stratified by label, whatever split was given; patients are ignored."""
    blank = manifest.replace(split=np.full(len(manifest), "", dtype=object))
    return assign(blank, groups=alone(manifest), contents=contents, val=val, test=test, seed=seed)


def by_patient(
    manifest: Manifest,
    *,
    contents: NDArray[np.uint8] | None = None,
    val: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
) -> Manifest:
    """A new split in which no patient is in two parts, whatever split was given.

    Raises:
        DataError: No patients are known.
    """
    require_patients(manifest)
    blank = manifest.replace(split=np.full(len(manifest), "", dtype=object))
    return assign(blank, contents=contents, val=val, test=test, seed=seed)


def alone(manifest: Manifest) -> NDArray[np.str_]:
    """(N,) groups in which each image is by itself, whoever's it is."""
    return np.asarray(("image:" + manifest.table["id"]).tolist(), dtype=np.str_)


def require_patients(manifest: Manifest) -> None:
    """Refuse a split by patient where no image has one."""
    if not manifest.patients_known:
        raise DataError(
            f"{manifest.name}: no patients are known, so no split by patient; name them with "
            "--patient-column or --patient-from, or split --by random"
        )


def in_two_parts(manifest: Manifest, keys: "NDArray[np.object_] | pd.Series[Any]") -> list[int]:
    """The rows whose key (N,), a patient or a content, is in more than one part; "" is no key."""
    table = pd.DataFrame({"key": keys, "split": manifest.table["split"]})
    pairs = table[table["key"] != ""].drop_duplicates()["key"]
    both = pairs[pairs.duplicated()]
    return np.flatnonzero(table["key"].isin(both)).tolist() if len(both) else []


def _unusable(manifest: Manifest, split: NDArray[np.object_]) -> str:
    """Why the given validation part can not be chosen on; "" if it can."""
    val = manifest.per_label(np.flatnonzero(split == "val"))
    both = val + manifest.per_label(np.flatnonzero(split == "train"))
    n, n_both = int((split == "val").sum()), int(np.isin(split, ("val", "train")).sum())
    need = min(USABLE, -(-n_both // 10))
    if n < need:
        return f"it has {n} images, and {need} are needed"
    for label, has, of in zip(manifest.labels, val.tolist(), both.tolist(), strict=True):
        need = min(USABLE_OF_CLASS, max(1, -(-of // 10)))
        if has < need:
            return f"it has {has} images of {label}, and {need} are needed"
    return ""


def _require_classes(manifest: Manifest) -> None:
    """Every class must be in every part, or nothing can be measured there."""
    if manifest.task == "multilabel":
        return
    for part in SPLITS:
        counts = manifest.per_label(manifest.indices(part))
        if (counts == 0).any():
            label = manifest.labels[int(counts.argmin())]
            raise DataError(
                f"{manifest.name}: the {part} part has no image of class {label!r}; at least one "
                "is needed in each part: add images, or let Layerwise split the data anew with "
                "layerwise split"
            )


def _told(
    manifest: Manifest,
    split: NDArray[np.object_],
    taken: tuple[str, ...],
    seed: int,
    own_groups: bool,
) -> str:
    """The note that says what was taken, how, and how much."""
    what = {"val": "validation", "test": "test"}
    counts = ", ".join(f"{int((split == part).sum())} {part}" for part in SPLITS)
    how = "by patient" if own_groups and manifest.patients_known else "at random"
    parts = "parts are" if len(taken) > 1 else "part is"
    return (
        f"the {' and '.join(what[p] for p in taken)} {parts} taken from the training part {how}, "
        f"stratified by label, seed {seed}; now {counts}"
    )

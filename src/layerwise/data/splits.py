"""Train, validation and test parts: stratified, by patient, and disjoint by assertion."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from layerwise.data.manifest import SPLITS, Manifest
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
    choosing on it would be choosing by luck).

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
    if not (0 < val < 1 and 0 < test < 1 and val + test < 1):
        raise DataError(f"--val {val} --test {test}: fractions must be above 0, together below 1")
    split = manifest.table["split"].to_numpy(dtype=object).copy()
    had = {part: int((split == part).sum()) for part in (*SPLITS, "")}
    notes = []
    if had[""] and had[""] < len(split):
        notes.append(f"{had['']} images without a split are joined to the training part")
    split[split == ""] = "train"
    if had["val"] and (why := _unusable(manifest, split)):
        notes.append(f"the given validation part is not used: {why}; joined to the training part")
        split[split == "val"] = "train"
        had["val"] = 0
    if not (split == "train").any():
        raise DataError(f"{manifest.name}: no training part; add images to train")
    wanted = {p: f for p, f in (("val", val), ("test", test)) if not had[p]}
    if wanted:
        pool = np.flatnonzero(split == "train")
        group = manifest.groups() if groups is None else groups
        unit = _units(group[pool], None if contents is None else contents[pool])
        marks = _marks(manifest)[pool]
        names = ("train", *wanted)
        part = _divide(marks, unit, np.array([1 - sum(wanted.values()), *wanted.values()]), seed)
        part = _mend(part, marks, unit, manifest, names)
        split[pool] = np.asarray(names, dtype=object)[part]
        _assert_disjoint(split[pool], group[pool], None if contents is None else contents[pool])
        notes.append(_told(manifest, split, tuple(wanted), seed, groups is None))
    result = manifest.replace(split=split, notes=(*manifest.notes, *notes))
    _require_classes(result)
    return result


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
    alone = ("image:" + manifest.table["id"]).to_numpy(dtype=str)
    return assign(blank, groups=alone, contents=contents, val=val, test=test, seed=seed)


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
    if not manifest.patients_known:
        raise DataError(
            f"{manifest.name}: no patients are known, so no split by patient; name them with "
            "--patient-column or --patient-from"
        )
    blank = manifest.replace(split=np.full(len(manifest), "", dtype=object))
    return assign(blank, contents=contents, val=val, test=test, seed=seed)


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


def _marks(manifest: Manifest) -> NDArray[np.int64]:
    """(N, K) int64 of 0 and 1: what is to be shared out evenly.

    One column a class; for multi-label one a label, and one that every image has, so that the
    parts have their share of images too.
    """
    if manifest.task != "multilabel":
        return np.asarray(np.eye(len(manifest.labels), dtype=np.int64)[manifest.targets])
    marks = (manifest.targets == 1).astype(np.int64)
    return np.column_stack([marks, np.ones(len(marks), np.int64)])


def _units(group: NDArray[np.str_], contents: NDArray[np.uint8] | None) -> NDArray[np.int64]:
    """(n,) a number for what must stay together: joined by a group or by equal content.

    Joined over any number of steps (union-find): a is b's duplicate, b is c's patient.
    """
    parent = list(range(len(group)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    keys: list[Sequence[object]] = [group.tolist()]
    if contents is not None:
        keys.append([row.tobytes() for row in contents])
    for key in keys:
        first: dict[object, int] = {}
        for i, value in enumerate(key):
            a, b = root(first.setdefault(value, i)), root(i)
            parent[max(a, b)] = min(a, b)
    return np.unique([root(i) for i in range(len(group))], return_inverse=True)[1].astype(np.int64)


def _divide(
    marks: NDArray[np.int64], unit: NDArray[np.int64], fractions: NDArray[np.float64], seed: int
) -> NDArray[np.int64]:
    """(n,) the number of the part of each image.

    Greedy: units in order of rarest mark, then size, then chance; each to the part that it
    brings closest to its fair share of every mark. A relative of the iterative stratification of
    Sechidis et al. 2011, for whole groups.
    """
    total = marks.sum(axis=0)  # (K,)
    units = int(unit.max()) + 1
    holds = np.zeros((units, marks.shape[1]), np.int64)  # (U, K)
    np.add.at(holds, unit, marks)
    share = fractions[:, None] * total  # (P, K)
    share[1:] = np.maximum(share[1:], np.minimum(total, 1))
    share[0] = np.maximum(total - share[1:].sum(axis=0), 0)
    chance = np.random.default_rng(seed).random(units)
    rarest = np.where(holds > 0, total, total.max() + 1).min(axis=1)  # (U,)
    order = np.lexsort((chance, -holds.sum(axis=1), rarest))
    have = [[0.0] * len(total) for _ in fractions]
    # Relative to the share, so that all parts fill up at one pace: then no mark that comes later
    # pulls those that come first towards the part with most room.
    weight = (1.0 / (np.maximum(share, 0.5) * np.maximum(total, 1))).tolist()
    wish = share.tolist()
    chosen = np.zeros(units, np.int64)
    for u in order.tolist():
        some = [(k, int(holds[u, k])) for k in np.flatnonzero(holds[u]).tolist()]
        cost = [  # growth of the squared distances from the fair share
            sum(w * (2 * (have[p][k] - wish[p][k]) + w) * weight[p][k] for k, w in some)
            for p in range(len(fractions))
        ]
        best = min(range(len(cost)), key=cost.__getitem__)
        chosen[u] = best
        for k, w in some:
            have[best][k] += w
    return chosen[unit]


def _mend(
    part: NDArray[np.int64],
    marks: NDArray[np.int64],
    unit: NDArray[np.int64],
    manifest: Manifest,
    names: tuple[str, ...],
) -> NDArray[np.int64]:
    """Give a part that lacks a class the smallest unit that has it, from a part that has more.

    Raises:
        DataError: There are too few patients (or distinct images) of a class.
    """
    if manifest.task == "multilabel":
        return part
    part = part.copy()
    size = np.bincount(unit)
    for k, label in enumerate(manifest.labels):
        owners = np.unique(unit[marks[:, k] == 1])
        if len(owners) < len(names):
            kind = "patients or distinct images" if len(size) < len(unit) else "images"
            raise DataError(
                f"{manifest.name}: class {label!r} has {len(owners)} {kind} to share out, and "
                f"{len(names)} are needed, one for each of {', '.join(names)}; add images of it, "
                "or remove the class"
            )
        where = {int(u): int(part[unit == u][0]) for u in owners}
        for p in range(len(names)):
            if p in where.values():
                continue
            spare = [u for u, q in where.items() if list(where.values()).count(q) > 1]
            moved = min(spare, key=lambda u: (size[u], u))
            part[unit == moved] = p
            where[moved] = p
    return part


def _assert_disjoint(
    split: NDArray[np.object_], group: NDArray[np.str_], contents: NDArray[np.uint8] | None
) -> None:
    """No group and no content in two parts: a promise, so checked another way than it was kept."""
    keys = (
        [group] if contents is None else [group, np.ascontiguousarray(contents).view("S32")[:, 0]]
    )
    for key in keys:
        pairs = {(k, s) for k, s in zip(key.tolist(), split.tolist(), strict=True)}
        if len(pairs) != len({k for k, _ in pairs}):
            raise AssertionError("a split is not disjoint: a defect of Layerwise, please report it")


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
    return (
        f"the {' and '.join(what[p] for p in taken)} part is taken from the training part {how}, "
        f"stratified by label, seed {seed}; now {counts}"
    )

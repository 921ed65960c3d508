"""Images shared out among parts: what stays together, the same share of every label, disjoint."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from layerwise.data.manifest import Manifest
from layerwise.data.splits.cover import cover
from layerwise.errors import DataError

# Multipliers of a hash of small integers: odd, from the golden ratio (Knuth, TAOCP 3, 6.4) and
# from splitmix64 (Steele et al. 2014).
MARK, AMOUNT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


def find_units(group: NDArray[np.str_], contents: NDArray[np.uint8] | None) -> NDArray[np.int64]:
    """Number what must stay together: joined by a group or by equal content.

    Joined over any number of steps (union-find): a is b's duplicate, b is c's patient.

    Args:
        group: (n,) the patient of each image, or what else may not be torn apart.
        contents: (n, 32) uint8 digests; None if not known.

    Returns:
        (n,) int64 from 0 on, in order of first occurrence.
    """
    codes, names = pd.factorize(group)  # (n,)
    if contents is None:
        return codes.astype(np.int64)
    content = pd.factorize(contents_as_keys(contents))[0]  # (n,)
    parent = list(range(len(names)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[int, int] = {}
    again = np.flatnonzero(np.bincount(content)[content] > 1)  # few: only these can join groups
    for value, code in zip(content[again].tolist(), codes[again].tolist(), strict=True):
        a, b = root(first.setdefault(value, code)), root(code)
        parent[max(a, b)] = min(a, b)
    roots = np.array([root(i) for i in range(len(parent))], np.int64)
    return pd.factorize(roots[codes])[0].astype(np.int64)


def contents_as_keys(contents: NDArray[np.uint8]) -> NDArray[np.object_]:
    """(n,) bytes, one a digest."""
    rows = np.ascontiguousarray(contents)
    return rows.view(f"V{rows.shape[1]}")[:, 0].astype(object)


@dataclass(frozen=True)
class Holdings:
    """What each unit holds of what is to be shared out evenly: its marks, unit after unit.

    One mark a class; for multi-label one a label, and one that every image has, so that the parts
    have their share of images too.

    Attributes:
        mark: (E,) int64 number of the mark.
        held: (E,) int64 how many images of the unit have it; above 0.
        start: (U,) int64 where each unit begins.
        total: (K,) int64 images of each mark.
    """

    mark: NDArray[np.int64]
    held: NDArray[np.int64]
    start: NDArray[np.int64]
    total: NDArray[np.int64]

    @classmethod
    def of(cls, manifest: Manifest, unit: NDArray[np.int64]) -> "Holdings":
        """Of the images of a manifest, in units (N,) of `find_units`."""
        rows = np.arange(len(manifest))
        if manifest.task == "multilabel":
            marks = len(manifest.labels) + 1
            yes, labels = np.nonzero(manifest.targets == 1)
            columns = np.append(labels, np.full(len(rows), marks - 1))
            rows = np.append(yes, rows)
        else:
            marks, columns = len(manifest.labels), manifest.targets
        pairs, held = np.unique(unit[rows] * marks + columns, return_counts=True)
        owner, mark = np.divmod(pairs, marks)
        start = np.flatnonzero(np.diff(owner, prepend=-1))
        total = np.bincount(columns, minlength=marks).astype(np.int64)
        return cls(mark, held.astype(np.int64), start, total)

    def __len__(self) -> int:
        return len(self.start)

    def sizes(self) -> NDArray[np.int64]:
        """(U,) images of each unit, counted once for every mark they have."""
        return np.asarray(np.add.reduceat(self.held, self.start))

    def rarest(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(U,) how many images in all have the unit's rarest mark, and (U,) which mark that is."""
        key = np.minimum.reduceat(self.total[self.mark] * len(self.total) + self.mark, self.start)
        return key // len(self.total), key % len(self.total)

    def kinds(self) -> NDArray[np.uint64]:
        """(U,) equal where two units hold the same: a hash; a collision costs evenness only."""
        with np.errstate(over="ignore"):
            code = (self.mark.astype(np.uint64) + np.uint64(1)) * MARK
            code ^= self.held.astype(np.uint64) * AMOUNT
            code *= code >> np.uint64(32) | np.uint64(1)
            return np.asarray(np.add.reduceat(code, self.start))


def divide(
    manifest: Manifest,
    unit: NDArray[np.int64],
    fractions: NDArray[np.float64],
    names: tuple[str, ...],
    seed: int,
) -> NDArray[np.int64]:
    """Share out all images of a manifest, whole units, each label in fair shares.

    Greedy: units in order of rarest mark, then size, then chance; each to the part that it
    brings closest to its fair share of every mark. A relative of the iterative stratification of
    Sechidis et al. 2011, for whole groups. Units that hold the same are dealt at one go: what the
    next of them costs a part grows steadily, so the cheapest places are found by one sort.

    Args:
        manifest: Only the images to be shared out.
        unit: (n,) of `find_units`.
        fractions: (P,) of each part, together 1. The first gives way where a label is so rare that
            the others would get less than one image of it.
        names: P names of the parts, for the error.
        seed: Other seeds, other parts.

    Returns:
        (n,) int64 the part of each image; every class is in every part (not for multilabel).

    Raises:
        DataError: There are too few patients, or distinct images, of a class.
    """
    holds = Holdings.of(manifest, unit)
    mark, held, total, kind = holds.mark, holds.held, holds.total, holds.kinds()
    chance = np.random.default_rng(seed).random(len(holds))
    order = np.lexsort((chance, kind, -holds.sizes(), holds.rarest()[0]))
    fair = fractions[:, None] * total  # (P, K)
    fair[1:] = np.maximum(fair[1:], np.minimum(total, 1))
    fair[0] = np.maximum(total - fair[1:].sum(axis=0), 0)
    # Relative to the fair share, so that all parts fill up at one pace: then no mark that comes
    # later pulls those that come first towards the part with most room.
    weight = 1.0 / (np.maximum(fair, 0.5) * np.maximum(total, 1))
    have = np.zeros_like(fair)
    chosen = np.zeros(len(holds), np.int64)
    ends = np.append(holds.start, len(mark))
    edges = np.flatnonzero(np.diff(kind[order])) + 1
    for run in np.split(order, edges):
        entries = slice(ends[run[0]], ends[run[0] + 1])
        k, w = mark[entries], held[entries].astype(np.float64)  # (M,) of every unit of the run
        chosen[run] = _cheapest(w, have[:, k], fair[:, k], weight[:, k], len(run))
        taken = np.bincount(chosen[run], minlength=len(fractions))  # (P,)
        have[:, k] += taken[:, None] * w
    if manifest.task != "multilabel":
        chosen = _mended(chosen, holds, manifest, names)
    return np.asarray(chosen[unit], dtype=np.int64)


def _cheapest(
    held: NDArray[np.float64],
    have: NDArray[np.float64],
    fair: NDArray[np.float64],
    weight: NDArray[np.float64],
    count: int,
) -> NDArray[np.int64]:
    """(count,) the part of each of so many equal units: always the one where it costs least.

    Args:
        held: (M,) what one unit adds of each of its marks.
        have: (P, M) what the parts have of them.
        fair: (P, M) what they should have.
        weight: (P, M) of the squared distance between the two.
        count: How many units.
    """
    every = np.zeros((len(have), count))
    for m, w in enumerate(held):  # growth of the squared distances by a part's first, second, … one
        before = have[:, m, None] + np.arange(count) * w  # (P, count)
        every += w * (2 * (before - fair[:, m, None]) + w) * weight[:, m, None]
    # Each row rises, so the cheapest places of all are those that one by one would be taken.
    first = np.argsort(every, axis=None, kind="stable")[:count]
    return np.asarray(first // count, dtype=np.int64)


def _mended(
    chosen: NDArray[np.int64], holds: Holdings, manifest: Manifest, names: tuple[str, ...]
) -> NDArray[np.int64]:
    """The part of each unit (U,), changed for few of them so that every part has every class."""
    classes, parts, mark = len(manifest.labels), len(names), holds.mark
    owner = np.repeat(np.arange(len(holds)), np.diff(np.append(holds.start, len(mark))))
    there = np.bincount(chosen[owner] * classes + mark, minlength=parts * classes)
    if there.all():
        return chosen
    owners = np.bincount(mark, minlength=classes)  # (K,) units of each class
    each = ", ".join(names) if parts < 5 else f"{names[0]} to {names[-1]}"
    kind = "images" if len(holds) == len(manifest) else "patients or distinct images"
    for k in np.flatnonzero(owners < parts).tolist():
        raise DataError(
            f"{manifest.name}: class {manifest.labels[k]!r} has {owners[k]} {kind} to share out, "
            f"and {parts} are needed, one for each of {each}; add images of it, or remove the class"
        )
    moved = cover(chosen, np.split(mark, holds.start[1:]), holds.sizes(), parts)
    if moved is None:
        k = int(owners.argmin())
        raise DataError(
            f"{manifest.name}: most patients have images of several classes, and no way was found "
            f"to give each part its own of every class; more {kind} of class "
            f"{manifest.labels[k]!r} ({owners[k]} now) are needed, one for each of "
            f"{each} and some to choose from: add images, or remove the class"
        )
    return moved


def assert_disjoint(
    split: NDArray[np.object_], *keys: "NDArray[Any] | pd.Series[Any] | list[str]"
) -> None:
    """No key in two parts: a promise, so checked another way than it was kept.

    Args:
        split: (n,) names or numbers of the parts.
        keys: (n,) each: images, patients, contents. An empty text is no key.

    Raises:
        AssertionError: A defect of Layerwise.
    """
    for key in keys:
        pairs = pd.DataFrame({"key": key, "split": split})
        pairs = pairs[pairs["key"] != ""].drop_duplicates()
        if pairs["key"].duplicated().any():
            raise AssertionError("a split is not disjoint: a defect of Layerwise, please report it")

"""The training images of each sample fraction and repeat; all other images stay where they are.

Peng et al. 2021, §3.2 keep 5% and 10% of the training part, and validation and test whole. Here an
image that is left out keeps its row and has no split, so that every fraction is read from the same
decoded pictures.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from layerwise.data.manifest import Manifest
from layerwise.data.splits.subsample import subsample
from layerwise.errors import DataError

FEW = 10  # training images of a class; with fewer, what is learnt of it is an accident

Parts = dict[tuple[float, int], Manifest]


def training_parts(
    manifest: Manifest,
    fractions: Sequence[float],
    repeats: int,
    *,
    contents: NDArray[np.uint8] | None = None,
    seed: int = 0,
) -> Parts:
    """The data of every (fraction, repeat): fewer training images, everything else as it was.

    Within a repeat the smaller fractions lie inside the larger ones, and whole patients are kept
    or left out (see `subsample`). Every repeat draws its own images, by the seed plus its number;
    the whole training part is the same in all of them.

    Args:
        manifest: With its three parts.
        fractions: Above 0, at most 1.
        repeats: 1 or more.
        contents: (N, 32) uint8 digests; images of equal content stay together.
        seed: Of the first repeat.

    Raises:
        DataError: A fraction is out of range, or leaves a class or label without training images;
            the smallest that works is named.
    """
    pool = manifest.indices("train")
    train = manifest.take(pool)
    inside = None if contents is None else contents[pool]
    for fraction in sorted(fractions):
        _refuse_empty(train, fraction, repeats, inside, seed)
    found: Parts = {}
    for fraction in fractions:
        for repeat in range(repeats):
            if fraction == 1:
                found[fraction, repeat] = manifest
                continue
            kept = subsample(train, fraction, contents=inside, seed=seed + repeat)
            stays = np.isin(_ids(train), _ids(kept))
            split = manifest.table["split"].to_numpy(dtype=object).copy()
            split[pool[~stays]] = ""
            found[fraction, repeat] = manifest.replace(split=split)
    return found


def few_images(parts: Parts) -> list[str]:
    """A sentence for every fraction in which a class has fewer than FEW training images."""
    out = []
    for fraction in sorted({fraction for fraction, _ in parts}):
        counts = np.min(
            [m.per_label(m.indices("train")) for (f, _), m in parts.items() if f == fraction],
            axis=0,
        )
        labels = next(iter(parts.values())).labels
        rare = [f"{labels[k]} {counts[k]}" for k in np.flatnonzero(counts < FEW)]
        if rare:
            some = ", ".join(rare[:3]) + (f" and {len(rare) - 3} more" if len(rare) > 3 else "")
            out.append(
                f"At {percent(fraction)} of the training images few are left of some classes "
                f"({some}): what is learnt of these depends on which they are."
            )
    return out


def percent(fraction: float) -> str:
    """A fraction as people write it: 0.05 is "5%", 0.005 is "0.5%"."""
    return f"{100 * fraction:.4g}%"


def _refuse_empty(
    train: Manifest,
    fraction: float,
    repeats: int,
    contents: NDArray[np.uint8] | None,
    seed: int,
) -> None:
    """Refuse a fraction out of range, or one that is less than an image of some class."""
    if not 0 < fraction <= 1:
        raise DataError(
            f"--fractions {fraction:g}: a fraction is above 0 and at most 1, like 0.05 for 5%"
        )
    lost = _lost(train, fraction, repeats, contents, seed)
    if lost is None:
        return
    works = smallest(train, repeats, contents=contents, seed=seed)
    raise DataError(
        f"{train.name}: --fractions {fraction:g} leaves no training image of {lost}, which has "
        f"{_count(train, lost)} in the whole training part; the smallest fraction that works here "
        f"is {works:g}"
    )


def smallest(
    train: Manifest,
    repeats: int,
    *,
    contents: NDArray[np.uint8] | None = None,
    seed: int = 0,
) -> float:
    """The smallest fraction, of two digits, that leaves every class and label some images.

    Args:
        train: The training part.
        repeats: In each of so many repeats.
        contents: (n, 32) digests of its images.
        seed: Of the first repeat.
    """
    low, high = 0, len(train)  # images; a larger fraction has all of a smaller one
    while high - low > 1:
        middle = (low + high) // 2
        fails = _lost(train, middle / len(train), repeats, contents, seed) is not None
        low, high = (middle, high) if fails else (low, middle)
    value = high / len(train)
    digits = 10.0 ** (1 - math.floor(math.log10(value)))
    rounded = math.ceil(value * digits - 1e-9) / digits
    while rounded < 1 and _lost(train, rounded, repeats, contents, seed) is not None:
        rounded += 1 / digits
    return min(1.0, round(rounded, 12))


def _lost(
    train: Manifest,
    fraction: float,
    repeats: int,
    contents: NDArray[np.uint8] | None,
    seed: int,
) -> str | None:
    """A class of which a fraction has less than one image, or of which none is drawn; or None.

    `subsample` keeps one patient of each class in any case, which with a fraction of less than one
    image is more than was asked for. With several labels an image each label needs images that
    have it and images that have it not, as far as the whole training part has both.
    """
    there = train.per_label(np.arange(len(train)))  # (K,)
    for k in np.flatnonzero(there):
        if fraction * there[k] < 1 - 1e-9:
            return train.labels[k]
    if fraction == 1:
        return None
    for repeat in range(repeats):
        try:
            kept = subsample(train, fraction, contents=contents, seed=seed + repeat)
        except DataError as error:  # it names the class in quotation marks
            return next(label for label in train.labels if repr(label) in str(error))
        gone = np.flatnonzero((kept.per_label(np.arange(len(kept))) == 0) & (there > 0))
        if len(gone):
            return train.labels[int(gone[0])]
        if train.task == "multilabel":
            without = (train.targets == 0).any(axis=0) & ~(kept.targets == 0).any(axis=0)
            if without.any():
                return f"not {train.labels[int(without.argmax())]}"
    return None


def _count(train: Manifest, label: str) -> int:
    """Images of a class, or of "not" a label."""
    if label in train.labels:
        return int(train.per_label(np.arange(len(train)))[train.labels.index(label)])
    column = train.labels.index(label.removeprefix("not "))
    return int((train.targets[:, column] == 0).sum())


def _ids(manifest: Manifest) -> NDArray[np.str_]:
    return manifest.table["id"].to_numpy(dtype=str)

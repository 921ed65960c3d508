"""So many images of each class for each part: a small data set cut out of a large one.

Marcelino 2018, §6.1: of 25,000 pictures of cats and dogs, 100 of each class to learn from, 50 to
validate and 50 to test.
"""

import numpy as np
from numpy.typing import NDArray

from layerwise.data.manifest import SPLITS, Manifest
from layerwise.data.splits.partition import assert_disjoint, contents_as_keys, find_units
from layerwise.errors import DataError

Counts = tuple[int, int, int]  # images a class for train, val, test


def per_class(
    manifest: Manifest, counts: Counts, *, contents: NDArray[np.uint8] | None = None, seed: int = 0
) -> Manifest:
    """Draw so many images of every class for each part; the others are left out.

    What is validation or test stays so: a part that is given is drawn from its own images, and one
    that is not from what is left of the training part. Patients, and images of equal content, are
    taken whole or not at all; so where patients have several images, a part may end a few images
    short, which the note says.

    Args:
        manifest: Binary or multiclass.
        counts: Images a class for train, val and test, each 1 or more.
        contents: (N, 32) uint8 content digests; None if not known.
        seed: Other seeds, other images.

    Returns:
        Only the images drawn, in their order, each with its part.

    Raises:
        DataError: Several labels an image, or too few images of a class.
    """
    if manifest.task == "multilabel":
        raise DataError(
            f"{manifest.name}: --per-class counts the images of a class, and here an image may "
            "have several labels; make a smaller set with layerwise split --train-fraction"
        )
    if min(counts) < 1:
        raise DataError(
            f"--per-class {','.join(map(str, counts))}: each part needs 1 image a class or more"
        )
    given = manifest.table["split"].to_numpy(dtype=object)
    pools = {part: np.flatnonzero(given == part) for part in ("val", "test")}
    open_pool = np.flatnonzero((given == "train") | (given == ""))
    unit = find_units(manifest.groups(), contents)
    order = np.random.default_rng(seed).permutation(int(unit.max(initial=-1)) + 1)  # of units
    part_of = np.full(len(manifest), "", dtype=object)
    for part in ("test", "val", "train"):  # the training part gets what the others leave
        pool = pools.get(part, open_pool)
        pool = pool if len(pool) else open_pool
        free = pool[part_of[pool] == ""]
        wanted = counts[SPLITS.index(part)]
        _check(manifest, free, part, counts, own=pool is not open_pool or part == "train")
        part_of[_drawn(manifest, free, unit, order, wanted)] = part
    rows = np.flatnonzero(part_of != "")
    kept = manifest.take(rows).replace(split=part_of[rows], settled=True)
    keys = [] if contents is None else [contents_as_keys(contents[rows])]
    if not any(len(pool) for pool in pools.values()):  # given parts may overlap: the audit says so
        assert_disjoint(part_of[rows], kept.groups(), *keys)
    held = kept.counts()
    made = "; ".join(
        f"{part} {', '.join(f'{n} {name}' for name, n in held[part].items())}" for part in SPLITS
    )
    return kept.replace(
        note=f"{len(rows)} of {len(manifest)} images are used (--per-class "
        f"{','.join(map(str, counts))}, seed {seed}): {made}"
    )


def _check(
    manifest: Manifest, free: NDArray[np.int64], part: str, counts: Counts, *, own: bool
) -> None:
    """Refuse to draw more images of a class than there are.

    Args:
        manifest: All images.
        free: Rows that may be taken.
        part: That they are for.
        counts: As asked for.
        own: Whether fewer for this part would do; else other parts need some of these rows too.
    """
    wanted, there = counts[SPLITS.index(part)], manifest.per_label(free)
    if (there >= wanted).all():
        return
    k = int(there.argmin())
    name, said = manifest.labels[k], ",".join(map(str, counts))
    smaller = list(counts)
    smaller[SPLITS.index(part)] = int(there[k])
    next_step = f"--per-class {','.join(map(str, smaller))} would fit"
    if not own:
        next_step = "all parts that are not given share them, so ask for fewer in all"
    if not there[k]:
        next_step = "add images of it, or leave the class out with --only"
    raise DataError(
        f"{manifest.name}: --per-class {said} takes {wanted} images of {name!r} for the {part} "
        f"part, and {there[k]} are there for it; {next_step}"
    )


def _drawn(
    manifest: Manifest,
    free: NDArray[np.int64],
    unit: NDArray[np.int64],
    order: NDArray[np.int64],
    wanted: int,
) -> NDArray[np.int64]:
    """Rows of the first units, in their order, that fit: no class gets more than is wanted.

    Args:
        manifest: All images.
        free: Rows that may be taken.
        unit: (N,) of every image.
        order: Units, in the order in which they are tried.
        wanted: Images a class.
    """
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    by_unit = free[np.argsort(rank[unit[free]], kind="stable")]
    edges = np.flatnonzero(np.diff(unit[by_unit])) + 1
    have = np.zeros(len(manifest.labels), np.int64)
    taken = [free[:0]]
    for rows in np.split(by_unit, edges):
        more = manifest.per_label(rows)
        if (have + more <= wanted).all():
            have += more
            taken.append(rows)
            if (have == wanted).all():
                break
    if (have == 0).any():
        k = int(have.argmin())
        raise DataError(
            f"{manifest.name}: every patient with images of {manifest.labels[k]!r} has more than "
            f"the {wanted} that --per-class asks for, and patients stay whole; ask for more"
        )
    return np.concatenate(taken)

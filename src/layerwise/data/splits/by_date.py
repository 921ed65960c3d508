"""Train before, test after: a split by date, as a study that looks ahead in time."""

import numpy as np
from numpy.typing import NDArray

from layerwise.data.manifest import Manifest
from layerwise.data.splits.assign import assign, check_fractions
from layerwise.data.splits.dates import Dates, parse_dates
from layerwise.data.splits.partition import assert_disjoint, contents_as_keys, find_units
from layerwise.errors import DataError


def by_date(
    manifest: Manifest,
    *,
    date: str | None = None,
    contents: NDArray[np.uint8] | None = None,
    val: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
) -> Manifest:
    """A new split in time, whatever split was given: images before a day train, later ones test.

    Peng et al. 2021 §2.3: "training and validation are performed on x-rays dated before June 30th
    2020, and test is performed on x-rays dated after." An image of the day itself is in the test
    part.

    The validation part is taken from the images before the day at random, by patient, stratified,
    and not from their end. So it was in the paper, where training and validation have the same
    imbalance of 1 to 16.3 (1,777 to 29,030 and 444 to 7,257) and the test part has 1 to 2.94. The
    latest images before the day, which are most like those after it, are then trained on too; what
    changes with time is measured by the test part alone.

    A patient (or an image of equal content) on both sides of the day stays with the earlier images
    only; the later ones are left out. This is what a study that starts on that day would do: it
    trains on all it has and tests on people it has not seen. Nothing that happens later has a say
    in what is trained on. The notes say how many images these are.

    Args:
        manifest: The data. Images without a date are left out; the notes say how many.
        date: The first day of the test part, of the kind that the data have (`parse_dates`). None
            takes the day that brings the test part closest to its fraction, among those that leave
            every class on both sides where there are such.
        contents: (N, 32) uint8 content digests of the images; None if not known.
        val: Training and validation are shared out in the ratio of 1 − val − test to val.
        test: The fraction of all images that is tested on; only where `date` is None.
        seed: Of the choice of the validation part.

    Returns:
        Only the images that have a part.

    Raises:
        DataError: No dates, dates that can not be read, a date beyond those of the images, or a
            class on one side only.
    """
    check_fractions(val, test)
    ids = manifest.table["id"].tolist()
    try:
        dates = parse_dates(manifest.table["date"].tolist(), ids)
    except DataError as error:
        raise DataError(f"{manifest.name}: {error}") from error
    notes = []
    if not dates.known.all():
        notes.append(f"{(~dates.known).sum()} images without a date are left out")
        rows = np.flatnonzero(dates.known)
        manifest = manifest.take(rows)
        contents = None if contents is None else contents[rows]
        dates = Dates(dates.kind, dates.days[rows], dates.known[rows])
    unit = find_units(manifest.groups(), contents)
    begins = np.full(int(unit.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(begins, unit, dates.days)
    begins = begins[unit]  # (N,) the first day on which the image's patient was seen
    day = _choose(manifest, dates, begins, unit, test) if date is None else dates.day(date)
    before, after = dates.days < day, begins >= day  # (N,) neither: a later image of a patient
    _require(manifest, dates, day, before, after, chosen=date is None)
    kept = np.flatnonzero(before | after)
    if len(kept) < len(manifest):
        notes.append(_left_out(manifest, np.flatnonzero(~(before | after)), dates.text(day)))
    how = "before" if date is not None else "chosen for the size of the test part: before"
    notes.append(f"split by date, {how} {dates.text(day)} training, from that day on test")
    split = np.where(before, "train", "test").astype(object)
    cut = manifest.replace(split=split, notes=(*manifest.notes, *notes)).take(kept)
    contents = None if contents is None else contents[kept]
    done = assign(cut, contents=contents, val=val / (1 - test), seed=seed)
    keys = [] if contents is None else [contents_as_keys(contents)]
    parts = done.table["split"].to_numpy(dtype=object)
    assert_disjoint(parts, done.table["id"], done.table["patient"], *keys)
    return done


def _choose(
    manifest: Manifest,
    dates: Dates,
    begins: NDArray[np.int64],
    unit: NDArray[np.int64],
    test: float,
) -> int:
    """The day that brings the test part closest to its fraction of what is kept."""
    days = np.unique(dates.days)[1:]  # before the first there is nothing to train on
    if not len(days):
        raise DataError(
            f"{manifest.name}: all images are of one day ({dates.text(int(dates.days[0]))}); split "
            "--by patient"
        )
    n_before = np.searchsorted(np.sort(dates.days), days)  # (D,) images before each day
    n_after = len(begins) - np.searchsorted(np.sort(begins), days)
    miss = np.abs(n_after / (n_before + n_after) - test)
    good = n_after > 0
    if manifest.task != "multilabel":  # every class to be tested, and twice before: train and val
        for k in range(len(manifest.labels)):
            rows = manifest.targets == k
            good &= np.searchsorted(np.sort(begins[rows]), days) < rows.sum()
            seen = np.full(int(unit.max()) + 1, np.iinfo(np.int64).max)
            np.minimum.at(seen, unit[rows], dates.days[rows])
            good &= np.searchsorted(np.sort(seen), days) >= 2
    return int(days[np.where(good, miss, miss + 2).argmin()])


def _require(
    manifest: Manifest,
    dates: Dates,
    day: int,
    before: NDArray[np.bool_],
    after: NDArray[np.bool_],
    chosen: bool,
) -> None:
    """Refuse a day that leaves one side without images or without a class."""
    first, last = dates.text(int(dates.days.min())), dates.text(int(dates.days.max()))
    flag = f"the day {dates.text(day)}" if chosen else f"--date {dates.text(day)}"
    for side, rows, of in (("before", before, "training"), ("from that day on", after, "test")):
        if not rows.any():
            raise DataError(
                f"{manifest.name}: {flag} leaves no images {side} for the {of} part (of patients "
                f"not seen before); the dates go from {first} to {last}: name a day between"
            )
        counts = manifest.per_label(np.flatnonzero(rows))
        if manifest.task != "multilabel" and (counts == 0).any():
            raise DataError(
                f"{manifest.name}: {flag} leaves no image of class "
                f"{manifest.labels[int(counts.argmin())]!r} {side} for the {of} part (of patients "
                f"not seen before); the dates go from {first} to {last}: name another day with "
                "--date, or split --by patient"
            )


def _left_out(manifest: Manifest, rows: NDArray[np.int64], day: str) -> str:
    """The note on later images of patients who were there before."""
    counts = manifest.per_label(rows).tolist()
    each = ", ".join(f"{n} {k}" for k, n in zip(manifest.labels, counts, strict=True) if n)
    return (
        f"{len(rows)} images from {day} on are left out ({each or 'none of a label'}), because "
        "their patients, or equal images, are among those before that day"
    )

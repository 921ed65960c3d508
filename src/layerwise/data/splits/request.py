"""What `layerwise split` makes: one manifest, or one a fold, thinned and checked."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.data.manifest import Manifest
from layerwise.data.splits.assign import (
    alone,
    assign,
    by_patient,
    check_fractions,
    in_two_parts,
    require_patients,
    stratified,
)
from layerwise.data.splits.by_date import by_date
from layerwise.data.splits.contents import contents_for
from layerwise.data.splits.folds import folds
from layerwise.data.splits.partition import contents_as_keys
from layerwise.data.splits.subsample import subsample
from layerwise.errors import DataError, LeakError

WAYS = ("random", "patient", "date", "given")
SHARE = 0.15  # of validation and of test, where no flag says another


@dataclass(frozen=True)
class SplitRequest:
    """What the flags of `layerwise split` ask for; None where a flag is not given."""

    by: str | None = None  # random, patient, date or given
    date: str | None = None  # the first day of the test part
    val: float | None = None  # shares; SHARE where not given
    test: float | None = None
    folds: int | None = None
    fold: int | None = None  # from 1 on
    repeats: int = 1
    train_fraction: float | None = None
    seed: int = 0
    allow_leaks: bool = False  # write a split that leaks, and say so

    def __post_init__(self) -> None:
        """Refuse flags that make no sense, alone or together, before anything is read."""

        def refuse(message: str) -> None:
            raise DataError(message)

        if self.by is not None and self.by not in WAYS:
            refuse(f"--by {self.by} is unknown; it is one of {', '.join(WAYS)}")
        if self.date is not None and self.by != "date":
            refuse(f"--date {self.date} goes with --by date; add that, or leave --date out")
        if self.date is not None and self.test is not None:
            refuse("--test and --date: the date says what is tested; leave one of them out")
        check_fractions(_or(self.val), _or(self.test))
        few = self.train_fraction
        if few is not None and not 0 < few < 1:
            refuse(f"--train-fraction {few:g}: it is above 0 and below 1, like 0.05 for 5%")
        if self.folds is None:
            if self.fold is not None or self.repeats != 1:
                flag = "--fold" if self.fold is not None else "--repeats"
                refuse(f"{flag} goes with --folds K; add it, or leave {flag} out")
            return
        if self.folds < 2:
            refuse(f"--folds {self.folds}: two or more are needed, usual are 5 and 10")
        if self.fold is not None and not 1 <= self.fold <= self.folds:
            refuse(f"--fold {self.fold}: with --folds {self.folds} it is one of 1 to {self.folds}")
        if self.repeats < 1:
            refuse(f"--repeats {self.repeats}: one or more")
        if self.by in ("date", "given"):
            refuse(f"--folds and --by {self.by}: folds are made by patient or at random")
        if self.test is not None:
            refuse("--test and --folds: each fold is tested once; leave --test out")


def _or(fraction: float | None) -> float:
    """The flag, or what is usual."""
    return SHARE if fraction is None else fraction


def make_splits(
    manifest: Manifest, contents: NDArray[np.uint8] | None, request: SplitRequest
) -> Iterator[tuple[str, Manifest]]:
    """Make each manifest that is asked for.

    Args:
        manifest: The data; their splits count only with --by given.
        contents: (N, 32) uint8 digests of their images (`read_contents`); None if not known.
        request: What is asked for.

    Yields:
        The folder it goes to ("" for the only one, "fold-2", "repeat-1/fold-2") and the manifest.

    Raises:
        DataError: It can not be done.
        LeakError: A patient or an image would be in two parts.
    """
    by = request.by
    if by is None:
        by = "patient" if manifest.patients_known else "random"
        why = "patients are known" if by == "patient" else "no patients are known"
        manifest = manifest.replace(note=f"split --by {by}, because {why}")
    if by != "given" and (manifest.table["split"] != "").any():
        manifest = manifest.replace(
            note="the parts that the data came with are not kept (--by given keeps them)"
        )
    for place, made in _split(manifest, contents, request, by):
        yield place, _finished(made, manifest, contents, request, by)


def _split(
    manifest: Manifest, contents: NDArray[np.uint8] | None, request: SplitRequest, by: str
) -> Iterator[tuple[str, Manifest]]:
    """The splits before the training part is thinned."""
    val, test, seed = _or(request.val), _or(request.test), request.seed
    if request.folds is None:
        if by == "date":
            made = by_date(
                manifest, date=request.date, contents=contents, val=val, test=test, seed=seed
            )
        else:
            ways = {
                "given": assign,
                "patient": by_patient,
                "random": stratified,
            }
            made = ways[by](manifest, contents=contents, val=val, test=test, seed=seed)
        yield "", made
        return
    if by == "patient":
        require_patients(manifest)
    for repeat in range(request.repeats):
        each = folds(
            manifest,
            request.folds,
            groups=None if by == "patient" else alone(manifest),
            contents=contents,
            val=val,
            seed=seed,
            repeat=repeat,
            only=None if request.fold is None else request.fold - 1,
        )
        for i, made in enumerate(each, request.fold or 1):
            place = "" if request.fold is not None else f"fold-{i}"
            if request.repeats > 1:
                place = f"repeat-{repeat + 1}/fold-{i}"
            yield place, made


def _finished(
    made: Manifest,
    whole: Manifest,
    contents: NDArray[np.uint8] | None,
    request: SplitRequest,
    by: str,
) -> Manifest:
    """Thinned where that is asked for, and free of leaks."""
    inside = None if contents is None else contents_for(made, whole, contents)
    if request.train_fraction is not None:
        made = subsample(made, request.train_fraction, contents=inside, seed=request.seed)
        inside = None if contents is None else contents_for(made, whole, contents)
    found = []
    patients = made.table["patient"]
    if rows := in_two_parts(made, patients):
        found.append(f"{_of(rows, patients)} patients are in two parts ({_some(rows, patients)})")
    if inside is not None and (rows := in_two_parts(made, keys := contents_as_keys(inside))):
        ids = made.table["id"]
        found.append(f"{_of(rows, keys)} images are in two parts ({_some(rows, ids)})")
    if not found:
        return made
    message = "; ".join(found)
    if not request.allow_leaks:
        raise LeakError(
            f"{made.name}: --by {by}: {message}, so scores would deceive; split --by patient, or "
            "go on all the same with --allow-leaks"
        )
    return made.replace(note=f"leak, allowed by --allow-leaks: {message}")


def _of(rows: list[int], keys: Any) -> int:  # noqa: ANN401 - anything by number
    """How many different keys these rows have."""
    return len({keys[row] for row in rows})


def _some(rows: list[int], names: Any) -> str:  # noqa: ANN401
    """The first of their names."""
    each = list(dict.fromkeys(str(names[row]) for row in rows))
    return ", ".join(each[:10]) + (", …" if len(each) > 10 else "")

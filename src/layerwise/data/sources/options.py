"""What a user may say about the data, and the checks every source shares."""

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerwise.data.manifest import Task
from layerwise.errors import DataError

SHOWN = 10  # how many rows or files an error lists
LONG = 200  # characters shown of each


@dataclass(frozen=True)
class DataOptions:
    """The flags that go with DATA; what is not given is guessed from usual names, said aloud."""

    labels: str | None = None  # --labels: a table with the labels of a folder of images
    label_column: tuple[str, ...] = ()  # --label-column, repeatable: several are multi-label
    path_column: str | None = None  # --path-column
    patient_column: str | None = None  # --patient-column
    patient_from: str | None = None  # --patient-from: a regular expression on the file name
    study_column: str | None = None  # --study-column
    date_column: str | None = None  # --date-column
    split_column: str | None = None  # --split-column
    multi_label: bool = False  # --multi-label: one column, labels separated by |
    positive: str | None = None  # --positive: the positive class of two
    only: tuple[str, ...] = ()  # --only, repeatable: no other classes (or labels) than these
    uncertain: str = "zeros"  # --uncertain: what −1 means (CheXpert): zeros, ones or ignore
    label_set: str | None = None  # --label-set: a named set of labels (CheXpert: peng, chexpert)
    view: str | None = None  # --view: only images of this view (frontal, lateral, PA, AP, …)
    keep_identifiers: bool = False  # --keep-identifiers: DICOM patients and dates as they are
    skip_unreadable: bool = False  # --skip-unreadable: leave missing and damaged images out
    images: bool = True  # False (--no-images): files are not looked for and need not exist
    subgroup: tuple[str, ...] = ()  # --subgroup, repeatable: columns kept as `Manifest.extra`
    rare: bool = False  # labels that are too rare to learn are no error (inspect shows them)

    def __post_init__(self) -> None:
        """Refuse words that no flag knows."""
        if self.uncertain not in ("zeros", "ones", "ignore"):
            raise DataError(
                f"--uncertain {self.uncertain} is unknown; it is one of zeros, ones, ignore"
            )


def split_name(text: str) -> str | None:
    """train, val, test for the usual names of the parts (any case); None for anything else."""
    known = {
        "train": "train",
        "training": "train",
        "val": "val",
        "valid": "val",
        "validation": "val",
        "dev": "val",
        "test": "test",
        "testing": "test",
    }
    return known.get(text.strip().lower())


def some(items: Sequence[object]) -> str:
    """The first of a list, none of them endless, and how many more there are."""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(short(str(item)) for item in items[:SHOWN]) + more


def short(text: str) -> str:
    """A text for a message: cut where it is longer than anyone reads."""
    return text if len(text) <= LONG else f"{text[:LONG]}…"


def only_rows(values: Sequence[str], only: Sequence[str], name: str) -> NDArray[np.int64]:
    """(n,) the rows whose class --only names; all of them where it was not given.

    Raises:
        DataError: A class is named that no row has.
    """
    counts = Counter(values)
    for label in only:
        if label not in counts:
            has = some([f"{label} ({count})" for label, count in counts.most_common()])
            raise DataError(f"--only {label}: {name} has no such label; it has {has}")
    if not only:
        return np.arange(len(values))
    wanted = set(only)
    return np.flatnonzero([value in wanted for value in values])


def encode_classes(
    values: Sequence[str], name: str, options: DataOptions, order: Sequence[str] | None = None
) -> tuple[Task, tuple[str, ...], NDArray[np.int64], list[str]]:
    """Class names of the images → task, labels, targets (N,) int64, notes.

    Labels stand in the given order, else sorted. Two classes are binary, and the last is the
    positive one unless `options.positive` names it.

    Raises:
        DataError: Fewer than two classes, a class with one image (unless `options.rare`), or an
            unknown `options.positive`.
    """
    positive = options.positive
    found = set(values)
    names = tuple(label for label in order or sorted(found) if label in found)
    number = {label: k for k, label in enumerate(names)}
    targets = np.array([number[value] for value in values], np.int64)  # (N,)
    if len(names) < 2:
        raise DataError(
            f"{name}: only one class ({short(names[0])!r}); learning to tell classes apart needs "
            "two or more: add images of another class, or name the folder that holds the class "
            "folders"
        )
    counts = np.bincount(targets)
    if counts.min() < 2 and not options.rare:
        label = short(names[int(counts.argmin())])
        raise DataError(
            f"{name}: class {label!r} has one image; training, validation and test each need at "
            "least one: add images, remove the class, or name the classes to keep with --only "
            f"(images: {some([f'{n} {c}' for n, c in zip(names, counts.tolist(), strict=True)])})"
        )
    if positive is not None and positive not in names:
        raise DataError(f"--positive {positive}: no such label; labels are {', '.join(names)}")
    if len(names) > 2:
        if positive is not None:
            raise DataError(
                f"--positive {positive}: there are {len(names)} classes, and only one of two can "
                "be the positive one; leave the flag out"
            )
        return "multiclass", names, targets, []
    notes = []
    if positive == names[0]:
        names, targets = (names[1], names[0]), 1 - targets
    elif positive is None:
        notes.append(
            f"{names[1]!r} is taken as the positive class (the last one); "
            f"--positive {shlex.quote(names[0])} swaps"
        )
    return "binary", names, targets, notes


def check_multilabel(labels: Sequence[str], targets: NDArray[np.float32], name: str) -> None:
    """Every label must be there and absent at least twice; DataError naming it where not."""
    for k, label in enumerate(labels):
        yes, no = int((targets[:, k] == 1).sum()), int((targets[:, k] == 0).sum())
        if min(yes, no) < 2:
            raise DataError(
                f"{name}: label {label!r} is 1 in {yes} images and 0 in {no}; each needs at least "
                "2: add images, or leave the label out by naming the others with --only"
            )


def patients_from_names(
    pattern: str, ids: Sequence[str], parts: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """The patient of each image by what a regular expression finds in its file name.

    Where the source has parts of its own, the same name in two parts is taken for two people:
    published sets restart their numbering in the test part (the Guangzhou X-rays do).

    Args:
        pattern: Searched for in the file's name; its first group, if it has one, is the patient.
        ids: Relative posix paths.
        parts: The official part of each image, or None.

    Returns:
        Patients ("" where nothing matched) and notes.

    Raises:
        DataError: The pattern is not valid, or matches no file at all.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(
            f"--patient-from {pattern!r} is not a regular expression ({error}); correct it"
        ) from error
    matches = [compiled.search(name.rsplit("/", 1)[-1]) for name in ids]
    group = 1 if compiled.groups else 0
    patients = [(match.group(group) or "") if match else "" for match in matches]
    unmatched = [name for name, patient in zip(ids, patients, strict=True) if not patient]
    if len(unmatched) == len(ids):
        raise DataError(
            f"--patient-from {pattern!r} matches no file name (the first is "
            f"{ids[0].rsplit('/', 1)[-1]!r}); correct the pattern"
        )
    notes = []
    if unmatched:
        notes.append(
            f"--patient-from matches nothing in {len(unmatched)} of {len(ids)} file names; each "
            f"of these is taken as a patient of its own (the first: {unmatched[0]})"
        )
    if parts is not None:
        patients, shared = _scope(patients, parts)
        notes += shared
    return patients, notes


def _scope(patients: list[str], parts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell apart people whose name occurs in several official parts."""
    seen: dict[str, set[str]] = {}
    for patient, part in zip(patients, parts, strict=True):
        seen.setdefault(patient, set()).add(part)
    shared = {patient for patient, where in seen.items() if patient and len(where) > 1}
    if not shared:
        return patients, []
    later = [p for p in ("val", "test") if any(p in seen[patient] for patient in shared)]
    note = (
        f"numbering restarts in {' and '.join(later)}: {len(shared)} patient numbers occur in both "
        "parts and are treated as different people, because the names come from --patient-from; "
        "give a --patient-column if they are the same people"
    )
    pairs = zip(patients, parts, strict=True)
    return [f"{part}/{p}" if p in shared else p for p, part in pairs], [note]

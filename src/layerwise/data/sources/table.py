"""A table (.csv, .tsv, .parquet): one row an image, with its path, labels, patient, date, split."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from layerwise.data.manifest import Manifest, Task, make_table
from layerwise.data.sources.folder import files_below
from layerwise.data.sources.options import (
    DataOptions,
    check_multilabel,
    encode_classes,
    patients_from_names,
    some,
    split_name,
)
from layerwise.errors import DataError

USUAL = {  # in order of preference; compared in lower case without spaces and signs
    "path": (
        "path filepath imagepath file filename imagefile imagefilename image imagename "
        "imageindex img"
    ).split(),
    "label": (
        "label labels class cls target diagnosis finding findings findinglabels category y"
    ).split(),
    "patient": "patient patientid patientnumber subject subjectid participant".split(),
    "date": "date studydate examdate acquisitiondate".split(),
    "split": "split subset part partition set".split(),
}
_MISSING = {"", "nan", "na", "n/a", "null"}
_NUMBERS = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}
_NOTHING = {"no finding", "no findings"}  # in a list of labels: none of the others


def read(path: Path, options: DataOptions, root: Path | None = None) -> Manifest:
    """Make the manifest of a table.

    A single label column holds class names (or, with `multi_label`, several separated by |);
    several label columns hold 0, 1 or nothing (unknown), one a label. A picture that is not where
    its path says is looked for below the folder by its name, then by its name without ending.

    Args:
        path: The table.
        options: Its column names; those left out are guessed, and the guess is noted.
        root: The folder the paths are relative to, and must not leave; the table's by default.

    Raises:
        DataError: The table or a column is unreadable or missing; rows are named where they are
            the reason.
    """
    root = path.parent if root is None else root
    frame = read_frame(path)
    if not len(frame):
        raise DataError(f"{path}: no rows; give a table with one row an image")
    notes: list[str] = []
    column = _column(frame, path, "path", options.path_column, notes)
    if column is None:
        raise DataError(_absent(frame, path, "path"))
    names, columns = frame[column].tolist(), _label_columns(frame, path, options, notes)
    _refuse_blank(names, path, column, "--path-column")
    files, kept = _locate(names, root, path, options.skip_unreadable, notes)
    frame, files = frame.iloc[kept].reset_index(drop=True), [files[i] for i in kept]
    ids = [file.relative_to(root).as_posix() for file in files]
    _refuse_twice(ids, frame, kept, path)
    lines = [int(i) + 2 for i in kept]
    task, labels, targets = _targets(frame, columns, path, options, lines, notes)
    splits = _splits(frame, path, options, lines, notes)
    dates = _column(frame, path, "date", options.date_column, notes)
    return Manifest(
        name=path.stem,
        task=task,
        labels=labels,
        table=make_table(
            ids,
            paths=[str(file) for file in files],
            patients=_patients(frame, path, options, ids, notes),
            dates=None if dates is None else _cleaned(frame[dates]),
            splits=splits,
        ),
        targets=targets,
        notes=tuple(notes),
    )


def read_frame(path: Path) -> pd.DataFrame:
    """A table with every value as text, "" where missing; DataError when it can not be read."""
    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
            text = frame.astype(object).where(frame.notna(), "")
            return text.map(str)
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    except (ValueError, OSError, ImportError) as error:  # pandas' and arrow's errors are these
        raise DataError(f"{path}: can not be read as a table ({error}); mend the file") from error


def _cleaned(column: "pd.Series[str]") -> list[str]:
    """Values stripped of spaces, "" for every way of writing that nothing is known."""
    return ["" if v.strip().lower() in _MISSING else v.strip() for v in column.tolist()]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _absent(frame: pd.DataFrame, path: Path, what: str) -> str:
    return (
        f"{path}: no {what} column; name it with --{what}-column (the columns are "
        f"{', '.join(map(str, frame.columns))})"
    )


def _column(
    frame: pd.DataFrame, path: Path, what: str, named: str | None, notes: list[str]
) -> str | None:
    """The column for something: as named, or guessed from usual names and noted; None if absent."""
    if named is not None:
        if named not in frame.columns:
            raise DataError(
                f"--{what}-column {named}: {path} has no such column; its columns are "
                f"{', '.join(map(str, frame.columns))}"
            )
        return named
    plain = {_plain(name): str(name) for name in reversed(frame.columns)}
    for usual in USUAL[what]:
        if usual in plain:
            notes.append(f"column {plain[usual]!r} is taken as the {what} (--{what}-column)")
            return plain[usual]
    return None


def _label_columns(
    frame: pd.DataFrame, path: Path, options: DataOptions, notes: list[str]
) -> list[str]:
    """The label columns: as named, or one guessed."""
    if options.label_column:
        for name in options.label_column:
            _column(frame, path, "label", name, notes)
        return list(options.label_column)
    guessed = _column(frame, path, "label", None, notes)
    if guessed is None:
        raise DataError(_absent(frame, path, "label"))
    return [guessed]


def _refuse_blank(values: list[str], path: Path, column: str, flag: str) -> None:
    blank = [i + 2 for i, value in enumerate(values) if value.strip().lower() in _MISSING]
    if blank:
        raise DataError(
            f"{path}: column {column!r} is empty in {len(blank)} rows (lines {some(blank)}); fill "
            f"it, remove the rows, or name another column with {flag}"
        )


def _locate(
    names: list[str], root: Path, path: Path, skip: bool, notes: list[str]
) -> tuple[list[Path], list[int]]:
    """The file of every row, and which rows have one (all of them, unless `skip`)."""
    files: list[Path] = []
    lost: list[int] = []
    moved: list[int] = []
    by_name: dict[str, list[Path]] | None = None
    absolute = os.path.abspath(root)
    outside = []
    for i, name in enumerate(names):
        full = os.path.normpath(os.path.join(absolute, name.strip().replace("\\", "/")))
        if os.path.commonpath([absolute, full]) != absolute or "\0" in name:
            outside.append(f"line {i + 2}: {name}")
            files.append(root)
            continue
        file = root / os.path.relpath(full, absolute)
        if not file.is_file():
            by_name = _index(root) if by_name is None else by_name
            hits = by_name.get(file.name) or by_name.get(file.stem) or []
            if len(hits) > 1:
                raise DataError(
                    f"{path}: line {i + 2}: {name} is not there, and {len(hits)} files of that "
                    f"name are: {some(hits)}; write the path from {root} in the table"
                )
            (moved if hits else lost).append(i)
            file = hits[0] if hits else file
        files.append(file)
    if outside:
        raise DataError(
            f"{path}: {len(outside)} paths leave the data folder {root} ({some(outside)}); move "
            "the images below it, or the table above them"
        )
    if moved:
        notes.append(
            f"{len(moved)} images were not where the table says and were found by their names "
            f"(the first: {names[moved[0]]} is {files[moved[0]].relative_to(root).as_posix()})"
        )
    if lost and (not skip or len(lost) == len(names)):
        rows = [f"line {i + 2}: {names[i]}" for i in lost]
        raise DataError(
            f"{path}: {len(lost)} of {len(names)} images are not below {root} ({some(rows)}); "
            "correct the paths, name another column with --path-column, or leave them out with "
            "--skip-unreadable"
        )
    if lost:
        notes.append(f"{len(lost)} rows without an image are left out (--skip-unreadable)")
    gone = set(lost)
    return files, [i for i in range(len(names)) if i not in gone]


def _index(root: Path) -> dict[str, list[Path]]:
    """All files below a folder by name, and by name without ending."""
    index: dict[str, list[Path]] = {}
    for file in files_below(root):
        for key in {file.name, file.stem}:
            index.setdefault(key, []).append(file)
    return index


def _refuse_twice(ids: list[str], frame: pd.DataFrame, kept: list[int], path: Path) -> None:
    """Two rows for one image are a mistake, whether they agree or not."""
    first: dict[str, int] = {}
    pairs = []
    for i, name in enumerate(ids):
        if name in first:
            same = frame.iloc[i].tolist() == frame.iloc[first[name]].tolist()
            how = "equal" if same else "they differ"
            pairs.append(f"lines {kept[first[name]] + 2} and {kept[i] + 2}: {name}, {how}")
        first.setdefault(name, i)
    if pairs:
        raise DataError(
            f"{path}: {len(pairs)} duplicate rows ({some(pairs)}); keep one row an image"
        )


def _targets(
    frame: pd.DataFrame,
    columns: list[str],
    path: Path,
    options: DataOptions,
    lines: list[int],
    notes: list[str],
) -> tuple[Task, tuple[str, ...], NDArray[np.int64] | NDArray[np.float32]]:
    """Task, labels and targets from the label columns."""
    if len(columns) == 1 and not options.multi_label:
        values = _cleaned(frame[columns[0]])
        _refuse_unlabelled(values, path, columns[0], lines)
        task, labels, single, said = encode_classes(values, str(path), options.positive)
        notes += said
        return task, labels, single
    if options.positive is not None:
        raise DataError("--positive: with several labels an image each has its own; leave it out")
    if len(columns) == 1:
        labels, targets = _listed(_cleaned(frame[columns[0]]), path, columns[0], lines, notes)
    else:
        labels, targets = tuple(columns), _marked(frame, columns, path, lines)
    check_multilabel(labels, targets, str(path))
    return "multilabel", labels, targets


def _refuse_unlabelled(values: list[str], path: Path, column: str, lines: list[int]) -> None:
    blank = [line for line, value in zip(lines, values, strict=True) if not value]
    if blank:
        raise DataError(
            f"{path}: column {column!r} has no label in {len(blank)} rows (lines {some(blank)}); "
            "fill them or remove the rows"
        )


def _listed(
    values: list[str], path: Path, column: str, lines: list[int], notes: list[str]
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Labels separated by | in one column → names and targets (N, K) of 0 and 1."""
    _refuse_unlabelled(values, path, column, lines)
    lists = [[part.strip() for part in value.split("|") if part.strip()] for value in values]
    found = {label for row in lists for label in row}
    nothing = {label for label in found if label.lower() in _NOTHING}
    if nothing:
        notes.append(f"{some(sorted(nothing))} means none of the labels, and is none itself")
    labels = tuple(sorted(found - nothing))
    if not labels:
        raise DataError(f"{path}: column {column!r} holds no labels; name another --label-column")
    number = {label: k for k, label in enumerate(labels)}
    targets = np.zeros((len(lists), len(labels)), np.float32)
    for i, row in enumerate(lists):
        targets[i, [number[label] for label in row if label in number]] = 1
    return labels, targets


def _marked(
    frame: pd.DataFrame, columns: list[str], path: Path, lines: list[int]
) -> NDArray[np.float32]:
    """One column a label, holding 0, 1 or nothing → targets (N, K) with NaN for nothing."""
    targets = np.full((len(frame), len(columns)), np.nan, np.float32)
    for k, column in enumerate(columns):
        values = [value.lower() for value in _cleaned(frame[column])]
        bad = [
            f"line {line}: {value}"
            for line, value in zip(lines, values, strict=True)
            if value and value not in _NUMBERS
        ]
        if bad:
            raise DataError(
                f"{path}: label column {column!r} holds something else than 0, 1 or nothing in "
                f"{len(bad)} rows ({some(bad)}); correct them or remove the rows"
            )
        targets[:, k] = [_NUMBERS.get(value, np.nan) for value in values]
    return targets


def _splits(
    frame: pd.DataFrame, path: Path, options: DataOptions, lines: list[int], notes: list[str]
) -> list[str] | None:
    """The split of every row, "" where none is given; None when there is no such column."""
    column = _column(frame, path, "split", options.split_column, notes)
    if column is None:
        return None
    values = _cleaned(frame[column])
    bad = [
        f"line {line}: {value}"
        for line, value in zip(lines, values, strict=True)
        if value and split_name(value) is None
    ]
    if bad and options.split_column is None:
        notes[-1] = f"column {column!r} is not used as the split: it holds other things"
        return None
    if bad:
        raise DataError(
            f"--split-column {column}: {len(bad)} rows of {path} are neither train, val nor test "
            f"({some(bad)}); correct them or leave them empty"
        )
    return [split_name(value) or "" for value in values]


def _patients(
    frame: pd.DataFrame, path: Path, options: DataOptions, ids: list[str], notes: list[str]
) -> list[str] | None:
    """The patient of every row from its column or its file name; None when nothing tells."""
    if options.patient_from is not None:
        if options.patient_column is not None:
            raise DataError("--patient-from and --patient-column were both given; keep one")
        patients, said = patients_from_names(options.patient_from, ids, None)
        notes += said
        return patients
    column = _column(frame, path, "patient", options.patient_column, notes)
    if column is None:
        return None
    patients = _cleaned(frame[column])
    unknown = patients.count("")
    if unknown:
        notes.append(f"{unknown} images have no patient in {column!r}; each counts as its own")
    return patients

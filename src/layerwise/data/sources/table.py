"""A table (.csv, .tsv, .parquet): one row an image, with its path, labels, patient, date, split."""

import re
from pathlib import Path

import pandas as pd

from layerwise.data.manifest import Manifest, make_table
from layerwise.data.sources.locate import locate, refuse_twice
from layerwise.data.sources.options import DataOptions, patients_from_names, some, split_name
from layerwise.data.sources.targets import MISSING, cleaned, read_targets
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
    files, kept = locate(names, root, path, options.skip_unreadable, notes, options.images)
    frame, files = frame.iloc[kept].reset_index(drop=True), [files[i] for i in kept]
    ids = [file.relative_to(root).as_posix() for file in files]
    refuse_twice(ids, frame, kept, path)
    lines = [int(i) + 2 for i in kept]
    task, labels, targets = read_targets(frame, columns, path, options, lines, notes)
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
            dates=None if dates is None else cleaned(frame[dates]),
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
    blank = [i + 2 for i, value in enumerate(values) if value.strip().lower() in MISSING]
    if blank:
        raise DataError(
            f"{path}: column {column!r} is empty in {len(blank)} rows (lines {some(blank)}); fill "
            f"it, remove the rows, or name another column with {flag}"
        )


def _splits(
    frame: pd.DataFrame, path: Path, options: DataOptions, lines: list[int], notes: list[str]
) -> list[str] | None:
    """The split of every row, "" where none is given; None when there is no such column."""
    column = _column(frame, path, "split", options.split_column, notes)
    if column is None:
        return None
    values = cleaned(frame[column])
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
    patients = cleaned(frame[column])
    unknown = patients.count("")
    if unknown:
        notes.append(f"{unknown} images have no patient in {column!r}; each counts as its own")
    return patients

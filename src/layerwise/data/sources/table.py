"""A table: one row an image, with its path, labels, patient, study, date, split, view."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from layerwise.data.manifest import Manifest, make_table
from layerwise.data.sources.frame import table_stem
from layerwise.data.sources.locate import locate, refuse_twice
from layerwise.data.sources.options import (
    DataOptions,
    only_rows,
    patients_from_names,
    some,
    split_name,
)
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
    "study": "study studyid studyinstanceuid exam examid examination accessionnumber".split(),
    "date": "date studydate examdate acquisitiondate offset".split(),
    "split": "split subset part partition set".split(),
    "view": "view viewposition frontallateral appa projection".split(),
}
FRONTAL = ("frontal", "pa", "ap")  # a view of which the first word is one of these


def read(
    path: Path,
    frame: pd.DataFrame,
    options: DataOptions,
    root: Path,
    notes: list[str],
    *,
    marked: bool = False,
) -> Manifest:
    """Make the manifest of a table.

    A single label column holds class names (or, with `multi_label`, several separated by |);
    several label columns hold 0, 1 or nothing (unknown), one a label. A picture that is not where
    its path says is looked for: see `locate`.

    Args:
        path: The table.
        frame: What `read_frame` read from it.
        options: Its column names; those left out are guessed, and the guess is noted.
        root: The folder the paths are relative to, and must not leave.
        notes: What was said of the table so far.
        marked: Whether a single label column holds 0, 1 or nothing for the label of its name.

    Raises:
        DataError: A column is missing or holds what it can not; lines are named where they are
            the reason.
    """
    if not len(frame):
        raise DataError(f"{path}: no rows; give a table with one row an image")
    notes = list(notes)
    column = _column(frame, path, "path", options.path_column, notes)
    if column is None:
        raise DataError(_absent(frame, path, "path"))
    columns = _label_columns(frame, path, options, notes)
    frame = _of_view(frame, path, options.view, notes)
    if len(columns) == 1 and not (options.multi_label or marked):
        frame = frame.iloc[only_rows(cleaned(frame[columns[0]]), options.only, str(path))]
    _refuse_blank(frame[column], path)
    ids, kept = locate(frame[column], root, path, options, notes)
    frame = frame.iloc[kept]
    refuse_twice(ids, frame, path)
    task, labels, targets = read_targets(frame, columns, path, options, notes, marked=marked)
    patients = _patients(frame, path, options, ids, notes)
    studies = _known(frame, path, "study", options.study_column, notes)
    return Manifest(
        name=table_stem(path),
        task=task,
        labels=labels,
        table=make_table(
            ids,
            paths=[f"{root}/{name}" for name in ids],
            patients=patients,
            studies=_own_studies(studies, patients),
            dates=_known(frame, path, "date", options.date_column, notes),
            splits=_splits(frame, path, options, notes),
        ),
        targets=targets,
        notes=tuple(notes),
        extra=_extra(frame, path, options.subgroup),
    )


def _extra(frame: pd.DataFrame, path: Path, names: tuple[str, ...]) -> pd.DataFrame | None:
    """The columns of --subgroup under the names that were given, whatever case they are in."""
    if not names:
        return None
    plain = {_plain(name): str(name) for name in reversed(frame.columns)}
    found = {}
    for name in names:
        column = name if name in frame.columns else plain.get(_plain(name))
        if column is None:
            raise DataError(
                f"--subgroup {name}: {path} has no such column; its columns are "
                f"{', '.join(map(str, frame.columns))}"
            )
        found[name] = cleaned(frame[column])
    return pd.DataFrame(found, dtype=object)


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


def _refuse_blank(column: "pd.Series[str]", path: Path) -> None:
    values = column.tolist()
    blank = [
        line
        for line, value in zip(column.index, values, strict=True)
        if value.strip().lower() in MISSING
    ]
    if blank:
        raise DataError(
            f"{path}: column {column.name!r} is empty in {len(blank)} rows (lines {some(blank)}); "
            "fill it, remove the rows, or name another column with --path-column"
        )


def _of_view(frame: pd.DataFrame, path: Path, view: str | None, notes: list[str]) -> pd.DataFrame:
    """Only the rows of a view: one of whose columns of views says so; all rows if none is asked."""
    if view is None:
        return frame
    columns = [str(name) for name in frame.columns if _plain(name) in USUAL["view"]]
    if not columns:
        raise DataError(
            f"--view {view}: {path} has no column of views; rename the one it has to view, or "
            "leave the flag out"
        )
    wanted = view.strip().lower()
    fits = np.zeros(len(frame), np.bool_)
    has: Counter[str] = Counter()
    for column in columns:
        codes, texts = pd.factorize(frame[column].to_numpy(dtype=object))
        says = [str(text).strip().lower() for text in texts]
        mine = [w == wanted or (wanted == "frontal" and _frontal(w)) for w in says]
        fits |= np.array(mine, np.bool_)[codes]
        has.update(dict(zip(texts, np.bincount(codes).tolist(), strict=True)))
    if not fits.any():
        counts = some([f"{value} ({count})" for value, count in has.most_common() if value])
        raise DataError(f"--view {view}: {path} has no image of that view; its views are {counts}")
    named = " and ".join(repr(c) for c in columns)
    notes.append(f"{fits.sum()} of {len(fits)} images are {view} views by {named} (--view)")
    return frame[fits]


def _frontal(view: str) -> bool:
    return view.split()[:1] != [] and view.split()[0] in FRONTAL


def _known(
    frame: pd.DataFrame, path: Path, what: str, named: str | None, notes: list[str]
) -> list[str] | None:
    """The study or date of every row, "" where unknown; None when there is no such column."""
    filled = frame[[name for name in frame.columns if (frame[name] != "").any()]]
    column = _column(frame if named else filled, path, what, named, notes)
    if column is None:
        return None
    if what == "date" and named is None and _plain(column) == "offset":
        notes[-1] += "; an offset counts from a day of each patient's own: do not split by it"
    return cleaned(frame[column])


def _own_studies(studies: list[str] | None, patients: list[str] | None) -> list[str] | None:
    """Studies numbered for each patient anew ("study1") as studies of their patient."""
    if studies is None or patients is None:
        return studies
    pairs = {pair for pair in zip(studies, patients, strict=True) if pair[0]}
    if len(pairs) == len({study for study, _ in pairs}):
        return studies
    return [f"{p}/{s}" if s and p else s for s, p in zip(studies, patients, strict=True)]


def _splits(
    frame: pd.DataFrame, path: Path, options: DataOptions, notes: list[str]
) -> list[str] | None:
    """The split of every row, "" where none is given; None when there is no such column."""
    column = _column(frame, path, "split", options.split_column, notes)
    if column is None:
        return None
    values = cleaned(frame[column])
    odd = {value for value in set(values) if value and split_name(value) is None}
    if odd and options.split_column is None:
        notes[-1] = f"column {column!r} is not used as the split: it holds other things"
        return None
    if odd:
        rows = zip(frame.index, values, strict=True)
        bad = [f"line {line}: {value}" for line, value in rows if value in odd]
        raise DataError(
            f"--split-column {column}: {len(bad)} rows of {path} are neither train, val nor test "
            f"({some(bad)}); correct them or leave them empty"
        )
    parts = {value: split_name(value) or "" for value in set(values)}
    return [parts[value] for value in values]


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

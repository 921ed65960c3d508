"""What is to be learnt, from the label columns of a table."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from layerwise.data.manifest import Manifest, Task
from layerwise.data.sources.options import (
    DataOptions,
    check_multilabel,
    encode_classes,
    only_rows,
    some,
)
from layerwise.errors import DataError

MISSING = {"", "nan", "na", "n/a", "null"}  # ways of writing that nothing is known
_NUMBERS = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}
_NOTHING = {"no finding", "no findings"}  # in a list of labels: none of the others


Targets = tuple[Task, tuple[str, ...], NDArray[np.int64] | NDArray[np.float32]]


def read_targets(
    frame: pd.DataFrame,
    columns: list[str],
    path: Path,
    options: DataOptions,
    notes: list[str],
    *,
    marked: bool = False,
) -> Targets:
    """Task, labels and targets of a table's rows.

    Args:
        frame: The rows, their lines as index.
        columns: One column of classes, one of lists (`options.multi_label`), or one a label.
        path: Of the table, for messages.
        options: `multi_label`, `positive` and `only` are used.
        notes: What was decided is added here.
        marked: Whether a single column holds 0, 1 or nothing for the label it is called after.

    Raises:
        DataError: Naming the lines, the label or the flag.
    """
    if len(columns) == 1 and not options.multi_label and not marked:
        values = cleaned(frame[columns[0]])
        _refuse_unlabelled(values, frame, path, columns[0])
        task, labels, single, said = encode_classes(values, str(path), options)
        notes += said
        return task, labels, single
    if len(columns) == 1 and not marked:
        labels, many = _listed(frame, path, columns[0], notes)
    else:
        labels, many = tuple(columns), _marked(frame, columns, path)
    if options.only:
        only_rows(labels, options.only, str(path))  # refuses what is not there
        kept = [k for k, label in enumerate(labels) if label in options.only]
        labels, many = tuple(labels[k] for k in kept), many[:, kept]
    if options.positive is not None:
        raise DataError("--positive: with several labels an image each has its own; leave it out")
    if not options.rare:
        check_multilabel(labels, many, str(path))
    return "multilabel", labels, many


def as_question(manifest: Manifest) -> Manifest:
    """One label of several alone is a question of yes or no: two classes, "no X" and "X".

    Images for which the answer is unknown are left out, and that is noted.
    """
    if manifest.task != "multilabel" or len(manifest.labels) != 1:
        return manifest
    known = np.flatnonzero(~np.isnan(manifest.targets[:, 0]))
    label = manifest.labels[0]
    notes = [*manifest.notes, f"one label alone: the classes are no {label} and {label}"]
    if len(known) < len(manifest):
        notes.append(f"{len(manifest) - len(known)} images of unknown {label} are left out")
    kept = manifest.take(known)
    return kept.replace(
        task="binary",
        labels=(f"no {label}", label),
        targets=kept.targets[:, 0].astype(np.int64),
        notes=tuple(notes),
    )


def _refuse_unlabelled(values: list[str], frame: pd.DataFrame, path: Path, column: str) -> None:
    blank = [line for line, value in zip(frame.index, values, strict=True) if not value]
    if blank:
        raise DataError(
            f"{path}: column {column!r} has no label in {len(blank)} rows (lines {some(blank)}); "
            "fill them or remove the rows"
        )


def _listed(
    frame: pd.DataFrame, path: Path, column: str, notes: list[str]
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Labels separated by | in one column → names and targets (N, K) of 0 and 1."""
    values = cleaned(frame[column])
    _refuse_unlabelled(values, frame, path, column)
    codes, lists = pd.factorize(np.asarray(values, dtype=object))  # few lists, many rows
    sets = [{part.strip() for part in text.split("|") if part.strip()} for text in lists]
    found = {label for row in sets for label in row}
    nothing = {label for label in found if label.lower() in _NOTHING}
    if nothing:
        notes.append(f"{some(sorted(nothing))} means none of the labels, and is none itself")
    labels = tuple(sorted(found - nothing))
    if not labels:
        raise DataError(f"{path}: column {column!r} holds no labels; name another --label-column")
    marks = np.array([[label in row for label in labels] for row in sets], np.float32)
    return labels, marks[codes]


def _marked(frame: pd.DataFrame, columns: list[str], path: Path) -> NDArray[np.float32]:
    """One column a label, holding 0, 1 or nothing → targets (N, K) with NaN for nothing."""
    targets = np.empty((len(frame), len(columns)), np.float32)
    for k, column in enumerate(columns):
        codes, texts = pd.factorize(frame[column].to_numpy(dtype=object))
        values = [_number(text) for text in texts]
        if None in values:
            odd = np.array([value is None for value in values])[codes]
            bad = [f"line {line}: {v}" for line, v in frame[column][odd].head(100).items()]
            raise DataError(
                f"{path}: label column {column!r} holds something else than 0, 1 or nothing in "
                f"{odd.sum()} rows ({some(bad)}); correct them or remove the rows"
            )
        targets[:, k] = np.array(values, np.float32)[codes]
    return targets


def _number(text: str) -> float | None:
    """0.0, 1.0, NaN for nothing known; None for anything else."""
    plain = text.strip().lower()
    return np.nan if plain in MISSING else _NUMBERS.get(plain)


def cleaned(column: "pd.Series[str]") -> list[str]:
    """Values stripped of spaces, "" for every way of writing that nothing is known."""
    codes, texts = pd.factorize(column.to_numpy(dtype=object))
    known = np.array(["" if t.strip().lower() in MISSING else t.strip() for t in texts], object)
    return list(known[codes]) if len(codes) else []

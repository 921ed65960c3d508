"""What is to be learnt, from the label columns of a table."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from layerwise.data.manifest import Task
from layerwise.data.sources.options import DataOptions, check_multilabel, encode_classes, some
from layerwise.errors import DataError

MISSING = {"", "nan", "na", "n/a", "null"}  # ways of writing that nothing is known
_NUMBERS = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}
_NOTHING = {"no finding", "no findings"}  # in a list of labels: none of the others


def read_targets(
    frame: pd.DataFrame,
    columns: list[str],
    path: Path,
    options: DataOptions,
    lines: list[int],
    notes: list[str],
) -> tuple[Task, tuple[str, ...], NDArray[np.int64] | NDArray[np.float32]]:
    """Task, labels and targets from the label columns."""
    if len(columns) == 1 and not options.multi_label:
        values = cleaned(frame[columns[0]])
        _refuse_unlabelled(values, path, columns[0], lines)
        task, labels, single, said = encode_classes(values, str(path), options.positive)
        notes += said
        return task, labels, single
    if options.positive is not None:
        raise DataError("--positive: with several labels an image each has its own; leave it out")
    if len(columns) == 1:
        labels, targets = _listed(cleaned(frame[columns[0]]), path, columns[0], lines, notes)
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
        values = [value.lower() for value in cleaned(frame[column])]
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


def cleaned(column: "pd.Series[str]") -> list[str]:
    """Values stripped of spaces, "" for every way of writing that nothing is known."""
    return ["" if v.strip().lower() in MISSING else v.strip() for v in column.tolist()]

"""Images by what a table says of them: sex, age, view, site. Which are too few to tell anything."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerwise.errors import DataError
from layerwise.evaluation.metrics import Array, Task

UNKNOWN = "unknown"
SMALL = 10
"""A group with fewer patients with, or fewer without, any of the labels is too small: a resample
of so few is too narrow, and what it shows is a few people."""
MOST = 20  # groups of a column: with more it is a name and no group
NUMERIC = 12  # a column with more numbers than this is put into bands
AGES = ((0, 17), (18, 39), (40, 64), (65, 150))
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([YMWD]?)", re.IGNORECASE)  # DICOM and NIH write 058Y, 006M
_YEARS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


@dataclass(frozen=True, eq=False)
class Subgroup:
    """Some of the images.

    Attributes:
        column: What the table calls it.
        value: Of all these images; a range where the column holds numbers.
        rows: bool (N,).
        patients: How many there are.
        least: Patients on the smaller side (with a label, or without it) of the label that has
            most on its smaller side.
    """

    column: str
    value: str
    rows: NDArray[np.bool_]
    patients: int
    least: int

    @property
    def images(self) -> int:
        """How many there are."""
        return int(self.rows.sum())

    @property
    def small(self) -> bool:
        """Whether it is too small to tell anything; see `SMALL`."""
        return self.least < SMALL

    @property
    def name(self) -> str:
        """As a sentence calls it."""
        return f"{self.column} {self.value}"


def subgroups(
    columns: Mapping[str, Sequence[str]], task: Task, targets: Array, groups: Array
) -> list[Subgroup]:
    """The groups of every column, in order; images of which it says nothing are "unknown".

    Numbers become bands: ages 0–17, 18–39, 40–64 and 65 on where the column's name has the word
    age in it, else quarters of these images.

    Args:
        columns: Texts (N,) by the name of the column.
        task: As in `metrics.measure`.
        targets: As there.
        groups: (N,) the patient of each image.

    Raises:
        DataError: A column has more than 20 values.
    """
    found = []
    for column, texts in columns.items():
        values, order = _banded(column, [text.strip() for text in texts])
        if len(order) > MOST:
            raise DataError(
                f"--subgroup {column}: it has {len(order)} values; name a column that puts the "
                f"images into at most {MOST} groups"
            )
        for value in order:
            rows = values == value
            found.append(
                Subgroup(
                    column,
                    value,
                    rows,
                    len(np.unique(groups[rows])),
                    _least(task, targets[rows], groups[rows]),
                )
            )
    return found


def _banded(column: str, texts: list[str]) -> tuple[NDArray[np.object_], list[str]]:
    """The group of every image, and the groups in order."""
    known = [text for text in texts if text]
    is_age = re.search(r"(?<![a-z])age(?![a-z])", column.lower()) is not None
    numbers = [_number(text, is_age) for text in texts]
    numeric = [number for number in numbers if number is not None]
    out = np.array([text or UNKNOWN for text in texts], dtype=object)
    if len(numeric) < 0.95 * len(known) or not (is_age or len(set(numeric)) > NUMERIC):
        order = [value for value, _ in sorted(Counter(known).items())]
    else:
        edges = [low for low, _ in AGES[1:]] if is_age else _quarters(numeric)
        names = [f"{low}–{high}" for low, high in AGES[:-1]] + [f"{AGES[-1][0]} and over"]
        if not is_age:
            middle = [f"{a:g} to below {b:g}" for a, b in zip(edges, edges[1:], strict=False)]
            names = [f"below {edges[0]:g}", *middle, f"{edges[-1]:g} and over"]
        band = [
            UNKNOWN if x is None else names[int(np.searchsorted(edges, x, "right"))]
            for x in numbers
        ]
        out = np.array(band, dtype=object)
        order = [name for name in names if name in set(band)]
    return out, [*order, UNKNOWN] if (out == UNKNOWN).any() else order


def _number(text: str, is_age: bool) -> float | None:
    """A text as a number; an age in years."""
    if is_age:
        match = _AGE.fullmatch(text)
        return float(match[1]) * _YEARS[match[2].upper()] if match else None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _quarters(numbers: list[float]) -> list[float]:
    """The three borders between quarters, equal ones once; none at the lowest value."""
    edges = np.unique(np.quantile(numbers, [0.25, 0.5, 0.75], method="higher"))
    return [float(edge) for edge in edges if edge > min(numbers)] or [max(numbers)]


def _least(task: Task, targets: Array, groups: Array) -> int:
    """See `Subgroup.least`."""
    if task == "multilabel":
        sides = [(targets[:, k] == 1, targets[:, k] == 0) for k in range(targets.shape[1])]
    else:
        classes = (1,) if task == "binary" else tuple(np.unique(targets))
        sides = [(targets == k, targets != k) for k in classes]
    least = [min(len(np.unique(groups[yes])), len(np.unique(groups[no]))) for yes, no in sides]
    return max(least, default=0)

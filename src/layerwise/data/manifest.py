"""The manifest: a table with one row an image, and what is to be learnt from it. No pixels decoded.

Splitting, auditing and fingerprinting work on this alone, so they are cheap. No torch here.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from layerwise.data.pictures.arrays import Pictures, take
from layerwise.errors import DataError, OutputError

Task = Literal["binary", "multiclass", "multilabel"]

SPLITS = ("train", "val", "test")
COLUMNS = ("id", "path", "patient", "study", "date", "split")
EXTRA = "extra:"  # begins the names of `Manifest.extra` in a written manifest
UNASSIGNED = "unassigned"  # how images of no split are called where counts are shown


@dataclass(frozen=True, eq=False)
class Manifest:
    """Images, targets, patients and splits of one data set.

    Attributes:
        name: What the data are called in reports.
        task: binary, multiclass or multilabel.
        labels: Names of the classes; for binary (negative, positive).
        table: Columns id (unique: relative posix path, or "train/17"), path (absolute, "" where
            the pixels are in `pixels`), patient, study (one examination of a patient), date
            ("" where unknown) and split ("train", "val", "test", or "" where not assigned); all
            str.
        targets: int64 (N,) for binary and multiclass; float32 (N, K) with 0, 1 and NaN (unknown)
            for multilabel.
        pixels: uint8 (N, H, W) or (N, H, W, 3) where the source is an array, else None; from an
            archive `Pictures`, which are read from disk when they are asked for.
        notes: Everything that was guessed or changed, to be said aloud in the report.
        source: Where `pixels` came from (a file, or "digits"), so that a manifest can be reread.
        settled: Its three parts were made by Layerwise and are used as they are.
        extra: Columns of the source's table that were asked for, a row an image, all str; None
            where none was.
    """

    name: str
    task: Task
    labels: tuple[str, ...]
    table: pd.DataFrame
    targets: NDArray[Any]
    pixels: NDArray[np.uint8] | Pictures | None = None
    notes: tuple[str, ...] = ()
    source: str = ""
    settled: bool = False
    extra: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        """Check that everything fits together.

        Raises:
            DataError: Naming what does not.
        """
        n = len(self.table)
        if tuple(self.table.columns) != COLUMNS:
            raise DataError(f"{self.name}: a manifest has the columns {', '.join(COLUMNS)}")
        shape = (n, len(self.labels)) if self.task == "multilabel" else (n,)
        dtype = np.float32 if self.task == "multilabel" else np.int64
        if self.targets.shape != shape or self.targets.dtype != dtype:
            raise DataError(
                f"{self.name}: targets are {self.targets.dtype} {self.targets.shape}; "
                f"{self.task} needs {np.dtype(dtype)} {shape}"
            )
        if self.task == "binary" and len(self.labels) != 2:
            raise DataError(f"{self.name}: binary needs 2 labels, got {len(self.labels)}")
        if len(set(self.labels)) != len(self.labels):
            raise DataError(f"{self.name}: label names repeat; give each label its own name")
        if self.pixels is not None and len(self.pixels) != n:
            raise DataError(f"{self.name}: {len(self.pixels)} pictures but {n} rows")
        twice = self.table["id"][self.table["id"].duplicated()]
        if len(twice):
            raise DataError(f"{self.name}: image {twice.iloc[0]!r} stands there twice; remove one")
        odd = set(self.table["split"].unique()) - {*SPLITS, ""}
        if odd:
            raise DataError(f"{self.name}: unknown split {sorted(odd)[0]!r}; use train, val, test")

    def __len__(self) -> int:
        return len(self.table)

    @property
    def patients_known(self) -> bool:
        """Whether any image has a patient."""
        return bool((self.table["patient"] != "").any())

    def indices(self, split: str) -> NDArray[np.int64]:
        """Rows (n,) int64 of a split, in order."""
        return np.flatnonzero((self.table["split"] == split).to_numpy())

    def groups(self) -> NDArray[np.str_]:
        """(N,) the patient of each image, or the image itself where none is known.

        Whatever resamples or splits images treats a group as one thing.
        """
        patient, own = self.table["patient"], "image:" + self.table["id"]
        return np.asarray(patient.where(patient != "", own).tolist(), dtype=np.str_)

    def counts(self) -> dict[str, dict[str, int]]:
        """Images of each label by split: {"train": {"NORMAL": 1341, …}, …}; absent splits left out.

        For multilabel these are the images in which the label is 1.
        """
        out = {}
        for split in (*SPLITS, ""):
            rows = self.indices(split)
            if len(rows):
                each = self.per_label(rows)
                out[split or UNASSIGNED] = dict(zip(self.labels, each.tolist(), strict=True))
        return out

    def per_label(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """(K,) int64: how many of these rows have each label."""
        if self.task == "multilabel":
            return np.asarray((self.targets[rows] == 1).sum(axis=0), dtype=np.int64)
        return np.bincount(self.targets[rows], minlength=len(self.labels)).astype(np.int64)

    def replace(self, **changes: Any) -> "Manifest":  # noqa: ANN401 - any field
        """A copy with other fields; `split` (N,) replaces that column, `note` adds one note."""
        if "split" in changes:
            changes["table"] = self.table.assign(split=changes.pop("split"))
        if "note" in changes:
            changes["notes"] = (*self.notes, changes.pop("note"))
        return dataclasses.replace(self, **changes)

    def take(self, rows: NDArray[np.int64]) -> "Manifest":
        """Only these rows, in this order; the labels stay as they are."""
        return dataclasses.replace(
            self,
            table=self.table.iloc[rows].reset_index(drop=True),
            targets=self.targets[rows],
            pixels=None if self.pixels is None else take(self.pixels, rows),
            extra=None if self.extra is None else self.extra.iloc[rows].reset_index(drop=True),
        )

    def with_labels(self, labels: tuple[str, ...]) -> "Manifest":
        """Only the images of these classes, renumbered in this order (not for multilabel)."""
        if self.task == "multilabel":
            raise DataError(f"{self.name}: classes can not be picked out of multi-label data")
        missing = [label for label in labels if label not in self.labels]
        if missing:
            raise DataError(f"{self.name}: no label {missing[0]!r}; has {', '.join(self.labels)}")
        new = np.full(len(self.labels), -1, np.int64)  # (K,) old number → new number
        new[[self.labels.index(label) for label in labels]] = np.arange(len(labels))
        kept = self.take(np.flatnonzero(new[self.targets] >= 0))
        task: Task = "binary" if len(labels) == 2 else "multiclass"
        return dataclasses.replace(kept, labels=labels, task=task, targets=new[kept.targets])

    def write(self, path: Path) -> None:
        """Write as CSV that `layerwise.data.load.load` reads back, whole or not at all.

        Raises:
            OutputError: The file can not be written.
        """
        table = self.table.copy()
        if self.pixels is not None:
            table["path"] = self.source + "#" + table["id"]
        if self.task == "multilabel":
            for k, label in enumerate(self.labels):
                column = pd.Series(self.targets[:, k])
                table[f"label:{label}"] = column.map({0.0: "0", 1.0: "1"}).fillna("").to_numpy()
        else:
            table["target"] = self.targets
            table["label"] = np.asarray(self.labels, dtype=object)[self.targets]
        if self.extra is not None:
            table = table.join(self.extra.add_prefix(EXTRA))
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(part, index=False, lineterminator="\n")
            part.replace(path)
        except OSError as error:
            raise OutputError(
                f"{path}: can not be written ({error.strerror}); name another place with --out"
            ) from error


def is_manifest_header(columns: list[str]) -> bool:
    """Whether a table's columns are those that `Manifest.write` makes."""
    rest = [name for name in columns[len(COLUMNS) :] if not name.startswith(EXTRA)]
    if tuple(columns[: len(COLUMNS)]) != COLUMNS or not rest:
        return False
    return rest == ["target", "label"] or all(name.startswith("label:") for name in rest)


def make_table(
    ids: list[str],
    *,
    paths: list[str] | None = None,
    patients: list[str] | None = None,
    studies: list[str] | None = None,
    dates: list[str] | None = None,
    splits: list[str] | None = None,
) -> pd.DataFrame:
    """The table of a manifest from its columns; those not given are empty."""
    blank = [""] * len(ids)
    columns = (
        ids,
        paths or blank,
        patients or blank,
        studies or blank,
        dates or blank,
        splits or blank,
    )
    named = zip(COLUMNS, columns, strict=True)
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in named})

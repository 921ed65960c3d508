"""A manifest that `Manifest.write` wrote, read back."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from layerwise.data.manifest import COLUMNS, EXTRA, SPLITS, Manifest, Task, make_table
from layerwise.data.pictures.arrays import Pictures, take
from layerwise.data.sources import digits, npz
from layerwise.data.sources.options import DataOptions, some
from layerwise.errors import DataError


def read(path: Path, frame: pd.DataFrame, options: DataOptions) -> Manifest:
    """Make the manifest again from its table.

    Args:
        path: Where the table was read from.
        frame: The table, every value as text.
        options: Must not say what the manifest itself says.

    Raises:
        DataError: A flag contradicts the manifest, a value is not valid, or images are gone.
    """
    own = ("skip_unreadable", "images", "rare", "subgroup")
    said = {name: getattr(options, name) for name in own}
    plain = DataOptions(**said)
    if options != plain:
        given = [f.name for f in dataclasses.fields(options)]
        given = [name for name in given if getattr(options, name) != getattr(plain, name)]
        flag = "--" + given[0].replace("_", "-")
        raise DataError(f"{flag}: {path} is a manifest and says this itself; leave the flag out")
    if not len(frame):
        raise DataError(f"{path}: a manifest without rows; write it again with layerwise split")
    task, labels, targets = _targets(path, frame)
    rows = _rows(frame)
    source = _source(rows)
    if not options.images:
        pixels, source, lost = None, "", []
    elif source:
        pixels = _pixels(path, source, rows["id"].tolist())
        rows = rows.assign(path="")
    else:
        pixels = None
        there = np.array([os.path.isfile(name) for name in rows["path"]], np.bool_)
        lost = rows["path"][~there].tolist()
        if lost and not options.skip_unreadable:
            raise DataError(
                f"{path}: {len(lost)} images are gone ({some(lost)}); write the manifest again "
                "with layerwise split, or leave them out with --skip-unreadable"
            )
    whole = Manifest(
        name=path.parent.resolve().name if path.stem == "manifest" else path.stem,
        task=task,
        labels=labels,
        table=rows,
        targets=targets,
        pixels=pixels,
        source=source,
        settled=set(rows["split"].unique()) == set(SPLITS),
        extra=_extra(path, frame, options.subgroup),
    )
    if source or not lost:
        return whole
    note = f"{len(lost)} images of the manifest are gone and left out (--skip-unreadable)"
    return whole.take(np.flatnonzero(there)).replace(note=note)


def _extra(path: Path, frame: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame | None:
    """The columns of --subgroup, which the manifest has if it was written with them."""
    if not names:
        return None
    kept = {
        name.removeprefix(EXTRA).lower(): name for name in frame.columns if name.startswith(EXTRA)
    }
    for name in names:
        if name.lower() not in kept:
            raise DataError(
                f"--subgroup {name}: {path} is a manifest without that column; write it again with "
                f"layerwise split DATA --subgroup {name}, or give the table it was made of as DATA"
            )
    found = {name: frame[kept[name.lower()]].tolist() for name in names}
    return pd.DataFrame(found, dtype=object)


def _rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The manifest's own columns, numbered from 0."""
    names = ("ids", "paths", "patients", "studies", "dates", "splits")
    columns = {name: frame[own].tolist() for name, own in zip(names, COLUMNS, strict=True)}
    return make_table(**columns)


def _source(rows: pd.DataFrame) -> str:
    """The array file (or "digits") all pictures come from; "" when each has its own file."""
    sources = {name.rpartition("#")[0] for name in rows["path"]}
    same = all(p.endswith("#" + i) for p, i in zip(rows["path"], rows["id"], strict=True))
    return sources.pop() if len(sources) == 1 and same else ""


def _pixels(path: Path, source: str, ids: list[str]) -> NDArray[np.uint8] | Pictures:
    """The pictures (N, H, W[, 3]) of these ids from their array file."""
    if source != "digits" and not Path(source).is_file():
        raise DataError(f"{path}: its pictures were in {source}, which is gone; put it back")
    plain = DataOptions(rare=True)
    origin = digits.read(plain) if source == "digits" else npz.read(Path(source), plain)
    where = {name: i for i, name in enumerate(origin.table["id"])}
    lost = [name for name in ids if name not in where]
    if lost or origin.pixels is None:
        raise DataError(f"{path}: {source} has no picture {some(lost)}; write the manifest again")
    return take(origin.pixels, np.array([where[name] for name in ids], np.int64))


def _targets(
    path: Path, frame: pd.DataFrame
) -> tuple[Task, tuple[str, ...], NDArray[np.int64] | NDArray[np.float32]]:
    """Task, labels and targets from the last columns."""
    if "target" not in frame.columns:
        columns = [c for c in frame.columns[len(COLUMNS) :] if not c.startswith(EXTRA)]
        known = {"0": 0.0, "1": 1.0, "": np.nan}
        fits = frame[columns].isin(list(known)).all(axis=1)
        if not fits.all():
            bad = frame.index[~fits].tolist()
            raise DataError(f"{path}: labels other than 0, 1 or nothing in lines {some(bad)}")
        many = np.stack([frame[c].map(known).to_numpy(np.float32) for c in columns], axis=1)
        return "multilabel", tuple(c.removeprefix("label:") for c in columns), many
    pairs = set(zip(frame["target"], frame["label"], strict=True))
    numbers = {number: label for number, label in pairs}
    if len(pairs) != len(numbers) or set(numbers) != {str(k) for k in range(len(numbers))}:
        raise DataError(
            f"{path}: columns target and label do not agree, or a number is left out; every label "
            "has one number, from 0 on: correct them, or write the manifest again"
        )
    labels = tuple(numbers[str(k)] for k in range(len(numbers)))
    if len(labels) < 2:
        raise DataError(f"{path}: only one class ({labels[0]!r}); two or more are needed")
    targets: NDArray[np.int64] = np.array([int(k) for k in frame["target"]], np.int64)
    return "binary" if len(labels) == 2 else "multiclass", labels, targets

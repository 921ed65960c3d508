"""Where the images of a table are, and that each is there once."""

import os
from pathlib import Path

import pandas as pd

from layerwise.data.sources.folder import files_below
from layerwise.data.sources.options import some
from layerwise.errors import DataError


def locate(
    names: list[str], root: Path, path: Path, skip: bool, notes: list[str], look: bool = True
) -> tuple[list[Path], list[int]]:
    """The file of every row, and which rows have one (all of them, unless `skip`).

    Without `look` no file is looked for: each is where the table says.
    """
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
        if look and not file.is_file():
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


def refuse_twice(ids: list[str], frame: pd.DataFrame, kept: list[int], path: Path) -> None:
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

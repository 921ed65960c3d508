"""Where the images of a table are, and that each is there once."""

import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from layerwise.data.sources import dicom
from layerwise.data.sources.folder import files_below
from layerwise.data.sources.options import DataOptions, some
from layerwise.errors import DataError

DEEPEST = 6  # leading folders that a table's paths may have and the data folder has not
_TRIED = 64  # rows on which it is tried how many
_UID = re.compile(r"[0-9]+(\.[0-9]+){3,}")
_ODD = ("//", "/.", "\\", "\0")  # what a path has that needs to be made plain


def locate(
    column: "pd.Series[str]", root: Path, path: Path, options: DataOptions, notes: list[str]
) -> tuple[list[str], NDArray[np.int64]]:
    """Where each image is, below the data folder.

    A path that leads nowhere is tried without its first folders, as many for all rows (CheXpert's
    paths begin with the name of the folder that its table lies in); then the file is looked for by
    its name, and by its name without ending.

    Args:
        column: The paths as the table has them; its index holds the lines.
        root: The folder that they are relative to, and must not leave.
        path: The table, for messages.
        options: `skip_unreadable` leaves lost images out; without `images` none is looked for.
        notes: What was found elsewhere, or left out, is added here.

    Returns:
        The relative posix path of every image that is there, and (n,) its row.

    Raises:
        DataError: Naming lines: paths that leave the folder, images that are lost or ambiguous.
    """
    found = _plain(column, root, path)
    everything = np.arange(len(found))
    if not options.images:
        return found, everything
    lost = [i for i, name in enumerate(found) if not os.path.isfile(f"{root}/{name}")]
    if lost:
        lost = _without_folders(found, lost, root, notes)
    if lost:
        lost = _by_name(found, lost, column, root, path, options.skip_unreadable, notes)
    if lost:
        lost = _by_instance(found, lost, root, notes)
    if not lost:
        return found, everything
    if not options.skip_unreadable or len(lost) == len(found):
        rows = [f"line {column.index[i]}: {column.iloc[i]}" for i in lost]
        whole = len(lost) == len(found)
        raise DataError(
            f"{path}: {len(lost)} of {len(found)} images are not below {root} ({some(rows)}); "
            "correct the paths, name another column with --path-column, "
            + (
                f"give their folder as DATA and this table with --labels {path.name}, or look at "
                "the table alone with layerwise inspect --no-images"
                if whole
                else "or leave them out with --skip-unreadable"
            )
        )
    notes.append(f"{len(lost)} rows without an image are left out (--skip-unreadable)")
    kept = np.delete(everything, lost)
    return [found[i] for i in kept.tolist()], kept


def _plain(column: "pd.Series[str]", root: Path, path: Path) -> list[str]:
    """The paths as relative posix paths without detours; none may leave the folder."""
    absolute, real = os.path.abspath(root), os.path.realpath(root)
    names: list[str] = column.tolist()
    outside = []
    for i, name in enumerate(names):
        if name[0] not in "./" and name[-1] != "/" and name == name.strip():
            if not any(sign in name for sign in _ODD):
                continue
        full = os.path.normpath(os.path.join(absolute, name.strip().replace("\\", "/")))
        home = next((h for h in (absolute, real) if full.startswith(h.rstrip("/") + "/")), None)
        if home is None or "\0" in name:
            outside.append(f"line {column.index[i]}: {name}")
        else:
            names[i] = os.path.relpath(full, home)
    if outside:
        raise DataError(
            f"{path}: {len(outside)} paths leave the data folder {root} ({some(outside)}); give "
            f"the images' folder as DATA and this table with --labels {path.name}, or move the "
            "images below it"
        )
    return names


def _without_folders(found: list[str], lost: list[int], root: Path, notes: list[str]) -> list[int]:
    """Try the lost paths without their first folders, as many for all; returns what is still lost.

    How many is what finds most of some rows spread over the table, and of equals the fewest.
    """
    tried = [lost[k] for k in np.linspace(0, len(lost) - 1, min(_TRIED, len(lost)), dtype=int)]
    deepest = min(DEEPEST, max(found[i].count("/") for i in tried))
    hits = [
        sum(os.path.isfile(f"{root}/{_shortened(found[i], k)}") for i in tried)
        for k in range(1, deepest + 1)
    ]
    if not any(hits):
        return lost
    fewer = 1 + int(np.argmax(hits))
    first = found[tried[0]]
    still = []
    for i in lost:
        shorter = _shortened(found[i], fewer)
        if os.path.isfile(f"{root}/{shorter}"):
            found[i] = shorter
        else:
            still.append(i)
    told = "/".join(first.split("/")[:fewer])
    notes.append(
        f"the paths of {len(lost) - len(still)} images are taken without their first "
        f"{'folder' if fewer == 1 else f'{fewer} folders'} (as {told}/), which is not below the "
        "data folder"
    )
    return still


def _shortened(name: str, fewer: int) -> str:
    """A path without its first folders; with none of them left it is nothing."""
    parts = name.split("/", fewer)
    return parts[fewer] if len(parts) > fewer else ""


def _by_name(
    found: list[str],
    lost: list[int],
    column: "pd.Series[str]",
    root: Path,
    path: Path,
    skip: bool,
    notes: list[str],
) -> list[int]:
    """Look for the lost files by name in the whole folder; returns what is still lost.

    A path with folders in it is not looked for in other ones if any such path led somewhere: then
    the table knows the folders, and a file of the same name is another picture.
    """
    deep = {i for i, name in enumerate(column) if "/" in name.replace("\\", "/")}
    trusted = not deep <= set(lost)
    index = _index(root)
    still: list[int] = []
    moved: list[int] = []
    for i in lost:
        if trusted and i in deep and "/" + _composed(found[i]) not in index:
            still.append(i)
            continue
        whole = _composed(found[i])
        name = whole.rpartition("/")[2]
        hits = index.get("/" + whole) or index.get(name) or index.get(name.rpartition(".")[0]) or []
        if len(hits) > 1 and not skip:
            raise DataError(
                f"{path}: line {column.index[i]}: {column.iloc[i]} is not there, and {len(hits)} "
                f"files of that name are: {some(hits)}; write the path from {root} in the table"
            )
        (moved if len(hits) == 1 else still).append(i)
        found[i] = hits[0] if len(hits) == 1 else found[i]
    if moved:
        notes.append(
            f"{len(moved)} images were not where the table says and were found by their names "
            f"(the first: {column.iloc[moved[0]]} is {found[moved[0]]})"
        )
    return still


def _by_instance(found: list[str], lost: list[int], root: Path, notes: list[str]) -> list[int]:
    """Look for lost files by SOPInstanceUID, as which tables of DICOM files name pictures."""
    uids = {i: found[i].rpartition("/")[2].removesuffix(".dcm") for i in lost}
    if not any(_UID.fullmatch(uid) for uid in uids.values()):
        return lost
    files = dicom.sop_index(str(file) for file in files_below(root))
    still = [i for i in lost if uids[i] not in files]
    for i in set(lost) - set(still):
        found[i] = os.path.relpath(files[uids[i]], root)
    if len(still) < len(lost):  # without naming one: it identifies a person
        notes.append(f"{len(lost) - len(still)} images were found by their SOPInstanceUID")
    return still


def _index(root: Path) -> dict[str, list[str]]:
    """All files below a folder by "/" and relative path, by name, and by name without ending.

    Keys are in Unicode's composed form: tables and file systems write é in two ways.
    """
    index: dict[str, list[str]] = {}
    for file in files_below(root):
        relative = file.relative_to(root).as_posix()
        keys = {"/" + relative, file.name, file.stem}
        for key in {_composed(key) for key in keys}:
            index.setdefault(key, []).append(relative)
    return index


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def refuse_twice(ids: list[str], frame: pd.DataFrame, path: Path) -> None:
    """Two rows for one image are a mistake, whether they agree or not."""
    if len(set(ids)) == len(ids):
        return
    first: dict[str, int] = {}
    pairs = []
    for i, name in enumerate(ids):
        if name in first:
            same = frame.iloc[i].tolist() == frame.iloc[first[name]].tolist()
            how = "equal" if same else "they differ"
            pairs.append(f"lines {frame.index[first[name]]} and {frame.index[i]}: {name}, {how}")
        first.setdefault(name, i)
    raise DataError(f"{path}: {len(pairs)} duplicate rows ({some(pairs)}); keep one row an image")

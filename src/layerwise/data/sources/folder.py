"""A folder of class folders, with or without train, val and test folders above them."""

import os
from pathlib import Path

from layerwise.data.manifest import Manifest, make_table
from layerwise.data.sources.options import (
    DataOptions,
    encode_classes,
    only_rows,
    patients_from_names,
    some,
    split_name,
)
from layerwise.errors import DataError

_CLUTTER = {"thumbs.db", "desktop.ini", "__macosx"}  # what operating systems leave lying about


def read(root: Path, options: DataOptions) -> Manifest:
    """Make the manifest of a folder: the class is the name of the folder an image stands in.

    Hidden files are ignored. Every other file in a class folder counts as an image; that one is
    not is found out when it is decoded.

    Raises:
        DataError: No class folders, no images, one class only, or a class with one image.
    """
    parts, classes = _layout(root)
    ids, labels, splits = [], [], []
    notes = []
    for part_dir, part in parts:
        class_dirs = classes if part_dir == root else _folders(part_dir)
        for class_dir in class_dirs:
            files = files_below(class_dir)
            if not files:
                notes.append(f"{class_dir.relative_to(root).as_posix()} is empty and left out")
            ids += [file.relative_to(root).as_posix() for file in files]
            labels += [class_dir.name] * len(files)
            splits += [part] * len(files)
        stray = sum(1 for entry in part_dir.iterdir() if entry.is_file() and _visible(entry.name))
        if stray:
            notes.append(f"{stray} files beside the class folders of {part_dir.name} are left out")
    if parts[0][0] != root and classes:
        notes.append(f"left out beside the split folders: {some([c.name for c in classes])}")
    if not ids:
        raise DataError(f"{root}: no images; DATA is a folder with one folder of images a class")
    rows = only_rows(labels, options.only, str(root)).tolist()
    ids, labels, splits = [[of[i] for i in rows] for of in (ids, labels, splits)]
    task, names, targets, said = encode_classes(labels, str(root), options)
    patients = None
    if options.patient_from is not None:
        official = splits if parts[0][0] != root else None
        patients, found = patients_from_names(options.patient_from, ids, official)
        said += found
    return Manifest(
        name=root.resolve().name,
        task=task,
        labels=names,
        table=make_table(
            ids, paths=[str(root / name) for name in ids], patients=patients, splits=splits
        ),
        targets=targets,
        notes=(*notes, *said),
    )


def files_below(folder: Path) -> list[Path]:
    """All visible files below a folder, sorted; links are followed, but not in circles.

    Links that lead nowhere are among them, to be found missing; pipes and devices are not, since
    reading one may never end.

    Raises:
        DataError: A folder can not be read.
    """
    found, seen, waiting = [], set(), [str(folder)]
    while waiting:
        where = waiting.pop()
        try:
            status = os.stat(where)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(where) as entries:
                visible = sorted((e for e in entries if _visible(e.name)), key=lambda e: e.name)
            for entry in visible:
                if not entry.is_dir() and (entry.is_file() or not os.path.exists(entry.path)):
                    found.append(Path(entry.path))
            # The first in the alphabet comes next: of two links to one folder it is the one kept.
            waiting += [entry.path for entry in reversed(visible) if entry.is_dir()]
        except OSError as error:
            raise DataError(
                f"{where}: can not be read ({error.strerror}); check the path and who may read it"
            ) from error
    return sorted(found)


def _layout(root: Path) -> tuple[list[tuple[Path, str]], list[Path]]:
    """The folders that hold class folders, each with its split, and the folders beside them."""
    try:
        folders = _folders(root)
    except OSError as error:
        raise DataError(f"{root}: can not be read ({error.strerror}); check the path") from error
    parts = [(f, split) for f in folders if (split := split_name(f.name)) is not None]
    if parts:
        order = ("train", "val", "test")
        parts.sort(key=lambda part: order.index(part[1]))
        return parts, [f for f in folders if split_name(f.name) is None]
    if not folders:
        images = any(_visible(entry.name) for entry in root.iterdir())
        what = "images but no class folders" if images else "nothing in it"
        raise DataError(
            f"{root}: {what}; DATA is a folder with one folder of images a class"
            + (", or name a table of labels with --labels" if images else "")
        )
    return [(root, "")], folders


def _folders(folder: Path) -> list[Path]:
    """The visible folders of a folder, sorted by name."""
    return sorted(e for e in folder.iterdir() if e.is_dir() and _visible(e.name))


def _visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _CLUTTER

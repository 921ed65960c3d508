"""A MedMNIST .npz file: {train,val,test}_images and _labels, pixels and all."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from layerwise.data.manifest import SPLITS, Manifest, make_table
from layerwise.data.pictures.arrays import Member, Pictures, Unpacked, members, read_member
from layerwise.data.pictures.picture import MAX_PIXELS
from layerwise.data.sources.options import (
    DataOptions,
    check_multilabel,
    encode_classes,
    only_rows,
    some,
)
from layerwise.data.sources.targets import Targets
from layerwise.errors import DataError

MOST_CLASSES = 10_000  # more than these are no classes


def read(path: Path, options: DataOptions) -> Manifest:
    """Make the manifest of a MedMNIST file; ids are "train/17".

    Labels of shape (N, 1) or (N,) are classes, (N, K) of 0 and 1 are multi-label. They are called
    "0", "1", … unless a classes.json beside the file lists as many names.

    Every size and kind of MedMNIST's two-dimensional sets is read. The pictures stay in the file
    until one of them is asked for, and never are all in memory: see `Pictures`.

    Raises:
        DataError: The file is damaged, would run code (pickled objects), claims what can not be,
            lacks an array, or holds volumes.
    """
    if options.patient_from is not None:
        raise DataError(f"--patient-from: the pictures of {path} have no file names; leave it out")
    arrays = members(path)
    parts = [part for part in SPLITS if f"{part}_images" in arrays]
    if not parts:
        raise DataError(
            f"{path}: no train_images, val_images or test_images (found "
            f"{some(sorted(arrays)) or 'nothing'}); give a file of MedMNIST's form"
        )
    images = [_images(path, arrays[f"{part}_images"]) for part in parts]
    labels = [_labels(path, part, arrays) for part in parts]
    if len({i.shape[1:3] + i.shape[3:4] * (i.shape[3:] == (3,)) for i in images}) > 1:
        raise DataError(f"{path}: its parts differ in picture size; mend it")
    if len({x.shape[1] for x in labels}) > 1:
        raise DataError(f"{path}: its parts differ in their number of labels; mend it")
    pixels, values = Pictures(Unpacked(path, images)), np.concatenate(labels)
    ids = [f"{part}/{i}" for part, x in zip(parts, labels, strict=True) for i in range(len(x))]
    splits = [part for part, x in zip(parts, labels, strict=True) for _ in range(len(x))]
    rows, (task, names, targets), notes = _encode(path, values, options)
    whole = len(rows) == len(ids)
    return Manifest(
        name=path.stem,
        task=task,
        labels=names,
        table=make_table(ids, splits=splits).iloc[rows].reset_index(drop=True),
        targets=targets,
        pixels=pixels if whole else pixels.take(rows),
        notes=tuple(notes),
        source=str(path.resolve()),
    )


def _encode(
    path: Path, values: NDArray[np.int64], options: DataOptions
) -> tuple[NDArray[np.int64], Targets, list[str]]:
    """Labels (N, K) as the rows that are used, what is to be learnt of them, and notes."""
    count = values.shape[1] if values.shape[1] > 1 else int(values.max()) + 1
    names = _names(path, count) if count <= MOST_CLASSES else None
    said = [f"the labels' names are taken from {path.with_name('classes.json')}"] if names else []
    everything = np.arange(len(values))
    if values.shape[1] == 1:
        numbers = np.unique(values).tolist()
        if len(numbers) > MOST_CLASSES:
            raise DataError(f"{path}: {len(numbers)} classes; the labels are no classes: mend it")
        called = {k: names[k] if names else str(k) for k in numbers}
        classes = [called[value] for value in values[:, 0].tolist()]
        rows = only_rows(classes, options.only, str(path))
        used = [classes[i] for i in rows.tolist()]
        task, labels, targets, notes = encode_classes(used, str(path), options, [*called.values()])
        return rows, (task, labels, targets), said + notes
    if not np.isin(values, (0, 1)).all():
        raise DataError(f"{path}: with several labels an image each must be 0 or 1; mend the file")
    every = names or [str(k) for k in range(count)]
    only_rows(every, options.only, str(path))  # refuses what is not there
    kept = [k for k, label in enumerate(every) if not options.only or label in options.only]
    many = values[:, kept].astype(np.float32)  # (N, K)
    if not options.rare:
        check_multilabel([every[k] for k in kept], many, str(path))
    return everything, ("multilabel", tuple(every[k] for k in kept), many), said


def _images(path: Path, member: Member) -> Member:
    """An array of pictures, if it is one."""
    shape = member.shape
    if member.dtype.hasobject:
        raise DataError(f"{path}: {member.name} holds pickled objects; download or make it again")
    if member.dtype == np.uint8 and (len(shape) == 5 or (len(shape) == 4 and shape[3] > 4)):
        raise DataError(
            f"{path}: {member.name} is {shape}: volumes, not pictures. Layerwise reads pictures "
            "only; they must be uint8 (N, H, W) or (N, H, W, 3): take a two-dimensional set"
        )
    fits = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))
    if member.dtype != np.uint8 or not fits:
        raise DataError(
            f"{path}: {member.name} is {member.dtype} {shape}; pictures must be uint8 (N, H, W) "
            "or (N, H, W, 3)"
        )
    if 0 in shape or shape[1] * shape[2] > MAX_PIXELS:
        raise DataError(f"{path}: {member.name} is {shape}: no such pictures can be; mend it")
    return member


def _labels(path: Path, part: str, arrays: dict[str, Member]) -> NDArray[np.int64]:
    """Labels as int64 (N, K), K = 1 for classes."""
    name = f"{part}_labels"
    if name not in arrays:
        raise DataError(f"{path}: has {part}_images but no {name}; give a complete file")
    member, n = arrays[name], arrays[f"{part}_images"].shape[0]
    if len(member.shape) not in (1, 2) or member.shape[0] != n or 0 in member.shape:
        raise DataError(f"{path}: {name} has shape {member.shape} for {n} pictures; mend the file")
    if member.shape[1:] > (MOST_CLASSES,):
        raise DataError(f"{path}: {name} has {member.shape[1]} labels an image; mend the file")
    values = read_member(path, member)
    values = values.reshape(n, -1)
    if values.dtype.kind not in "biuf":
        raise DataError(f"{path}: {name} holds no numbers ({values.dtype}); mend the file")
    numbers = values.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers).all(axis=1) | (numbers < 0).any(axis=1))
    if len(bad) or (numbers != np.floor(numbers)).any():
        where = f" (the first in row {bad[0]})" if len(bad) else ""
        raise DataError(f"{path}: {name} must hold numbers 0, 1, …, none missing{where}; mend it")
    return numbers.astype(np.int64)


def _names(path: Path, count: int) -> list[str] | None:
    """The label names in a classes.json beside the file, if it lists exactly as many."""
    try:
        names = json.loads(path.with_name("classes.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    fits = isinstance(names, list) and len(names) == count and len({str(n) for n in names}) == count
    return [str(name) for name in names] if fits else None

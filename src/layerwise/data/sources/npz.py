"""A MedMNIST .npz file: {train,val,test}_images and _labels, pixels and all."""

import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from layerwise.data.manifest import SPLITS, Manifest, Task, make_table
from layerwise.data.sources.options import DataOptions, check_multilabel, encode_classes
from layerwise.errors import DataError


def read(path: Path, options: DataOptions) -> Manifest:
    """Make the manifest of a MedMNIST file; ids are "train/17".

    Labels of shape (N, 1) or (N,) are classes, (N, K) of 0 and 1 are multi-label. They are called
    "0", "1", … unless a classes.json beside the file lists as many names.

    Raises:
        DataError: The file is damaged, would run code (pickled objects), or lacks an array.
    """
    if options.patient_from is not None:
        raise DataError(f"--patient-from: the pictures of {path} have no file names; leave it out")
    arrays = _arrays(path)
    parts = [part for part in SPLITS if f"{part}_images" in arrays]
    if not parts:
        raise DataError(
            f"{path}: no train_images, val_images or test_images (found "
            f"{', '.join(sorted(arrays)) or 'nothing'}); give a file of MedMNIST's form"
        )
    images = [_images(path, f"{part}_images", arrays) for part in parts]
    labels = [_labels(path, part, arrays) for part in parts]
    if len({i.shape[1:] for i in images}) > 1 or len({x.shape[1] for x in labels}) > 1:
        raise DataError(f"{path}: its parts differ in picture size or number of labels; mend it")
    pixels, values = np.concatenate(images), np.concatenate(labels)
    ids = [f"{part}/{i}" for part, x in zip(parts, images, strict=True) for i in range(len(x))]
    splits = [part for part, x in zip(parts, images, strict=True) for _ in range(len(x))]
    task, names, targets, notes = _encode(path, values, options)
    return Manifest(
        name=path.stem,
        task=task,
        labels=names,
        table=make_table(ids, splits=splits),
        targets=targets,
        pixels=pixels,
        notes=tuple(notes),
        source=str(path.resolve()),
    )


def _encode(
    path: Path, values: NDArray[np.int64], options: DataOptions
) -> tuple[Task, tuple[str, ...], NDArray[np.int64] | NDArray[np.float32], list[str]]:
    """Labels (N, K) as task, names, targets and notes."""
    count = values.shape[1] if values.shape[1] > 1 else int(values.max()) + 1
    names = _names(path, count)
    said = [f"the labels' names are taken from {path.with_name('classes.json')}"] if names else []
    called = names or [str(k) for k in range(count)]
    if values.shape[1] == 1:
        classes = [called[value] for value in values[:, 0].tolist()]
        task, labels, targets, notes = encode_classes(classes, str(path), options.positive, called)
        return task, labels, targets, said + notes
    if not np.isin(values, (0, 1)).all():
        raise DataError(f"{path}: with several labels an image each must be 0 or 1; mend the file")
    many = values.astype(np.float32)  # (N, K)
    check_multilabel(called, many, str(path))
    return "multilabel", tuple(called), many, said


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """Every array of the file, none of them unpickled."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = "it holds pickled objects" if "pickle" in str(error) else str(error)
        raise DataError(
            f"{path}: can not be read as .npz ({reason}); download or make it again"
        ) from error
    except (AttributeError, MemoryError, NotImplementedError) as error:  # a lone .npy; nonsense
        raise DataError(f"{path}: no .npz file of arrays; download or make it again") from error


def _images(path: Path, name: str, arrays: dict[str, NDArray[np.generic]]) -> NDArray[np.uint8]:
    """Pictures as uint8 (N, H, W) or (N, H, W, 3)."""
    images = arrays[name]
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[:, :, :, 0]
    fits = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if images.dtype != np.uint8 or not fits:
        raise DataError(
            f"{path}: {name} is {images.dtype} {images.shape}; pictures must be uint8 (N, H, W) "
            "or (N, H, W, 3)"
        )
    return images.astype(np.uint8, copy=False)


def _labels(path: Path, part: str, arrays: dict[str, NDArray[np.generic]]) -> NDArray[np.int64]:
    """Labels as int64 (N, K), K = 1 for classes."""
    name = f"{part}_labels"
    if name not in arrays:
        raise DataError(f"{path}: has {part}_images but no {name}; give a complete file")
    values = arrays[name]
    n = len(arrays[f"{part}_images"])
    if values.ndim not in (1, 2) or len(values) != n:
        raise DataError(f"{path}: {name} has shape {values.shape} for {n} pictures; mend the file")
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

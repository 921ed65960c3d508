"""What the data are, in numbers: for the plan, the report, and the identity of runs."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.data.manifest import SPLITS, UNASSIGNED, Manifest
from layerwise.data.storage.headers import Headers
from layerwise.data.storage.store import ImageStore

CHUNK = 64  # pictures read at a time


def fingerprint(
    manifest: Manifest,
    store: ImageStore,
    headers: Headers | None = None,
) -> dict[str, Any]:
    """Describe the data.

    Args:
        manifest: The data, with their splits.
        store: Their pictures, row by row.
        headers: What `read_headers` returned for the same rows; None leaves original sizes out.

    Returns:
        JSON-able: name, key (`data_key`), task, labels, images, splits (images a split), counts
        (by split and label), prevalence (of each label in all images), imbalance (the most frequent
        class over the rarest), patients (None where unknown), original (height and width:
        min, median, max; grey), stored (size, channels, letterbox), mean and std (of the training
        part by channel, in [0, 1]), notes.
    """
    everything = manifest.per_label(np.arange(len(manifest)))  # (K,)
    known = _known(manifest)
    mean, std = moments(store, manifest.indices("train"))
    patients = set(manifest.table["patient"]) - {""}
    original = None
    if headers is not None:
        sizes = headers.sizes[headers.sizes[:, 0] > 0]  # (n, 2), those that could be read
        original = {
            "height": _spread(sizes[:, 0]),
            "width": _spread(sizes[:, 1]),
            "grey": bool(headers.grey.all()),
        }
    return {
        "name": manifest.name,
        "key": data_key(manifest, store),
        "task": manifest.task,
        "labels": list(manifest.labels),
        "images": len(manifest),
        "splits": {
            part or UNASSIGNED: len(manifest.indices(part))
            for part in (*SPLITS, "")
            if len(manifest.indices(part))
        },
        "counts": manifest.counts(),
        "prevalence": dict(zip(manifest.labels, (everything / known).tolist(), strict=True)),
        "imbalance": float(everything.max() / max(1, everything.min())),
        "patients": len(patients) if patients else None,
        "original": original,
        "stored": {
            "size": list(store.size),
            "channels": store.channels,
            "letterbox": store.letterbox,
        },
        "mean": mean.tolist(),
        "std": std.tolist(),
        "notes": list(manifest.notes),
    }


def moments(
    store: ImageStore, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation by channel, each (C,), of some pictures, values in [0, 1].

    Exact and independent of the order: pixels are counted by value, never summed as floats.
    """
    counts = np.zeros((store.channels, 256), np.int64)
    for start in range(0, len(rows), CHUNK):
        pictures = store.read(rows[start : start + CHUNK])  # (n, H, W, C)
        for c in range(store.channels):
            counts[c] += np.bincount(pictures[..., c].ravel(), minlength=256)
    values = np.arange(256) / 255
    total = np.maximum(counts.sum(axis=1), 1)  # (C,)
    mean = (counts * values).sum(axis=1) / total
    variance = (counts * (values - mean[:, None]) ** 2).sum(axis=1) / total
    return mean, np.sqrt(variance)


def data_key(manifest: Manifest, store: ImageStore) -> str:
    """The sha256 (hex) of images, labels, targets and splits, whatever their order and place.

    It names the data in a run's identity: equal keys, equal data.
    """
    key = hashlib.sha256(repr((manifest.task, manifest.labels)).encode())
    ids, splits = manifest.table["id"].tolist(), manifest.table["split"].tolist()
    targets = np.ascontiguousarray(manifest.targets)
    digests = store.digests
    for i in sorted(range(len(ids)), key=ids.__getitem__):
        key.update(repr((ids[i], splits[i])).encode())
        key.update(targets[i].tobytes() + digests[i].tobytes())
    return key.hexdigest()


def _known(manifest: Manifest) -> NDArray[np.int64]:
    """(K,) how many images each label is known for."""
    if manifest.task != "multilabel":
        return np.full(len(manifest.labels), max(1, len(manifest)), np.int64)
    known = (~np.isnan(manifest.targets)).sum(axis=0)
    return np.asarray(np.maximum(known, 1), dtype=np.int64)


def _spread(values: NDArray[np.int64]) -> dict[str, float]:
    """Least, middle and greatest value."""
    if not len(values):
        return {}
    return {
        "min": float(values.min()),
        "median": float(np.median(values)),
        "max": float(values.max()),
    }

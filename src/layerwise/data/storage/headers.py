"""What the headers of all pictures tell, as arrays: sizes, modes, formats. Nothing is decoded."""

import os
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from layerwise.data.manifest import Manifest
from layerwise.data.storage.workers import map_chunks, worker_count


@dataclass(frozen=True, eq=False)
class Headers:
    """One entry a picture, in the order of the manifest."""

    sizes: NDArray[np.int64]  # (N, 2) height and width; (0, 0) where the header can not be read
    grey: NDArray[np.bool_]  # (N,) grey by its mode; True for what can not be read
    formats: NDArray[np.str_]  # (N,) "JPEG", "PNG", …; "array" without files; "" if unreadable
    bits: NDArray[np.int64]  # (N,) a channel: 1, 8, 16; DICOM 1 to 16 as stored; 0 if unreadable
    bytes: NDArray[np.int64]  # (N,) of the file; 0 without files

    def __len__(self) -> int:
        return len(self.grey)

    def take(self, rows: NDArray[np.int64]) -> "Headers":
        """Only these pictures, in this order."""
        return Headers(*(getattr(self, field.name)[rows] for field in fields(self)))


def read_headers(manifest: Manifest, workers: int | None = None) -> Headers:
    """Read the headers of all pictures, by several processes where there are many.

    Unreadable ones count as grey, so that they decide nothing; the store says what is wrong.
    """
    n = len(manifest)
    if manifest.pixels is not None:
        return Headers(
            sizes=np.tile(np.asarray(manifest.pixels.shape[1:3], np.int64), (n, 1)),
            grey=np.full(n, manifest.pixels.ndim == 3),
            formats=np.full(n, "array"),
            bits=np.full(n, 8, np.int64),
            bytes=np.zeros(n, np.int64),
        )
    sizes, grey = np.zeros((n, 2), np.int64), np.ones(n, np.bool_)
    formats, bits = [""] * n, np.zeros(n, np.int64)
    paths = manifest.table["path"].tolist()
    for rows, found in map_chunks(paths, {"what": "headers"}, worker_count(workers, n // 8)):
        for i, entry in zip(rows, found, strict=True):
            if entry is not None:
                sizes[i], grey[i] = (entry["height"], entry["width"]), entry["grey"]
                formats[i], bits[i] = entry["format"], entry["bits"]
    return Headers(sizes, grey, np.asarray(formats, np.str_), bits, _file_bytes(paths))


def _file_bytes(paths: list[str]) -> NDArray[np.int64]:
    """(N,) the size of each file, 0 where it is gone."""
    out = np.zeros(len(paths), np.int64)
    for i, path in enumerate(paths):
        try:
            out[i] = os.stat(path).st_size
        except OSError:
            pass
    return out

"""The image store: every file decoded once into rows on disk, all of one size, memory-mapped.

A store is a folder named by what is in it, so it is found again by any later command:

    <folder>/images/<key>/pixels.u8     (N, H, W, C) uint8
                          digests.u8    (N, 64) uint8, two sha256 of each picture: of its file, and
                                        of its row
                          meta.json     the key, shapes, damaged rows, versions, digests

It is built beside its place and moved there when it is whole. Builders that were killed leave rows
that agree with their digests; the next builder keeps these. What a finished store lost or changed
since is found when it is opened, and made again in the same way.
"""

import copy
import hashlib
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL
from numpy.typing import NDArray

from layerwise import __version__
from layerwise.config import content_key, read_json
from layerwise.data.pictures.arrays import Pictures
from layerwise.data.pictures.images import DECODE_VERSION
from layerwise.data.storage.decoder import Job, Writer
from layerwise.data.storage.rows import Rows
from layerwise.data.storage.seal import fault, seal
from layerwise.data.storage.unfinished import unfinished
from layerwise.data.storage.verify import DIGEST_BYTES, RECORD_BYTES, wrong_rows
from layerwise.data.storage.workers import Answers, map_chunks, worker_count
from layerwise.errors import DataError, LayerwiseError

if TYPE_CHECKING:
    from layerwise.data.manifest import Manifest

Progress = Callable[[int, int], None]

STORE_VERSION = 2  # of the files of a store; part of its key
BLOCK = 64  # pictures of an array that are held at a time
SHOWN = 10  # damaged files that an error lists


class ImageStore:
    """Pictures by row, of one size; row i belongs to row i of the manifest it was built for."""

    def __init__(self, folder: Path) -> None:
        """Open a finished store; what is on disk is verified, once a process.

        Args:
            folder: The store's own folder.

        Raises:
            LayerwiseError: The store is not what was written.
        """
        wrong = fault(folder)
        if wrong is not None:
            raise LayerwiseError(
                f"{wrong}; run the command again with the images in place, which mends it, or "
                f"remove {folder}"
            )
        meta = read_json(folder / "meta.json")
        self.folder, self.key = folder, str(meta["key"])
        self.damaged: dict[int, str] = {int(i): why for i, why in meta["damaged"].items()}
        shape = tuple(meta["shape"])
        self.size: tuple[int, int] = (shape[1], shape[2])
        self.channels = int(shape[3])
        self.letterbox = bool(meta["letterbox"])
        self._rows = Rows(folder / "pixels.u8", shape, np.uint8)
        records = np.fromfile(folder / "digests.u8", np.uint8).reshape(-1, RECORD_BYTES)
        self._digests = records[:, :DIGEST_BYTES].copy()
        self.rows = np.asarray([i for i in range(shape[0]) if i not in self.damaged], np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def digests(self) -> NDArray[np.uint8]:
        """(N, 32) uint8: the sha256 of what each picture was made from (a file's bytes)."""
        return self._digests[self.rows]

    def read(self, indices: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        """A copy of these pictures, uint8 (n, H, W, C), in this order.

        Resident memory stays bounded however much is read: see `Rows`.
        """
        return np.asarray(self._rows.read(self.rows[indices]), dtype=np.uint8)

    def take(self, indices: NDArray[np.int64]) -> "ImageStore":
        """The same store with only these rows, to go with `Manifest.take`."""
        part = copy.copy(self)
        part.rows = self.rows[indices]
        return part


def build_store(
    manifest: "Manifest",
    *,
    size: tuple[int, int],
    channels: int,
    letterbox: bool,
    folder: Path,
    workers: int | None = None,
    skip_unreadable: bool = False,
    progress: Progress | None = None,
) -> tuple[ImageStore, "Manifest"]:
    """Decode every picture of a manifest, or find that it was done before.

    Args:
        manifest: The pictures; its order is the store's.
        size: (height, width) of every picture in the store.
        channels: 1 (grey) or 3 (RGB).
        letterbox: Keep the aspect ratio, filled up with black.
        folder: Where stores are kept, the cache.
        workers: Processes; by default one a core that this process may use.
        skip_unreadable: Leave damaged pictures out instead of refusing them.
        progress: Called with (done, total) after every chunk.

    Returns:
        The store, and the manifest without the pictures that were left out; their rows agree.

    Raises:
        DataError: Pictures are damaged (the first ten are named), or none is left.
        OutputError: The folder can not be written.
    """
    key = store_key(manifest, size=size, channels=channels, letterbox=letterbox)
    place = folder / "images" / key[:32]
    wrong = fault(place)
    mended = wrong is not None and place.is_dir()
    if wrong is not None:
        with unfinished(place, lambda: fault(place) is None) as part:
            if part is not None:
                shape = (len(manifest), *size, channels)
                damaged = _fill(part, manifest, shape, letterbox, workers, progress)
                if damaged and not skip_unreadable:
                    _refuse(manifest, damaged)
                meta = {
                    "key": key,
                    "shape": list(shape),
                    "letterbox": letterbox,
                    "damaged": {str(i): damaged[i] for i in sorted(damaged)},
                    "versions": {
                        "layerwise": __version__,
                        "numpy": np.__version__,
                        "pillow": PIL.__version__,
                        "python": platform.python_version(),
                    },
                }
                seal(part, meta)
    if progress is not None:
        progress(len(manifest), len(manifest))
    if mended:
        manifest = manifest.replace(note=f"The store of decoded images was mended: {wrong}")
    store = ImageStore(place)
    if not store.damaged:
        return store, manifest
    if not skip_unreadable or not len(store):
        _refuse(manifest, store.damaged)
    names = [manifest.table["id"].iloc[i] for i in sorted(store.damaged)]
    shown = ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
    note = f"{len(names)} unreadable pictures are left out (--skip-unreadable): {shown}"
    return store, manifest.take(store.rows).replace(note=note)


def store_key(
    manifest: "Manifest", *, size: tuple[int, int], channels: int, letterbox: bool
) -> str:
    """The sha256 (hex) of all that decides what a store holds: files, their ages, and the settings.

    A file that is rewritten gets another modification time, and with it another store.
    """
    rows = hashlib.sha256()
    if isinstance(manifest.pixels, Pictures):  # known without unpacking them
        rows.update(manifest.pixels.identity.encode())
    elif manifest.pixels is not None:
        rows.update(f"{manifest.pixels.shape}".encode())
        for start in range(0, len(manifest), BLOCK):
            rows.update(np.ascontiguousarray(manifest.pixels[start : start + BLOCK]).data)
    else:
        for path in manifest.table["path"]:
            try:
                status = os.stat(path)
                age = f"{status.st_size} {status.st_mtime_ns}"
            except OSError:
                age = "missing"
            rows.update(os.fsencode(path) + f"\0{age}\0".encode())
    settings = {
        "rows": rows.hexdigest(),
        "count": len(manifest),
        "size": list(size),
        "channels": channels,
        "letterbox": letterbox,
        "decode": DECODE_VERSION,
        "store": STORE_VERSION,
    }
    return content_key(settings)


def _fill(
    part: Path,
    manifest: "Manifest",
    shape: tuple[int, ...],
    letterbox: bool,
    workers: int | None,
    progress: Progress | None,
) -> dict[int, str]:
    """Write all rows that are not there yet; returns what is wrong with which row."""
    n = len(manifest)
    pixels, records = part / "pixels.u8", part / "digests.u8"
    job = Job((shape[1], shape[2]), shape[3], letterbox, str(pixels), str(records))
    begun = pixels.is_file() and records.is_file()
    for file, row_bytes in ((pixels, job.row_bytes), (records, RECORD_BYTES)):
        with file.open("ab") as handle:
            handle.truncate(n * row_bytes)
    missing = wrong_rows(pixels, records, n, job.row_bytes) if begun else np.arange(n)
    done = n - len(missing)
    damaged: dict[int, str] = {}
    for rows, found in _made(manifest, job, missing, workers):
        damaged.update({i: why for i, why in zip(rows, found, strict=True) if why is not None})
        done += len(found)
        if progress is not None:
            progress(done, n)
    for file in (pixels, records):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return damaged


def _made(manifest: "Manifest", job: Job, rows: NDArray[np.int64], workers: int | None) -> Answers:
    """Have these rows written, whatever the pictures are made from."""
    if manifest.pixels is not None:
        return _from_arrays(manifest.pixels, job, rows)
    paths = manifest.table["path"].tolist()
    count = worker_count(workers, len(rows), _bytes_of([paths[row] for row in rows[:1000]]))
    return map_chunks(paths, {"what": "decode", "job": job.__dict__}, count, rows.tolist())


def _bytes_of(paths: list[str]) -> int:
    """The length of all these files; those that are gone have none."""
    return sum(os.stat(path).st_size for path in paths if os.path.isfile(path))


def _from_arrays(
    pixels: NDArray[np.uint8] | Pictures, job: Job, rows: NDArray[np.int64]
) -> Answers:
    """Write pictures that are in an array already, answering as `map_chunks` does."""
    writer = Writer(job)
    try:
        for start in np.unique(rows // BLOCK * BLOCK).tolist():
            block = pixels[start : start + BLOCK]  # only slices: the array may be a file
            wanted = rows[(rows >= start) & (rows < start + BLOCK)].tolist()
            yield wanted, [writer.put(row, block[row - start]) for row in wanted]
    finally:
        writer.close()


def _refuse(manifest: "Manifest", damaged: dict[int, str]) -> None:
    """Raise the error that lists the damaged pictures."""
    shown = [damaged[i] for i in sorted(damaged)[:SHOWN]]
    more = f"\n  and {len(damaged) - SHOWN} more" if len(damaged) > SHOWN else ""
    raise DataError(
        f"{manifest.name}: {len(damaged)} of {len(manifest)} pictures can not be read:\n  "
        + "\n  ".join(shown)
        + more
        + "\nreplace or remove them, or leave them out with --skip-unreadable"
    )

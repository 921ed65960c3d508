"""The image store: every file decoded once into rows on disk, all of one size, memory-mapped.

A store is a folder named by what is in it, so it is found again by any later command:

    <folder>/images/<key>/pixels.u8     (N, H, W, C) uint8
                          digests.u8    (N, 32) uint8, sha256 of each file's bytes
                          meta.json     the key, shapes, damaged rows, versions

It is built beside its place and moved there when it is whole.
"""

import hashlib
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL
from numpy.typing import NDArray

from layerwise import __version__
from layerwise.config import content_key, read_json, write_json
from layerwise.data.decoder import DIGEST_BYTES, Job, Writer
from layerwise.data.images import DECODE_VERSION
from layerwise.data.rows import Rows, atomic_folder
from layerwise.data.workers import CHUNK, Answers, map_chunks, worker_count
from layerwise.errors import DataError, LayerwiseError, OutputError

if TYPE_CHECKING:
    from layerwise.data.manifest import Manifest

Progress = Callable[[int, int], None]

SHOWN = 10  # damaged files that an error lists


class ImageStore:
    """Pictures by row, of one size; row i belongs to row i of the manifest it was built for."""

    def __init__(self, folder: Path, rows: NDArray[np.int64] | None = None) -> None:
        """Open a finished store.

        Args:
            folder: The store's own folder.
            rows: (n,) the stored rows that are used; by default all that are not damaged.

        Raises:
            LayerwiseError: The store is not whole.
        """
        meta = read_json(folder / "meta.json")
        self.folder, self.key = folder, str(meta["key"])
        self.damaged: dict[int, str] = {int(i): why for i, why in meta["damaged"].items()}
        shape = tuple(meta["shape"])
        self.size: tuple[int, int] = (shape[1], shape[2])
        self.channels = int(shape[3])
        self.letterbox = bool(meta["letterbox"])
        files = {folder / "pixels.u8": shape, folder / "digests.u8": (shape[0], DIGEST_BYTES)}
        for file, expected in files.items():
            if not file.is_file() or file.stat().st_size != np.prod(expected, dtype=np.int64):
                raise LayerwiseError(f"{file}: not of the size it was written; remove {folder}")
        self._rows = Rows(folder / "pixels.u8", shape, np.uint8)
        self._digests = np.fromfile(folder / "digests.u8", np.uint8).reshape(-1, DIGEST_BYTES)
        whole = [i for i in range(shape[0]) if i not in self.damaged]
        self.rows = np.asarray(whole, np.int64) if rows is None else rows

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
        return ImageStore(self.folder, self.rows[indices])


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
    if not (place / "meta.json").is_file():
        _remove_leftovers(place.parent)
        with atomic_folder(place) as part:
            shape = (len(manifest), *size, channels)
            damaged = _fill(part, manifest, shape, letterbox, workers, progress)
            if damaged and not skip_unreadable:
                _refuse(manifest, damaged)
            meta = {
                "key": key,
                "shape": shape,
                "letterbox": letterbox,
                "damaged": {str(i): why for i, why in damaged.items()},
                "versions": {
                    "layerwise": __version__,
                    "numpy": np.__version__,
                    "pillow": PIL.__version__,
                    "python": platform.python_version(),
                },
            }
            write_json(part / "meta.json", meta)
    elif progress is not None:
        progress(len(manifest), len(manifest))
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
    if manifest.pixels is not None:
        rows.update(f"{manifest.pixels.shape}".encode())
        for start in range(0, len(manifest), CHUNK):
            rows.update(np.ascontiguousarray(manifest.pixels[start : start + CHUNK]).tobytes())
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
    """Write all pictures and digests; returns what is wrong with which row."""
    n = len(manifest)
    job = Job(
        size=(shape[1], shape[2]),
        channels=shape[3],
        letterbox=letterbox,
        pixels=str(part / "pixels.u8"),
        digests=str(part / "digests.u8"),
    )
    for name, row_bytes in ((job.pixels, job.row_bytes), (job.digests, DIGEST_BYTES)):
        with open(name, "wb") as file:
            file.truncate(n * row_bytes)
    done = 0
    damaged: dict[int, str] = {}
    if manifest.pixels is not None:
        chunks = _from_arrays(manifest.pixels, job)
    else:
        task = {"what": "decode", "job": job.__dict__}
        chunks = map_chunks(manifest.table["path"].tolist(), task, worker_count(workers, n))
    for start, found in chunks:
        damaged.update({start + i: why for i, why in enumerate(found) if why is not None})
        done += len(found)
        if progress is not None:
            progress(done, n)
    for name in (job.pixels, job.digests):
        descriptor = os.open(name, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return damaged


def _from_arrays(pixels: NDArray[np.uint8], job: Job) -> Answers:
    """Write pictures that are in memory already, answering as `map_chunks` does."""
    writer = Writer(job)
    try:
        for start in range(0, len(pixels), CHUNK):
            rows = range(start, min(len(pixels), start + CHUNK))
            yield start, [writer.put(i, pixels[i]) for i in rows]
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


def _remove_leftovers(folder: Path) -> None:
    """Remove what builders that were killed left behind (and only that)."""
    try:
        parts = list(folder.glob("*.part-*"))
    except OSError as error:
        raise OutputError(f"{folder}: can not be read ({error.strerror}); check it") from error
    for part in parts:
        owner = part.name.rpartition("-")[2]
        if owner.isdigit() and (int(owner) == os.getpid() or not _alive(int(owner))):
            shutil.rmtree(part, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

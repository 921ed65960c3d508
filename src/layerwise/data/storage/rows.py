"""Rows of one shape on disk, memory-mapped, with bounded resident memory and no half-written file.

Decoded images and cached activations are both kept this way.
"""

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from layerwise.errors import OutputError

RESIDENT_BYTES = 32 * 2**20  # what may stay mapped before the pages are given back


class Rows:
    """An array on disk, (N, …), read row by row in any order.

    Pages of a mapped file count as resident memory of the process until they are given back;
    after every 32 MB read they are, so memory stays flat whatever N is. The operating system
    still keeps them in its page cache while memory is free.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Map an existing file of exactly this shape and dtype."""
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self._array: NDArray[np.generic] = np.memmap(path, self.dtype, "r", shape=shape)
        self._row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self._touched = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: the file's name, and not its content."""
        return Rows, (self.path, self.shape, self.dtype)

    def read(self, rows: "NDArray[np.int64] | tuple[NDArray[np.int64], slice]") -> NDArray[Any]:
        """A copy (n, …) of these rows, in this order."""
        out = np.array(self._array[rows])
        self._touched += len(out) * self._row_bytes
        if self._touched > RESIDENT_BYTES:
            self.release()
        return out

    def release(self) -> None:
        """Give the mapped pages back."""
        self._touched = 0
        mapped = self._array._mmap  # type: ignore[attr-defined]
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


class RowWriter:
    """Writes rows of one shape to a file by position, without mapping it."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Create the file at its full size."""
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self._file = path.open("wb")
        self._file.truncate(shape[0] * self._row_bytes)

    def write(self, start: int, rows: NDArray[np.generic]) -> None:
        """Put rows (n, …) at positions start … start + n."""
        if rows.shape[1:] != self.shape[1:]:
            raise ValueError(f"rows of shape {rows.shape[1:]} in a file of {self.shape[1:]}")
        view = memoryview(np.ascontiguousarray(rows, dtype=self.dtype).data).cast("B")
        offset = start * self._row_bytes
        while view:
            written = os.pwrite(self._file.fileno(), view, offset)
            view, offset = view[written:], offset + written

    def close(self) -> None:
        """Flush to the disk and close."""
        os.fsync(self._file.fileno())
        self._file.close()


def cannot_write(folder: Path, error: OSError) -> OutputError:
    """The error that says so, and what to do."""
    return OutputError(
        f"{folder}: can not be written ({error.strerror or error}); free some space or name "
        "another place with --out, --cache or LAYERWISE_CACHE"
    )


def check_writable(folder: Path) -> None:
    """Make an output folder and try to write in it, before hours of work depend on it.

    Raises:
        OutputError: It can not be made or written, or is a file.
    """
    probe = folder / f".writable-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(b"x" * 4096)
        finally:
            probe.unlink(missing_ok=True)  # on a full disk it is there, and empty
    except OSError as error:
        raise OutputError(
            f"--out {folder}: can not be written ({error.strerror or error}); name another folder, "
            "or free some space"
        ) from error

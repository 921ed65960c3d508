"""Arrays of an .npz archive that need not fit in memory: told from their headers, read by row.

Nothing is unpickled, and nothing is believed: what a header claims is held against the archive's
directory before any memory or disk is given to it.
"""

import errno
import hashlib
import os
import shutil
import tempfile
import threading
import warnings
import weakref
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from layerwise.errors import DataError

Bytes = NDArray[np.uint8]

_PIECE = 2**22  # bytes unpacked at a time
_BOMB = 2**30, 200  # an array of more bytes, packed to less than one in so many, is no data


@dataclass(frozen=True)
class Member:
    """One array of an archive, as its header tells."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    checksum: int  # CRC-32 of the whole member, from the archive's directory

    @property
    def bytes(self) -> int:
        """What its values take up."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def members(path: Path) -> dict[str, Member]:
    """The arrays of an archive by name, none of them read.

    Raises:
        DataError: It is no .npz, damaged, or an array claims what can not be.
    """
    with _opened(path) as archive:
        found = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as file:
                shape, dtype = _header(path, name, file)
                member = Member(name, shape, dtype, info.CRC)
                if info.file_size != file.tell() + member.bytes and not dtype.hasobject:
                    raise DataError(
                        f"{path}: {name} says it is {dtype} {shape} and holds something else; "
                        "download or make it again"
                    )
            if member.bytes > _BOMB[0] and member.bytes > _BOMB[1] * info.compress_size:
                raise DataError(
                    f"{path}: {name} unpacks to {member.bytes / 2**30:,.0f} GB from "
                    f"{info.compress_size / 2**20:,.1f} MB: no pictures do; download it again"
                )
            found[name] = member
        return found


def read_member(path: Path, member: Member) -> NDArray[np.generic]:
    """One whole array; for small ones.

    Raises:
        DataError: It is damaged, or holds pickled objects.
    """
    with _opened(path) as archive, archive.open(f"{member.name}.npy") as file:
        array: NDArray[np.generic] = np.lib.format.read_array(file, allow_pickle=False)
        return array


class Pictures:
    """Pictures uint8 (N, H, W) or (N, H, W, 3) of an archive; what is asked for is read.

    Looks like an array as far as pictures by number, slices and rows go; each gives a copy. The
    first one asked for unpacks them all, a few megabytes at a time, into a file without a name in
    the folder for temporary files ($TMPDIR), so that memory stays small however many there are.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, file: "Unpacked", rows: NDArray[np.int64] | None = None) -> None:
        """`rows` (n,) are those of the file that these pictures are; by default all."""
        self._file = file
        self._rows = np.arange(file.count) if rows is None else rows

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W) or (N, H, W, 3)."""
        return (len(self._rows), *self._file.picture)

    @property
    def ndim(self) -> int:
        """3 for grey, 4 for colour."""
        return len(self.shape)

    @property
    def identity(self) -> str:
        """The sha256 (hex) of checksums, shapes and rows: equal ones are equal pictures.

        It is known without unpacking anything.
        """
        key = hashlib.sha256(repr([(m.shape, m.checksum) for m in self._file.members]).encode())
        key.update(self._rows.astype("<i8").tobytes())
        return key.hexdigest()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> Bytes:  # noqa: ANN401 - a number, a slice, or rows
        """A copy of one picture (H, W[, 3]), or of several (n, H, W[, 3]) in this order."""
        chosen = np.asarray(self._rows[key])
        several = chosen.reshape(-1)
        out = np.empty((len(several), *self._file.picture), np.uint8)
        for start, stop in _runs(several):
            self._file.read(int(several[start]), out[start:stop])
        return out if chosen.ndim else out[0]

    def __iter__(self) -> Iterator[Bytes]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """All of them, in memory."""
        return np.asarray(self[:], dtype)

    def take(self, rows: NDArray[np.int64]) -> "Pictures":
        """Only these, in this order; nothing is read."""
        return Pictures(self._file, self._rows[rows])


def take(pixels: "Bytes | Pictures", rows: NDArray[np.int64]) -> "Bytes | Pictures":
    """Only these pictures, in this order."""
    return pixels.take(rows) if isinstance(pixels, Pictures) else pixels[rows]


class Unpacked:
    """Arrays of pictures of one archive, one after the other, unpacked when first read."""

    def __init__(self, path: Path, parts: Sequence[Member]) -> None:
        """`parts` are uint8 (n, H, W), (n, H, W, 1) or (n, H, W, 3), all of one picture's shape."""
        self.path, self.members = path, list(parts)
        self.count = sum(part.shape[0] for part in parts)
        shape = parts[0].shape[1:]
        self.picture = shape[:2] if shape[2:] == (1,) else shape  # (H, W) or (H, W, 3)
        self._bytes = int(np.prod(shape, dtype=np.int64))
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    def read(self, start: int, out: Bytes) -> None:
        """Fill `out` (n, H, W[, 3]) with the pictures from `start` on.

        Raises:
            DataError: The archive is damaged, or there is no room to unpack it.
        """
        with self._lock:
            if self._descriptor is None:
                self._descriptor = self._unpack()
                weakref.finalize(self, os.close, self._descriptor)
        view, offset = out.reshape(-1).data, start * self._bytes
        while view:
            got = os.preadv(self._descriptor, [view], offset)
            if not got:
                raise DataError(f"{self.path}: unpacked only in part; run the command again")
            view, offset = view[got:], offset + got

    def _unpack(self) -> int:
        """All members into a file that has no name and goes with this process."""
        folder, needed = tempfile.gettempdir(), self.count * self._bytes
        room = f"{needed / 2**30:.1f} GB are needed in {folder}; name another folder with TMPDIR"
        descriptor = -1
        try:
            if shutil.disk_usage(folder).free < needed:
                raise DataError(f"{self.path}: no room to unpack it: {room}")
            descriptor, name = tempfile.mkstemp(prefix="layerwise-")
            os.unlink(name)
            with _opened(self.path) as archive, open(descriptor, "wb", closefd=False) as out:
                for member in self.members:
                    with archive.open(f"{member.name}.npy") as file:
                        _header(self.path, member.name, file)
                        _copy(self.path, member, file, out)
            return descriptor
        except BaseException as error:
            if descriptor >= 0:
                os.close(descriptor)
            if isinstance(error, OSError):
                raise DataError(f"{self.path}: can not be unpacked ({error}): {room}") from error
            raise


def _copy(path: Path, member: Member, file: IO[bytes], out: IO[bytes]) -> None:
    """The values of a member, to the byte as many as it has."""
    left = member.bytes
    while piece := file.read(min(_PIECE, left + 1)):  # one more: to its end, where zip checks it
        left -= len(piece)
        if left < 0:
            break
        out.write(piece)
    if left:
        raise DataError(f"{path}: {member.name} is damaged; download or make it again")


def _runs(rows: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Where stretches of rows that follow each other begin and end."""
    if not len(rows):
        return
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    edges = [0, *breaks.tolist(), len(rows)]
    yield from zip(edges[:-1], edges[1:], strict=True)


class _opened:
    """An archive for a with statement; whatever goes wrong in it is said as a DataError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> zipfile.ZipFile:
        try:
            self._archive = zipfile.ZipFile(self._path)
        except Exception as error:  # as below
            raise self._damaged(error) from error
        return self._archive

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._archive.close()
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if isinstance(error, Exception) and not isinstance(error, DataError) and not full:
            # A damaged archive makes zipfile, zlib, lzma and numpy raise nearly anything.
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> DataError:
        reason = "it holds pickled objects" if "pickle" in str(error) else str(error)
        return DataError(
            f"{self._path}: can not be read as .npz ({reason or type(error).__name__}); download "
            "or make it again"
        )


def _header(path: Path, name: str, file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and dtype of an array, read from where its member begins."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, about files of Python 2
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"array format {version} is unknown")
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = reader(file)
    if any(side < 0 for side in shape):
        raise ValueError(f"{name} has the shape {shape}")
    if fortran and len(shape) > 1:
        raise DataError(
            f"{path}: {name} is stored column by column; save it again in numpy's usual order "
            "(np.ascontiguousarray)"
        )
    return tuple(int(side) for side in shape), dtype

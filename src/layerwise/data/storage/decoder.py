"""A worker process of the image store: decodes files and writes them straight into their rows.

Started as `python -m layerwise.data.storage.decoder`, told what to do over standard input, one JSON
line a chunk, and answers one line a chunk. A program of its own, and not a fork of the caller: a
process with torch's threads can not be forked safely, and one that multiprocessing starts would run
the caller's script again. When the caller dies, even by SIGKILL, the input ends and so does this.
"""

import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.data.pictures.identity import identity
from layerwise.data.pictures.images import header, prepare
from layerwise.data.storage.verify import RECORD_BYTES, row_digest
from layerwise.errors import DataError


@dataclass(frozen=True)
class Job:
    """What is to be made of every picture, and the files it goes into."""

    size: tuple[int, int]  # (height, width)
    channels: int
    letterbox: bool
    pixels: str  # the file of rows (N, H, W, C) uint8, at its full size
    digests: str  # the file of digests (N, 64) uint8, at its full size; see `wrong_rows`

    @property
    def row_bytes(self) -> int:
        """Bytes of one picture in the store."""
        return self.size[0] * self.size[1] * self.channels


class Writer:
    """Prepares pictures and puts each into its row; rows of others are not touched."""

    def __init__(self, job: Job) -> None:
        """Open the files of a store that is being built."""
        self.job = job
        self._pixels = os.open(job.pixels, os.O_WRONLY)
        self._digests = os.open(job.digests, os.O_WRONLY)

    def put(self, row: int, source: str | NDArray[np.uint8]) -> str | None:
        """Write one picture, a file or an array; returns what is wrong with it, or None.

        Raises:
            OSError: The store can not be written (the disk is full).
        """
        content: bytes | NDArray[np.uint8]
        try:
            if isinstance(source, str):
                content = read_bytes(source)
                digest = hashlib.sha256(content).digest()
            else:
                content, digest = source, array_digest(source)
            picture = prepare(content, self.job.size, self.job.channels, self.job.letterbox)
        except DataError as error:
            message = str(error)
            return message.replace("<picture>", source, 1) if isinstance(source, str) else message
        pixels = picture.tobytes()
        _write_all(self._pixels, pixels, row * self.job.row_bytes)
        _write_all(self._digests, digest + row_digest(digest, pixels), row * RECORD_BYTES)
        return None

    def close(self) -> None:
        """Close the files."""
        os.close(self._pixels)
        os.close(self._digests)


def read_bytes(path: str) -> bytes:
    """A file's content; DataError naming it when it can not be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: can not be read ({error.strerror}); check the path") from error


def array_digest(array: NDArray[np.uint8]) -> bytes:
    """The sha256 of an array's shape and pixels."""
    shape = ",".join(map(str, array.shape)).encode()
    return hashlib.sha256(shape + b";" + np.ascontiguousarray(array).tobytes()).digest()


def _write_all(file: int, content: bytes, offset: int) -> None:
    """Write every byte at a position, however many calls it takes."""
    view = memoryview(content)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _headers(paths: list[str]) -> list[Any]:
    """The fields of `Header` of each file, or None where it can not be told."""
    found: list[Any] = []
    for path in paths:
        try:
            found.append(asdict(header(path)))
        except DataError:
            found.append(None)
    return found


def answer(task: dict[str, Any]) -> dict[str, Any]:
    """Do one chunk: headers, or decoding into the store.

    Args:
        task: "what" ("headers" or "decode"), "paths", and for decoding "rows" (of these files)
            and "job" (the fields of `Job`).

    Returns:
        "found", one entry a path; or "errno" and "strerror" when the store can not be written.
    """
    if task["what"] == "headers":
        return {"found": _headers(task["paths"])}
    if task["what"] == "dicom":
        return {"found": [one and asdict(one) for one in map(identity, task["paths"])]}
    job = Job(**{**task["job"], "size": tuple(task["job"]["size"])})
    try:
        writer = Writer(job)
        try:
            pairs = zip(task["rows"], task["paths"], strict=True)
            return {"found": [writer.put(row, path) for row, path in pairs]}
        finally:
            writer.close()
    except OSError as error:
        return {"errno": error.errno, "strerror": error.strerror}


def main() -> None:
    """Answer chunks until the input ends."""
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()

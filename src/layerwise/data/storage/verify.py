"""Are the rows on disk those that were written? Each row's digest is kept beside it.

A kill, a power cut, a full disk or a failing one leave rows that do not agree with their digests,
and so are found and written again. Streaming: memory does not grow with the number of rows.
"""

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DIGEST_BYTES = 32  # sha256
RECORD_BYTES = 2 * DIGEST_BYTES  # of each row: the digest of its source, and of the row itself
BLOCK_BYTES = 4 * 2**20  # read at a time by each thread


def row_digest(source: bytes, pixels: bytes | memoryview) -> bytes:
    """The sha256 over the digest of a row's source and the row's own bytes."""
    digest = hashlib.sha256(source)
    digest.update(pixels)
    return digest.digest()


def usable_cores() -> int:
    """The cores that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(usable(0)) if usable else os.cpu_count() or 1


def wrong_rows(pixels: Path, records: Path, rows: int, row_bytes: int) -> NDArray[np.int64]:
    """Rows whose bytes do not agree with their digest, or are missing.

    One thread a core: hashing and reading leave Python's lock. About 1 GB/s each.

    Args:
        pixels: The file of rows, `row_bytes` each.
        records: The file of (rows, 64) uint8: of each row the sha256 of its source, and
            `row_digest`.
        rows: How many there are to be.
        row_bytes: Bytes of one row.

    Returns:
        Row numbers, int64 (n,), ascending.
    """
    from concurrent.futures import ThreadPoolExecutor  # workers start sooner without it

    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    with (
        pixels.open("rb", buffering=0) as values,
        records.open("rb", buffering=0) as digests,
        ThreadPoolExecutor(usable_cores()) as threads,
    ):

        def wrong(start: int) -> list[int]:
            count = min(step, rows - start)
            content = _read(values.fileno(), start * row_bytes, count * row_bytes)
            kept = _read(digests.fileno(), start * RECORD_BYTES, count * RECORD_BYTES)
            found = []
            for i in range(count):
                record = kept[i * RECORD_BYTES : (i + 1) * RECORD_BYTES]
                row = content[i * row_bytes : (i + 1) * row_bytes]
                expected = row_digest(bytes(record[:DIGEST_BYTES]), row)
                if len(row) != row_bytes or record[DIGEST_BYTES:] != expected:
                    found.append(start + i)
            return found

        blocks = threads.map(wrong, range(0, rows, step))
        return np.fromiter((row for block in blocks for row in block), np.int64)


def file_digest(path: Path) -> str:
    """The sha256 (hex) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(file: int, offset: int, length: int) -> memoryview:
    """Bytes at a place; fewer than asked for where the file ends, or the disk fails."""
    out = bytearray(length)
    view, done = memoryview(out), 0
    while done < length:
        try:
            got = os.preadv(file, [view[done:]], offset + done)
        except OSError:
            break
        if not got:
            break
        done += got
    return view[:done]

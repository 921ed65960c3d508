"""Rows that are computed once for every process that wants them, within a bound on the disk.

An entry is a folder: `rows.bin`, and `meta.json` with its shape, which is written last. Several
workers of a study often want the same one at the same time: the first computes it, and the others
wait for it.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from layerwise.data.storage.rows import Rows, RowWriter
from layerwise.data.storage.unfinished import unfinished

MOST_KEPT = 32 * 2**30  # bytes of all entries together; twice the most of one run
Progress = Callable[[int, int], None]


def cached_rows(
    place: Path,
    count: int,
    batches: Callable[[], Iterable[NDArray[np.float32]]],
    progress: Progress | None = None,
) -> Rows:
    """The rows of an entry, computed when it is not there; never half-written.

    Args:
        place: The entry's folder. Beside it lie the others: those that were not used for longest
            are removed where all together would take more than `MOST_KEPT`, or the disk is full.
            Who has one of them open can still read it.
        count: Rows of the entry, at least 1.
        batches: Computes them: (n, …) float32 in their order. Called only when they are not there
            and nobody else computes them.
        progress: Told (rows done, count).

    Returns:
        (count, …) float32.

    Raises:
        OutputError: The place can not be written, or the disk is full.
    """
    while (rows := _find(place)) is None:  # found the first time, but for a removal just now
        with unfinished(place, lambda: _find(place) is not None, resumable=False) as part:
            if part is not None:
                _compute(part, count, batches(), progress)
    return rows


def _find(place: Path) -> Rows | None:
    """The entry, if it is there and whole; it counts as used now."""
    meta = place / "meta.json"
    try:
        shape = tuple(json.loads(meta.read_text(encoding="utf-8"))["shape"])
        rows = Rows(place / "rows.bin", shape, np.float32)
    except (OSError, ValueError, KeyError, TypeError):  # absent, or damaged
        return None
    with suppress(OSError):  # a cache that may only be read
        os.utime(meta)
    return rows


def _compute(
    part: Path,
    count: int,
    batches: Iterable[NDArray[np.float32]],
    progress: Progress | None,
) -> None:
    """Write the batches and, when all are there, what they are."""
    writer: RowWriter | None = None
    try:
        done = 0
        for out in batches:
            if writer is None:  # out: (n, …)
                shape = (count, *out.shape[1:])
                _make_room(part.parent, 4 * math.prod(shape))
                writer = RowWriter(part / "rows.bin", shape, np.float32)
            writer.write(done, out)
            done += len(out)
            if progress:
                progress(done, count)
        assert writer is not None, "an entry has at least one row"
    finally:
        if writer is not None:
            writer.close()
    (part / "meta.json").write_text(json.dumps({"shape": list(writer.shape)}), encoding="utf-8")


def _make_room(folder: Path, needed: int) -> None:
    """Remove the entries that were not used for longest, until `needed` more bytes fit in."""
    kept = sum(_facts(path)[1] for path in folder.glob("*/rows.bin"))  # those being built, too
    excess = max(kept + needed - MOST_KEPT, needed - shutil.disk_usage(folder).free)
    for meta in sorted(folder.glob("*/meta.json"), key=lambda path: (_facts(path)[0], str(path))):
        if excess <= 0:
            return
        entry = meta.parent
        if ".part" in entry.name:
            continue
        excess -= _facts(entry / "rows.bin")[1]
        gone = entry.with_name(f"{entry.name}.part-{os.getpid()}")  # swept away after a kill
        with suppress(OSError):  # somebody else removes it
            entry.replace(gone)
            shutil.rmtree(gone, ignore_errors=True)


def _facts(path: Path) -> tuple[float, int]:
    """When a file was changed, and its bytes; zeros when it is gone."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0.0, 0
    return found.st_mtime, found.st_size

"""The last file of an image store, meta.json: it says what was written, and so what must be there.

It holds the digest of `digests.u8`, which holds those of all rows, and a digest of itself.
"""

from pathlib import Path
from typing import Any

import numpy as np

from layerwise.config import content_key, read_json, write_json
from layerwise.data.storage.verify import RECORD_BYTES, file_digest, wrong_rows
from layerwise.errors import LayerwiseError

SHOWN = 10  # changed rows that a message lists

_verified: set[tuple[object, ...]] = set()  # stores, as this process found them on disk


def seal(folder: Path, meta: dict[str, Any]) -> None:
    """Write the meta.json that makes a store whole; its pixels and digests are there.

    Args:
        folder: The store.
        meta: "shape" (N, H, W, C), "damaged" (rows that could not be made, as text), and more.
    """
    meta = {**meta, "digests": file_digest(folder / "digests.u8")}
    write_json(folder / "meta.json", {**meta, "seal": content_key(meta)})


def fault(folder: Path) -> str | None:
    """What is wrong with a finished store, naming the file; None when nothing is.

    Every byte is read for it, once a process as long as the files are not written again.
    """
    try:
        meta = read_json(folder / "meta.json")
        if meta.pop("seal") != content_key(meta):
            return f"{folder / 'meta.json'}: changed since it was written"
    except LayerwiseError as error:
        return str(error)
    except OSError as error:
        return f"{folder / 'meta.json'}: can not be read ({error.strerror})"
    except (AttributeError, KeyError, TypeError, ValueError):
        return f"{folder / 'meta.json'}: changed since it was written"
    shape, row_bytes = meta["shape"], int(np.prod(meta["shape"][1:], dtype=np.int64))
    pixels, digests = folder / "pixels.u8", folder / "digests.u8"
    state: list[object] = [str(folder), content_key(meta)]
    for file, expected in ((pixels, row_bytes), (digests, RECORD_BYTES)):
        try:
            status = file.stat()
        except OSError as error:
            return f"{file}: can not be read ({error.strerror})"
        if status.st_size != shape[0] * expected:
            return f"{file}: holds {status.st_size:,} bytes and not {shape[0] * expected:,}"
        state += [status.st_ino, status.st_mtime_ns]
    if tuple(state) in _verified:
        return None
    if file_digest(digests) != meta["digests"]:
        return f"{digests}: changed since it was written"
    rows = wrong_rows(pixels, digests, shape[0], row_bytes).tolist()
    rows = [row for row in rows if str(row) not in meta["damaged"]]
    if rows:
        shown = ", ".join(map(str, rows[:SHOWN])) + (" …" if len(rows) > SHOWN else "")
        return f"{pixels}: {len(rows)} rows changed since they were written ({shown})"
    _verified.add(tuple(state))
    return None

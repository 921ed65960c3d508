"""What is in the image files, as digests: to keep equal images together without decoding them."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from layerwise.data.manifest import Manifest
from layerwise.data.storage.decoder import array_digest, read_bytes
from layerwise.errors import DataError

DIGEST = 32  # bytes of a sha256
CHUNK = 256  # files handed to a thread at a time
SHOWN = 10  # unreadable files that an error lists


def read_contents(
    manifest: Manifest,
    *,
    skip_unreadable: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.uint8], Manifest]:
    """The digests that `ImageStore.digests` has, without a store: nothing is decoded.

    Threads are enough: reading and hashing both run outside of Python's lock.

    Args:
        manifest: The images.
        skip_unreadable: Leave out files that can not be read instead of refusing them.
        progress: Called with (done, total) after every chunk.

    Returns:
        (N, 32) uint8, and the manifest without what was left out.

    Raises:
        DataError: Files can not be read, and that was not allowed, or none can.
    """
    n = len(manifest)
    digests = np.zeros((n, DIGEST), np.uint8)
    paths, pixels = manifest.table["path"].tolist(), manifest.pixels
    lost: dict[int, str] = {}

    def fill(start: int) -> int:
        for i in range(start, min(n, start + CHUNK)):
            try:
                digest = (
                    hashlib.sha256(read_bytes(paths[i])).digest()
                    if pixels is None
                    else array_digest(pixels[i])
                )
                digests[i] = np.frombuffer(digest, np.uint8)
            except DataError as error:
                lost[i] = str(error)
        return min(n, start + CHUNK)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done in pool.map(fill, range(0, n, CHUNK)):
            if progress is not None:
                progress(done, n)
    if not lost:
        return digests, manifest
    shown = "\n  ".join(lost[i] for i in sorted(lost)[:SHOWN])
    more = f"\n  and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
    if not skip_unreadable or len(lost) == n:
        raise DataError(
            f"{manifest.name}: {len(lost)} of {n} files can not be read:\n  {shown}{more}\nreplace "
            "or remove them, leave them out with --skip-unreadable, or do not look at files with "
            "--no-images"
        )
    rows = np.array([i for i in range(n) if i not in lost], np.int64)
    note = f"{len(lost)} files that can not be read are left out (--skip-unreadable)"
    return digests[rows], manifest.take(rows).replace(note=note)


def contents_for(part: Manifest, whole: Manifest, contents: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, 32) the digests of a part's images, found by their ids, from those of the whole."""
    rows = pd.Index(whole.table["id"]).get_indexer(pd.Index(part.table["id"]))
    return np.asarray(contents[rows], dtype=np.uint8)

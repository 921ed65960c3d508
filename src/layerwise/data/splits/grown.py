"""The parts of data that have grown: what had a part keeps it, only what is new gets one.

A new split of grown data would put images that earlier networks have learnt from into the test
part, and every comparison with them would deceive.
"""

import hashlib

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from layerwise.data.manifest import Manifest
from layerwise.data.splits.partition import find_units
from layerwise.data.splits.request import SHARE


def keep_parts(
    manifest: Manifest, before: Manifest, contents: NDArray[np.uint8], seed: int = 0
) -> Manifest:
    """Give every image a part, given those of an earlier version of the data.

    An image that the data themselves say is for the test is. Every other one keeps the part it
    had, by its id. A new one goes where the data say, or with its patient or its duplicate; and
    one that is new in every way is drawn by a hash of its id, so that nothing else has a say: 15%
    for each part that the data do not bring along.

    Args:
        manifest: The data as they are now, with the parts they bring along.
        before: The manifest of the earlier version, in which every image has a part.
        contents: (N, 32) uint8 digests of the images of `manifest`.
        seed: Of the hash.

    Returns:
        The manifest with all parts, settled: they are used as they stand.
    """
    given = manifest.table["split"].to_numpy(dtype=object)  # (N,)
    brought = {part: bool((given == part).any()) for part in ("val", "test")}
    ids = manifest.table["id"]
    had = dict(zip(before.table["id"], before.table["split"], strict=True))
    known = ids.map(had).fillna("").to_numpy(dtype=object)  # (N,)
    split = np.where((given == "test") | (known == ""), given, known)
    # "train" of a new image says nothing where validation or test are taken from it.
    if not all(brought.values()):
        split[(known == "") & (given == "train")] = ""
    unit = find_units(manifest.groups(), contents)
    settled = split != ""
    # A unit in several parts is a leak that was allowed: what is new in it goes to the test part.
    followed = pd.Series(split[settled]).groupby(unit[settled]).min().to_dict()
    new = np.flatnonzero(~settled)
    leader = {unit[row]: row for row in new[::-1].tolist()}  # a new unit goes with its first image
    for row in new.tolist():
        first = ids.iloc[leader[unit[row]]]
        split[row] = followed.get(unit[row]) or _drawn(f"{seed}:{first}", brought)
    fresh = int((known == "").sum())
    gone = int((~before.table["id"].isin(ids)).sum())
    note = f"{len(ids) - fresh:,} images keep their parts, {fresh:,} are new, {gone:,} are gone"
    return manifest.replace(split=split, settled=True, note=note)


def _drawn(name: str, brought: dict[str, bool]) -> str:
    """A part by a name alone, test and validation with their shares unless the data bring them."""
    at = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64  # in [0, 1)
    end = 0.0
    for part in ("test", "val"):
        end += 0.0 if brought[part] else SHARE
        if at < end:
            return part
    return "train"

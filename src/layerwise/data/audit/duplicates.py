"""Near duplicates: one picture saved twice, re-encoded, resized or slightly cropped.

In two stages. Candidates are pairs whose descriptions are close (`descriptors.py`): fast, and
nearly all copies are among them, with many strangers. Each candidate is then verified on the
pictures (`alignment.py`): aligned, and compared block by block. Follow-up pictures of one patient
are no duplicates and do not pass.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from layerwise.data.audit.alignment import agreement, align
from layerwise.data.audit.descriptors import DETAIL, Description, close_pairs, learn
from layerwise.data.audit.findings import SHOWN, Finding, Severity, examples, number
from layerwise.data.audit.overlap import content_codes, differing
from layerwise.data.audit.thumbnails import Floats, all_thumbnails, drawn, thumbnails
from layerwise.data.manifest import SPLITS, Manifest
from layerwise.data.storage.store import ImageStore

SMALLEST = DETAIL  # pictures of a shorter side are not searched: a digit is no photograph
LARGEST = 200_000  # more pictures are not searched: the time grows with the square
SAMPLE = 400  # pictures that are learnt from
MOST = 100_000  # pairs that are verified, the closest ones
BATCH = 64  # pairs verified at a time
PLAIN = 2.0  # grey levels: a picture that varies less has nothing to compare

COARSE = (0.94, 0.75)  # agreement of thumbnails of 32 pixels, whole and fine, to go on with …
SURE = (0.97, 0.80)  # … and of 64 pixels, to be called a copy: measured, see docs/data.md


@dataclass(frozen=True, eq=False)
class Pairs:
    """Near duplicates that were verified.

    Attributes:
        rows: int64 (M, 2) row numbers, first < second, without pairs of equal content.
        agreement: float32 (M,) of their fine structure, from 0.8 to 1.
        candidates: How many pairs were close enough to be looked at.
        searched: Whether the pictures were searched at all; False for small ones and very many.
    """

    rows: NDArray[np.int64]
    agreement: Floats
    candidates: int = 0
    searched: bool = True


def near_duplicates(store: ImageStore, seed: int = 0) -> Pairs:
    """Search the pictures of a store for near duplicates.

    Re-encoded, resized and slightly cropped (up to 5% a side) copies are found, turned, mirrored,
    inverted ones and parts of a picture are not. Memory: 256 bytes a picture and what the pairs
    need; pixels are read in chunks.

    Args:
        store: The pictures; below 64 pixels of a side, or above 200,000, they are not searched.
        seed: Of the sample that is learnt from.
    """
    if min(store.size) < SMALLEST or not 2 <= len(store) <= LARGEST:
        return Pairs(np.zeros((0, 2), np.int64), np.zeros(0, np.float32), searched=False)
    sample = drawn(len(store), SAMPLE, seed)
    details = np.concatenate([part for _, part in all_thumbnails(store, DETAIL, sample)])
    details = details[details.std(axis=(1, 2)) > PLAIN]
    if len(details) < 2:
        return Pairs(np.zeros((0, 2), np.int64), np.zeros(0, np.float32))
    description = learn(details, seed)
    plain, inner, rows = _describe(store, description)
    pairs, count = close_pairs(plain, inner, description.radius, MOST)
    pairs = rows[pairs]
    codes = content_codes(store.digests)
    pairs = pairs[codes[pairs[:, 0]] != codes[pairs[:, 1]]]
    return _verified(store, pairs, count)


def joined(digests: NDArray[np.uint8], pairs: Pairs) -> NDArray[np.uint8]:
    """Digests (N, 32) in which near duplicates are equal, so that a split keeps them together."""
    if not len(digests):
        return digests
    codes = content_codes(digests)
    first = np.unique(codes, return_index=True)[1]  # (C,) the first row of each content
    a, b = codes[pairs.rows].T
    linked = coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(len(first), len(first)))
    component = connected_components(linked, directed=False)[1]  # (C,)
    lead = np.full(len(first), len(digests), np.int64)
    np.minimum.at(lead, component, first)
    return np.asarray(digests[lead[component[codes]]], dtype=np.uint8)


def near_duplicate_findings(manifest: Manifest, pairs: Pairs) -> list[Finding]:
    """Near duplicates across parts (leaks), within one (a note), and labelled differently."""
    ids = manifest.table["id"].to_numpy(dtype=object)
    split = manifest.table["split"].to_numpy(dtype=object)
    parts = split[pairs.rows]  # (M, 2)
    order = {part: k for k, part in enumerate((*SPLITS, ""))}
    kinds: dict[tuple[str, str], list[int]] = {}
    for k, (a, b) in enumerate(parts.tolist()):
        first, second = sorted((a, b), key=order.__getitem__)
        kinds.setdefault((first, second), []).append(k)
    found = _unsearched(manifest, pairs)
    for (first, second), which in sorted(kinds.items(), key=lambda item: item[0] == item[0][::-1]):
        across = first != second and second != ""
        where = f"between {first} and {second}" if first != second else f"within {first or 'them'}"
        severity: Severity = "leak" if across else "note"
        found.append(_finding("near duplicates", severity, where, pairs.rows[which], ids))
    odd = [k for k, pair in enumerate(pairs.rows) if differing(manifest.targets[pair])]
    if odd:
        where = "labelled differently"
        found.append(_finding("contradicting labels", "warning", where, pairs.rows[odd], ids))
    return found


def _unsearched(manifest: Manifest, pairs: Pairs) -> list[Finding]:
    """At most one note that the search was left out, or cut short, because there are so many."""
    if not pairs.searched and len(manifest) > LARGEST:
        what = f"near duplicates are not searched among more than {LARGEST:,} images"
    elif pairs.candidates > MOST:
        what = (
            f"only the {MOST:,} closest of {pairs.candidates:,} pairs of similar images were "
            "compared: some near duplicates may not be found"
        )
    else:
        return []
    remedy = "split by patient, or inspect a part of the images"
    return [Finding("near duplicates", "note", what, remedy, ())]


def _finding(
    kind: str, severity: Severity, where: str, rows: NDArray[np.int64], ids: NDArray[np.object_]
) -> Finding:
    shown = [f"{ids[a]} ~ {ids[b]}" for a, b in rows[:SHOWN]]
    message = (
        f"{number(len(rows), 'pair')} of nearly equal pictures {where} "
        f"({examples(shown, len(rows))})"
    )
    remedy = {
        "leak": "look at them and remove one of each pair, or make another split with "
        "layerwise split",
        "warning": "look at them, correct the labels, or remove the images",
        "note": "nothing must be done; to count each picture once, remove one of each pair",
    }[severity]
    return Finding(kind, severity, message, remedy, tuple(ids[rows.ravel()]))


def _describe(
    store: ImageStore, description: Description
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Descriptions of all pictures that are not plain, and their rows."""
    plain, inner, rows = [], [], []
    for chunk, details in all_thumbnails(store, DETAIL):
        telling = details.std(axis=(1, 2)) > PLAIN
        own, own_inner = description.of(details[telling])
        plain.append(own)
        inner.append(own_inner)
        rows.append(chunk[telling])
    return np.concatenate(plain), np.concatenate(inner), np.concatenate(rows)


def _verified(store: ImageStore, pairs: NDArray[np.int64], candidates: int) -> Pairs:
    """Those of the candidates that are copies, in order of their rows."""
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    kept, fine = [], []
    for start in range(0, len(pairs), BATCH):
        batch = pairs[start : start + BATCH]
        both = thumbnails(store.read(batch.ravel()), DETAIL).reshape(-1, 2, DETAIL, DETAIL)
        sure, score = verify(both[:, 0], both[:, 1])
        kept.append(batch[sure])
        fine.append(score[sure])
    rows = np.concatenate([np.zeros((0, 2), np.int64), *kept])
    return Pairs(rows, np.concatenate([np.zeros(0, np.float32), *fine]), candidates)


def verify(first: Floats, second: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Whether pairs of thumbnails show one picture.

    Args:
        first: float32 (n, 64, 64).
        second: float32 (n, 64, 64).

    Returns:
        (n,) bool, and (n,) the agreement of their fine structure, 0 where it was not compared.
    """
    fine = np.zeros(len(first), np.float32)
    sure = np.zeros(len(first), np.bool_)
    coarse = [t.reshape(len(t), 32, 2, 32, 2).mean(axis=(2, 4)) for t in (first, second)]
    placing = align(coarse[0], coarse[1], np.zeros((len(first), 4), np.float32), steps=10)
    likely = _both(agreement(coarse[0], coarse[1], placing), COARSE)
    if likely.any():
        a, b = first[likely], second[likely]
        found = agreement(a, b, align(a, b, placing[likely], steps=4))
        fine[likely], sure[likely] = found[1], _both(found, SURE)
    return sure, fine


def _both(values: tuple[Floats, Floats], limits: tuple[float, float]) -> NDArray[np.bool_]:
    return (values[0] >= limits[0]) & (values[1] >= limits[1])

"""A short description of each picture in which copies lie close together, learnt from the data.

A perceptual hash (the low frequencies of a small picture: Zauner 2010, ch. 3) does not do for
radiographs: a crop by 5% changes it as much as another patient does. So the low frequencies are
weighted by what tells these pictures apart, against what cropping does to them: linear discriminant
analysis (Fisher 1936), the classes being a picture and its crops.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerwise.data.audit.alignment import warp
from layerwise.data.audit.thumbnails import Floats

DETAIL = 64  # pixels of a side of the thumbnails that are described
SMALL = 32  # … and of those whose frequencies are taken
FREQUENCIES = 12  # vertical + horizontal, at most
LENGTH = 32  # numbers a description has
CROP = 0.05  # of a side, at each of the four
RIDGE = 0.01  # of the mean variance that cropping makes
CROPS = 4  # of each picture that is learnt from
KEPT = 0.998  # of the planted crops must lie within the radius
MARGIN = 1.6  # and this is added for pictures that were not learnt from
INNER = np.asarray([[-CROP, 0, -CROP, 0]], np.float32)  # half of the widest crop, all around


@dataclass(frozen=True, eq=False)
class Description:
    """How pictures are described.

    Attributes:
        weights: float32 (F, L), from frequencies to descriptions.
        radius: Squared distance within which a copy is looked for.
    """

    weights: Floats
    radius: float

    def of(self, details: Floats) -> tuple[Floats, Floats]:
        """Descriptions (n, L) of thumbnails (n, 64, 64): as they are, and cropped by 2.5%.

        A crop by 5% is twice as near to the second as to the first.
        """
        inner, _ = warp(details, np.repeat(INNER, len(details), axis=0))
        return _frequencies(details) @ self.weights, _frequencies(inner) @ self.weights


def learn(details: Floats, seed: int = 0) -> Description:
    """Learn from a sample of the pictures.

    Args:
        details: float32 (n, 64, 64), n ≥ 2 of the pictures that will be searched.
        seed: Of the crops.

    Returns:
        The description; its radius holds 99.8% of fresh crops of up to 5% a side.
    """
    random = np.random.default_rng(seed)
    plain = _frequencies(details)  # (n, F)
    inner = _frequencies(warp(details, np.repeat(INNER, len(details), axis=0))[0])
    first = [_frequencies(_crop(details, random)) for _ in range(CROPS)]
    within = np.concatenate([_nearer(crop - plain, crop - inner) for crop in first])
    spread = within.T @ within / len(within)  # (F, F)
    between = np.cov(plain.T)
    floor = RIDGE * np.trace(spread) / len(spread) + 1e-12
    # Whiten by the crops, then keep the directions in which the pictures differ most.
    scale, axes = np.linalg.eigh(spread + floor * np.eye(len(spread)))
    whiten = axes / np.sqrt(scale)
    _, best = np.linalg.eigh(whiten.T @ between @ whiten)
    weights = (whiten @ best[:, ::-1][:, :LENGTH]).astype(np.float32)
    made = Description(weights, 0.0)
    own, own_inner = made.of(details)
    distances = []
    for _ in range(CROPS):
        crop, crop_inner = made.of(_crop(details, random))
        pairs = ((crop, own), (crop_inner, own), (crop, own_inner))
        distances.append(np.min([((a - b) ** 2).sum(axis=1) for a, b in pairs], axis=0))
    radius = float(np.quantile(np.concatenate(distances), KEPT)) * MARGIN
    return Description(weights, radius)


def _crop(details: Floats, random: np.random.Generator) -> Floats:
    """Each picture cropped by up to 5% at each side, at random."""
    cut = random.uniform(0, CROP, (len(details), 4)).astype(np.float32)
    top, bottom, left, right = cut.T
    placing = np.stack([-(top + bottom), top - bottom, -(left + right), left - right], axis=1)
    return warp(details, placing)[0]


def _nearer(first: Floats, second: Floats) -> Floats:
    """Row by row the shorter of two vectors (n, F)."""
    shorter = (first**2).sum(axis=1) < (second**2).sum(axis=1)
    return np.where(shorter[:, None], first, second)


def _frequencies(details: Floats) -> Floats:
    """(n, F) the low frequencies of thumbnails (n, 64, 64), without the mean, of length 1."""
    count = len(details)
    small = details.reshape(count, SMALL, 2, SMALL, 2).mean(axis=(2, 4))
    low = _cosines() @ small @ _cosines().T  # (n, 13, 13)
    down, across = np.indices(low.shape[1:])
    wanted = (down + across > 0) & (down + across <= FREQUENCIES)
    values = low[:, wanted]
    length = np.sqrt((values**2).sum(axis=1, keepdims=True))
    return np.asarray(values / np.maximum(length, 1e-6), dtype=np.float32)


def _cosines() -> Floats:
    """(13, 32) the first rows of the orthonormal discrete cosine transform (type II)."""
    k, x = np.arange(FREQUENCIES + 1)[:, None], np.arange(SMALL)
    rows = np.sqrt(2 / SMALL) * np.cos(np.pi * k * (2 * x + 1) / (2 * SMALL))
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, dtype=np.float32)


def close_pairs(
    plain: Floats, inner: Floats, radius: float, most: int, block: int = 2048
) -> tuple[NDArray[np.int64], int]:
    """All pairs whose descriptions lie within a radius, by brute force in blocks.

    Args:
        plain: float32 (N, L), descriptions of the pictures.
        inner: float32 (N, L), descriptions of their insides.
        radius: Squared distance; the least of plain–plain, inner–plain and plain–inner counts.
        most: How many pairs are kept, the closest ones.
        block: Pictures a side of a block: memory is 12 bytes for each of its pairs.

    Returns:
        int64 (M, 2) with first < second, the closest first; and how many there were.
    """
    if len(plain) < 2:
        return np.zeros((0, 2), np.int64), 0
    rows: list[NDArray[np.int64]] = []
    near: list[Floats] = []
    held = found = 0
    centre = plain.mean(axis=0)
    ones = np.ones((len(plain), 1), np.float32)
    left, right = [], []  # one product of these is a squared distance: |a|² + |b|² − 2ab
    for vectors in (plain - centre, inner - centre):
        length = (vectors**2).sum(axis=1, keepdims=True)
        left.append(np.hstack([-2 * vectors, length, ones]))
        right.append(np.hstack([vectors, ones, length]))
    for i in range(0, len(plain), block):
        here = slice(i, i + block)
        for j in range(i, len(plain), block):
            there = slice(j, j + block)
            distance = left[0][here] @ right[0][there].T
            np.minimum(distance, left[1][here] @ right[0][there].T, out=distance)
            np.minimum(distance, left[0][here] @ right[1][there].T, out=distance)
            flat = np.flatnonzero(distance <= radius)
            wide = distance.shape[1]
            pair = np.stack([flat // wide + i, flat % wide + j], axis=1)
            kept = pair[:, 0] < pair[:, 1]
            rows.append(pair[kept])
            near.append(distance.ravel()[flat[kept]])
            found += int(kept.sum())
            held += int(kept.sum())
            if held > 2 * most:
                rows, near = _closest(rows, near, most)
                held, radius = most, min(radius, float(near[0].max()))
    rows, near = _closest(rows, near, most)
    return rows[0], found


def _closest(
    rows: list[NDArray[np.int64]], near: list[Floats], most: int
) -> tuple[list[NDArray[np.int64]], list[Floats]]:
    """These pairs in order of distance (then of rows), no more than so many."""
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *rows])
    distance = np.concatenate([np.zeros(0, np.float32), *near])
    order = np.lexsort((pairs[:, 1], pairs[:, 0], distance))[:most]
    return [pairs[order]], [distance[order]]

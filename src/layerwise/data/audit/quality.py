"""Pictures that can not be right: constant, nearly black, clipped, inverted, of mixed depth."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.data.audit.findings import SHOWN, Finding, Severity, examples, number
from layerwise.data.audit.thumbnails import (
    CHUNK,
    LUMINANCE,
    Floats,
    all_thumbnails,
    drawn,
    thumbnails,
)
from layerwise.data.manifest import Manifest
from layerwise.data.storage.headers import Headers
from layerwise.data.storage.store import ImageStore

CONSTANT = 2.0  # grey levels: the deviation of a picture that shows nothing
DARK = 32  # the brightest pixel of a picture that uses an eighth of the range
CLIPPED = 0.25  # of the pixels at white, or at black inside the picture
LOOKED_AT = 32  # pixels of a side: smaller pictures are drawings, where flat areas are usual
SIDE = 32  # of the thumbnails that are compared with the common picture
SAMPLE = 1000  # pictures that the common picture is made of
UNLIKE = 0.25  # the likeness, either way, below which a picture is like neither
BETWEEN = 0.1  # of the pictures may be that if the rest has something in common
INVERTED = -0.5  # the likeness of an inverted picture
POWERS = 30  # iterations
EDGE = 0.02  # of a side: the width of the border, one pixel at least


@dataclass(frozen=True, eq=False)
class Looks:
    """What one pass over the pictures tells, one entry a picture.

    Attributes:
        deviation: float32, of all grey levels.
        brightest: float32, the highest grey level.
        white: float32, the share of pixels at 255; 0 where the whole border is white (paper).
        black: float32, the share of pixels at 0 that are not joined to the border.
        likeness: float32 in [−1, 1], correlation with what the pictures have in common.
        borders: float32 (N, 5), mean grey of the top, bottom, left and right edge, and the
            deviation of all four.
    """

    deviation: Floats
    brightest: Floats
    white: Floats
    black: Floats
    likeness: Floats
    borders: Floats


def look(store: ImageStore, seed: int = 0) -> Looks:
    """Look at every stored picture once; memory does not grow with them but for the result.

    Args:
        store: The pictures.
        seed: Of the sample that the common picture is made of.
    """
    shared = _common(store, seed)
    rows = []
    for start in range(0, len(store), CHUNK):
        pictures = store.read(np.arange(start, min(len(store), start + CHUNK)))
        grey = pictures[..., 0] if pictures.shape[3] == 1 else pictures @ LUMINANCE
        small = _unit(thumbnails(pictures, SIDE))  # (n, 1024)
        edges, ring = _borders(grey)
        white = (grey > 254.5).mean(axis=(1, 2)) * ((ring > 254.5).mean(axis=1) < 0.9)
        rows.append(
            np.column_stack(
                [
                    grey.std(axis=(1, 2)),
                    grey.max(axis=(1, 2)),
                    white,
                    [_black_inside(picture) for picture in grey],
                    small @ shared,
                    edges,
                ]
            ).astype(np.float32)
        )
    table = np.concatenate([np.zeros((0, 10), np.float32), *rows])
    deviation, brightest, white, black, likeness = table[:, :5].T
    return Looks(deviation, brightest, white, black, likeness, table[:, 5:])


def quality(
    manifest: Manifest, looks: Looks | None, headers: Headers | None, side: int
) -> list[Finding]:
    """Findings about single pictures.

    Args:
        manifest: The data.
        looks: What `look` returned for the same rows, None without pictures.
        headers: What `read_headers` returned for the same rows, None if not read.
        side: The shorter side of the stored pictures; below 32 clipping is not judged.
    """
    ids = manifest.table["id"].to_numpy(dtype=object)
    found = []
    if looks is not None:
        constant = looks.deviation < CONSTANT
        dark = ~constant & (looks.brightest < DARK)
        clipped = ~constant & (np.maximum(looks.white, looks.black) > CLIPPED)
        found += _finding("constant", constant, ids)
        found += _finding("dark", dark, ids)
        if side >= LOOKED_AT:
            found += _finding("clipped", clipped & ~dark, ids)
        likeness = np.abs(looks.likeness[~constant])
        # Nearly all resemble the common picture or its negative: two heaps, few between.
        if len(likeness) and (likeness < UNLIKE).mean() <= BETWEEN:
            found += _finding("inverted", ~constant & (looks.likeness < INVERTED), ids)
    if headers is not None and len(depths := np.unique(headers.bits[headers.bits > 1])) > 1:
        found += _mixed(headers, depths, ids)
    return found


_WHAT = {
    "constant": ("shows nothing: all pixels are nearly equal", "remove or replace the files"),
    "dark": (
        "uses the lowest eighth of the grey levels only, as 12 bits saved in 16 do",
        "save them again over the whole range",
    ),
    "clipped": (
        "has more than a quarter of its pixels at black or white, where all detail is lost",
        "look at them; read the originals with their window, or save them again from 16 bits",
    ),
    "inverted": (
        "looks like the negative of the others",
        "look at them; invert them, or remove them (in DICOM: check MONOCHROME1)",
    ),
}


def _finding(kind: str, which: NDArray[np.bool_], ids: NDArray[np.object_]) -> list[Finding]:
    chosen = ids[which]
    if not len(chosen):
        return []
    what, remedy = _WHAT[kind]
    shown = examples(list(chosen[:SHOWN]), len(chosen))
    if len(chosen) == 1:
        message = f"1 image {what} ({shown})"
    else:
        message = f"{number(len(chosen), 'image')}: each {what} ({shown})"
    return [Finding(kind, "warning", message, remedy, tuple(chosen))]


def _mixed(headers: Headers, depths: NDArray[np.int64], ids: NDArray[np.object_]) -> list[Finding]:
    """Files of 8 and of 16 bits side by side."""
    counts = [f"{int((headers.bits == bits).sum()):,} of {bits} bits" for bits in depths]
    fewest = min(depths, key=lambda bits: int((headers.bits == bits).sum()))
    severity: Severity = "note"
    message = f"files of different depth are mixed: {' and '.join(counts)} a channel"
    remedy = "see that brightness does not tell the label: the same window for all is safest"
    return [Finding("mixed depth", severity, message, remedy, tuple(ids[headers.bits == fewest]))]


def _common(store: ImageStore, seed: int) -> Floats:
    """(1024,) what the pictures have in common: the first principal axis of their thumbnails.

    Not their mean, which vanishes where half of them are inverted; most lie on its positive side.
    """
    parts = [t for _, t in all_thumbnails(store, SIDE, drawn(len(store), SAMPLE, seed))]
    if not parts:
        return np.zeros(SIDE * SIDE, np.float32)
    sample = _unit(np.concatenate(parts))  # (n, 1024)
    axis: Floats = np.random.default_rng(seed).standard_normal(SIDE * SIDE).astype(np.float32)
    for _ in range(POWERS):  # of the matrix of second moments; where it is slow, nothing is shared
        axis = sample.T @ (sample @ axis)
        axis = axis / np.float32(max(float(np.linalg.norm(axis)), 1e-6))
    return axis if np.median(sample @ axis) >= 0 else -axis


def _unit(small: Floats) -> Floats:
    """Thumbnails (n, m, m) as vectors (n, m·m) of mean 0 and length 1; constant ones are 0."""
    flat = small.reshape(len(small), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.sqrt((flat**2).sum(axis=1, keepdims=True))
    return np.asarray(flat / np.maximum(length, 1e-3), dtype=np.float32)


def _borders(grey: NDArray[Any]) -> tuple[Floats, NDArray[Any]]:
    """(n, 5) means of the four edges and the deviation of all, and (n, P) the border's pixels."""
    deep = max(1, round(EDGE * min(grey.shape[1:])))
    sides = [grey[:, :deep], grey[:, -deep:], grey[:, :, :deep], grey[:, :, -deep:]]
    flat = [side.reshape(len(grey), -1) for side in sides]
    ring = np.concatenate(flat, axis=1)
    means = [side.mean(axis=1) for side in flat]
    return np.stack([*means, ring.std(axis=1)], axis=1).astype(np.float32), ring


def _black_inside(picture: NDArray[Any]) -> float:
    """The share of black pixels that are not joined to the border by other black ones."""
    black = picture < 0.5
    if black.mean() <= CLIPPED:
        return 0.0
    from scipy.ndimage import label

    areas, _ = label(black)
    outside = np.unique(np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]]))
    return float((black & ~np.isin(areas, outside)).mean())

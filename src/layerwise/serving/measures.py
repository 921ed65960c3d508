"""What is measured of one prepared picture, and the fixed bins that the values are counted in.

The same few numbers are taken of the training pictures and of those that a server is sent, so that
the two can be compared without keeping a picture.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float64]

FORMAT = 1  # of the bins and what is counted in them: raise it whenever either changes
SIDE = 16  # pixels of a side of the thumbnails that are compared with the training pictures' mean
ENOUGH = 20  # training pictures that a mean thumbnail is made of at least
PIXELS = 1 << 16  # larger pictures are looked at in every second, third, … row
EXTREME = 2  # grey levels from 0 and 255 that still count as black and white: JPEG moves them
FLAT = 4  # grey levels between the darkest and the brightest pixel of a line that is a bar
BLANK = 2.0  # grey levels: the deviation of a picture that shows nothing
BARRED = 0.05  # of the area in bars, from which a picture counts as one with bars
NEGATIVE = -0.3  # the likeness at or below which a picture looks like a negative
ALIKE = 0.3  # the likeness at or above which it looks like the training pictures

_SHARES = np.concatenate([[0.0], np.exp2(np.linspace(-12, 0, 25))])
_SIGN = np.array([0.0, 1.0, 2.0])

INPUTS: dict[str, Floats] = {
    "brightness": np.linspace(0, 256, 65),
    "contrast": np.linspace(0, 128, 65),
    "black": _SHARES,
    "white": _SHARES,
    "detail": np.concatenate([[0.0], np.exp2(np.linspace(-8, 2, 61))]),
    "colour": _SHARES,
    "bars": _SHARES,
    "likeness": np.linspace(-1, 1, 65),
    # Half a step aside, so that what is frequent (1:1, 1024 pixels) lies in the middle of a bin.
    "aspect": np.exp2(np.linspace(-3, 3, 97) + 1 / 32),
    "side": np.exp2(np.linspace(2, 15, 105) + 1 / 16),
    "blank": _SIGN,
    "barred": _SIGN,
    "negative": _SIGN,
    "enlarged": _SIGN,
}
"""Edges of the bins of every quantity; a value beyond the first or last counts in the outer bin.

brightness: mean grey level, 0 … 255. contrast: standard deviation of the grey levels. black, white:
share of pixels within 2 levels of 0 and 255. detail: mean step between horizontal neighbours, in
units of contrast; low where a picture was enlarged or smoothed. colour: mean difference between
channels, 0 … 1 (0 for grey). bars: share of the area in lines of one grey level along the borders.
likeness: correlation of the 16×16 thumbnail with the training pictures' mean, −1 … 1. aspect (width
/ height) and side (the longer one, in pixels) are the file's. The rest are signs, 0 or 1: blank
(contrast below 2), barred (bars from 5% of the area), negative (likeness of −0.3 or less) and
enlarged (the file has fewer pixels than the network looks at)."""

SIGNS = tuple(name for name, edges in INPUTS.items() if edges is _SIGN)

# Spread out where scores crowd, near 0 and 1: in steps of a quarter of a logit.
SCORES: Floats = np.concatenate(
    [[0.0], np.round(1 / (1 + np.exp(-np.linspace(-8, 8, 65))), 6), [1.0]]
)


def measure(
    pictures: NDArray[np.uint8],
    template: Floats | None,
    sizes: Sequence[tuple[int, int] | None] | None = None,
) -> dict[str, Floats]:
    """Every quantity of `INPUTS` that can be measured, one value a picture that has it.

    Args:
        pictures: uint8 (N, H, W, C), C = 1 or 3, as `data.pictures.images.prepare` gives them.
        template: float (256,) from `template_of`; without it, no likeness.
        sizes: Height and width of each file; None, or (0, 0), where it is not known.
    """
    greys = [_grey(picture) for picture in pictures]
    rows = [_one(picture, grey) for picture, grey in zip(pictures, greys, strict=True)]
    found = {k: np.array([row[k] for row in rows], np.float64) for k in (rows[0] if rows else ())}
    if template is not None and rows:
        found["likeness"] = _thumbnails(greys) @ template
        found["negative"] = (found["likeness"] <= NEGATIVE).astype(np.float64)
    known = np.array([size or (0, 0) for size in sizes or ()], np.float64).reshape(-1, 2)
    known = known[(known > 0).all(axis=1)]  # (n, 2)
    if len(known):
        found["aspect"] = known[:, 1] / known[:, 0]
        found["side"] = known.max(axis=1)
        area = pictures.shape[1] * pictures.shape[2]
        found["enlarged"] = (known.prod(axis=1) < area).astype(np.float64)
    return found


def binned(values: Floats, edges: Floats) -> NDArray[np.int64]:
    """How many of the values, (N,), lie in each bin, (B,); those beyond in the outer bins."""
    where = np.searchsorted(edges[1:-1], values, side="right")
    return np.bincount(where, minlength=len(edges) - 1).astype(np.int64)


def thumbnails(pictures: NDArray[np.uint8]) -> Floats:
    """(N, 256) grey thumbnails as vectors of mean 0 and length 1; of a blank picture 0."""
    return _thumbnails([_grey(picture) for picture in pictures])


def _thumbnails(greys: Sequence[NDArray[np.uint8]]) -> Floats:
    """`thumbnails` of uint8 (H, W)."""
    out = np.zeros((len(greys), SIDE * SIDE))
    for row, grey in zip(out, greys, strict=True):
        small = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BOX)
        row[:] = np.asarray(small, np.float64).ravel()
    out -= out.mean(axis=1, keepdims=True)
    length = np.sqrt((out**2).sum(axis=1, keepdims=True))
    return np.asarray(out / np.where(length > 0, length, 1))


def template_of(total: Floats) -> Floats | None:
    """The sum of some thumbnails as a vector of length 1; None where they cancel out."""
    length = float(np.sqrt((total**2).sum()))
    return np.asarray(total / length) if length > 1e-9 else None


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (H, W): the only channel, or the luma of three (ITU-R BT.601)."""
    if _is_grey(picture):
        return np.ascontiguousarray(picture[:, :, 0])
    return np.array(Image.fromarray(np.ascontiguousarray(picture)).convert("L"))


def _is_grey(picture: NDArray[np.uint8]) -> bool:
    """Whether all channels say the same, as of most radiographs: their luma is each of them."""
    first, *others = picture.reshape(-1, picture.shape[2]).T  # (H·W,) each
    return all(bool((first == other).all()) for other in others)


def _apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """The mean absolute difference, in whole numbers until the end: quick, and exact."""
    steps = np.maximum(one, other) - np.minimum(one, other)
    return int(steps.sum(dtype=np.uint64)) / steps.size


def _one(picture: NDArray[np.uint8], grey: NDArray[np.uint8]) -> dict[str, float]:
    """What the pixels of one picture (H, W, C), and its grey, tell without the others."""
    step = max(1, grey.size // PIXELS)
    some = np.ascontiguousarray(grey[::step])  # (h, W)
    share = np.array(Image.fromarray(some).histogram(), np.float64) / some.size  # (256,)
    levels = np.arange(256)
    mean = float(share @ levels)
    contrast = float(np.sqrt(max(float(share @ (levels - mean) ** 2), 0.0)))
    rough = _apart(some[:, 1:], some[:, :-1]) if some.shape[1] > 1 else 0.0
    bars = _bars(grey)
    blank = contrast < BLANK
    return {
        "brightness": mean,
        "contrast": contrast,
        "black": float(share[: EXTREME + 1].sum()),
        "white": float(share[255 - EXTREME :].sum()),
        "detail": 0.0 if blank else rough / contrast,
        "colour": _colour(picture[::step]),
        "bars": bars,
        "blank": float(blank),
        "barred": float(bars >= BARRED and not blank),
    }


def _colour(picture: NDArray[np.uint8]) -> float:
    """The mean difference between neighbouring channels, 0 … 1."""
    if _is_grey(picture):
        return 0.0
    channels = np.ascontiguousarray(picture.reshape(-1, picture.shape[2]).T)  # (C, H·W)
    return _apart(channels[1:], channels[:-1]) / 255


def _bars(grey: NDArray[np.uint8]) -> float:
    """The share of the area in flat lines along the borders."""
    inner = [_between(grey.max(axis=axis) - grey.min(axis=axis) <= FLAT) for axis in (0, 1)]
    return 1 - inner[0] * inner[1] / grey.size


def _between(flat: NDArray[np.bool_]) -> int:
    """How many lines are left without the flat ones at both ends."""
    if flat.all():
        return 0
    return int(len(flat) - flat.argmin() - flat[::-1].argmin())

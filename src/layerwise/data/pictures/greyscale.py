"""The grey values of a DICOM picture → what a screen would show, 0 to 255.

The three steps of the standard (PS3.3 C.11.1, C.11.2, C.11.6; PS3.4 N.2.1): the modality transform
makes stored values comparable (rescale, or a lookup table), the VOI transform picks the values of
interest (a window, or a lookup table), the presentation says which end is white.

Every step looks at one value only, so it is worked out once for each stored value that a picture
may have, and the picture is one lookup. pydicom's own functions are not used: 3.0.2 refuses
modality tables of 10, 12 and 14 bits, lets inputs above 255 overflow in VOI tables of 8 bits, and
turns a window upside down where the rescale slope is negative. The tests hold these functions
against pydicom's where those are right.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.data.pictures.picture import Pixels, bits_in_use

Values = NDArray[np.float64]
Elements = Any  # a Dataset of pydicom, which one file only imports

GREYS = ("MONOCHROME1", "MONOCHROME2")
COLOURS = ("Red", "Green", "Blue")
ELEMENTS = [
    *"PixelPaddingValue PixelPaddingRangeLimit RescaleSlope RescaleIntercept".split(),
    *"ModalityLUTSequence VOILUTSequence WindowCenter WindowWidth VOILUTFunction".split(),
    "PresentationLUTShape",
    *(
        f"{name}PaletteColorLookupTable{part}"
        for name in COLOURS
        for part in ("Descriptor", "Data")
    ),
]


@dataclass(frozen=True, eq=False)
class Table:
    """A lookup table (PS3.3 C.11.1.1, C.11.2.1.1): values below and above it get its ends."""

    first: int  # the value that is mapped to the first entry
    entries: NDArray[np.int64]  # (n,)
    bits: int  # entries are 0 … 2^bits − 1

    def __call__(self, values: Values) -> Values:
        """The entries for these values, (L,) → (L,)."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[index.astype(np.int64)], np.float64)

    @property
    def full(self) -> int:
        """The greatest output that a table of so many bits can have."""
        return (1 << self.bits) - 1


@dataclass(frozen=True)
class Rescale:
    """slope · value + intercept (PS3.3 C.11.1.1.2)."""

    slope: float
    intercept: float

    def __call__(self, values: Values) -> Values:
        """(L,) → (L,)."""
        return values * self.slope + self.intercept


@dataclass(frozen=True)
class Window:
    """The values of interest by their middle and width (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""

    center: float
    width: float  # at least 1 for LINEAR, above 0 for the others
    function: str = "LINEAR"  # or LINEAR_EXACT, SIGMOID

    def __call__(self, values: Values) -> Values:
        """(L,) → (L,) from 0 to 1."""
        if self.function == "SIGMOID":
            return np.asarray(1 / (1 + np.exp(-4 * (values - self.center) / self.width)))
        shift = 1 if self.function == "LINEAR" else 0
        center, width = self.center - shift / 2, self.width - shift
        inside = (values - center) / width + 0.5 if width else np.ones_like(values)
        return np.where(values <= center - width / 2, 0.0, np.minimum(inside, 1.0))

    @property
    def valid(self) -> bool:
        """Whether the numbers make a window at all; some writers put zeros there."""
        least = self.width >= 1 if self.function == "LINEAR" else self.width > 0
        known = self.function in ("LINEAR", "LINEAR_EXACT", "SIGMOID")
        return known and least and bool(np.isfinite([self.center, self.width]).all())


@dataclass(frozen=True, eq=False)
class Greyscale:
    """What a header says of its grey values."""

    bits: int  # stored
    signed: bool = False
    modality: Rescale | Table | None = None
    voi: Window | Table | None = None
    padding: tuple[int, int] | None = None  # stored values, both ends included, that are no image
    inverted: bool = False  # the smallest value is white


def shown(stored: NDArray[Any], how: Greyscale) -> Pixels:
    """What a screen would show of a picture.

    Without a window or VOI table, stored values of up to 8 bits are taken as they are (such
    pictures are made for a screen), and deeper ones from the least to the greatest value of the
    picture, padding left out: a detector's values depend on the exposure and rarely use their
    whole range. Nothing is clipped then.

    Args:
        stored: Integers (H, W), as stored.
        how: What the header says.

    Returns:
        uint8 (H, W); 0 is black.
    """
    levels, index = _levels(stored)  # (L,), (H, W)
    with np.errstate(all="ignore"):  # absurd slopes and widths give black or white
        values = levels.astype(np.float64)
        if how.modality is not None:
            values = how.modality(values)
        if isinstance(how.voi, Table):
            parts = how.voi(values) / how.voi.full
        elif how.voi is not None:
            parts = how.voi(values)
        else:
            low, high = _limits(levels, index, values, how)
            parts = (values - low) / (high - low) if high > low else np.zeros_like(values)
        parts = np.nan_to_num(np.clip(parts, 0, 1))
    eight = np.floor(parts * 255 + 0.5).astype(np.uint8)
    return np.asarray((255 - eight if how.inverted else eight)[index])


def _levels(stored: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Every value the picture may have (L,), and which one each pixel has (H, W)."""
    low, high = int(stored.min()), int(stored.max())
    if high - low >= 1 << 16:
        levels, index = np.unique(stored, return_inverse=True)
        return levels, index.reshape(stored.shape)
    offset = stored - stored.dtype.type(low)  # may wrap where signed: seen as unsigned it is right
    return np.arange(low, high + 1), offset.view(f"u{stored.dtype.itemsize}")


def _limits(
    levels: NDArray[Any], index: NDArray[Any], values: Values, how: Greyscale
) -> tuple[float, float]:
    """What becomes black and what white where the header does not say it."""
    if how.bits <= 8:
        if isinstance(how.modality, Table):
            return 0.0, float(how.modality.full)
        least = -(1 << how.bits - 1) if how.signed else 0
        ends = np.array([least, least + (1 << how.bits) - 1], np.float64)
        ends = ends if how.modality is None else how.modality(ends)
        return float(ends.min()), float(ends.max())
    used = np.zeros(len(levels), np.bool_)
    used[index] = True
    if how.padding is not None:
        picture = used & ((levels < how.padding[0]) | (levels > how.padding[1]))
        used = picture if picture.any() else used
    return float(values[used].min()), float(values[used].max())


def greyscale(data: Elements) -> Greyscale:
    """What a header (its `ELEMENTS`) says of the grey values of a picture.

    A VOI table is preferred to a window, and the first of several is taken. A window that is none
    (of width zero) is passed over. White is the smallest value for MONOCHROME1, and where the
    presentation shape is INVERSE; both together mean the same once (PS3.3 C.8.11.3).
    """
    modality: Rescale | Table | None = None
    if data.get("ModalityLUTSequence"):
        modality = _table(data, data.ModalityLUTSequence[0], "LUT")
    elif data.get("RescaleSlope") is not None and data.get("RescaleIntercept") is not None:
        modality = Rescale(float(data.RescaleSlope), float(data.RescaleIntercept))
    voi: Window | Table | None = None
    if data.get("VOILUTSequence"):
        voi = _table(data, data.VOILUTSequence[0], "LUT")
    elif data.get("WindowCenter") is not None and data.get("WindowWidth") is not None:
        window = Window(
            _first(data.WindowCenter),
            _first(data.WindowWidth),
            str(data.get("VOILUTFunction") or "LINEAR").upper(),
        )
        voi = window if window.valid else None
    padding = None
    if data.get("PixelPaddingValue") is not None:
        ends = int(data.PixelPaddingValue), int(data.get("PixelPaddingRangeLimit") or 0)
        ends = ends if data.get("PixelPaddingRangeLimit") is not None else (ends[0], ends[0])
        padding = min(ends), max(ends)
    return Greyscale(
        bits=int(data.BitsStored),
        signed=int(data.PixelRepresentation) == 1,
        modality=modality,
        voi=voi,
        padding=padding,
        inverted=str(data.PhotometricInterpretation) == "MONOCHROME1"
        or str(data.get("PresentationLUTShape")) == "INVERSE",
    )


def palette(data: Elements) -> list[Greyscale]:
    """Red, green and blue of a PALETTE COLOR picture (PS3.3 C.7.6.3.1.5), from its stored values.

    A segmented palette (C.7.9) is not read.
    """
    tables = [_table(data, data, f"{colour}PaletteColorLookupTable") for colour in COLOURS]
    deepest = max(table.bits for table in tables)
    return [Greyscale(int(data.BitsStored), voi=replace(one, bits=deepest)) for one in tables]


def _table(data: Elements, item: Elements, name: str) -> Table:
    """A lookup table from its descriptor (how many entries, first value, bits) and its data.

    Tables that declare 16 bits and hold 8 or 12 are common; at their word they give black. So the
    bits are those that the entries use, if these are fewer.
    """
    count, first, bits = (int(value) for value in item[f"{name}Descriptor"].value)
    count = count % (1 << 16) or 1 << 16
    content = item[f"{name}Data"].value
    if isinstance(content, bytes):
        order = "<" if data.original_encoding[1] else ">"
        entries = np.frombuffer(content, f"{order}u2" if len(content) >= 2 * count else "u1")
    else:
        entries = np.atleast_1d(np.asarray(content)) & 0xFFFF
    entries = entries[:count].astype(np.int64)
    return Table(first, entries, min(bits, bits_in_use(int(entries.max()))))


def _first(value: Any) -> float:  # noqa: ANN401 - a number of pydicom's, or several
    """The first of one or several numbers."""
    return float(value if isinstance(value, (str, float, int)) else value[0])

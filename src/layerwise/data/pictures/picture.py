"""What every decoder gives, and how deep pixels become 8 bits. See `images` and `dicom`."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

MAX_PIXELS = 178_956_970  # more than a 13,000 x 13,000 picture; above it a header is an attack
DEPTHS = (8, 10, 12, 14, 15, 16)  # what detectors and their software store

_muting = threading.Lock()  # warnings.catch_warnings changes the whole process for a moment


@dataclass(frozen=True)
class Header:
    """What a picture's header tells: nothing is decoded for it."""

    height: int  # pixels, as shown (orientation applied)
    width: int
    grey: bool  # by its mode, not by its pixels
    format: str  # "JPEG", "PNG", …, "DICOM"
    bits: int  # a channel: 1, 8 or 16 by the mode; of DICOM what is stored, 1 to 16


@contextmanager
def muted() -> Iterator[None]:
    """No warning is shown meanwhile: decoders warn of what is no concern here, or quote headers."""
    with _muting, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def bits_in_use(maximum: int) -> int:
    """The smallest usual depth (`DEPTHS`) that holds this value; 16 for what no depth holds."""
    return next((bits for bits in DEPTHS if maximum < 1 << bits), DEPTHS[-1])


def eight_bits(values: NDArray[Any]) -> Pixels:
    """Deep grey values to 8 bits, by the depth that the picture uses.

    Radiographs of 10 to 15 bits are commonly saved in files of 16. Divided by 2^16 − 1 such a
    picture is nearly black and most of its grey levels are lost. So its values are divided by
    2^bits − 1, the smallest usual depth that holds its greatest value. A picture that uses the
    whole range comes out as it always did, and none is clipped.

    Args:
        values: Integers (H, W), 0 to 65535.

    Returns:
        uint8 (H, W), rounded.
    """
    full = (1 << bits_in_use(int(values.max()))) - 1
    table = (np.arange(full + 1, dtype=np.uint32) * 255 + full // 2) // full  # (full + 1,)
    return np.asarray(table.astype(np.uint8)[values])


def too_large() -> str:
    """What is said of a header that claims more than `MAX_PIXELS`."""
    return f"claims more than {MAX_PIXELS:,} pixels; make it smaller, or remove it"

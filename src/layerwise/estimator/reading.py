"""From what scikit-learn calls X to pictures: tables, arrays, files, PIL images.

What values mean is settled once, by `fit`, and kept in a `Reading`; every later X is read by it.
"""

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from layerwise.data.pictures.images import prepare
from layerwise.errors import DataError

Array = NDArray[Any]
Bytes = NDArray[np.uint8]
Listed = list[str | bytes]
Given = Bytes | Listed  # pictures (N, H, W) or (N, H, W, 3), or files and the contents of files

BLOCK = 256  # pictures that are scaled at a time
BRIGHT = 128  # of pictures from 0 to 255 some pixel is as bright as this
OVERSHOOT = 0.01  # of the range: by so much interpolation may go beyond it


@dataclass(frozen=True)
class Reading:
    """How X becomes pictures.

    Attributes:
        kind: A table of features (n, d), an array of pictures, or a list of files or PIL images.
        axes: Of the array; 0 of a list.
        low: The value that becomes 0, black.
        high: The value that becomes 255.
        shape: (H, W) or (H, W, 3) that a row of a table has as a picture; () for the others.
    """

    kind: Literal["table", "array", "list"]
    axes: int
    low: float
    high: float
    shape: tuple[int, ...] = ()

    def pictures(self, array: Array) -> Bytes:
        """A table (n, d) or pictures (n, H, W[, C]) as uint8 (n, H, W) or (n, H, W, 3).

        Raises:
            DataError: The array is of another kind than what `fit` was given, or its values are.
        """
        if (array.ndim == 2) != (self.kind == "table"):
            had = "a table of features" if self.kind == "table" else "pictures"
            raise DataError(
                f"X has the shape {array.shape}, and fit was given {had}; give the same kind (of "
                "one picture, X[None])"
            )
        if self.kind == "array" and array.ndim != self.axes:
            raise DataError(
                f"X has {array.ndim} axes and had {self.axes} in fit; one picture is X[None], grey "
                "ones for a fit on colour are X[..., None].repeat(3, axis=3)"
            )
        if self.kind == "table":
            return scaled(array, self.low, self.high).reshape(len(array), *self.shape)
        _check_values(array, self.low, self.high)
        return scaled(_as_pictures(array), self.low, self.high)


def settle(
    array: Array, image_shape: tuple[int, ...] | None, value_range: tuple[float, float] | None
) -> Reading:
    """How the X of `fit` is read, and any after it.

    Args:
        array: A table (n, d) or pictures (n, H, W) or (n, H, W, C), finite numbers.
        image_shape: That of a row of a table; None: a square where d is one, else one line.
        value_range: (what is black, what is white); None: of uint8 (0, 255), of a table its
            smallest and largest value, of other pictures (0, 1) or (0, 255), whichever fits.

    Raises:
        DataError: The values could mean several things, or nothing.
    """
    shape = _row_shape(array.shape[1], image_shape) if array.ndim == 2 else ()
    low, high = _range(array) if value_range is None else _given_range(value_range)
    if array.ndim != 2:
        _as_pictures(array[:1])
        _check_values(array, low, high)
    return Reading("table" if array.ndim == 2 else "array", array.ndim, low, high, shape)


def scaled(array: Array, low: float, high: float) -> Bytes:
    """Values as uint8: `low` becomes 0, `high` 255, what lies beyond is cut off."""
    if array.dtype == np.uint8 and (low, high) == (0, 255):
        return array
    out = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), BLOCK):
        part = array[start : start + BLOCK].astype(np.float64)
        grey = np.rint((part - low) * (255 / (high - low)))
        out[start : start + BLOCK] = np.clip(grey, 0, 255)
    return out


def _range(array: Array) -> tuple[float, float]:
    """What is black and what is white, from the values of `fit`."""
    if array.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(array.min()), float(array.max())
    if array.ndim == 2:
        if low == high:
            raise DataError(
                f"every value of X is {low:g}: constant pictures, in which nothing can be told "
                "apart; check how X was made"
            )
        return low, high
    if low < 0 or high > 255:
        raise DataError(
            f"X has values from {low:g} to {high:g}; pictures are uint8, or have values from 0 to "
            "1 or from 0 to 255. Say what is black and what is white: "
            f"value_range=({low:g}, {high:g})"
        )
    if 1 < high < BRIGHT:
        raise DataError(
            f"X has values from {low:g} to {high:g}: dark pictures of 0 to 255, or bright ones of "
            f"another range? Say which: value_range=(0, 255) or value_range=(0, {high:g})"
        )
    return 0.0, 1.0 if high <= 1 else 255.0


def _given_range(value_range: Any) -> tuple[float, float]:  # noqa: ANN401 - what a user gives
    """The range that a user names."""
    try:
        low, high = (float(value) for value in value_range)
    except (TypeError, ValueError):
        low = high = 0.0
    if not (np.isfinite([low, high]).all() and low < high):
        raise DataError(f"value_range={value_range!r}: give (black, white), as in (0, 1)")
    return low, high


def _check_values(array: Array, low: float, high: float) -> None:
    """Refuse pictures whose values are of another range than those of `fit`."""
    if array.dtype == np.uint8 and (low, high) == (0, 255):
        return
    least, most = float(array.min()), float(array.max())
    beyond = OVERSHOOT * (high - low)
    if least < low - beyond or most > high + beyond:
        raise DataError(
            f"X has values from {least:g} to {most:g}, and {low:g} is black and {high:g} white; "
            "give values of that range, or another value_range and fit again"
        )
    if (low, high) == (0, 255) and 0 < most <= 1:
        raise DataError(
            f"X has values from {least:g} to {most:g}, and 255 is white: all black, or pictures "
            "from 0 to 1? Multiply these by 255"
        )


def _row_shape(features: int, asked: tuple[int, ...] | None) -> tuple[int, ...]:
    """The picture that a row of a table is."""
    if asked is None:
        side = round(features**0.5)
        return (side, side) if side * side == features else (1, features)
    shape = tuple(asked) if isinstance(asked, (tuple, list)) else ()
    fits = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
    if not fits or any(not isinstance(n, (int, np.integer)) or n < 1 for n in shape):
        raise DataError(f"image_shape={asked!r}: give (height, width) or (height, width, 3)")
    if np.prod(shape) != features:
        raise DataError(
            f"image_shape={shape} is {np.prod(shape)} values a picture, and X has {features} "
            "features; give the shape that they had"
        )
    return shape[:2] if shape[2:] == (1,) else shape


def _as_pictures(array: Array) -> Array:
    """(N, H, W), (N, H, W, 1) or (N, H, W, 3) as (N, H, W) or (N, H, W, 3)."""
    if array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 3):
        return array
    if array.ndim == 4 and array.shape[3] == 1:
        return array[..., 0]
    advice = "pictures are (N, H, W), (N, H, W, 1) or (N, H, W, 3)"
    if array.ndim == 4 and array.shape[3] == 4:
        advice = "leave the transparency out: X[..., :3]"
    elif array.ndim == 4 and array.shape[1] in (1, 3):
        advice = "channels come last: X.transpose(0, 2, 3, 1)"
    raise DataError(f"X has the shape {array.shape}; {advice}")


def listed(given: Any) -> Listed | None:  # noqa: ANN401 - whatever X is
    """X as files and contents of files, where it is a list of paths or of PIL images; else None.

    Raises:
        DataError: An element is neither, or an image that can not be kept in a file.
    """
    values = given.to_numpy() if hasattr(given, "iloc") else given
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "OUT":
            return None
        one_column = values.ndim == 2 and values.shape[1] == 1
        values = (values[:, 0] if one_column else values).tolist()
    if not isinstance(values, (list, tuple)) or not len(values):
        return None
    if not isinstance(values[0], (str, os.PathLike, Image.Image)):
        return None
    return [_one(value, index) for index, value in enumerate(values)]


def _one(value: Any, index: int) -> str | bytes:  # noqa: ANN401 - an element of X
    """A path, or the content of a file that holds the image as it is."""
    if isinstance(value, (str, os.PathLike)):
        return os.path.abspath(Path(os.fspath(value)).expanduser())
    if not isinstance(value, Image.Image):
        raise DataError(f"X[{index}] is a {type(value).__name__}, no path and no PIL image")
    image = ImageOps.exif_transpose(value)
    if "transparency" in image.info:
        image = image.convert("RGBA")
    out = io.BytesIO()
    try:
        image.save(out, "TIFF", compression="raw")  # not that of the file it came from
    except (OSError, KeyError) as error:
        raise DataError(
            f"X[{index}] is a PIL image of mode {image.mode}; give image.convert('RGB')"
        ) from error
    return out.getvalue()


def as_files(items: Listed, folder: Path) -> Listed:
    """The paths of these pictures; contents without a file get one, named by what is in it."""
    return [item if isinstance(item, str) else _kept(item, folder) for item in items]


def _kept(content: bytes, folder: Path) -> str:
    path = folder / f"{hashlib.sha256(content).hexdigest()}.tif"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}")
        part.write_bytes(content)
        part.replace(path)
    return str(path)


def prepared(
    given: Given, rows: NDArray[np.int64], size: tuple[int, int], channels: int, letterbox: bool
) -> Bytes:
    """Some of the pictures as the network was trained on them: uint8 (n, height, width, channels).

    Raises:
        DataError: A file is missing, damaged, or no picture.
    """
    return np.stack([prepare(given[row], size, channels, letterbox) for row in rows.tolist()])

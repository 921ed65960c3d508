"""From a file to an array: the one implementation of preprocessing.

Training, prediction and serving all call `prepare`, so they can not disagree. No torch here.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from layerwise.data.pictures import dicom
from layerwise.data.pictures.picture import MAX_PIXELS, Header, Pixels, eight_bits, muted, too_large
from layerwise.data.pictures.pieces import Pieces, refuse_scans
from layerwise.errors import DataError

DECODE_VERSION = 4  # part of the store's key: raise it whenever the pixels would come out different
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")

_PHOTOMETRIC = 262  # the tag of a TIFF that says which end is white
_READ = "JPEG, PNG, BMP, TIFF, WebP, GIF or DICOM"


def decode(
    source: str | Path | bytes,
    channels: int | None = None,
    enough: tuple[int, int] | None = None,
    look: Callable[[Header], None] | None = None,
) -> Pixels:
    """Decode a picture; what it is follows from its content, not from its name's ending.

    EXIF orientation is applied, 16 bits are scaled to 8 (see `picture.eight_bits`), transparency
    is laid on black, and an animation or a TIFF of several pages gives its first. DICOM comes out
    as a screen would show it, see `layerwise.data.pictures.dicom`.

    Args:
        source: A file, or the bytes of one.
        channels: 1 for grey, 3 for RGB, None for what the picture is.
        enough: A (height, width) that is going to be asked for: a JPEG at least four times as
            large is decoded at 1/2, 1/4 or 1/8 of its size, several times faster, and any picture
            of 8 bits is shrunk by whole numbers while it stays twice as large.
        look: Told the header before a pixel is decoded; with a DataError it ends there.

    Returns:
        uint8 (H, W) for grey, (H, W, 3) for RGB.

    Raises:
        DataError: The file is missing, damaged, no picture, or too large to be one.
    """
    name = "<picture>" if isinstance(source, bytes) else str(source)
    try:
        if dicom.is_dicom(_head(source)):
            if look is not None:
                look(dicom.header(source))
            return _array_channels(dicom.decode(source), channels)
        with _open(source) as image:
            if look is not None:
                look(_header(image))
            if enough is not None and image.format == "JPEG":
                image.draft(None, (2 * max(enough), 2 * max(enough)))
            deep = image.mode.startswith("I")
            white_is_zero = deep and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
            # Of 16-bit colour, PIL keeps the upper 8 bits. Once the picture is loaded, it forgets.
            upper = not deep and any(";16" in str(part[3]) for part in getattr(image, "tile", []))
            array = _convert(_turn(image), channels, None if upper else enough)
            return _repaired(array, white_is_zero, upper)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise DataError(f"{name}: can not be read ({error.strerror}); check the path") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: {too_large()}") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: {_no_picture(source)}") from error
    except Exception as error:  # a damaged file makes PIL raise nearly anything
        raise DataError(f"{name}: damaged ({error}); replace the file") from error


def header(source: str | Path | bytes) -> Header:
    """Read the header of a picture.

    Raises:
        DataError: As `decode`, as far as the header tells.
    """
    name = "<picture>" if isinstance(source, bytes) else str(source)
    try:
        if dicom.is_dicom(_head(source)):
            return dicom.header(source)
        with _open(source) as image:
            return _header(image)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except UnidentifiedImageError as error:  # its own text names the buffer, not the picture
        raise DataError(f"{name}: {_no_picture(source)}") from error
    except Exception as error:
        raise DataError(f"{name}: damaged, or no picture ({error}); replace the file") from error


def resize(array: Pixels, size: tuple[int, int], letterbox: bool) -> Pixels:
    """Resize with antialiased bilinear interpolation.

    Args:
        array: uint8 (H, W) or (H, W, 3).
        size: The new (height, width).
        letterbox: Keep the aspect ratio and fill up with black, the picture in the middle.

    Returns:
        uint8 (height, width) or (height, width, 3).
    """
    if not letterbox:
        return _scale(array, size)
    top, left, *inner = inner_box((array.shape[0], array.shape[1]), size)
    out = np.zeros((*size, *array.shape[2:]), np.uint8)  # (h, w[, 3])
    out[top : top + inner[0], left : left + inner[1]] = _scale(array, (inner[0], inner[1]))
    return out


def inner_box(picture: tuple[int, int], size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Where a letterboxed picture lies: (top, left, height, width) within `size`.

    Args:
        picture: Its own (height, width).
        size: (height, width) of what it is put into.
    """
    factor = min(size[0] / picture[0], size[1] / picture[1])
    height, width = (max(1, round(side * factor)) for side in picture)
    return (size[0] - height) // 2, (size[1] - width) // 2, height, width


def prepare(
    source: str | Path | bytes | Pixels,
    size: tuple[int, int],
    channels: int,
    letterbox: bool,
    look: Callable[[Header], None] | None = None,
) -> Pixels:
    """From a file, its bytes or an array to what a network is given.

    Args:
        source: A file, the bytes of one, or uint8 (H, W), (H, W, 1) or (H, W, 3).
        size: (height, width) of the result.
        channels: 1 (grey) or 3 (RGB).
        letterbox: Keep the aspect ratio, see `resize`.
        look: See `decode`; of an array nothing is told.

    Returns:
        uint8 (height, width, channels).

    Raises:
        DataError: See `decode`; or an array of another type or shape.
    """
    if isinstance(source, np.ndarray):
        array = _array_channels(source, channels)
    else:
        array = decode(source, 1 if channels == 1 else None, enough=size, look=look)
    array = resize(array, size, letterbox)
    if channels == 3 and array.ndim == 2:  # not before: one channel is resized faster than three
        array = np.repeat(array[:, :, None], 3, axis=2)
    return array.reshape(*size, channels)


def _head(source: str | Path | bytes) -> bytes:
    """The first bytes of a file."""
    if isinstance(source, bytes):
        return source[: dicom.HEAD]
    with open(source, "rb") as file:
        return file.read(dicom.HEAD)


def _open(source: str | Path | bytes) -> Image.Image:
    """Open by content, header only; refuse what is too large before a pixel is decoded."""
    with muted():  # PIL warns of large pictures and odd metadata
        file = Pieces(source) if isinstance(source, bytes) else source
        image = Image.open(file, "r", FORMATS)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise DataError(too_large())
    if isinstance(source, bytes) and image.format in ("JPEG", "MPO"):
        refuse_scans(source)
    return image


def _header(image: Image.Image) -> Header:
    """What is known of an image that was opened and not decoded."""
    width, height = image.size
    if image.format != "TIFF" and _orientation(image) in (5, 6, 7, 8):  # PIL turns that itself
        height, width = width, height
    bits = 1 if image.mode == "1" else 16 if image.mode.startswith("I") else 8
    return Header(height, width, _is_grey(image), str(image.format), bits)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, or 0; of an image that was opened and not decoded."""
    with muted():
        if image.format == "PNG" and not _told_late(image):
            # PIL's own method decodes a PNG, to see what stands behind the pixels
            return int(Image.Image.getexif(image).get(0x0112, 1))
        return int(image.getexif().get(0x0112, 1))


def _told_late(image: Image.Image) -> bool:
    """Whether a PNG has EXIF data or text behind its pixels (PNG 3, 5.6: chunks in any order)."""
    assert isinstance(image, ImageFile.ImageFile) and image.fp is not None
    at, seen_pixels, late = 8, False, False
    while len(head := _bytes_at(image.fp, at)) == 8 and head[4:] != b"IEND" and not late:
        seen_pixels |= head[4:] == b"IDAT"
        late = seen_pixels and head[4:] in (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
        at += int.from_bytes(head[:4], "big") + 12  # length, name and checksum come on top
    return late


def _bytes_at(file: IO[bytes], at: int) -> bytes:
    """Eight bytes at a place; PIL's own position in the file stays."""
    if not isinstance(file, io.BytesIO):
        return os.pread(file.fileno(), 8, at)
    stood = file.tell()
    file.seek(at)
    found = file.read(8)
    file.seek(stood)
    return found


def _turn(image: Image.Image) -> Image.Image:
    """The picture upright, as its EXIF data ask."""
    with muted():
        upright = image.getexif().get(0x0112, 1) in (0, 1)
    return image if upright else ImageOps.exif_transpose(image)


def _convert(
    image: Image.Image, channels: int | None, enough: tuple[int, int] | None = None
) -> Pixels:
    """Any mode of PIL → uint8 (H, W) or (H, W, 3), of 8 bits not much larger than asked for."""
    shrink = max(1, min(image.size) // (2 * max(enough))) if enough else 1
    grey = _is_grey(image) if channels is None else channels == 1
    if image.mode == "F":
        raise DataError("holds floating point numbers; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image)  # (H, W)
        if values.min() < 0:  # where zero lies on the grey scale is not said in the file
            raise DataError("holds negative values; save it with 8 or 16 bits, unsigned")
        if values.max() > 65535:
            raise DataError("holds more than 16 bits a pixel; save it with 8 or 16 bits")
        eight = eight_bits(values)
        return eight if grey else np.repeat(eight[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "La", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image).convert("RGB")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    mode = "L" if grey else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    return np.array(image if shrink == 1 else image.reduce(shrink))


def _repaired(array: Pixels, white_is_zero: bool, upper_bits: bool) -> Pixels:
    """What PIL leaves undone about 16 bits."""
    if upper_bits and array.max() < 64:
        raise DataError(
            "holds 16-bit colour and uses less than 14 bits of it, of which few can be read; save "
            "it with 8 bits, or as 16-bit grey"
        )
    return 255 - array if white_is_zero else array


def _is_grey(image: Image.Image) -> bool:
    """Whether the picture has one channel by its mode, or a palette of greys only."""
    if image.mode == "P" and image.palette is not None:
        palette = np.asarray(image.getpalette("RGB") or [0, 0, 1]).reshape(-1, 3)  # (P, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in GREY_MODES


def _array_channels(array: Pixels, channels: int | None) -> Pixels:
    """An array as uint8 (H, W) or (H, W, 3)."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
        raise DataError(
            f"an array of type {array.dtype} and shape {array.shape} is no picture; "
            "give uint8 (H, W) or (H, W, 3)"
        )
    if channels == 1 and array.ndim == 3:
        return np.array(Image.fromarray(array).convert("L"))
    if channels == 3 and array.ndim == 2:
        return np.repeat(array[:, :, None], 3, axis=2)
    return array


def _scale(array: Pixels, size: tuple[int, int]) -> Pixels:
    """Antialiased bilinear resize to exactly (height, width)."""
    if array.shape[:2] == size:
        return array
    image = Image.fromarray(array).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.array(image)


def _no_picture(source: str | Path | bytes) -> str:
    """Why the content is not recognised."""
    size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
    if size == 0:
        return "an empty file (0 bytes); replace or remove it"
    return f"not a picture that can be read ({_READ}), whatever its name; replace or remove it"

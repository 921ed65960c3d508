"""From the bytes of an upload to pixels: checked by the header first, refused with a reason.

What is read, and how, is `data.pictures.images`'s and so the same as in training: 16-bit grey by
the depth it uses, 16-bit colour by its upper 8 bits, CMYK as RGB, an animation's first picture.
"""

from collections.abc import Callable

from PIL import Image

from layerwise.data.pictures import images
from layerwise.data.pictures.dicom import HEAD, is_dicom
from layerwise.data.pictures.picture import Header, Pixels, too_large
from layerwise.errors import DataError
from layerwise.serving.http.problems import Problem
from layerwise.serving.http.settings import MEGABYTE

_SIGNATURES = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"II*\0",  # TIFF
    b"MM\0*",
    b"II+\0",  # BigTIFF
    b"MM\0+",
)
_NAMELESS = "<picture>: "  # how `images` calls bytes


def prepare(
    content: bytes, size: tuple[int, int], channels: int, letterbox: bool, max_pixels: int
) -> tuple[tuple[int, int], Pixels]:
    """Check and decode an upload for a network.

    Returns:
        (height, width) of the file, and uint8 (height, width, channels) as of `images.prepare`.

    Raises:
        Problem: No bytes (400), no picture (415), too many pixels (413), damaged, or a DICOM file
            without one picture (422). All but the last are known before a pixel is decoded.
    """
    return _checked(
        content,
        max_pixels,
        lambda look: images.prepare(content, size, channels, letterbox, look),
    )


def picture(content: bytes, longest: int, max_pixels: int) -> Pixels:
    """Decode an upload to be looked at.

    Args:
        content: The file.
        longest: The longest side of the result; smaller pictures keep their size.
        max_pixels: More are refused.

    Returns:
        uint8 (H, W) or (H, W, 3).

    Raises:
        Problem: As `prepare`.
    """
    enough = (longest, longest)
    _, pixels = _checked(
        content, max_pixels, lambda look: images.decode(content, enough=enough, look=look)
    )
    height, width = pixels.shape[:2]
    factor = min(1.0, longest / max(height, width))
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return images.resize(pixels, size, letterbox=False)


def _checked(
    content: bytes, max_pixels: int, decode: Callable[[Callable[[Header], None]], Pixels]
) -> tuple[tuple[int, int], Pixels]:
    """What a decoder gives that tells the header first, and the (height, width) that it told."""
    if not content:
        raise Problem("empty", "The file has 0 bytes; send the picture itself.")
    if not _looks_like_a_picture(content):
        raise Problem(
            "no-picture",
            "This is no JPEG, PNG, BMP, TIFF, WebP, GIF or DICOM, whatever its name; send a "
            "picture in one of these formats.",
        )
    size = (0, 0)

    def look(found: Header) -> None:
        nonlocal size
        size = found.height, found.width
        if size[0] * size[1] > max_pixels:
            raise DataError(too_large())

    try:
        pixels = decode(look)
    except DataError as error:
        raise _problem(error, max_pixels) from error
    return size, pixels


def _looks_like_a_picture(content: bytes) -> bool:
    webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    return webp or content.startswith(_SIGNATURES) or is_dicom(content[:HEAD])


def _problem(error: DataError, max_pixels: int) -> Problem:
    """A refusal in the words of the decoder, which quote no content."""
    text = str(error).removeprefix(_NAMELESS)
    if too_large() in text or isinstance(error.__cause__, Image.DecompressionBombError):
        return _too_many(max_pixels)
    return Problem("picture", text[:1].upper() + text[1:] + ".")


def _too_many(max_pixels: int) -> Problem:
    return Problem(
        "too-large",
        f"The picture has more than {max_pixels / MEGABYTE:g} million pixels; make it smaller, or "
        "start the server with a larger --max-pixels.",
    )

"""DICOM: radiographs as a screen would show them, and the few header fields that splits need.

The only file that imports pydicom, and only when the first DICOM file is met. Nothing that pydicom
says reaches a user: its messages quote header values, which may identify a patient. Only the
elements named here are read at all.
"""

import functools
import json
import logging
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from layerwise.data.pictures.greyscale import (
    ELEMENTS,
    GREYS,
    Greyscale,
    Window,
    greyscale,
    palette,
    shown,
)
from layerwise.data.pictures.picture import MAX_PIXELS, Header, Pixels, muted, too_large
from layerwise.data.pictures.pieces import Pieces, refuse_runs, refuse_scans
from layerwise.data.pictures.sandbox import Sandbox, serve
from layerwise.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

Source = str | Path | bytes
T = TypeVar("T")

HEAD = 140  # bytes that tell whether a file is DICOM
AROUND = 1 << 24  # bytes that a deflated data set may have beside its pixels

_SHAPE = (
    "SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns "
    "BitsAllocated BitsStored HighBit PixelRepresentation"
).split()
# One decoder for a syntax, so that a file gives the same pixels wherever it can be read.
_PREFERENCE = ("pydicom", "pillow", "pylibjpeg", "pyjpegls", "gdcm")
_CONVERT = "convert it to an uncompressed file (with dcmconv, dcmdjpeg or gdcmconv)"
_UNABLE = f"no decoder here reads; {_CONVERT}"
_INSTALL = 'needs a decoder that is not installed: pip install "layerwise[dicom]"'
SECONDS = 120.0  # that the process apart may take for a file


class _Here(threading.local):
    """How this thread stands."""

    silent = False  # pydicom's loggers are to say nothing
    fearless = False  # a decoder may end this process


_here = _Here()


def is_dicom(head: bytes) -> bool:
    """Whether a file is DICOM, by its first `HEAD` bytes.

    A file as the standard has it says DICM at byte 128. Older ones begin with the data at once:
    with group 2 or 8, little endian, and a value representation or a short length.
    """
    if head[128:132] == b"DICM":
        return True
    if len(head) < 8 or head[:2] not in (b"\x02\x00", b"\x08\x00") or head[3] != 0:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return explicit or int.from_bytes(head[4:8], "little") <= 256


def decode(source: Source) -> Pixels:
    """Decode the picture of a DICOM file; its grey values are `greyscale`'s.

    Colour comes out as RGB, whatever it is stored as. Compressed files are read by the decoders
    that Pillow has, and where it has none by those of the extra `dicom` (GDCM, in a process of its
    own: it ends the process on some damaged files).

    Args:
        source: A file, or the bytes of one.

    Returns:
        uint8 (H, W) for grey, (H, W, 3) for RGB.

    Raises:
        DataError: Damaged, without pixels, of several frames, too large, or compressed in a way
            that no decoder here can read. It quotes nothing of the header but numbers.
    """
    try:
        planes = [shown(stored, how) for stored, how in _guarded(_planes, source)]
    except _Fragile as error:
        return _decode_apart(source, str(error))
    return planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)


def header(source: Source) -> Header:
    """Read the header of a DICOM picture.

    Raises:
        DataError: As `decode`, as far as the header tells.
    """
    return _guarded(_header, source)


def texts(source: Source, names: Sequence[str]) -> dict[str, str]:
    """Elements of a header as text, "" where absent or not readable. They may identify a person.

    Args:
        source: A DICOM file, or the bytes of one.
        names: Keywords of the standard, such as PatientID.

    Raises:
        DataError: Damaged, or no DICOM file.
    """
    return _guarded(lambda file: _texts(file, names), source)


class _Fragile(DataError):
    """Pixels that only a decoder can read which may end the process; the message names them."""


def _guarded(task: "Callable[[BinaryIO], T]", source: Source) -> T:
    """Do something with pydicom, in silence; whatever goes wrong is said in our own words."""
    problem = "damaged, or no DICOM file; replace the file"
    with muted():
        _silence()
        _here.silent = True
        try:
            with Pieces(source) if isinstance(source, bytes) else open(source, "rb") as file:
                return task(file)
        except _Fragile:
            raise
        except DataError as error:
            problem = str(error)
        except Exception:  # a damaged file makes pydicom raise nearly anything
            pass
        finally:
            _here.silent = False
    raise DataError(problem)  # here, so that it has no context that quotes the header


@functools.cache
def _silence() -> None:
    """Make pydicom's loggers drop what is said while a file is read here."""
    import pydicom.pixels  # noqa: F401 - so that its loggers are there

    for name in [*logging.root.manager.loggerDict]:
        if name.partition(".")[0] == "pydicom":
            logging.getLogger(name).addFilter(lambda _: not _here.silent)


def _read(file: BinaryIO, tags: list[str], room: int | None = None) -> "Dataset":
    """These elements of a file; with `room`, bytes, for the pixel data those as well."""
    from pydicom import dcmread

    wanted = tags if room is None else [*tags, "PixelData"]
    file = _inflated(file, room)
    return dcmread(file, force=True, specific_tags=list(wanted), stop_before_pixels=room is None)


def _inflated(file: BinaryIO, room: int | None) -> BinaryIO:
    """A file whose data set is deflated as a plain one, of no more than its picture can need.

    Of one without end only its beginning is inflated, which has the header.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.filebase import DicomBytesIO
    from pydicom.filereader import read_dataset, read_preamble
    from pydicom.filewriter import write_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

    file.seek(0)
    read_preamble(file, True)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return file
    plain, stream, content = Pieces(), zlib.decompressobj(-zlib.MAX_WBITS), file.read()
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    start = DicomBytesIO()
    write_file_meta_info(start, meta, enforce_standard=False)
    plain.write(b"\0" * 128 + b"DICM" + start.getvalue())
    most = plain.tell() + AROUND + (room or 0)
    while content and not stream.eof and plain.tell() < most:
        plain.write(stream.decompress(content, min(1 << 20, most - plain.tell())))
        content = stream.unconsumed_tail
    if room is not None and not stream.eof:
        raise DataError("damaged, or its data are far larger than its picture; replace the file")
    plain.seek(0)
    return plain


def _checked_size(data: "Dataset") -> tuple[int, int]:
    """(height, width); refuses what is no single picture, or too large to be one."""
    if data.get("Rows") is None or data.get("Columns") is None:
        raise DataError("a DICOM file without pixels (a report or a document); leave it out")
    height, width = int(data.Rows), int(data.Columns)
    frames = int(data.get("NumberOfFrames") or 1)
    if frames != 1:
        raise DataError(
            f"holds {frames} frames, and one picture a file is read; save the frames as files of "
            "their own, or leave it out"
        )
    if height * width > MAX_PIXELS:
        raise DataError(too_large())
    if height < 1 or width < 1 or int(data.SamplesPerPixel) not in (1, 3):
        raise DataError("its header describes no picture; replace the file")
    return height, width


def _header(file: BinaryIO) -> Header:
    data = _read(file, _SHAPE)
    height, width = _checked_size(data)
    grey = str(data.PhotometricInterpretation) in GREYS
    return Header(height, width, grey, "DICOM", max(1, min(int(data.BitsStored), 16)))


def _texts(file: BinaryIO, names: Sequence[str]) -> dict[str, str]:
    data = _read(file, list(names))
    found = {}
    for name in names:
        try:
            value = data.get(name)
        except Exception:  # a damaged element is an absent one
            value = None
        found[name] = "" if value is None else str(value).strip().strip("\0")
    return found


def _planes(file: BinaryIO) -> list[tuple[NDArray[Any], Greyscale]]:
    """The stored pixels of grey, or of red, green and blue, and what is to be made of them."""
    shape = _read(file, _SHAPE)
    height, width = _checked_size(shape)
    room = height * width * int(shape.SamplesPerPixel) * -(-int(shape.BitsAllocated) // 8)
    data = _read(file, [*_SHAPE, *ELEMENTS], room)  # nothing at all where it is cut off
    if "PixelData" not in data:
        raise DataError("its pixels are missing (cut off, or floating point); replace the file")
    bits = int(data.BitsStored)
    if int(data.get("HighBit") or 0) >= bits:
        raise DataError("keeps its bits in an unusual place; convert it with dcmconv or gdcmconv")
    stored, kind = _pixels(data)
    colour = kind == "RGB"
    if kind not in (*GREYS, "RGB", "PALETTE COLOR"):
        raise DataError(f"has a colour space that is not read; {_CONVERT}")
    if stored.shape != ((height, width, 3) if colour else (height, width)):
        raise DataError("its pixels do not fit its header; replace the file")
    if kind in GREYS:
        return [(stored, greyscale(data))]
    if colour:
        full = (1 << bits) - 1
        whole = Greyscale(bits, voi=Window(full / 2, full, "LINEAR_EXACT"))
        return [(stored[:, :, k], whole) for k in range(3)]
    return [(stored, how) for how in palette(data)]


def _pixels(data: "Dataset") -> tuple[NDArray[Any], str]:
    """Decompress, by whichever decoder can; and the colour space the pixels are in then."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import (
        UID,
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        JPEGExtended12Bit,
        RLELossless,
    )

    syntax = data.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        syntax = data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    syntax = UID(syntax)
    name = syntax.name if syntax.is_transfer_syntax else "an unknown way"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise DataError(f"compressed in {name}, which is not read; {_CONVERT}") from None
    if decoder.is_native:
        return _decoded(decoder.as_array(data, index=0))
    twelve = syntax == JPEGExtended12Bit and int(data.BitsStored) > 8
    able = [one for one in _PREFERENCE if not (twelve and one in ("pillow", "gdcm"))]
    plugin = next((one for one in able if one in decoder.available_plugins), None)
    if plugin is None:
        missing = not twelve and any("gdcm" in text for text in decoder.missing_dependencies)
        raise DataError(f"compressed as {name}, which {_INSTALL if missing else _UNABLE}")
    if plugin == "gdcm" and not _here.fearless:
        raise _Fragile(name)
    if plugin == "pillow":
        refuse_scans(data.PixelData)
    if syntax == RLELossless:
        refuse_runs(get_frame(data.PixelData, 0, number_of_frames=1), data.Rows * data.Columns)
    try:
        return _decoded(decoder.as_array(data, index=0, decoding_plugin=plugin))
    except Exception:
        odd = f"damaged, or of an odd kind; replace it, or {_CONVERT}"
        raise DataError(f"compressed as {name}: {odd}") from None


def _decoded(result: tuple[NDArray[Any], dict[str, Any]]) -> tuple[NDArray[Any], str]:
    """What pydicom's decoders return."""
    return result[0], str(result[1]["photometric_interpretation"])


def _decode_apart(source: Source, name: str) -> Pixels:
    """Decode in a process that may die of it."""
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    answer = _apart().ask(content)
    said = json.loads(answer[: answer.index(b"\n")]) if answer else {}
    if answer and "shape" in said:
        pixels = np.frombuffer(answer, np.uint8, offset=answer.index(b"\n") + 1)
        return pixels.reshape(said["shape"]).copy()
    damaged = f"compressed as {name}, and damaged; replace the file"
    raise DataError(said.get("error", damaged))


@functools.cache
def _apart() -> Sandbox:
    return Sandbox("layerwise.data.pictures.dicom", SECONDS)


def _answer(content: bytes) -> bytes:
    """What the process apart does: decode, and say the shape or what is wrong."""
    try:
        pixels = decode(content)
    except DataError as error:
        return json.dumps({"error": str(error)}).encode() + b"\n"
    return json.dumps({"shape": pixels.shape}).encode() + b"\n" + pixels.tobytes()


if __name__ == "__main__":
    _here.fearless = True
    serve(_answer, refuse=(b"premature end",))

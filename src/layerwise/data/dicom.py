"""DICOM: radiographs as a screen would show them, and the few header fields that splits need.

The only file that imports pydicom, and only when the first DICOM file is met. Nothing that pydicom
says reaches a user: its messages quote header values, which may identify a patient. Only the
elements named here are read at all.
"""

import functools
import io
import logging
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from layerwise.data.greyscale import ELEMENTS, GREYS, Greyscale, Window, greyscale, palette, shown
from layerwise.data.picture import MAX_PIXELS, Header, Pixels, muted, too_large
from layerwise.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

Source = str | Path | bytes
T = TypeVar("T")

HEAD = 140  # bytes that tell whether a file is DICOM

_SHAPE = (
    "SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns "
    "BitsAllocated BitsStored HighBit PixelRepresentation"
).split()
_IDENTITY = (
    "PatientID StudyInstanceUID SOPInstanceUID StudyDate AcquisitionDate ContentDate Modality"
).split()

_here = threading.local()


@dataclass(frozen=True)
class Identity:
    """Header fields that say whose picture it is and when it was taken; "" where absent.

    They identify people. They stay in memory: see `layerwise.data.sources.dicom`.
    """

    patient: str  # PatientID
    study: str  # StudyInstanceUID
    instance: str  # SOPInstanceUID
    date: str  # ISO; of the study, else of the acquisition, else of the content
    modality: str  # CR, DX, …


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
    """Decode the picture of a DICOM file; see `layerwise.data.greyscale` for its grey values.

    Colour comes out as RGB, whatever it is stored as. Compressed files are read by the decoders
    that Pillow has, then by those of the extra `dicom` (GDCM).

    Args:
        source: A file, or the bytes of one.

    Returns:
        uint8 (H, W) for grey, (H, W, 3) for RGB.

    Raises:
        DataError: Damaged, without pixels, of several frames, too large, or compressed in a way
            that no decoder here can read. It quotes nothing of the header but numbers.
    """
    planes = [shown(stored, how) for stored, how in _guarded(_planes, source)]
    return planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)


def header(source: Source) -> Header:
    """Read the header of a DICOM picture.

    Raises:
        DataError: As `decode`, as far as the header tells.
    """
    return _guarded(_header, source)


def identity(path: str | Path) -> Identity | None:
    """Whose picture a file is; None where it is no DICOM file, or can not be read."""
    try:
        with open(path, "rb") as file:
            if not is_dicom(file.read(HEAD)):
                return None
        return _guarded(_identity, path)
    except (OSError, ValueError, DataError):
        return None


def _guarded(task: "Callable[[BinaryIO], T]", source: Source) -> T:
    """Do something with pydicom, in silence; whatever goes wrong is said in our own words."""
    problem = "damaged, or no DICOM file; replace the file"
    with muted():
        _silence()
        _here.silent = True
        try:
            with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
                return task(file)
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
            logging.getLogger(name).addFilter(lambda _: not getattr(_here, "silent", False))


def _read(file: BinaryIO, tags: list[str], pixels: bool) -> "Dataset":
    """These elements of a file, and its pixel data if asked."""
    from pydicom import dcmread

    _refuse_bomb(file)
    file.seek(0)
    wanted = [*tags, "PixelData"] if pixels else tags
    return dcmread(file, force=True, specific_tags=list(wanted), stop_before_pixels=not pixels)


def _refuse_bomb(file: BinaryIO) -> None:
    """A file whose data set is deflated must not inflate to more than a picture can need."""
    from pydicom.filereader import read_dataset, read_preamble
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    read_preamble(file, True)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    stream, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    content = file.read()
    while content and not stream.eof:
        total += len(stream.decompress(content, 1 << 20))
        content = stream.unconsumed_tail
        if total > 4 * MAX_PIXELS:
            raise DataError(too_large())


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
    data = _read(file, _SHAPE, pixels=False)
    height, width = _checked_size(data)
    grey = str(data.PhotometricInterpretation) in GREYS
    return Header(height, width, grey, "DICOM", max(1, min(int(data.BitsStored), 16)))


def _identity(file: BinaryIO) -> Identity:
    data = _read(file, _IDENTITY, pixels=False)
    dates = (data.get(f"{what}Date") for what in ("Study", "Acquisition", "Content"))
    return Identity(
        patient=_text(data, "PatientID"),
        study=_text(data, "StudyInstanceUID"),
        instance=_text(data, "SOPInstanceUID"),
        date=next((iso for iso in map(_iso, dates) if iso), ""),
        modality=_text(data, "Modality"),
    )


def _text(data: "Dataset", name: str) -> str:
    """An element as text; "" where it is absent, or can not be read."""
    try:
        value = data.get(name)
    except Exception:  # a damaged element is an absent one
        return ""
    return "" if value is None else str(value).strip().strip("\0")


def _iso(value: object) -> str:
    """A date of DICOM (20040826, formerly 2004.08.26) as 2004-08-26; "" where it is none."""
    digits = str(value or "").strip().replace(".", "")
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])).isoformat()
    except ValueError:
        return ""


def _planes(file: BinaryIO) -> list[tuple[NDArray[Any], Greyscale]]:
    """The stored pixels of grey, or of red, green and blue, and what is to be made of them."""
    data = _read(file, [*_SHAPE, *ELEMENTS], pixels=True)
    height, width = _checked_size(data)
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
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import (
        UID,
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        JPEGExtended12Bit,
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
    # Pillow first: its pixels are then the same wherever the extra is installed and where it is not
    usable = sorted(decoder.available_plugins, key=lambda plugin: plugin != "pillow")
    for plugin in usable:
        try:
            return _decoded(decoder.as_array(data, index=0, decoding_plugin=plugin))
        except Exception:
            continue
    twelve = syntax == JPEGExtended12Bit and int(data.BitsStored) > 8  # GDCM is no help there
    missing = not twelve and any("gdcm" in plugin for plugin in decoder.missing_dependencies)
    raise DataError(_undecoded(name, bool(usable), missing))


def _decoded(result: tuple[NDArray[Any], dict[str, Any]]) -> tuple[NDArray[Any], str]:
    """What pydicom's decoders return."""
    return result[0], str(result[1]["photometric_interpretation"])


_CONVERT = "convert it to an uncompressed file (dcmconv, dcmdjpeg or gdcmconv do it)"


def _undecoded(name: str, tried: bool, missing: bool) -> str:
    """Why compressed pixels could not be had, and what helps."""
    if not missing:
        return f"compressed as {name}: damaged, or of a kind no decoder here reads; {_CONVERT}"
    install = 'pip install "layerwise[dicom]"'
    if tried:
        return f"compressed as {name}: damaged, or of a kind that needs {install}"
    return f"compressed as {name}, which needs a decoder that is not installed: {install}"

"""Files that are made of endlessly many pieces, or that say their picture again and again."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from layerwise.data.pictures import pieces
from layerwise.data.pictures.images import decode, header
from layerwise.errors import DataError

GREY = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)


def encoded(kind, **options):
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, kind, **options)
    return file.getvalue()


def chunks(count, kind=b"prVt"):
    """Of a PNG, without content."""
    return (struct.pack(">I", 0) + kind + struct.pack(">I", zlib.crc32(kind))) * count


def png(count):
    content = encoded("PNG")
    return content[:33] + chunks(count) + content[33:]


def png_behind(count):
    content = encoded("PNG")
    return content[:-12] + chunks(count) + content[-12:]


def jpeg(count):
    content = encoded("JPEG")
    return content[:2] + b"\xff\xe9\0\x02" * count + content[2:]


def gif(count):
    content = encoded("GIF")
    start = 13 + 3 * (2 << (content[10] & 7))  # behind the palette
    return content[:start] + b"!\xfe\x01a\0" * count + content[start:]


def dicom(count, syntax=ExplicitVRLittleEndian, coded=None):
    """With so many private elements, in any order, before those of the picture."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.Rows, data.Columns = GREY.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = encapsulate([coded]) if coded else GREY.tobytes()
    data["PixelData"].VR = "OB"
    meta.TransferSyntaxUID = syntax if coded else ExplicitVRLittleEndian
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    content = file.getvalue()
    body = 144 + int.from_bytes(content[140:144], "little")
    content = content[:body] + b"\x09\0\x10\x10SH\0\0" * count + content[body:]
    if syntax != DeflatedExplicitVRLittleEndian:
        return content
    meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    start = file.getvalue()
    start = start[: 144 + int.from_bytes(start[140:144], "little")]
    packed = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return start + packed.compress(content[body:]) + packed.flush()


def deflated(count):
    return dicom(count, DeflatedExplicitVRLittleEndian)


@pytest.mark.parametrize("made", [png, png_behind, jpeg, gif, dicom, deflated])
def test_no_more_pieces_are_read_than_a_picture_has(monkeypatch, made):
    monkeypatch.setattr(pieces, "MOST_READS", 500)
    for count in (0, 20):
        assert header(made(count)).height == 16
        assert np.abs(decode(made(count)).astype(int) - GREY).max() <= 40 * (made is jpeg)
    for use in (header, decode):
        if use is header and made is png_behind:
            continue  # nobody looks there for it
        with pytest.raises(DataError, match="more pieces than a picture"):
            use(made(600))


def test_an_honest_picture_of_small_pieces_is_far_below_the_limit(monkeypatch):
    """64 MB of it, the most that a server takes, in chunks of 1 KB."""
    noise = np.random.default_rng(1).integers(0, 256, (1000, 1000), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    plain = file.getvalue()
    data = b"".join(
        plain[at + 8 : at + 8 + size]
        for at, size in places(plain)
        if plain[at + 4 : at + 8] == b"IDAT"
    )
    some = [data[k : k + 1024] for k in range(0, len(data), 1024)]
    content = plain[:33]
    for part in some:
        content += struct.pack(">I", len(part)) + b"IDAT" + part
        content += struct.pack(">I", zlib.crc32(b"IDAT" + part))
    content += plain[-12:]
    monkeypatch.setattr(pieces, "MOST_READS", pieces.MOST_READS * len(content) // (64 << 20))
    np.testing.assert_array_equal(decode(content), noise)


def places(content):
    """(where it starts, how much it holds) of each chunk of a PNG."""
    at = 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        yield at, size
        at += size + 12


def scans(count):
    """A progressive JPEG whose first scan, the one that can be repeated, comes that often."""
    content = encoded("JPEG", progressive=True)
    first = content.index(b"\xff\xda")
    end = content.index(b"\xff\xc4", first)  # the tables of the next one
    return content[:first] + content[first:end] * count + content[end:]


@pytest.mark.parametrize("within", ["a file", "DICOM"])
def test_a_picture_is_not_said_over_and_over(within):
    def made(count):
        coded = scans(count)
        return coded if within == "a file" else dicom(0, JPEGBaseline8Bit, coded)

    np.testing.assert_array_equal(decode(made(50)), decode(made(1)))
    with pytest.raises(DataError, match="more scans than a picture"):
        decode(made(100))


def runs(segment):
    """A DICOM file of one run-length coded segment."""
    return dicom(0, RLELossless, struct.pack("<16L", 1, 64, *[0] * 14) + segment)


def test_run_lengths_stand_for_no_more_than_the_picture():
    plain = b"".join(b"\x0f" + row.tobytes() for row in GREY)  # 16 literal bytes a row
    np.testing.assert_array_equal(decode(runs(plain)), GREY)
    np.testing.assert_array_equal(decode(runs(plain + b"\x81\0" * 2)), GREY)  # 256 bytes behind
    for more in (3, 100_000):
        with pytest.raises(DataError, match="do not fit"):
            decode(runs(plain + b"\x81\0" * more))

"""Whatever a fuzzer makes of a picture, reading it ends in an array or in a DataError.

Nothing else: no other exception, no warning (pytest makes them errors), and no name that was
planted in a DICOM header in what is said. More examples: LAYERWISE_FUZZ=5000.
"""

import io
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from layerwise.data.pictures import dicom, images
from layerwise.data.pictures.identity import identity
from layerwise.data.pictures.images import decode, header
from layerwise.errors import DataError

LIMIT = 1 << 20  # pixels; so that no example takes long or much memory
MANY = settings(
    max_examples=int(os.environ.get("LAYERWISE_FUZZ", "40")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
KINDS = ("PNG", "PNG 16", "JPEG", "TIFF", "TIFF 16", "TIFF packed", "BMP", "GIF", "WEBP")
DICOMS = ("explicit", "implicit", "big", "deflated", "rle", "jpeg", "j2k", "tables", "palette")


@pytest.fixture(scope="module", autouse=True)
def small_limit():
    with pytest.MonkeyPatch.context() as patch:
        for module in (images, dicom):
            patch.setattr(module, "MAX_PIXELS", LIMIT)
        yield


def raster(kind):
    """A small picture of a kind."""
    ramp = np.add.outer(np.arange(24), np.arange(32)).astype(np.uint8) * 4
    array = ramp.astype(np.uint16) * 60 if "16" in kind else np.dstack([ramp, ramp[::-1], ramp])
    if kind == "TIFF packed":
        return saved(Image.fromarray(ramp), "TIFF", compression="packbits")
    return saved(Image.fromarray(array), kind.partition(" ")[0])


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def corpus(dicom_bytes):
    """Name → bytes of every kind."""
    ramp = np.add.outer(np.arange(24), np.arange(32)).astype(np.uint8) * 4
    deep = ramp.astype(np.uint16) * 15
    how = {"BitsStored": 12, "WindowCenter": 2000, "WindowWidth": 3000, "RescaleSlope": 1,
           "RescaleIntercept": -5, "PixelPaddingValue": ("US", 0)}  # fmt: skip
    found = {kind: raster(kind) for kind in KINDS}
    for syntax in ("explicit", "implicit", "big", "deflated", "rle"):
        found[syntax] = dicom_bytes(deep, syntax, **how)
    size = {"Rows": 24, "Columns": 32}
    found["jpeg"] = dicom_bytes(saved(Image.fromarray(ramp), "JPEG"), "jpeg", **size)
    packed = saved(Image.fromarray(ramp), "JPEG2000", no_jp2=True)
    found["j2k"] = dicom_bytes(packed, "j2k", **size)
    table = {"LUTDescriptor": ("US", [256, 0, 8]), "LUTData": ("US", list(range(256)))}
    sequence = {"ModalityLUTSequence": [dataset(table)], "VOILUTSequence": [dataset(table)]}
    found["tables"] = dicom_bytes(ramp, **sequence)
    palette = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name in ("Red", "Green", "Blue"):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = ("US", [256, 0, 8])
        palette[f"{name}PaletteColorLookupTableData"] = ("OW", bytes(range(256)))
    found["palette"] = dicom_bytes(ramp, **palette)
    for content in found.values():
        assert decode(content).shape[:2] == (24, 32)
    return found


def dataset(elements):
    import pydicom

    data = pydicom.Dataset()
    for name, (kind, value) in elements.items():
        data.add_new(pydicom.datadict.tag_for_keyword(name), kind, value)
    return data


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "cut", "insert", "remove", "repeat"]),
        st.floats(0, 1, exclude_max=True),  # where, as a share of the file
        st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 127, 128, 255])),
        st.integers(1, 16),
    ),
    min_size=1,
    max_size=4,
)


def edited(content, edits):
    """A content after some damage."""
    out = bytearray(content)
    for what, share, value, count in edits:
        at = int(share * len(out))
        if what == "flip" and out:
            out[at] ^= 1 << value % 8
        elif what == "set":
            out[at : at + count] = bytes([value]) * len(out[at : at + count])
        elif what == "cut":
            del out[at:]
        elif what == "insert":
            out[at:at] = bytes([value]) * count
        elif what == "remove":
            del out[at : at + count]
        elif what == "repeat":
            out[at:at] = out[at : at + 8 * count]
    return bytes(out)


def read(content, leaks, file):
    """Read in every way that there is; says whether there was a picture."""
    file.write_bytes(content)
    good = False
    for task in (decode, header):
        for source in (content, file):
            try:
                found = task(source)
            except DataError as error:
                assert error.args[0].count("\n") == 0 and leaks(everything(error)) == []
                continue
            if task is decode:
                good = True
                assert found.dtype == np.uint8 and found.ndim in (2, 3) and 0 < found.size
                assert found.shape[0] * found.shape[1] <= LIMIT and found.shape[2:] in ((), (3,))
            else:
                assert 0 < found.height * found.width <= LIMIT and 1 <= found.bits <= 16
    identity(file)
    return good


def everything(error):
    """What an error and all that it came from say."""
    said = ""
    while error is not None:
        said, error = f"{said}{error!r}", error.__cause__ or error.__context__
    return said


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_pictures(corpus, leaks, tmp_path, kind):
    @MANY
    @given(EDITS)
    @example([("cut", 0.5, 0, 1)])
    def check(edits):
        read(edited(corpus[kind], edits), leaks, tmp_path / "x")

    check()


@pytest.mark.parametrize("kind", DICOMS)
def test_damaged_dicom(corpus, leaks, tmp_path, kind):
    @MANY
    @given(EDITS, st.floats(0, 1))
    @example([("cut", 0.5, 0, 1)], 1.0)
    def check(edits, reach):  # most of the time the damage is in the header, after the preamble
        content = corpus[kind]
        if reach < 0.7:
            edits = [(w, 128 / len(content) + s * 0.5, v, n) for w, s, v, n in edits]
        read(edited(content, edits), leaks, tmp_path / "x")

    check()


NUMBERS = st.sampled_from([None, 0, 1, 2, 3, 7, 8, 9, 12, 15, 16, 17, 32, 64, 255, 4096, 65535])
DECIMALS = st.sampled_from(
    ["", "0", "1", "-1", "1e300", "-1e-300", "nan", "inf", "x", "3\\4", "5\\"]
)
TEXTS = st.sampled_from(["", "MONOCHROME1", "RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR",
                         "PLANTEDNAME", "INVERSE\\RGB", "\0", "INVERSE", "SIGMOID"])  # fmt: skip
BYTES = st.binary(max_size=40)
HEADER = st.fixed_dictionaries(
    {},
    optional={
        **{
            name: NUMBERS.map(lambda n: n if n is None else ("US", n))
            for name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
                         "PixelRepresentation", "SamplesPerPixel", "PlanarConfiguration",
                         "PixelPaddingValue", "PixelPaddingRangeLimit")
        },
        **{
            name: DECIMALS.map(lambda text: ("LO", text))
            for name in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept",
                         "NumberOfFrames")
        },
        **{
            name: TEXTS.map(lambda text: ("LO", text))
            for name in ("PhotometricInterpretation", "VOILUTFunction", "PresentationLUTShape")
        },
        **{
            f"{name}PaletteColorLookupTable{part}": BYTES.map(lambda content: ("OW", content))
            for name in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")
        },
        **{
            name: st.tuples(NUMBERS, NUMBERS, NUMBERS, BYTES).map(
                lambda t: [dataset({"LUTDescriptor": ("US", [n or 0 for n in t[:3]]),
                                    "LUTData": ("OW", t[3])})]
            )
            for name in ("ModalityLUTSequence", "VOILUTSequence")
        },
    },
)  # fmt: skip


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "jpeg"])
def test_odd_dicom_headers(dicom_bytes, leaks, tmp_path, syntax):
    ramp = np.add.outer(np.arange(24), np.arange(32)).astype(np.uint8) * 4
    frame = saved(Image.fromarray(ramp), "JPEG")

    @MANY
    @given(HEADER, st.booleans())
    @example({"PhotometricInterpretation": ("LO", "PLANTEDNAME")}, True)
    @example({"WindowCenter": ("LO", "PLANTEDNAME"), "WindowWidth": ("LO", "2")}, False)
    def check(elements, deep):
        pixels = frame if syntax == "jpeg" else ramp.astype(np.uint16) * 16 if deep else ramp
        size = {"Rows": 24, "Columns": 32} if syntax == "jpeg" else {}
        read(dicom_bytes(pixels, syntax, **(size | elements)), leaks, tmp_path / "x")

    check()


@MANY
@given(st.binary(max_size=300))
@example(b"\x02\0\0\0UL\x04\0")
@example(b"\0" * 128 + b"DICM")
@example(b"\x08\0\x05\0CS\x0a\0PLANTED")
def test_bytes_of_any_kind(leaks, tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("any")
    read(content, leaks, folder / "x")
    read(b"\0" * 128 + b"DICM" + content, leaks, folder / "x")

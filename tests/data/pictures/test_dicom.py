"""DICOM files: every encoding, every refusal, nothing of a header in any message; real files."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layerwise.data.manifest import Manifest, make_table
from layerwise.data.pictures import dicom
from layerwise.data.pictures.identity import identity
from layerwise.data.pictures.images import decode, header, prepare
from layerwise.data.pictures.picture import Header
from layerwise.data.sources import dicom as source
from layerwise.data.sources.options import DataOptions
from layerwise.errors import DataError

RNG = np.random.default_rng(0)
DEEP = RNG.integers(100, 3000, (30, 41), dtype=np.uint16)
SHARP = {"BitsStored": 12, "WindowCenter": 1500, "WindowWidth": 2000}
WINDOWED = np.floor(np.clip((DEEP - 1499.5) / 1999 + 0.5, 0, 1) * 255 + 0.5)
GREY = RNG.integers(0, 256, (31, 17), dtype=np.uint8)  # odd, so that a byte is filled up
COLOUR = RNG.integers(0, 256, (15, 9, 3), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8) * 2


def jpeg(array, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big", "deflated", "rle"])
def test_every_lossless_encoding_gives_the_same(dicom_bytes, tmp_path, syntax):
    content = dicom_bytes(DEEP, syntax, **SHARP)
    file = tmp_path / "a picture.png"  # what it is follows from its content
    file.write_bytes(content)
    assert (decode(content) == WINDOWED).all() and (decode(file) == WINDOWED).all()
    assert header(file) == header(content) == Header(30, 41, True, "DICOM", 12)
    assert (decode(dicom_bytes(GREY, syntax)) == GREY).all()
    assert (decode(dicom_bytes(COLOUR, syntax)) == COLOUR).all()
    assert header(dicom_bytes(COLOUR, syntax)) == Header(15, 9, False, "DICOM", 8)


@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
def test_files_that_begin_with_the_data(dicom_bytes, syntax):
    content = dicom_bytes(DEEP, syntax, preamble=False, **SHARP)
    assert b"DICM" not in content
    assert (decode(content) == WINDOWED).all()
    assert header(content) == Header(30, 41, True, "DICOM", 12)


def test_what_is_dicom():
    assert dicom.is_dicom(b"\0" * 128 + b"DICM") and dicom.is_dicom(b"II*\0" * 32 + b"DICM")
    for head in (
        b"",
        b"\x08",
        b"\x08\0",
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a" * 30,
    ):
        assert not dicom.is_dicom(head)
    assert not dicom.is_dicom(b"\x08\0\x16\x99UI\x1a\0") and not dicom.is_dicom(b"\0" * 140)


def test_channels_and_prepare(dicom_bytes):
    content = dicom_bytes(GREY)
    assert (decode(content, 3) == GREY[:, :, None]).all()
    assert np.abs(decode(dicom_bytes(COLOUR), 1) - COLOUR @ [0.299, 0.587, 0.114]).max() <= 1
    assert (prepare(content, (8, 8), 1, True) == prepare(GREY, (8, 8), 1, True)).all()


def test_bits_above_the_stored_ones_are_dropped(dicom_bytes):
    dirty = DEEP | (RNG.integers(0, 16, DEEP.shape, dtype=np.uint16) << 12)
    assert (decode(dicom_bytes(dirty, **SHARP)) == WINDOWED).all()


def test_signed_pixels(dicom_bytes):
    shifted = DEEP.astype(np.int16) - 2048
    content = dicom_bytes(shifted, BitsStored=12, WindowCenter=1500 - 2048, WindowWidth=2000)
    assert (decode(content) == WINDOWED).all()
    twelve = (shifted & 0x0FFF).astype(np.int16)  # the sign in bit 11, nothing above it
    content = dicom_bytes(twelve, BitsStored=12, WindowCenter=1500 - 2048, WindowWidth=2000)
    assert (decode(content) == WINDOWED).all()


def test_rescaled_values_are_windowed(dicom_bytes):
    how = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 2000.5 - 0.5}
    content = dicom_bytes(DEEP, BitsStored=12, **how, WindowWidth=3000)
    expected = np.clip((2 * DEEP.astype(float) - 1000 - 1999.5) / 2999 + 0.5, 0, 1)
    assert (decode(content) == np.floor(expected * 255 + 0.5)).all()


def test_the_first_window_and_a_table_before_any_window(dicom_bytes):
    import pydicom

    several = dicom_bytes(DEEP, BitsStored=12, WindowCenter=[1500, 9], WindowWidth=[2000, 9])
    assert (decode(several) == WINDOWED).all()
    item = pydicom.Dataset()
    item.add_new(0x00283002, "US", [3000, 0, 16])
    item.add_new(0x00283006, "OW", (np.arange(3000) // 12).astype("<u2").tobytes())
    table = decode(dicom_bytes(DEEP, **SHARP, VOILUTSequence=[item]))  # 16 bits are declared, and
    assert (table == DEEP // 12).all()  # 8 are used


def test_a_modality_table(dicom_bytes):
    import pydicom

    item = pydicom.Dataset()
    item.add_new(0x00283002, "US", [4096, 0, 12])
    item.add_new(0x00283006, "US", list(range(4095, -1, -1)))
    content = dicom_bytes(4095 - DEEP, **SHARP, ModalityLUTSequence=[item])
    assert (decode(content) == WINDOWED).all()


def test_monochrome1_and_inverse_turn_over_once(dicom_bytes):
    one, inverse = {"PhotometricInterpretation": "MONOCHROME1"}, {"PresentationLUTShape": "INVERSE"}
    for how in (one, inverse, one | inverse):
        assert (decode(dicom_bytes(DEEP, **SHARP, **how)) == 255 - WINDOWED).all()
    same = dicom_bytes(DEEP, **SHARP, PresentationLUTShape="IDENTITY")
    assert (decode(same) == WINDOWED).all()


@pytest.mark.parametrize(
    "how",
    [{}, {"WindowCenter": 0, "WindowWidth": 0}, {"WindowCenter": 5}, {"WindowWidth": None}],
    ids=["none", "without width", "center only", "nothing"],
)
def test_without_a_window_from_least_to_greatest(dicom_bytes, how):
    ends = int(DEEP.min()), int(DEEP.max())
    expected = np.floor((DEEP - ends[0]) / (ends[1] - ends[0]) * 255 + 0.5)
    assert (decode(dicom_bytes(DEEP, BitsStored=15, **how)) == expected).all()
    padded = DEEP.copy()
    padded[:5] = 32000
    got = decode(dicom_bytes(padded, BitsStored=15, PixelPaddingValue=("US", 32000), **how))
    inner = padded[5:].astype(float)
    expected = np.floor((inner - inner.min()) / (inner.max() - inner.min()) * 255 + 0.5)
    assert (got[5:] == expected).all() and (got[:5] == 255).all()


def test_colour_in_planes_in_sixteen_bits_and_in_ybr(dicom_bytes):
    import pydicom.pixels

    planes = np.ascontiguousarray(np.moveaxis(COLOUR, -1, 0)).reshape(COLOUR.shape)
    assert (decode(dicom_bytes(planes, PlanarConfiguration=1)) == COLOUR).all()
    deep = COLOUR.astype(np.uint16) * 257
    assert (decode(dicom_bytes(deep)) == COLOUR).all()
    assert (decode(dicom_bytes(COLOUR.astype(np.uint16) * 16, BitsStored=12)) >= COLOUR - 1.0).all()
    ybr = pydicom.pixels.convert_color_space(COLOUR, "RGB", "YBR_FULL")
    back = decode(dicom_bytes(ybr, PhotometricInterpretation="YBR_FULL")).astype(int)
    assert np.abs(back - COLOUR).max() <= 2


@pytest.mark.parametrize("deep", [False, True])
def test_palettes(dicom_bytes, deep):
    colours = RNG.integers(0, 256, (256, 3))
    how = {"PhotometricInterpretation": "PALETTE COLOR"}
    for k, name in enumerate(("Red", "Green", "Blue")):
        entries = (colours[:, k] * 257).astype("<u2") if deep else colours[:, k].astype("u1")
        how[f"{name}PaletteColorLookupTableDescriptor"] = ("US", [256, 0, 16 if deep else 8])
        how[f"{name}PaletteColorLookupTableData"] = ("OW", entries.tobytes())
    content = dicom_bytes(GREY, **how)
    assert (decode(content) == colours[GREY]).all()
    assert not header(content).grey


def test_jpeg_is_decoded_as_pillow_does(dicom_bytes):
    frame = jpeg(SMOOTH, quality=90)
    with Image.open(io.BytesIO(frame)) as image:
        expected = np.asarray(image)
    where = {"Rows": 48, "Columns": 64}
    assert (decode(dicom_bytes(frame, "jpeg", **where)) == expected).all()
    extended = dicom_bytes(frame, "extended", **where)  # the 12-bit syntax, with 8 bits in it
    assert (decode(extended) == expected).all()
    colour = np.dstack([SMOOTH, SMOOTH[::-1], SMOOTH[:, ::-1]])
    kinds = {"YBR_FULL_422": {}, "YBR_FULL": {"subsampling": 0}, "RGB": {"keep_rgb": True}}
    for kind, options in kinds.items():
        frame = jpeg(colour, quality=95, **options)
        how = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": kind}
        got = decode(dicom_bytes(frame, "jpeg", **where, **how)).astype(int)
        assert np.abs(got - colour).mean() < 3, kind


def test_jpeg_2000_of_twelve_bits(dicom_bytes):
    file = io.BytesIO()
    Image.fromarray(DEEP << 4).save(file, "JPEG2000", irreversible=False, no_jp2=True)
    content = dicom_bytes(file.getvalue(), "j2k", Rows=30, Columns=41, BitsAllocated=16,
                          BitsStored=16, WindowCenter=1500 * 16, WindowWidth=2000 * 16)  # fmt: skip
    assert np.abs(decode(content) - WINDOWED).max() <= 1


REFUSED = {
    "frames": (dict(NumberOfFrames=7), "holds 7 frames"),
    "report": (dict(Rows=None, Columns=None), "without pixels"),
    "huge": (dict(Rows=60000, Columns=60000), "178,956,970 pixels"),
    "no rows": (dict(Rows=0), "describes no picture"),
    "two samples": (dict(SamplesPerPixel=2), "describes no picture"),
    "colour space": (dict(PhotometricInterpretation="HSV"), "colour space"),
    "grey as RGB": (dict(PhotometricInterpretation="RGB"), "do not fit"),
    "cut off": (dict(Rows=300), "damaged"),
    "bits on top": (dict(BitsStored=12, HighBit=15), "unusual place"),
    "no bits": (dict(BitsAllocated=None), "damaged"),
    "odd bits": (dict(BitsAllocated=13), "damaged"),
    "odd number": (dict(RescaleSlope=("LO", "PLANTEDNAME"), RescaleIntercept=0), "damaged"),
    "palette gone": (dict(PhotometricInterpretation="PALETTE COLOR"), "damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(dicom_bytes, leaks, tmp_path, caplog, capfd, name):
    how, said = REFUSED[name]
    file = tmp_path / "x.dcm"
    file.write_bytes(dicom_bytes(DEEP, **how))
    with caplog.at_level(logging.DEBUG), pytest.raises(DataError, match=rf"x\.dcm: .*{said}") as e:
        decode(file)
    everything = "".join(_chain(e.value)) + caplog.text + "".join(capfd.readouterr())
    assert leaks(everything) == [] and caplog.text == ""
    assert dicom.header(file) if name in LATE else pytest.raises(DataError, dicom.header, file)


LATE = ("colour space", "grey as RGB", "cut off", "bits on top", "no bits", "odd bits",
        "odd number", "palette gone")  # fmt: skip


def _chain(error):
    """What an error and everything it came from say."""
    while error is not None:
        yield f"{error!r} {error.__notes__ if hasattr(error, '__notes__') else ''}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("share", [0.3, 0.6, 0.98])
def test_a_cut_off_file(dicom_bytes, share):
    for syntax in ("explicit", "rle"):
        content = dicom_bytes(DEEP, syntax, **SHARP)
        with pytest.raises(DataError, match="damaged|cut off" + "|without pixels" * (share < 0.5)):
            decode(content[: int(len(content) * share)])


def test_floating_point_pixels_are_refused(dicom_bytes):
    content = dicom_bytes(None, FloatPixelData=np.zeros((8, 8), "<f4").tobytes(), BitsAllocated=32)
    with pytest.raises(DataError, match="floating point"):
        decode(content)


def test_a_deflated_bomb(dicom_bytes, monkeypatch):
    content = dicom_bytes(np.zeros((800, 800), np.uint8), "deflated")
    assert len(content) < 10_000
    assert (decode(content) == 0).all()
    monkeypatch.setattr(dicom, "MAX_PIXELS", 100_000)
    for read in (decode, header):
        with pytest.raises(DataError, match="pixels"):
            read(content)


def test_a_deflated_file_is_inflated_no_further_than_its_picture_needs(dicom_bytes):
    """64 MB of padding behind a small picture: neither is it read nor does it take memory."""
    padding = ("OB", bytes(4 * dicom.AROUND))
    content = dicom_bytes(GREY, "deflated", DataSetTrailingPadding=padding)
    assert len(content) < 100_000
    tracemalloc.start()
    try:
        assert header(content) == Header(*GREY.shape, True, "DICOM", 8)
        with pytest.raises(DataError, match="far larger than its picture"):
            decode(content)
        assert tracemalloc.get_traced_memory()[1] < 3 * dicom.AROUND
    finally:
        tracemalloc.stop()
    small = dicom_bytes(GREY, "deflated", DataSetTrailingPadding=("OB", bytes(1000)))
    assert (decode(small) == GREY).all()
    with pytest.raises(DataError, match="damaged"):
        decode(small[:-100])


@pytest.mark.parametrize(
    "syntax, said",
    [
        ("htj2k", "High-Throughput JPEG 2000.* no decoder here reads; convert it"),
        ("mpeg", "MPEG2.*not read; convert it"),
        ("1.2.826.0.1.777.9", "unknown way.*convert it"),
        ("extended", "JPEG Extended.* no decoder here reads; convert it"),
    ],
)
def test_syntaxes_that_are_not_read_are_named(dicom_bytes, leaks, syntax, said):
    frame = dicom_bytes(b"\xff\xd8" + b"\1" * 99, syntax, BitsAllocated=16, BitsStored=12)
    with pytest.raises(DataError, match=said) as error:
        decode(frame)
    assert leaks("".join(_chain(error.value))) == []


BLOCKED = """
import sys
for name in ("gdcm", "_gdcm", "torch", "torchvision", "timm"):
    sys.modules[name] = None
from layerwise.data.pictures.images import prepare
for path in sys.argv[1:]:
    try:
        print(int(prepare(path, (16, 16), 1, False).sum()))
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_without_the_extra_and_without_torch(dicom_bytes, tmp_path):
    files = {
        "plain.dcm": dicom_bytes(DEEP, **SHARP),
        "rle.dcm": dicom_bytes(DEEP, "rle", **SHARP),
        "jpeg.dcm": dicom_bytes(jpeg(SMOOTH), "jpeg", Rows=48, Columns=64),
        "lossless.dcm": dicom_bytes(b"\xff\xd8" + b"\1" * 99, "lossless", BitsAllocated=16),
        "j2k.dcm": dicom_bytes(b"\xff\x4f" + b"\1" * 99, "j2k"),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in files]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *paths], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(dicom.__file__).parents[3])},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    for path, line in zip(paths[:3], lines, strict=False):
        assert int(line) == prepare(path, (16, 16), 1, False).sum()
    install = 'needs a decoder that is not installed: pip install "layerwise[dicom]"'
    assert lines[3].startswith("DataError") and "JPEG Lossless" in lines[3] and install in lines[3]
    assert "JPEG 2000" in lines[4] and "damaged" in lines[4]
    assert done.stderr == ""


def test_silence_is_local_and_leaves_no_trace(dicom_bytes, caplog):
    content = dicom_bytes(DEEP, **SHARP, RescaleSlope="1.00000000000000000001", RescaleIntercept=0)
    caplog.clear()
    before = list(warnings.filters)
    pictures = []
    threads = [threading.Thread(target=lambda: pictures.append(decode(content))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pictures) == 6 and all((one == WINDOWED).all() for one in pictures)
    assert warnings.filters == before and caplog.text == ""
    logging.getLogger("pydicom").warning("of somebody else")
    assert "of somebody else" in caplog.text


# What headers add to a manifest


def manifest_of(folder, contents, **columns):
    paths = []
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        paths.append(str(folder / name))
    return Manifest(
        name="made",
        task="binary",
        labels=("a", "b"),
        table=make_table(list(contents), paths=paths, **columns),
        targets=np.arange(len(paths)) % 2,
    )


@pytest.fixture
def clinic(dicom_bytes, tmp_path):
    """Six pictures of three people, stored in another order than their names."""
    people = {
        "f.dcm": dict(PatientID="PLANTED-Z", StudyInstanceUID="1.777.9", StudyDate="20110907"),
        "a.dcm": dict(PatientID="PLANTED-B", StudyInstanceUID="1.777.3", StudyDate="20120101"),
        "b.dcm": dict(PatientID="PLANTED-Z", StudyInstanceUID="1.777.8", StudyDate="2011.09.19"),
        "c.dcm": dict(PatientID="PLANTED-Z", StudyInstanceUID="1.777.9", Modality="CT"),
        "d.dcm": dict(PatientID="", StudyInstanceUID="1.777.8", StudyDate=None,
                      AcquisitionDate="20110920"),
        "e.dcm": dict(PatientID=None, StudyInstanceUID="1.777.5", StudyDate="99999999",
                      Modality="ANNA"),
    }  # fmt: skip
    contents = {name: dicom_bytes(GREY, **how) for name, how in people.items()}
    return manifest_of(tmp_path, contents)


def test_patients_studies_and_dates_under_pseudonyms(clinic, leaks):
    done = source.complete(clinic, DataOptions())
    table = done.table.set_index("id")
    assert table["patient"].to_dict() == {
        "a.dcm": "patient-0001", "b.dcm": "patient-0002", "c.dcm": "patient-0002",
        "d.dcm": "patient-0002", "e.dcm": "patient-0003", "f.dcm": "patient-0002",
    }  # fmt: skip
    assert table["study"].to_dict() == {
        "a.dcm": "study-0001", "b.dcm": "study-0002", "c.dcm": "study-0003",
        "d.dcm": "study-0002", "e.dcm": "study-0004", "f.dcm": "study-0003",
    }  # fmt: skip
    assert table["date"].to_dict() == {
        "a.dcm": "day-00116", "b.dcm": "day-00012", "c.dcm": "day-00000", "d.dcm": "day-00013",
        "e.dcm": "", "f.dcm": "day-00000",
    }  # fmt: skip
    said = "\n".join(done.notes)
    assert "1 CT, 1 of another modality" in said and "dates of 5 of 6" in said
    done.write(Path(clinic.table["path"][0]).parent / "manifest.csv")
    written = (Path(clinic.table["path"][0]).parent / "manifest.csv").read_text()
    assert leaks(written.replace(str(Path(clinic.table["path"][0]).parent), "") + said) == []


def test_identifiers_are_kept_when_asked(clinic):
    done = source.complete(clinic, DataOptions(keep_identifiers=True))
    table = done.table.set_index("id")
    assert table["patient"]["a.dcm"] == "PLANTED-B" and table["patient"]["d.dcm"] == "PLANTED-Z"
    assert table["study"]["e.dcm"] == "1.777.5"
    assert table["date"]["b.dcm"] == "2011-09-19" and table["date"]["e.dcm"] == ""
    assert any("--keep-identifiers" in note for note in done.notes)


def test_columns_that_are_there_are_left(dicom_bytes, tmp_path):
    contents = {f"{k}.dcm": dicom_bytes(GREY, PatientID=f"P{k}") for k in range(3)}
    given = manifest_of(tmp_path, contents, patients=["x", "", "y"], dates=["2001", "2002", ""])
    done = source.complete(given, DataOptions())
    assert done.table["patient"].tolist() == ["x", "", "y"]
    assert done.table["date"].tolist() == ["2001", "2002", ""]
    assert done.table["study"].tolist() == ["study-0001"] * 3


def test_one_patient_for_all_is_a_placeholder(dicom_bytes, tmp_path):
    contents = {
        f"{k}.dcm": dicom_bytes(GREY, PatientID="ANON", StudyInstanceUID=f"1.{k // 2}")
        for k in range(4)
    }
    done = source.complete(manifest_of(tmp_path, contents), DataOptions())
    expected = ["patient-0001", "patient-0001", "patient-0002", "patient-0002"]
    assert done.table["patient"].tolist() == expected
    assert any("placeholder" in note for note in done.notes)


def test_other_files_and_arrays_change_nothing(dicom_bytes, tmp_path):
    png = io.BytesIO()
    Image.fromarray(GREY).save(png, "PNG")
    torn = dicom_bytes(GREY)[:150]
    plain = manifest_of(tmp_path, {"a.png": png.getvalue(), "b": b"text", "c": torn, "d": b""})
    done = source.complete(plain, DataOptions())
    assert (done.table[["patient", "study", "date"]] == "").all(axis=None)
    assert (
        source.complete(manifest_of(tmp_path, {"a.png": b"", "b": b""}), DataOptions()).notes == ()
    )
    assert identity(tmp_path / "no such file") is None and identity(tmp_path) is None
    mixed = manifest_of(tmp_path, {"a.png": png.getvalue(), "x": dicom_bytes(GREY)})
    assert source.complete(mixed, DataOptions()).table["patient"].tolist() == ["", "patient-0001"]


@pytest.mark.slow
def test_many_files_by_workers_are_numbered_the_same(dicom_bytes, tmp_path, monkeypatch):
    contents = {f"{k:03}": dicom_bytes(GREY, PatientID=f"{k * 7919 % 40}") for k in range(80)}
    given = manifest_of(tmp_path, contents)
    alone = source.complete(given, DataOptions())
    monkeypatch.setattr(source, "worker_count", lambda workers, pictures: 2)
    assert source.complete(given, DataOptions()).table.equals(alone.table)
    assert alone.table["patient"].nunique() == 40


def test_instances_by_their_uid(dicom_bytes, tmp_path):
    (tmp_path / "a").write_bytes(dicom_bytes(GREY, SOPInstanceUID="1.2.3"))
    (tmp_path / "b").write_bytes(b"text")
    index = source.sop_index([str(tmp_path / "a"), str(tmp_path / "b")])
    assert index == {"1.2.3": str(tmp_path / "a")}


# Real files: sizes, means by pydicom and numpy alone, and which end is white


def reference(path):
    """What the picture is, by pydicom's functions and the formula of the standard."""
    import pydicom.pixels

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(path)
        values = pydicom.pixels.apply_modality_lut(data.pixel_array, data)
        ends = float(values.min()), float(values.max())
        if data.BitsStored <= 8:
            ends = 0.0, 255.0
        if "VOILUTSequence" in data:
            values, ends = pydicom.pixels.apply_voi(values, data), (0.0, 65535.0)
        elif "WindowCenter" in data:
            values = pydicom.pixels.apply_windowing(values, data)
            slope, intercept = data.get("RescaleSlope", 1), data.get("RescaleIntercept", 0)
            ends = intercept, (2**data.BitsStored - 1) * slope + intercept
    parts = (values.astype(float) - float(ends[0])) / float(ends[1] - ends[0])
    parts = 1 - parts if data.PhotometricInterpretation == "MONOCHROME1" else parts
    return parts * 255


REAL = {  # size and mean
    "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm": ((1024, 1024), 160.40),
    "Fake_MONOHR1.dcm": ((1024, 1024), 94.60),
    "RG1_J2KI.dcm": ((1955, 1841), 192.17),
    "RG1_uncompressed_16bit.dcm": ((1955, 1841), 192.17),
    "RG2_JPLL.dcm": ((2140, 1760), 112.47),
    "RG3_RLE.dcm": ((1760, 1760), 177.50),
    "US1_J2KR.dcm": ((480, 640, 3), 34.53),
    "bad_sequence.dcm": ((512, 512), 119.12),
    "mlut_18.dcm": ((512, 512), 128.83),
    "vlut_04.dcm": ((512, 512), 128.83),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files(shared_data, name):
    file = shared_data / "dicom" / name
    if name.startswith(("RG2", "bad")):
        pytest.importorskip("gdcm")
    got = decode(file)
    shape, mean = REAL[name]
    assert got.shape == shape and got.dtype == np.uint8
    assert got.mean() == pytest.approx(mean, abs=0.01)
    # 8-bit JPEG may differ by a step or two between decoders; everything else only by rounding
    lossy = got.ndim == 3 or name.startswith(("1.2", "Fake", "RG1_J2K"))
    difference = np.abs(got - reference(file))
    assert difference.max() <= (8 if lossy else 0.5 + 1e-6) and difference.mean() < 0.5
    seen = header(file)
    assert (seen.height, seen.width) == shape[:2] and seen.grey == (len(shape) == 2)


def test_damage_that_ends_the_process_of_the_decoder(shared_data):
    pytest.importorskip("gdcm")
    whole = (shared_data / "dicom" / "bad_sequence.dcm").read_bytes()
    start = whole.index(b"\xff\xc3")  # the frame header of JPEG lossless; then its length
    precision = whole[: start + 4] + b"\x63" + whole[start + 5 :]
    expected = decode(whole)
    for broken, said in ((precision, "JPEG Lossless.* damaged"), (whole[:-60000], "cut off")):
        with pytest.raises(DataError, match=said):
            decode(broken)
    # cut off inside, and closed as if nothing were missing: GDCM makes up the rest, and says so
    end = b"\xfe\xff\xdd\xe0\0\0\0\0"  # of the sequence of fragments
    item = whole.rindex(b"\xfe\xff\x00\xe0", 0, whole.index(b"\xff\xd8\xff"))
    frame = whole[item + 8 : whole.rindex(end)]
    half = frame[: len(frame) // 4 * 2]
    short = whole[:item] + b"\xfe\xff\x00\xe0" + len(half).to_bytes(4, "little") + half + end
    with pytest.raises(DataError, match="JPEG Lossless.* damaged"):
        decode(short)
    assert (decode(whole) == expected).all()


REAL_REFUSED = {
    "OBXXXX1A_2frame.dcm": "holds 2 frames",
    "RG3_JPLY.dcm": "JPEG Extended.*no decoder here reads; convert it",
}


@pytest.mark.parametrize("name", REAL_REFUSED)
def test_real_files_that_are_refused(shared_data, name):
    with pytest.raises(DataError, match=f"{name}: .*{REAL_REFUSED[name]}"):
        decode(shared_data / "dicom" / name)


def test_every_real_file_is_known(shared_data):
    names = {file.name for file in (shared_data / "dicom").glob("*.dcm")}
    assert names == set(REAL) | set(REAL_REFUSED)


def test_lungs_are_dark_and_the_spine_is_bright(shared_data):
    """Places picked by eye on pictures of 300 × 300."""

    def mean(name, top, left):
        picture = prepare(shared_data / "dicom" / name, (300, 300), 1, False)
        return picture[top : top + 20, left : left + 20].mean()

    chest = next(name for name in REAL if name.startswith("1.2.276"))
    assert mean(chest, 110, 60) + 50 < mean(chest, 200, 145)  # right lung, heart
    assert mean("Fake_MONOHR1.dcm", 110, 60) > mean("Fake_MONOHR1.dcm", 200, 145) + 50  # fake
    for name in ("RG1_J2KI.dcm", "RG1_uncompressed_16bit.dcm"):
        assert mean(name, 60, 60) + 30 < mean(name, 200, 145)
    assert mean("RG3_RLE.dcm", 250, 130) > mean("RG3_RLE.dcm", 100, 85) + 100  # heel, air
    # the SMPTE pattern: the patches are 0%, 50% and 100% of white
    for name in ("mlut_18.dcm", "vlut_04.dcm"):
        assert mean(name, 190, 65) < 5 and mean(name, 190, 215) > 250
        assert abs(np.median(decode(shared_data / "dicom" / name)) - 127.5) <= 0.5


def test_the_png_has_the_raw_values_and_the_window_explains_the_rest(shared_data):
    import pydicom

    raw = pydicom.dcmread(shared_data / "dicom" / "RG1_uncompressed_16bit.dcm").pixel_array
    with Image.open(shared_data / "dicom" / "RG1_16bit.png") as image:
        assert (np.asarray(image) == raw).all()
    plain = decode(shared_data / "dicom" / "RG1_16bit.png")
    assert (plain == np.floor(raw / 32767 * 255 + 0.5)).all()  # 15 bits
    windowed = np.clip((raw - 14999.5) / 29999 + 0.5, 0, 1) * 255  # 15000 / 30000, LINEAR
    got = decode(shared_data / "dicom" / "RG1_uncompressed_16bit.dcm")
    assert (got == 255 - np.floor(windowed + 0.5)).all()  # MONOCHROME1


def test_the_worker_answers_with_plain_fields(dicom_bytes, tmp_path):
    from layerwise.data.storage.decoder import answer

    (tmp_path / "a").write_bytes(dicom_bytes(GREY))
    (tmp_path / "b").write_bytes(b"no")
    paths = [str(tmp_path / "a"), str(tmp_path / "b")]
    found = json.loads(json.dumps(answer({"what": "dicom", "paths": paths})))["found"]
    assert found[0]["patient"] == "PLANTEDID77" and found[0]["date"] == "2011-09-07"
    assert found[1] is None

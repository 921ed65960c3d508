"""Decoding and resizing: every kind of file, and every kind of damage."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layerwise.data.pictures.images import Header, decode, header, prepare, resize
from layerwise.errors import DataError

RNG = np.random.default_rng(0)


def picture(height=12, width=20, channels=3):
    shape = (height, width, 3) if channels == 3 else (height, width)
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def encoded(array, kind, **options) -> bytes:
    file = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(file, kind, **options)
    return file.getvalue()


def png(size, rows) -> bytes:
    """A PNG of this IHDR and these rows."""
    parts = []
    for name, body in ((b"IHDR", size), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        check = struct.pack(">I", zlib.crc32(name + body))
        parts.append(struct.pack(">I", len(body)) + name + body + check)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("ending", ["right", "jpg", ""])
def test_lossless_kinds_come_back_exactly_whatever_the_ending(tmp_path, kind, ending):
    array = picture()
    file = tmp_path / f"a.{ending}"
    file.write_bytes(encoded(array, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert (decode(file) == array).all()
    assert (decode(file.read_bytes()) == array).all()


def test_grey_stays_grey_and_is_repeated_for_three_channels(tmp_path):
    array = picture(channels=1)
    png = encoded(array, "PNG")
    assert (decode(png) == array).all()
    assert (decode(png, 3) == array[:, :, None]).all()


def test_colour_to_grey_is_luma():
    array = picture()
    expected = array.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(decode(encoded(array, "PNG"), 1) - expected).max() <= 1


def test_sixteen_bits_that_use_the_whole_range_are_divided_by_257():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(every / 257)  # 257 is odd: there are no ties
    assert (decode(encoded(every, "PNG")) == expected).all()
    assert (decode(encoded(every, "TIFF"), 3)[:, :, 2] == expected).all()


@pytest.mark.parametrize(
    "greatest, bits",
    [(1, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16383, 14),
     (16384, 15), (32767, 15), (32768, 16), (65535, 16)],
)  # fmt: skip
def test_sixteen_bits_are_scaled_by_the_bits_in_use(greatest, bits):
    values = np.linspace(0, greatest, 60).round().astype(np.uint16).reshape(6, 10)
    expected = np.floor(values * (255 / (2**bits - 1)) + 0.5)
    assert (decode(encoded(values, "PNG")) == expected).all()
    assert header(encoded(values, "PNG")).bits == 16
    assert expected.max() > 63 or greatest == 1  # at least a quarter of the scale


def test_a_black_sixteen_bit_picture():
    assert (decode(encoded(np.zeros((3, 4), np.uint16), "PNG")) == 0).all()


def tiff(values, order="<", kind=1, photometric=1) -> bytes:
    """An uncompressed grey TIFF of 16 bits; kind 1 is unsigned, 2 signed, 3 floating point."""
    height, width = values.shape
    pixels = values.astype(values.dtype.newbyteorder(order)).tobytes()
    tags = [(256, width), (257, height), (258, 8 * values.dtype.itemsize), (259, 1),
            (262, photometric), (273, 8), (277, 1), (278, height), (279, len(pixels)),
            (339, kind)]  # fmt: skip
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags)
    start = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(pixels))
    return start + pixels + struct.pack(order + "H", len(tags)) + entries + b"\0" * 4


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_either_byte_order(order):
    values = RNG.integers(0, 4096, (9, 7), dtype=np.uint16)
    values[0, 0] = 4000
    assert (decode(tiff(values, order)) == np.floor(values * (255 / 4095) + 0.5)).all()
    signed = values.astype(np.int16)
    assert (decode(tiff(signed, order, kind=2)) == decode(tiff(values, order))).all()
    signed[1, 1] = -5
    with pytest.raises(DataError, match="negative"):
        decode(tiff(signed, order, kind=2))


def test_tiff_where_white_is_zero_is_turned_over():
    values = RNG.integers(0, 4096, (9, 7), dtype=np.uint16)
    values[0, 0] = 4000
    turned = decode(tiff(values, photometric=0)).astype(int)
    assert (turned == 255 - decode(tiff(values)).astype(int)).all()
    eight = values.astype(np.uint8)
    assert (decode(tiff(eight, photometric=0)) == 255 - eight).all()  # by PIL


def test_tiff_of_numbers_that_are_no_grey_levels():
    with pytest.raises(DataError, match="floating point"):
        decode(tiff(np.ones((4, 4), np.float32), kind=3))
    with pytest.raises(DataError, match="more than 16 bits|damaged"):
        decode(tiff(np.full((4, 4), 70000, np.uint32)))


def test_a_tiff_of_several_pages_gives_the_first():
    pages = [Image.fromarray(np.full((5, 6), value, np.uint16)) for value in (4095, 1, 2)]
    content = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert (decode(content) == 255).all()


def colour_png(values, kind) -> bytes:
    """A PNG of 16 bits a channel; kind 2 is RGB, 4 grey with alpha, 6 RGBA."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0), rows)


def test_colour_of_sixteen_bits_is_read_where_it_uses_them():
    values = RNG.integers(0, 65536, (5, 6, 3), dtype=np.uint16)
    assert np.abs(decode(colour_png(values, 2)) - values / 257).max() <= 1
    alpha = np.dstack([values[:, :, :1], np.full((5, 6, 1), 65535)])
    assert np.abs(decode(colour_png(alpha, 4))[:, :, 1] - values[:, :, 0] / 257).max() <= 1
    for kind, channels in ((2, 3), (4, 2), (6, 4)):
        with pytest.raises(DataError, match="16-bit colour"):
            decode(colour_png(np.full((5, 6, channels), 4095), kind))


def test_real_sixteen_bit_radiograph(shared_data):
    file = shared_data / "dicom" / "RG1_16bit.png"
    with Image.open(file) as image:
        raw = np.asarray(image).astype(int)
    assert 1 << 14 <= raw.max() < 1 << 15
    assert np.abs(decode(file) - raw * (255 / 32767)).max() <= 0.5


def test_transparency_is_laid_on_black():
    array = np.dstack([picture(), np.full((12, 20), 51, np.uint8)])  # a fifth opaque
    got = decode(encoded(array, "PNG"))
    assert np.abs(got - array[:, :, :3] / 5).max() <= 1


def test_palettes_cmyk_and_animations():
    red = Image.new("P", (4, 3), 1)
    red.putpalette([0, 0, 0, 200, 10, 30])
    assert (decode(encoded(red, "PNG")) == [200, 10, 30]).all()
    grey = Image.new("P", (4, 3), 1)
    grey.putpalette([0, 0, 0, 90, 90, 90])
    assert header(encoded(grey, "PNG")).grey and decode(encoded(grey, "PNG")).shape == (3, 4)
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # cyan 0, magenta and yellow full: red
    assert np.abs(decode(encoded(cmyk, "TIFF"))[0, 0].astype(int) - [255, 0, 0]).max() <= 1
    frames = [Image.new("L", (5, 5), value) for value in (10, 200)]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode(gif, 1) == 10).all()


def test_exif_orientation_is_applied():
    array = picture()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    png = encoded(array, "PNG", exif=exif)
    assert (decode(png) == np.rot90(array, -1)).all()
    assert header(png) == Header(20, 12, False, "PNG", 8)


def test_a_large_jpeg_is_decoded_at_a_fraction_and_looks_the_same():
    ramp = np.add.outer(np.arange(1024), np.arange(1024)) // 8
    jpeg = encoded(ramp.astype(np.uint8), "JPEG", quality=95)
    small = decode(jpeg, 1, enough=(100, 100))
    assert small.shape == (256, 256)  # the least power-of-two fraction that has 2 x 100
    full = prepare(decode(jpeg), (100, 100), 1, False).astype(int)
    assert np.abs(prepare(jpeg, (100, 100), 1, False) - full).max() <= 2


def test_resize_is_antialiased():
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    small = resize(board.astype(np.uint8), (8, 8), letterbox=False)
    assert np.abs(small.astype(int) - 127.5).max() <= 8  # plain bilinear gives 0 or 255


@pytest.mark.parametrize(
    "shape, inner", [((40, 20), (16, 8)), ((10, 40), (4, 16)), ((9, 9), (16, 16))]
)
def test_letterbox_keeps_the_aspect_in_the_middle(shape, inner):
    out = resize(np.full((*shape, 3), 200, np.uint8), (16, 16), letterbox=True)
    lit = np.argwhere(out[:, :, 0] == 200)
    assert tuple(lit.max(0) - lit.min(0) + 1) == inner
    assert (out > 0).sum() == inner[0] * inner[1] * 3
    assert np.abs(lit.min(0) + lit.max(0) - 15).max() <= 1


def test_prepare_is_the_same_for_a_file_its_bytes_and_its_pixels(tmp_path):
    array = picture(50, 70)
    file = tmp_path / "a.png"
    file.write_bytes(encoded(array, "PNG"))
    for channels in (1, 3):
        a = prepare(file, (32, 24), channels, True)
        assert a.shape == (32, 24, channels) and a.dtype == np.uint8
        assert (a == prepare(file.read_bytes(), (32, 24), channels, True)).all()
        assert (a == prepare(array, (32, 24), channels, True)).all()
    with pytest.raises(DataError, match="float64"):
        prepare(array.astype(float), (8, 8), 3, False)


def png_claiming(width, height) -> bytes:
    return png(struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), b"\0" * 99)


@pytest.mark.parametrize("side", [60_000, 14_000])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, side):
    file = tmp_path / "bomb.png"
    file.write_bytes(png_claiming(side, side))
    with pytest.raises(DataError, match=r"bomb\.png.*pixels"):
        decode(file)
    with pytest.raises(DataError, match="bomb"):
        header(file)


def test_a_large_picture_below_the_limit_gives_no_warning():
    with pytest.raises(DataError, match="damaged"):  # 100 million pixels that are not there
        decode(png_claiming(10_000, 10_000))


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "0 bytes"),
        (b"hello, this is text", "not a picture"),
        (encoded(picture(200, 200), "JPEG")[:2000], "damaged"),
        (encoded(picture(200, 200), "PNG")[:5000], "damaged"),
        (encoded(np.zeros((4, 4), np.float32), "TIFF"), "floating point"),
    ],
    ids=["empty", "text", "half a jpeg", "half a png", "float tiff"],
)
def test_damaged_files_are_named(tmp_path, content, said):
    file = tmp_path / "x.jpg"
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.jpg.*{said}"):
        decode(file)


@pytest.mark.parametrize("content, said", [(b"", "0 bytes"), (b"hello", "not a picture that can")])
def test_what_is_no_picture_is_told_by_its_header_without_a_name_of_our_own(content, said):
    with pytest.raises(DataError, match=f"^<picture>: .*{said}"):
        header(content)


def test_missing_files_and_folders_are_named(tmp_path):
    for path in (tmp_path / "no.png", tmp_path):
        with pytest.raises(DataError, match="check the path"):
            decode(path)


def test_no_torch_is_imported():
    names = "pictures.images pictures.dicom pictures.greyscale pictures.identity pictures.sandbox "
    names += "manifest load fingerprint storage.store storage.workers storage.decoder "
    names += "sources.saved sources.dicom splits.assign audit.check"
    code = "import sys\n" + "\n".join(f"import layerwise.data.{name}" for name in names.split())
    source = Path(__file__).resolve().parents[3] / "src"
    code += "\nassert 'torch' not in sys.modules and 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(source)})


def test_exif_data_behind_the_pixels_of_a_png_count_and_no_header_decodes_one():
    exif = Image.Exif()
    exif[0x0112] = 6
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body
    chunk += struct.pack(">I", zlib.crc32(b"eXIf" + body))
    array = picture(8, 5, channels=1)
    plain = encoded(array, "PNG")
    late = plain[:-12] + chunk + plain[-12:]
    assert (decode(late) == np.rot90(array, -1)).all()
    assert (header(late).height, header(late).width) == (5, 8)
    assert (header(plain).height, header(plain).width) == (8, 5)
    spoilt = bytearray(plain)
    at = spoilt.index(b"IDAT") + 4
    spoilt[at : at + 4] = b"\0\0\0\0"  # no pixel can be decoded
    assert (header(bytes(spoilt)).height, header(bytes(spoilt)).width) == (8, 5)
    with pytest.raises(DataError):
        decode(bytes(spoilt))


def exact(array, size, letterbox):
    """As `resize`, of all pixels at once, in floating point: Pillow's F mode."""
    height, width = array.shape[:2]
    factor = min(size[0] / height, size[1] / width)
    inner = (round(height * factor), round(width * factor)) if letterbox else size
    planes = array.reshape(height, width, -1).astype(np.float32)
    scaled = [
        np.asarray(Image.fromarray(plane).resize(inner[::-1], Image.Resampling.BILINEAR))
        for plane in np.moveaxis(planes, 2, 0)
    ]
    out = np.zeros((*size, len(scaled)))
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    out[top : top + inner[0], left : left + inner[1]] = np.stack(scaled, axis=2)
    return out


@pytest.mark.parametrize("letterbox", [False, True])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_decoding_at_reduced_scale_keeps_the_picture(shared_data, kind, letterbox):
    """Against every pixel decoded and weighed by one filter: below a grey level on average.

    Where letters were printed into a picture, an edge may come out otherwise: no bound on these.
    """
    for file in sorted((shared_data / "chest-fullsize").rglob("*.*"))[:12:3]:
        with Image.open(file) as image:
            source = encoded(image, kind, **({"quality": 95} if kind == "JPEG" else {}))
        channels = 1 if header(source).grey else 3
        for size in ((224, 224), (96, 128)):
            expected = exact(decode(source), size, letterbox)
            off = np.abs(prepare(source, size, channels, letterbox) - expected)
            assert off.mean() < 1.0 and np.quantile(off, 0.99) < 4
    reduced = decode(source, enough=(96, 128))
    assert max(reduced.shape) < max(decode(source).shape)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF"])
def test_the_header_is_told_before_a_pixel_is_decoded(kind):
    turned = Image.Exif()
    turned[0x0112] = 6
    options = {} if kind == "GIF" else {"exif": turned}
    content = encoded(picture(60, 90), kind, **options)
    told = []
    pixels = decode(content, look=told.append)
    assert told == [header(content)]
    np.testing.assert_array_equal(pixels, decode(content))
    assert (told[0].height, told[0].width) == pixels.shape[:2]

    def refuse(found):
        raise DataError(f"{found.width} pixels wide")

    if kind in ("PNG", "JPEG"):
        content = content[: len(content) * 2 // 3]  # the header is whole, the pixels are not
    with pytest.raises(DataError, match="pixels wide"):
        prepare(content, (8, 8), 1, letterbox=False, look=refuse)

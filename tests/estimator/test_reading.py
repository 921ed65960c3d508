"""What the values of X mean: known cases of each kind, and every way in which they can mislead."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from layerwise.data.pictures.images import decode, prepare
from layerwise.data.sources import digits
from layerwise.data.sources.options import DataOptions
from layerwise.errors import DataError
from layerwise.estimator.reading import as_files, listed, prepared, settle

NOISE = np.random.default_rng(0)


def read(array, **settings):
    settings = {"image_shape": None, "value_range": None} | settings
    return settle(array, **settings).pictures(array)


def test_a_table_of_squares_is_stretched_to_its_own_range():
    """The digits as scikit-learn has them are those of `layerwise fit digits`, to the bit."""
    X, _ = load_digits(return_X_y=True)
    np.testing.assert_array_equal(read(X), digits.read(DataOptions()).pixels)


def test_a_row_that_is_no_square_is_a_line_or_what_it_is_said_to_be():
    X = np.arange(12.0).reshape(2, 6)  # 0 … 11
    assert read(X).tolist() == [[[0, 23, 46, 70, 93, 116]], [[139, 162, 185, 209, 232, 255]]]
    assert read(X, image_shape=(2, 3)).shape == (2, 2, 3)
    assert read(X, image_shape=(2, 3, 1)).shape == (2, 2, 3)
    assert read(X, image_shape=(1, 2, 3)).shape == (2, 1, 2, 3)


def test_later_rows_are_read_as_the_first_ones():
    reading = settle(np.array([[0.0, 10.0]]), None, None)
    later = reading.pictures(np.array([[-5.0, 2.0], [20.0, 5.1]]))
    assert later.tolist() == [[[0, 51]], [[255, 130]]]


@pytest.mark.parametrize("type_", [np.float32, np.float64, np.int64, np.uint16])
def test_numbers_from_0_to_255_are_the_bytes_they_say(type_):
    pictures = NOISE.integers(0, 256, (3, 4, 5), dtype=np.uint8)
    np.testing.assert_array_equal(read(pictures.astype(type_)), pictures)


def test_numbers_from_0_to_1_become_bytes():
    pictures = NOISE.integers(0, 256, (300, 4, 5, 3), dtype=np.uint8)  # more than one block
    np.testing.assert_array_equal(read((pictures / 255).astype(np.float32)), pictures)
    masks = pictures[..., 0] > 128
    np.testing.assert_array_equal(read(masks), masks * np.uint8(255))


def test_a_range_can_be_said():
    pictures = np.array([[[0, 8, 16]], [[16, 4, 0]]])
    assert read(pictures, value_range=(0, 16)).tolist() == [[[0, 128, 255]], [[255, 64, 0]]]
    assert read(np.array([[[-1.0, 0, 1]]]), value_range=(-1, 1)).tolist() == [[[0, 128, 255]]]


def test_interpolation_may_go_a_little_beyond():
    reading = settle(np.array([[[0.0, 1.0]]]), None, None)
    assert reading.pictures(np.array([[[-0.005, 1.005]]])).tolist() == [[[0, 255]]]


@pytest.mark.parametrize(
    ("array", "settings", "words"),
    [
        (np.array([[[0.0, 16.0]]]), {}, r"from 0 to 16: dark pictures .*value_range=\(0, 16\)"),
        (np.array([[[-2.1, 2.6]]]), {}, r"from -2.1 to 2.6; .*value_range=\(-2.1, 2.6\)"),
        (np.array([[[0, 4095]]]), {}, r"from 0 to 4095"),
        (np.full((3, 4), 7.0), {}, "every value of X is 7: constant pictures"),
        (np.zeros((2, 3, 8, 8)), {}, r"channels come last: X.transpose\(0, 2, 3, 1\)"),
        (np.zeros((2, 8, 8, 4)), {}, r"X\[..., :3\]"),
        (np.zeros((2, 8, 8, 7)), {}, r"pictures are \(N, H, W\)"),
        (np.zeros((2, 8, 8, 3, 1)), {}, r"pictures are \(N, H, W\)"),
        (np.eye(6), {"image_shape": (2, 2)}, r"image_shape=\(2, 2\) is 4 .* has 6 features"),
        (np.eye(6), {"image_shape": 6}, "image_shape=6: give"),
        (np.eye(6), {"image_shape": (3, 1, 2)}, "image_shape=.* give"),
        (np.eye(6), {"value_range": (1, 1)}, r"value_range=\(1, 1\): give"),
        (np.eye(6), {"value_range": "all"}, "value_range='all': give"),
        (np.array([[[0.0, 300.0]]]), {"value_range": (0, 255)}, "another value_range"),
    ],
)
def test_what_could_mean_several_things_is_refused(array, settings, words):
    with pytest.raises(DataError, match=words):
        read(array, **settings)


@pytest.mark.parametrize(
    ("first", "later", "words"),
    [
        (np.zeros((2, 4, 4), np.uint8), np.full((1, 4, 4), 0.5), "all black, or pictures from 0"),
        (np.eye(4)[None], np.full((1, 4, 4), 200, np.uint8), "from 200 to 200, and 0 is black and"),
        (np.eye(4)[None], np.eye(4), "fit was given pictures; .*X.None"),
        (np.eye(4), np.eye(4)[None], "fit was given a table"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), "has 3 axes and had 4"),
    ],
)
def test_a_later_x_of_another_kind_is_refused(first, later, words):
    with pytest.raises(DataError, match=words):
        settle(first, None, None).pictures(later)


def test_a_pil_image_is_the_file_that_it_came_from(tmp_path):
    """Of any mode, turned as its EXIF data ask, whatever way it is compressed."""
    colour = NOISE.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    deep = NOISE.integers(0, 65536, (20, 30), dtype=np.uint16)
    clear = np.dstack([colour, NOISE.integers(0, 256, (20, 30), dtype=np.uint8)])
    exif = Image.Exif()
    exif[0x0112] = 6
    saved = {
        "grey.png": (Image.fromarray(colour[..., 0]), {}),
        "bits.png": (Image.fromarray(colour[..., 0] > 100), {}),
        "deep.png": (Image.fromarray(deep), {}),
        "clear.png": (Image.fromarray(clear), {}),
        "palette.gif": (Image.fromarray(colour).quantize(16), {}),
        "cmyk.jpg": (Image.fromarray(colour).convert("CMYK"), {}),
        "turned.jpg": (Image.fromarray(colour), {"exif": exif}),
        "packed.tif": (Image.fromarray(colour[..., 1]), {"compression": "tiff_lzw"}),
    }
    for name, (image, options) in saved.items():
        image.save(tmp_path / name, **options)
        with Image.open(tmp_path / name) as opened:
            (content,) = listed([opened])
        np.testing.assert_array_equal(decode(content), decode(tmp_path / name), err_msg=name)


def test_what_is_listed_becomes_files_once(tmp_path):
    image = Image.fromarray(NOISE.integers(0, 256, (9, 9), dtype=np.uint8))
    items = listed([image, str(tmp_path / "a.png"), image])
    paths = as_files(items, tmp_path / "made")
    assert paths[0] == paths[2] and paths[1] == str(tmp_path / "a.png")
    assert len(list((tmp_path / "made").iterdir())) == 1
    rows = prepared([paths[0], items[2]], np.arange(2), (5, 5), 3, letterbox=False)
    expected = prepare(np.asarray(image), (5, 5), 3, False)
    np.testing.assert_array_equal(rows, np.stack([expected, expected]))


def test_numbers_are_no_list_of_pictures(tmp_path):
    import pandas as pd

    for numbers in ([[1, 2]], np.eye(2), np.eye(2).astype(object), [], pd.DataFrame(np.eye(2))):
        assert listed(numbers) is None
    path = tmp_path / "a.png"
    for column in ([path], (str(path),), np.array([str(path)]), pd.Series([str(path)])):
        assert listed(column) == [str(path)]
    assert listed(pd.DataFrame({"path": [str(path)]})) == [str(path)]
    with pytest.raises(DataError, match=r"X\[1\] is a float, no path"):
        listed([path, 0.5])
    with pytest.raises(DataError, match=r"X\[0\] is a PIL image of mode HSV; give image.convert"):
        listed([Image.new("HSV", (3, 3))])

"""What is measured of a picture, against values worked out by hand or with numpy alone."""

import numpy as np
import pytest
from PIL import Image

from layerwise.serving.measures import INPUTS, SCORES, binned, measure, template_of, thumbnails


def noise(n, size=(40, 48), channels=1, seed=0):
    draws = np.random.default_rng(seed).integers(0, 256, (n, *size, channels))
    return draws.astype(np.uint8)


def test_brightness_contrast_black_white_and_detail_are_numpys():
    pictures = noise(5)
    found = measure(pictures, None)
    grey = pictures[..., 0].astype(float)
    np.testing.assert_allclose(found["brightness"], grey.mean(axis=(1, 2)))
    np.testing.assert_allclose(found["contrast"], grey.std(axis=(1, 2)))
    np.testing.assert_allclose(found["black"], (grey <= 2).mean(axis=(1, 2)))
    np.testing.assert_allclose(found["white"], (grey >= 253).mean(axis=(1, 2)))
    step = np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2))
    np.testing.assert_allclose(found["detail"], step / grey.std(axis=(1, 2)))
    assert set(found) & {"likeness", "negative", "aspect", "side", "enlarged"} == set()


def test_large_pictures_are_looked_at_in_every_fourth_row():
    pictures = noise(1, (512, 512))
    rows = pictures[0, ::4, :, 0].astype(float)
    assert measure(pictures, None)["brightness"][0] == pytest.approx(rows.mean())


def test_three_channels_are_their_luma_and_their_difference():
    colour = noise(2, channels=3, seed=1)
    found = measure(colour, None)
    luma = [np.asarray(Image.fromarray(one).convert("L"), float).mean() for one in colour]
    np.testing.assert_allclose(found["brightness"], luma)
    wide = colour.astype(float)
    both = np.abs(wide[..., 1] - wide[..., 0]) + np.abs(wide[..., 2] - wide[..., 1])
    np.testing.assert_allclose(found["colour"], both.mean(axis=(1, 2)) / 2 / 255)
    grey = np.repeat(noise(2), 3, axis=3)
    assert measure(grey, None)["colour"].tolist() == [0, 0]
    np.testing.assert_array_equal(
        measure(grey, None)["brightness"], measure(grey[..., :1], None)["brightness"]
    )


@pytest.mark.parametrize(
    ("top", "left", "share"), [(0, 0, 0), (10, 0, 0.25), (0, 6, 0.125), (10, 6, 1 - 0.75 * 0.875)]
)
def test_bars_are_the_flat_lines_along_the_borders(top, left, share):
    picture = noise(1)
    picture[:, : top // 2] = 1
    picture[:, 40 - top // 2 :] = 3  # a JPEG's bar is not quite flat
    picture[:, :, :left] = 2
    found = measure(picture, None)
    assert found["bars"][0] == pytest.approx(share)
    assert found["barred"][0] == (share >= 0.05)


def test_a_blank_picture_is_blank_and_nothing_else():
    found = measure(np.full((1, 8, 8, 1), 77, np.uint8), np.ones(256) / 16)
    assert (found["blank"][0], found["barred"][0], found["bars"][0]) == (1, 0, 1)
    assert (found["detail"][0], found["likeness"][0]) == (0, 0)


def test_likeness_is_pearsons_and_that_of_the_negative_its_opposite():
    pictures = noise(8, (32, 32))
    blocks = pictures[..., 0].reshape(8, 16, 2, 16, 2).mean(axis=(2, 4)).reshape(8, 256)
    template = template_of(thumbnails(pictures[:4]).sum(axis=0))
    found = measure(pictures, template)
    expected = [np.corrcoef(block, template)[0, 1] for block in blocks]
    np.testing.assert_allclose(found["likeness"], expected, atol=0.01)  # thumbnails are rounded
    negative = measure(255 - pictures, template)
    np.testing.assert_allclose(negative["likeness"], -found["likeness"], atol=0.01)
    assert negative["negative"].sum() == (found["likeness"] > 0.305).sum() > 0


def test_sizes_of_files_are_measured_where_they_are_known():
    found = measure(noise(4), None, [(100, 200), None, (30, 60), (0, 0)])
    assert found["aspect"].tolist() == [2, 2]
    assert found["side"].tolist() == [200, 60]
    assert found["enlarged"].tolist() == [0, 1]  # 30 × 60 = 1800 < 40 × 48 = 1920


def test_values_are_counted_as_numpys_histogram_and_those_beyond_in_the_outer_bins():
    values = np.random.default_rng(3).uniform(0, 1, 1000)
    np.testing.assert_array_equal(binned(values, SCORES), np.histogram(values, SCORES)[0])
    beyond = binned(np.array([-2.0, 1.0, 5.0]), INPUTS["likeness"])
    assert (beyond[0], beyond[-1], beyond.sum()) == (1, 2, 3)


def test_edges_rise():
    assert all((np.diff(edges) > 0).all() for edges in (*INPUTS.values(), SCORES))

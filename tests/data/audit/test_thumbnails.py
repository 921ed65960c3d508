"""Thumbnails are means over areas, whatever the sizes."""

import numpy as np
import pytest

from layerwise.data.audit.thumbnails import drawn, thumbnails


@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 48), (40, 25), (8, 8)])
def test_means_over_areas_by_repeating_pixels(height, width):
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (3, height, width, 1)).astype(np.uint8)
    side = 16
    got = thumbnails(pictures, side)
    # Every pixel repeated until the size is a multiple of the side: then areas are whole blocks.
    fine = pictures[..., 0].astype(np.float64).repeat(side, axis=1).repeat(side, axis=2)
    expected = fine.reshape(3, side, height, side, width).mean(axis=(2, 4))
    assert got.dtype == np.float32 and got.shape == (3, side, side)
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_colour_becomes_luminance():
    red = np.zeros((1, 64, 64, 3), np.uint8)
    red[..., 0] = 200
    np.testing.assert_allclose(thumbnails(red, 32), 200 * 0.299, atol=1e-3)


def test_drawn_rows_are_distinct_rising_and_seeded():
    assert drawn(5, 9, 0).tolist() == [0, 1, 2, 3, 4]
    rows = drawn(1000, 30, 1)
    assert len(set(rows.tolist())) == 30 and (np.diff(rows) > 0).all()
    assert (rows == drawn(1000, 30, 1)).all() and (rows != drawn(1000, 30, 2)).any()

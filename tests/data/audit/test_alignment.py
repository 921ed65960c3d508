"""A known scale and shift is found again, and copies are told from look-alikes."""

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from layerwise.data.audit.alignment import agreement, align, warp


def textures(count, side=64, seed=0, grain=2.0):
    random = np.random.default_rng(seed)
    noise = random.standard_normal((count, side, side))
    smooth = np.stack([gaussian_filter(one, grain) + 2 * gaussian_filter(one, 9) for one in noise])
    smooth /= smooth.std(axis=(1, 2), keepdims=True)
    return (128 + 40 * smooth).astype(np.float32)


def test_warp_is_linear_interpolation_as_scipy_does_it():
    pictures = textures(3, 32)
    placing = np.array([[0, 0, 0, 0], [-0.1, 0.03, 0.05, -0.08], [0.2, 0, 0, 0.1]], np.float32)
    moved, inside = warp(pictures, placing)
    x = (np.arange(32) + 0.5) / 32 * 2 - 1
    for k in range(3):
        a, b, c, d = placing[k]
        rows = ((1 + a) * x + b + 1) * 16 - 0.5
        columns = ((1 + c) * x + d + 1) * 16 - 0.5
        grid = np.stack(np.meshgrid(rows, columns, indexing="ij"))
        expected = map_coordinates(pictures[k], grid, order=1, mode="nearest")
        np.testing.assert_allclose(moved[k], expected, atol=1e-2)
        seen = (grid > -0.5).all(axis=0) & (grid < 31.5).all(axis=0)
        assert (inside[k] == seen).all()
    np.testing.assert_array_equal(moved[0], pictures[0])


def test_a_planted_crop_is_found_again():
    pictures = textures(8)
    random = np.random.default_rng(1)
    cut = random.uniform(0, 0.05, (8, 4)).astype(np.float32)
    top, bottom, left, right = cut.T
    placing = np.stack([-(top + bottom), top - bottom, -(left + right), left - right], axis=1)
    copies, _ = warp(pictures, placing)
    # Placing the copy on the original is the inverse of x → (1 + s) x + t.
    expected = np.stack(
        [
            1 / (1 + placing[:, 0]) - 1,
            -placing[:, 1] / (1 + placing[:, 0]),
            1 / (1 + placing[:, 2]) - 1,
            -placing[:, 3] / (1 + placing[:, 2]),
        ],
        axis=1,
    )
    start = np.zeros((8, 4), np.float32)
    found = align(pictures, copies, start, steps=20)
    np.testing.assert_allclose(found, expected, atol=0.01)
    whole, fine = agreement(pictures, copies, found)
    assert (whole > 0.98).all() and (fine > 0.8).all()
    assert (agreement(pictures, copies, start)[1] < fine).all()


def test_a_change_of_brightness_and_contrast_changes_nothing():
    pictures = textures(4)
    start = np.zeros((4, 4), np.float32)
    whole, fine = agreement(pictures, 0.5 * pictures + 20, start)
    np.testing.assert_allclose(whole, 1, atol=1e-4)
    np.testing.assert_allclose(fine, 1, atol=1e-3)


def test_a_shared_frame_does_not_make_two_pictures_one():
    """Strangers with the same black film edge: whole correlation is high, fine structure is not."""
    first, second = textures(4, seed=2) * 0.2 + 150, textures(4, seed=3) * 0.2 + 150
    for pictures in (first, second):
        pictures[:, :, :10] = pictures[:, :, -10:] = 0
    whole, fine = agreement(first, second, np.zeros((4, 4), np.float32))
    assert (whole > 0.9).all() and (fine < 0.5).all()


def test_pictures_that_are_flat_nearly_everywhere_can_not_be_compared():
    flat = np.full((1, 64, 64), 90, np.float32)
    flat[0, :16, :16] += textures(1, 16, seed=4)[0]
    whole, fine = agreement(flat, flat, np.zeros((1, 4), np.float32))
    assert whole[0] > 0.99 and fine[0] == 0


def test_the_median_over_blocks_is_that_of_numpy():
    first, second = textures(3, seed=5), textures(3, seed=6) * 0.4
    second = (second + first).astype(np.float32)
    _, fine = agreement(first, second, np.zeros((3, 4), np.float32))
    for k in range(3):
        each = []
        a, b = (t[k] - box(t[k]) for t in (first, second))
        for i in range(0, 64, 16):
            for j in range(0, 64, 16):
                p, q = a[i : i + 16, j : j + 16], b[i : i + 16, j : j + 16]
                each.append((p * q).sum() / np.sqrt((p**2).sum() * (q**2).sum()))
        assert abs(sorted(each)[7] - fine[k]) < 1e-3


def box(picture):
    """The mean of 5 × 5 pixels, fewer at the edges."""
    padded = np.pad(picture, 2, constant_values=np.nan)
    views = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))
    return np.nanmean(views, axis=(2, 3))

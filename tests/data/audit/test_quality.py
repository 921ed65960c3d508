"""Odd pictures, planted one by one; measures by hand and by loops."""

import numpy as np
from scipy.ndimage import gaussian_filter

from layerwise.data.audit.quality import look, quality
from layerwise.data.manifest import Manifest, make_table
from layerwise.data.pictures.images import decode
from layerwise.data.storage.headers import Headers
from layerwise.data.storage.store import build_store


def alike(count=40, side=64, seed=0):
    """Pictures with much in common: a bright cross, and noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    shared = 80 * np.exp(-8 * x**2) + 40 * np.exp(-8 * y**2)
    noise = [gaussian_filter(random.standard_normal((side, side)), 2) * 60 for _ in range(count)]
    return np.clip(60 + shared + np.stack(noise), 1, 254).astype(np.uint8)


def looked(pixels, folder):
    n = len(pixels)
    table = make_table([f"{i}" for i in range(n)])
    manifest = Manifest("made", "binary", ("a", "b"), table, np.arange(n) % 2, pixels=pixels)
    store, manifest = build_store(
        manifest,
        size=pixels.shape[1:3],
        channels=1 if pixels.ndim == 3 else 3,
        letterbox=False,
        folder=folder,
    )
    return manifest, look(store)


def found(pixels, folder, headers=None):
    manifest, looks = looked(pixels, folder)
    return [(f.kind, f.images) for f in quality(manifest, looks, headers, pixels.shape[1])]


def test_ordinary_pictures_are_quiet(tmp_path):
    assert found(alike(), tmp_path) == []


def test_each_kind_is_found_and_named(tmp_path):
    pixels = alike()
    pixels[3] = 77  # constant
    pixels[5] = 255 - pixels[5]  # inverted
    pixels[7] //= 16  # 12 bits saved in 16
    pixels[9, 20:60, 8:44] = 255  # clipped to white: 35%
    pixels[11, 20:60, 8:44] = 0  # and to black, inside
    assert found(pixels, tmp_path) == [
        ("constant", ("3",)),
        ("dark", ("7",)),
        ("clipped", ("9", "11")),
        ("inverted", ("5",)),
    ]


def test_black_and_white_backgrounds_are_no_clipping(tmp_path):
    pixels = alike()
    pixels[0, :, :20] = 0  # a black bar
    pixels[1, :20] = pixels[1, -20:] = 0  # letterboxed
    pixels[2, :12] = pixels[2, -12:] = 255  # paper all around
    pixels[2, :, :12] = pixels[2, :, -12:] = 255
    assert "clipped" not in [kind for kind, _ in found(pixels, tmp_path)]


def test_half_of_the_pictures_inverted(tmp_path):
    """The mean of all vanishes; the smaller half is named."""
    pixels = alike(41)
    pixels[:20] = 255 - pixels[:20]
    assert found(pixels, tmp_path) == [("inverted", tuple(str(i) for i in range(20)))]


def test_pictures_that_have_nothing_in_common_have_no_negative(tmp_path):
    random = np.random.default_rng(0)
    noise = [gaussian_filter(random.standard_normal((64, 64)), 3) * 300 for _ in range(60)]
    pixels = np.clip(128 + np.stack(noise), 1, 254).astype(np.uint8)
    assert found(np.concatenate([pixels, 255 - pixels[:1]]), tmp_path) == []


def test_measures_by_hand(tmp_path):
    pixels = np.random.default_rng(1).integers(1, 255, (4, 100, 50)).astype(np.uint8)
    pixels[0, 0] = 255
    pixels[1, 10:90, 10:40] = 0
    pixels[1, 10:20, :12] = 0  # joined to the left edge: the whole area is
    pixels[2, 10:90, 10:40] = 0
    _, looks = looked(pixels, tmp_path)
    plain = pixels.astype(np.float64)
    np.testing.assert_allclose(looks.deviation, plain.std(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_array_equal(looks.brightest, plain.max(axis=(1, 2)))
    np.testing.assert_allclose(looks.white, [50 / 5000, 0, 0, 0], atol=1e-7)
    np.testing.assert_allclose(looks.black, [0, 0, 80 * 30 / 5000, 0], atol=1e-7)
    edges = [plain[:, 0], plain[:, -1], plain[:, :, 0], plain[:, :, -1]]  # 2% of 50 is 1 pixel
    for k, edge in enumerate(edges):
        np.testing.assert_allclose(looks.borders[:, k], edge.mean(axis=1), rtol=1e-5)
    ring = np.concatenate(edges, axis=1)
    np.testing.assert_allclose(looks.borders[:, 4], ring.std(axis=1), rtol=1e-4)


def test_the_likeness_is_the_correlation_with_the_first_principal_axis(tmp_path):
    pixels = alike(20)
    _, looks = looked(pixels, tmp_path)
    small = pixels.reshape(20, 32, 2, 32, 2).mean(axis=(2, 4)).reshape(20, -1)
    small = small - small.mean(axis=1, keepdims=True)
    small /= np.linalg.norm(small, axis=1, keepdims=True)
    axis = np.linalg.svd(small, full_matrices=False)[2][0]
    axis *= np.sign(np.median(small @ axis))
    np.testing.assert_allclose(looks.likeness, small @ axis, atol=1e-3)
    mean = small.mean(axis=0) / np.linalg.norm(small.mean(axis=0))
    assert np.corrcoef(axis, mean)[0, 1] > 0.99  # where all are alike, it is the mean


def test_colour_is_measured_by_luminance(tmp_path):
    pixels = np.zeros((2, 64, 64, 3), np.uint8)
    pixels[..., 1] = alike(2)
    _, looks = looked(pixels, tmp_path)
    np.testing.assert_allclose(looks.brightest, 0.587 * pixels.max(axis=(1, 2, 3)), rtol=1e-4)


def test_files_of_mixed_depth_are_a_note(tmp_path):
    def headers(bits):
        return Headers(
            sizes=np.full((4, 2), 64),
            grey=np.ones(4, bool),
            formats=np.full(4, "PNG"),
            bits=np.array(bits),
            bytes=np.ones(4, int),
        )

    pixels = alike(4)
    manifest, looks = looked(pixels, tmp_path)
    odd = quality(manifest, looks, headers([8, 8, 16, 8]), 64)
    assert [(f.kind, f.severity, f.images) for f in odd] == [("mixed depth", "note", ("2",))]
    assert "3 of 8 bits and 1 of 16 bits" in odd[0].message
    assert quality(manifest, None, headers([8, 8, 8, 0]), 0) == []


def test_a_single_picture(tmp_path):
    assert found(alike(1), tmp_path) == []


def test_real_radiographs(shared_data, tmp_path):
    """100 of Guangzhou: quiet as they are; each of five negatives is found."""
    paths = sorted((shared_data / "guangzhou" / "test" / "NORMAL").iterdir())[:100]
    pixels = np.stack([decode(path, 1)[::2, ::2] for path in paths])
    assert found(pixels, tmp_path) == []
    pixels[10:15] = 255 - pixels[10:15]
    assert found(pixels, tmp_path) == [("inverted", tuple(str(i) for i in range(10, 15)))]

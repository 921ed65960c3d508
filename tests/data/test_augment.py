"""Augmentation: each picture's own, whatever is beside it, and within its limits."""

import numpy as np
import pytest
import torch

from layerwise.data import augment as module
from layerwise.data.augment import PRESETS, Preset, augment, image_keys

PICTURES = torch.from_numpy(
    np.random.default_rng(0).integers(0, 256, (37, 24, 31, 3), dtype=np.uint8)
)
KEYS = image_keys(np.arange(37), seed=3, view=1)


@pytest.mark.parametrize("preset", ["radiograph", "natural"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_bits_alone_in_any_batch_and_with_any_threads(preset, channels):
    pictures = PICTURES[..., :channels]
    whole = augment(pictures, KEYS, preset)
    assert whole.dtype == torch.uint8 and whole.shape == pictures.shape
    alone = torch.cat([augment(pictures[i : i + 1], KEYS[i : i + 1], preset) for i in range(37)])
    assert torch.equal(whole, alone)
    order = torch.randperm(37, generator=torch.Generator().manual_seed(0))
    assert torch.equal(whole[order], augment(pictures[order], KEYS[order.numpy()], preset))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert torch.equal(whole, augment(pictures, torch.from_numpy(KEYS), preset))
    finally:
        torch.set_num_threads(threads)
    assert (whole != pictures).float().mean() > 0.5


def test_none_changes_nothing():
    assert torch.equal(augment(PICTURES, KEYS, "none"), PICTURES)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="unknown preset 'x'"):
        augment(PICTURES, KEYS, "x")
    with pytest.raises(ValueError, match="need uint8"):
        augment(PICTURES.float(), KEYS, "natural")


def test_keys_differ_by_picture_view_and_seed():
    keys = [
        image_keys(np.arange(500), seed=seed, view=view) for seed in range(4) for view in range(4)
    ]
    assert len(set(np.concatenate(keys).tolist())) == 16 * 500


def test_splitmix64_gives_its_published_numbers():
    """From seed 1234567, as in the reference implementation's own check."""
    state = np.array([1234567], np.uint64)
    found = []
    for _ in range(3):
        found.append(int(module._splitmix64(state)[0]))
        state = state + np.uint64(0x9E3779B97F4A7C15)
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def only(monkeypatch, **amounts):
    still = {"flip": 0, "zoom": 1, "degrees": 0, "shift": 0, "brightness": 0, "contrast": 0}
    limits = {**still, "saturation": 0, "outside": "zeros", **amounts}
    monkeypatch.setitem(PRESETS, "only", Preset(**limits))


def test_a_preset_without_amounts_changes_nothing(monkeypatch):
    only(monkeypatch)
    assert torch.equal(augment(PICTURES, KEYS, "only"), PICTURES)


def test_flips_are_left_for_right(monkeypatch):
    only(monkeypatch, flip=1)
    assert torch.equal(augment(PICTURES, KEYS, "only"), PICTURES.flip(2))
    only(monkeypatch, flip=0.5)
    out = augment(PICTURES, KEYS, "only")
    flipped = sum(torch.equal(a, b) for a, b in zip(out, PICTURES.flip(2), strict=True))
    still = sum(torch.equal(a, b) for a, b in zip(out, PICTURES, strict=True))
    assert flipped + still == 37 and 8 < flipped < 29


def test_brightness_and_contrast_by_their_formula(monkeypatch):
    only(monkeypatch, brightness=0.3, contrast=0.4)
    drawn = module._draw(KEYS, 9)[:, 6:8]
    pixels = PICTURES.numpy().astype(float)
    mean = pixels.mean(axis=(1, 2, 3), keepdims=True)
    b, c = ((1 + r * (2 * drawn[:, i] - 1))[:, None, None, None] for i, r in ((0, 0.3), (1, 0.4)))
    expected = np.clip(np.rint(b * ((pixels - mean) * c + mean)), 0, 255)
    assert np.abs(augment(PICTURES, KEYS, "only").numpy() - expected).max() <= 1


def test_saturation_leaves_grey_alone(monkeypatch):
    only(monkeypatch, saturation=0.9)
    grey = PICTURES[..., :1].expand(-1, -1, -1, 3).contiguous()
    assert (augment(grey, KEYS, "only").int() - grey.int()).abs().max() <= 1
    assert (augment(PICTURES, KEYS, "only").int() - PICTURES.int()).abs().max() > 30


@pytest.mark.parametrize("name, kept, degrees", [("radiograph", 0.9, 7), ("natural", 0.8, 0)])
def test_geometry_stays_within_its_limits(name, kept, degrees):
    keys = image_keys(np.arange(4000), seed=0, view=0)
    height, width = 100, 160
    matrix = module._affine(module._draw(keys, 9)[:, :6], PRESETS[name], height, width)
    pixel = matrix[:, :, :2].astype(float)  # from shares of the size to pixels
    pixel[:, 0, 1] *= width / height
    pixel[:, 1, 0] *= height / width
    zoom = np.sqrt(np.abs(np.linalg.det(pixel)))
    assert zoom.min() >= kept - 1e-6 and zoom.max() <= 1 + 1e-6 and np.ptp(zoom) > 0.9 * (1 - kept)
    np.testing.assert_allclose(  # a similarity: nothing is sheared or stretched
        pixel @ pixel.transpose(0, 2, 1), zoom[:, None, None] ** 2 * np.eye(2), atol=1e-6
    )
    assert (pixel[:, 1, 1] > 0).all()  # never upside down
    turned = np.rad2deg(np.arcsin(pixel[:, 0, 1] / zoom))
    assert np.abs(turned).max() <= degrees + 1e-4
    reach = np.abs(matrix[:, :, 2]) + zoom[:, None]
    assert reach.max() <= 1 + 2 * PRESETS[name].shift + 1e-5


def test_numbers_are_even():
    drawn = module._draw(image_keys(np.arange(20000), seed=1, view=2), 9)
    assert drawn.min() >= 0 and drawn.max() < 1
    assert np.abs(drawn.mean(axis=0) - 0.5).max() < 0.012  # about six deviations
    assert np.abs(np.corrcoef(drawn.T) - np.eye(9)).max() < 0.04

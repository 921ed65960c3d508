"""Augmentation: each picture's own, whatever is beside it, and within its limits."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torchvision.transforms.v2 import functional as reference

from layerwise.data import augment as module
from layerwise.data.augment import PRESETS, Preset, augment, image_keys

PICTURES = torch.from_numpy(
    np.random.default_rng(0).integers(0, 256, (37, 24, 31, 3), dtype=np.uint8)
)
KEYS = image_keys(np.arange(37), seed=3, view=1)


# Nothing that shows; with it pictures are moved by interpolation, and without it by their indices.
AS_NOTHING = {"brightness": 1e-9}


@pytest.mark.parametrize("preset", ["flip", "radiograph", "natural"])
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
    assert (whole != pictures).float().mean() > (0.3 if preset == "flip" else 0.5)


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


def drawn_as(monkeypatch, **numbers):
    """Fix what is drawn: of each amount, from 0 (its one end) to 1 (its other)."""
    place = {"flip": 0, "zoom": 1, "angle": 2, "x": 3, "y": 4, "gamma": 9, "blur": 10}

    def draw(keys, count):
        out = np.full((len(keys), count), 0.5)
        for name, number in numbers.items():
            out[:, place[name]] = number
        return out

    monkeypatch.setattr(module, "_draw", draw)


@pytest.mark.parametrize("more", [{}, AS_NOTHING])
def test_a_preset_without_amounts_changes_nothing(monkeypatch, more):
    only(monkeypatch, **more)
    assert torch.equal(augment(PICTURES, KEYS, "only"), PICTURES)


@pytest.mark.parametrize("more", [{}, AS_NOTHING])
def test_flips_are_left_for_right(monkeypatch, more):
    only(monkeypatch, flip=1, **more)
    assert torch.equal(augment(PICTURES, KEYS, "only"), PICTURES.flip(2))
    only(monkeypatch, flip=0.5, **more)
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


@pytest.mark.parametrize("name, kept, degrees", [("radiograph", 0.9, 7), ("natural", 0.9, 5)])
def test_geometry_stays_within_its_limits(name, kept, degrees):
    keys = image_keys(np.arange(4000), seed=0, view=0)
    height, width = 100, 160
    matrix = module._affine(module._draw(keys, 12), PRESETS[name], height, width)
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


@pytest.mark.parametrize("name", ["radiograph", "natural"])
def test_how_much_stays_in_view(name):
    """Of height and width the crop keeps nine tenths; the shift takes 0.04 more of each."""
    limits = PRESETS[name]
    assert limits.zoom == 0.9 and limits.shift == 0.04
    line = (np.arange(100) * 2 + 1) / 100 - 1
    points = np.stack(np.meshgrid(line, line)).reshape(2, -1)  # x, y of all places

    def in_view(drawn, limits):
        """Of each draw, the fractions of width, height and area that the new picture shows."""
        out = []
        for matrix in module._affine(drawn, limits, 100, 100).astype(float):
            at = np.linalg.solve(matrix[:, :2], points - matrix[:, 2:])
            seen = (np.abs(at) <= 1).all(axis=0).reshape(100, 100)
            out.append((seen.any(axis=0).mean(), seen.any(axis=1).mean(), seen.mean()))
        return np.array(out)

    drawn = module._draw(image_keys(np.arange(500), seed=0, view=0), 12)
    cropped = in_view(drawn, replace(limits, shift=0.0, degrees=0.0))
    assert cropped[:, :2].min() >= 0.9 and cropped[:, :2].min() < 0.92
    moved = in_view(drawn, replace(limits, degrees=0.0))
    assert moved[:, :2].min() >= 0.86
    all_of_it = in_view(drawn, limits)[:, 2]
    assert all_of_it.min() >= 0.86**2 - 0.005 and 0.86 < all_of_it.mean() < 0.89
    worst = np.full((1, 12), 0.5)
    worst[:, 1], worst[:, 3:5] = 1.0, 1.0  # the smallest crop, as far out as it may lie
    np.testing.assert_allclose(in_view(worst, limits), [[0.86, 0.86, 0.86**2]], atol=0.005)


def test_no_picture_is_upside_down_unless_asked():
    assert [preset.vertical_flip for preset in PRESETS.values()] == [0, 0, 0]
    for preset in PRESETS:
        plain = augment(PICTURES, KEYS, preset).int()
        asked = augment(PICTURES, KEYS, preset, vertical_flip=True).int()
        drawn = module._draw(KEYS, 12)[:, 11] < 0.5
        assert 8 < drawn.sum() < 29
        wanted = torch.where(torch.from_numpy(drawn)[:, None, None, None], plain.flip(1), plain)
        # The same picture, turned; its places are rounded another way.
        assert (asked - wanted).abs().max() <= 1
        assert torch.equal(asked[~drawn], plain[~drawn])


@pytest.mark.parametrize("more", [{}, AS_NOTHING])
def test_a_vertical_flip_is_exact(monkeypatch, more):
    only(monkeypatch, vertical_flip=1, **more)
    assert torch.equal(augment(PICTURES, KEYS, "only"), PICTURES.flip(1))
    only(monkeypatch, vertical_flip=1, flip=1, **more)
    assert torch.equal(augment(PICTURES, KEYS, "only"), PICTURES.flip(1, 2))


@pytest.mark.parametrize("vertical", [False, True])
def test_the_preset_flip_only_turns_pictures_over(vertical):
    """Each by its own draws, and to the bit: what numpy's slices give."""
    keys = image_keys(np.arange(4000), seed=2, view=5)
    pictures = np.random.default_rng(1).integers(0, 256, (4000, 3, 5, 1), dtype=np.uint8)
    found = augment(torch.from_numpy(pictures), keys, "flip", vertical_flip=vertical).numpy()
    drawn = module._draw(keys, 12)
    mirrored, turned = drawn[:, 0] < 0.5, (drawn[:, 11] < 0.5) & vertical
    for picture, out, mirror, turn in zip(pictures, found, mirrored, turned, strict=True):
        np.testing.assert_array_equal(out, picture[:: -1 if turn else 1, :: -1 if mirror else 1])
    kinds = np.bincount(mirrored + 2 * turned)
    assert (
        len(kinds) == (4 if vertical else 2) == module.count_views("flip", vertical_flip=vertical)
    )
    assert np.abs(kinds / 4000 - 1 / len(kinds)).max() < 0.04  # about five deviations


def test_views_of_presets_with_few_of_them():
    for vertical in (False, True):
        views = module.which_view(KEYS, "flip", vertical_flip=vertical)
        assert set(views.tolist()) == set(range(module.count_views("flip", vertical_flip=vertical)))
        found = module.flipped(PICTURES, views)
        assert torch.equal(found, augment(PICTURES, KEYS, "flip", vertical_flip=vertical))
    for view, axes in enumerate([(), (2,), (1,), (1, 2)]):
        assert torch.equal(module.flipped(PICTURES, np.full(37, view)), PICTURES.flip(axes))
    assert not module.which_view(KEYS, "none").any() and module.count_views("none") == 1
    assert [module.count_views(name) for name in ("radiograph", "natural")] == [0, 0]
    assert module.count_views("natural", vertical_flip=True) == 0


@pytest.mark.parametrize(
    "name",
    ["zoom", "degrees", "shift", "brightness", "contrast", "saturation", "gamma", "sharpness"],
)
def test_any_other_amount_makes_more_pictures_than_can_be_kept(monkeypatch, name):
    only(monkeypatch, flip=0.5)
    assert module.count_views("only") == 2
    only(monkeypatch, flip=0.5, **{name: 0.5})
    assert module.count_views("only") == 0


@pytest.mark.parametrize(("x", "y"), [(1, 1), (0, 1), (1, 0), (0.75, 0.25)])
def test_translation_by_whole_pixels(monkeypatch, x, y):
    drawn_as(monkeypatch, x=x, y=y)
    pictures = PICTURES[:, :20, :30]
    right, down = (round(size * 0.2 * (1 - 2 * part)) for size, part in ((30, x), (20, y)))
    for outside, mode in (("zeros", "constant"), ("reflection", "symmetric")):
        only(monkeypatch, shift=0.2, outside=outside)
        wide = np.pad(pictures.numpy(), [(0, 0), (6, 6), (6, 6), (0, 0)], mode=mode)
        wanted = wide[:, 6 - down : 26 - down, 6 - right : 36 - right]
        np.testing.assert_array_equal(augment(pictures, KEYS, "only").numpy(), wanted)


@pytest.mark.parametrize(("x", "y", "zoom"), [(0.5, 0.5, 1), (0, 1, 1), (1, 0.3, 0.4)])
def test_zoom_of_a_ramp(monkeypatch, x, y, zoom):
    """A ramp stays a ramp: v(p) = 3·column + 2·row, read where the crop lies."""
    only(monkeypatch, zoom=0.8)
    drawn_as(monkeypatch, zoom=zoom, x=x, y=y)
    rows, columns = np.mgrid[:30, :40].astype(float)
    picture = torch.from_numpy((3 * columns + 2 * rows).astype(np.uint8))[None, :, :, None]
    side = 1 - 0.2 * zoom

    def source(place, size, part):
        """The crop of `side`·size pixels begins at 0 with part 0 and ends at size with part 1."""
        return (place + 0.5) * side + (size - size * side) * part - 0.5

    at_x, at_y = source(columns, 40, x), source(rows, 30, y)
    inside = (at_x >= 0) & (at_x <= 39) & (at_y >= 0) & (at_y <= 29)
    assert inside.mean() > 0.9
    found = augment(picture, KEYS[:1], "only").numpy()[0, :, :, 0]
    assert np.abs(found - (3 * at_x + 2 * at_y))[inside].max() <= 0.501


def test_a_quarter_turn_is_exact(monkeypatch):
    only(monkeypatch, degrees=90)
    square = PICTURES[:, :24, :24]
    for number, turns in ((1, 1), (0, -1)):
        drawn_as(monkeypatch, angle=number)
        assert torch.equal(augment(square, KEYS, "only"), torch.rot90(square, turns, (1, 2)))


@pytest.mark.parametrize(("angle", "degrees"), [(1, 7), (0.2, -4.2)])
def test_rotation_is_that_of_scipy(monkeypatch, angle, degrees):
    """Counter-clockwise about the middle, by pixels: a picture that is no square is not sheared."""
    only(monkeypatch, degrees=7)
    drawn_as(monkeypatch, angle=angle)
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    middle = np.array([11.5, 15])
    matrix = np.array([[cos, sin], [-sin, cos]])  # of (row, column): new place → old place
    found = augment(PICTURES[:4], KEYS[:4], "only").numpy()
    for picture, out in zip(PICTURES[:4].numpy(), found, strict=True):
        for channel in range(3):
            wanted = ndimage.affine_transform(
                picture[:, :, channel].astype(float),
                matrix,
                middle - matrix @ middle,
                order=1,
                mode="grid-constant",
            )
            assert np.abs(out[:, :, channel] - wanted).max() <= 0.51


def test_saturation_is_that_of_torchvision(monkeypatch):
    only(monkeypatch, saturation=0.6)
    factors = 1 + 0.6 * (2 * module._draw(KEYS, 12)[:, 8] - 1)
    found = augment(PICTURES, KEYS, "only").int()
    for picture, out, factor in zip(PICTURES, found, factors, strict=True):
        wanted = 255 * reference.adjust_saturation(picture.permute(2, 0, 1) / 255, float(factor))
        # half a level of rounding, and its weights of red, green and blue have a digit more
        assert (out.permute(2, 0, 1) - wanted).abs().max() <= 0.55


def test_contrast_and_brightness_of_grey_pictures_are_those_of_torchvision(monkeypatch):
    drawn = 2 * module._draw(KEYS, 12) - 1
    grey = PICTURES[..., :1].contiguous()
    for name, place, adjust in (
        ("brightness", 6, reference.adjust_brightness),
        ("contrast", 7, reference.adjust_contrast),
    ):
        only(monkeypatch, **{name: 0.4})
        found = augment(grey, KEYS, "only").int()
        for picture, out, by in zip(grey, found, drawn[:, place], strict=True):
            wanted = 255 * adjust(picture.permute(2, 0, 1) / 255, float(1 + 0.4 * by))
            assert (out.permute(2, 0, 1) - wanted).abs().max() <= 0.501


@pytest.mark.parametrize("number", [0, 0.3, 1])
def test_exposure_by_its_formula(monkeypatch, number):
    only(monkeypatch, gamma=0.3)
    drawn_as(monkeypatch, gamma=number)
    exponent = math.exp(0.3 * (2 * number - 1))
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    found = augment(ramp, KEYS[:1], "only").flatten().tolist()
    for value, out in enumerate(found):
        assert abs(out - 255 * math.pow(value / 255, exponent)) <= 0.501
    assert (found[0], found[255]) == (0, 255) and found == sorted(found)


@pytest.mark.parametrize("number", [0, 0.25, 1])
def test_sharpness_is_a_blend_with_the_mean_of_nine(monkeypatch, number):
    only(monkeypatch, sharpness=0.8)
    drawn_as(monkeypatch, blur=number)
    found = augment(PICTURES[:3], KEYS[:3], "only").numpy()
    for picture, out in zip(PICTURES[:3].numpy().astype(float), found, strict=True):
        for channel in range(3):
            plane = picture[:, :, channel]
            share = ndimage.uniform_filter(np.ones_like(plane), 3, mode="constant")
            mean = ndimage.uniform_filter(plane, 3, mode="constant") / share
            wanted = plane + 0.8 * (2 * number - 1) * (mean - plane)
            assert np.abs(out[:, :, channel] - np.clip(wanted, 0, 255)).max() <= 0.501


def test_keys_and_numbers_by_whole_numbers_alone():
    """The generator in plain integers: no machine, and no later version, draws others."""
    full = 2**64

    def mix(z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % full
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % full
        return z ^ (z >> 31)

    def step(z):
        return mix((z + 0x9E3779B97F4A7C15) % full)

    rows, copies = np.array([0, 7, 123456]), np.array([0, 1, 40])
    keys = image_keys(rows, seed=11, view=6, copies=copies)
    drawn = module._draw(keys, 12)
    start = (11 * 0x9E3779B97F4A7C15 + 6 * 0xD1B54A32D192ED03) % full
    for row, copy, key, numbers in zip(rows, copies, keys, drawn, strict=True):
        wanted = step(((step(int(row)) ^ start) + int(copy) * 0xA0761D6478BD642F) % full)
        assert int(key) % full == wanted
        for place, number in enumerate(numbers, 1):
            assert number == (mix((wanted + place * 0x9E3779B97F4A7C15) % full) >> 11) / 2**53
    np.testing.assert_array_equal(
        image_keys(rows, seed=11, view=6), image_keys(rows, seed=11, view=6, copies=copies * 0)
    )


def test_keys_differ_by_copy():
    keys = [
        image_keys(np.arange(300), seed=0, view=view, copies=np.full(300, copy))
        for view in range(8)
        for copy in range(8)
    ]
    assert len(set(np.concatenate(keys).tolist())) == 64 * 300


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("preset", ["radiograph", "natural"])
def test_a_gpu_makes_the_same_pictures_but_for_rounding(preset):
    here = augment(PICTURES, KEYS, preset).int()
    there = augment(PICTURES.cuda(), KEYS, preset).cpu().int()
    assert (here - there).abs().max() <= 1


def test_numbers_are_even():
    drawn = module._draw(image_keys(np.arange(20000), seed=1, view=2), 9)
    assert drawn.min() >= 0 and drawn.max() < 1
    assert np.abs(drawn.mean(axis=0) - 0.5).max() < 0.012  # about six deviations
    assert np.abs(np.corrcoef(drawn.T) - np.eye(9)).max() < 0.04

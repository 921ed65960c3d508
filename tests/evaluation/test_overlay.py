"""Heat maps over their pictures: colours, opacity, and where they lie."""

import numpy as np
from PIL import Image

from layerwise.data.pictures.images import resize
from layerwise.evaluation.overlay import INFERNO, overlay, place


def test_the_colours_are_matplotlibs() -> None:
    from matplotlib import colormaps

    np.testing.assert_array_equal(INFERNO, colormaps["inferno"](np.arange(256), bytes=True)[:, :3])


def test_overlay() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    untouched = overlay(image, np.zeros((3, 4)))
    assert untouched.shape == (3, 4, 3) and (untouched == image[..., None]).all()
    heat = np.zeros((3, 4))
    heat[1, 2] = 1
    changed = (overlay(image, heat) != image[..., None]).any(-1)
    assert changed.sum() == 1 and changed[1, 2]
    # 0.7 of the brightest colour of the table and 0.3 of the grey value 120
    np.testing.assert_array_equal(overlay(image, heat)[1, 2], np.rint(0.7 * INFERNO[255] + 36))
    assert overlay(np.stack([image] * 3, -1), heat).tolist() == overlay(image, heat).tolist()
    assert overlay(image[..., None], heat).shape == (3, 4, 3)


def test_a_stretched_picture_gets_the_whole_map() -> None:
    heat = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    np.testing.assert_array_equal(place(heat, (8, 8), letterbox=False), heat)
    wanted = np.asarray(Image.fromarray(heat).resize((30, 20), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(place(heat, (20, 30), letterbox=False), wanted, atol=1e-6)


def test_a_letterboxed_picture_gets_the_part_it_lies_in() -> None:
    """The very pixels of a picture that was letterboxed, used as heat, fall on the picture."""
    picture = np.zeros((60, 120), np.uint8)
    picture[30:, 60:] = 255  # the lower right quarter
    seen = resize(picture, (40, 40), letterbox=True)
    assert (seen[:10] == 0).all() and (seen[30:] == 0).all()
    heat = place(seen.astype(np.float32) / 255, (60, 120), letterbox=True)
    quarters = heat.reshape(2, 30, 2, 60).mean(axis=(1, 3))
    np.testing.assert_allclose(quarters, [[0, 0], [0, 1]], atol=0.04)
    assert heat.shape == (60, 120) and heat.min() >= 0 and heat.max() <= 1

"""Grey by content, whatever the file says."""

import numpy as np
import pytest
from PIL import Image

from layerwise.data.load import load
from layerwise.data.storage.colour import all_grey
from layerwise.data.storage.headers import read_headers


def write(folder, pictures):
    for index, picture in enumerate(pictures):
        place = folder / f"class{index % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{index}.jpg", quality=80)
    return load(folder)


@pytest.fixture
def radiographs():
    generator = np.random.default_rng(0)
    small = generator.integers(0, 255, (6, 8, 8), dtype=np.uint8)
    return [np.asarray(Image.fromarray(s).resize((64, 64))) for s in small]


def test_grey_pictures_in_colour_files_are_grey(tmp_path, radiographs):
    manifest = write(tmp_path, [np.stack([p] * 3, axis=2) for p in radiographs])
    grey = read_headers(manifest).grey
    assert not grey.any()
    assert all_grey(manifest, grey)


def test_one_coloured_picture_makes_the_set_coloured(tmp_path, radiographs):
    pictures = [np.stack([p] * 3, axis=2) for p in radiographs]
    pictures[4][:32, :32, 0] = 255
    pictures[4][:32, :32, 2] = 0
    manifest = write(tmp_path, pictures)
    assert not all_grey(manifest, read_headers(manifest).grey)


def test_the_guangzhou_pictures_are_grey_although_their_files_are_not(shared_data):
    manifest = load(shared_data / "guangzhou")
    grey = read_headers(manifest).grey
    assert not grey.any()
    assert all_grey(manifest, grey)

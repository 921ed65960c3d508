"""What the headers of all pictures tell."""

import numpy as np
from PIL import Image

from layerwise.data.load import load
from layerwise.data.storage.headers import read_headers


def test_sizes_modes_formats_and_lengths(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(2):
            Image.new("L", (30, 20)).save(tmp_path / label / f"{i}.png")
    Image.new("RGB", (7, 5)).save(tmp_path / "a" / "0.png", format="JPEG")
    Image.fromarray(np.full((3, 4), 4000, np.uint16)).save(tmp_path / "a" / "1.png")
    (tmp_path / "b" / "1.png").write_bytes(b"")
    manifest = load(tmp_path)
    found = read_headers(manifest)
    assert found.sizes.tolist() == [[5, 7], [3, 4], [20, 30], [0, 0]]
    assert found.grey.tolist() == [False, True, True, True]
    assert found.formats.tolist() == ["JPEG", "PNG", "PNG", ""]
    assert found.bits.tolist() == [8, 16, 8, 0]
    lengths = [(tmp_path / name).stat().st_size for name in manifest.table["id"]]
    assert found.bytes.tolist() == lengths
    assert found.take(np.array([2, 0])).sizes.tolist() == [[20, 30], [5, 7]]


def test_arrays_have_no_files():
    found = read_headers(load("digits"))
    assert (found.sizes == 8).all() and found.grey.all() and (found.bytes == 0).all()
    assert set(found.formats.tolist()) == {"array"}

"""The fingerprint: figures worked out by numpy in one go, and a key of the data alone."""

import json

import numpy as np
import pytest

from layerwise.data.fingerprint import data_key, fingerprint, moments
from layerwise.data.manifest import Manifest, make_table
from layerwise.data.storage.headers import read_headers
from layerwise.data.storage.store import build_store


def made(**changes):
    generator = np.random.default_rng(0)
    splits = ["train"] * 100 + ["val"] * 20 + ["test"] * 30
    values = {
        "name": "made",
        "task": "multiclass",
        "labels": ("a", "b", "c"),
        "table": make_table([f"i/{i}" for i in range(150)], splits=splits),
        "targets": np.repeat([0, 1, 2], [80, 50, 20]),
        "pixels": generator.integers(0, 256, (150, 6, 9, 3), dtype=np.uint8),
    }
    return Manifest(**{**values, **changes})


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


def stored(manifest, cache):
    return build_store(manifest, size=(6, 9), channels=3, letterbox=False, folder=cache)[0]


def test_figures(cache):
    manifest = made()
    store = stored(manifest, cache)
    found = fingerprint(manifest, store, read_headers(manifest))
    assert json.loads(json.dumps(found)) == found
    scaled = manifest.pixels[:100] / 255
    np.testing.assert_allclose(found["mean"], scaled.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found["std"], scaled.std(axis=(0, 1, 2)), rtol=1e-12)
    assert found["imbalance"] == 4.0 and found["images"] == 150
    assert found["prevalence"] == {"a": 80 / 150, "b": 50 / 150, "c": 20 / 150}
    assert found["original"]["width"] == {"min": 9, "median": 9, "max": 9}
    assert not found["original"]["grey"] and found["patients"] is None
    assert found["splits"] == {"train": 100, "val": 20, "test": 30}


def test_moments_do_not_depend_on_the_order(cache):
    store = stored(made(), cache)
    rows = np.random.default_rng(1).permutation(150)
    assert all(
        (a == b).all()
        for a, b in zip(moments(store, rows), moments(store, np.sort(rows)), strict=True)
    )


def test_key_names_the_data_and_nothing_else(cache):
    manifest = made()
    store = stored(manifest, cache)
    key = data_key(manifest, store)
    order = np.random.default_rng(2).permutation(150)
    assert data_key(manifest.take(order), store.take(order)) == key
    smaller, _ = build_store(manifest, size=(4, 4), channels=1, letterbox=True, folder=cache)
    assert data_key(manifest, smaller) == key
    assert data_key(manifest.replace(notes=("x",), name="y"), store) == key
    moved = manifest.table["split"].to_numpy(dtype=object).copy()
    moved[3] = "test"
    targets = manifest.targets.copy()
    targets[0] = 2
    pixels = manifest.pixels.copy()
    pixels[7, 0, 0, 0] ^= 1
    others = [
        (manifest.replace(split=moved), store),
        (manifest.replace(targets=targets), store),
        (manifest.replace(labels=("a", "b", "d")), store),
        (manifest.take(np.arange(149)), store.take(np.arange(149))),
        (made(pixels=pixels), stored(made(pixels=pixels), cache)),
    ]
    assert len({key, *(data_key(*pair) for pair in others)}) == 6


def test_unknown_labels_do_not_count_in_the_prevalence(cache):
    targets = np.tile(np.array([[1, 0], [np.nan, 0], [0, 1]], np.float32), (50, 1))
    manifest = made(task="multilabel", labels=("a", "b"), targets=targets)
    found = fingerprint(manifest, stored(manifest, cache))
    assert found["prevalence"] == {"a": 0.5, "b": pytest.approx(1 / 3)}

"""Brightness against numpy on all pixels at once."""

import numpy as np
import pytest
from PIL import Image

from layerwise.data import brightness
from layerwise.data.brightness import measure
from layerwise.data.manifest import Manifest, make_table
from layerwise.data.storage.store import build_store


def made(tmp_path, pixels, targets, task="multiclass", labels=("a", "b", "c")):
    ids = [f"{i}" for i in range(len(pixels))]
    manifest = Manifest("made", task, labels, make_table(ids), targets, pixels)
    channels = 3 if pixels.ndim == 4 else 1
    return build_store(
        manifest,
        size=pixels.shape[1:3],
        channels=channels,
        letterbox=False,
        folder=tmp_path,
        workers=1,
    )


def pictures(n, shape, seed=0):
    rng = np.random.default_rng(seed)
    levels = rng.integers(1, 256, (n,) + (1,) * len(shape))
    return (rng.random((n, *shape)) * levels).astype(np.uint8)


def check(found, grey, pixels, has):
    """Every number, label by label, worked out from whole arrays."""
    for k in range(has.shape[1]):
        own = grey[has[:, k]].reshape(int(has[:, k].sum()), -1)  # (n, P)
        shares = np.stack(
            [np.histogram(row, np.arange(0, 257, 4))[0] / own.shape[1] for row in own]
        )
        assert found.histogram[k] == pytest.approx(shares.mean(axis=0))
        assert found.histogram[k].sum() == pytest.approx(1)
        assert found.spread[k] == pytest.approx(shares.std(axis=0), abs=1e-9)
        means = own.astype(float).mean(axis=1)
        assert found.mean[k] == pytest.approx(means.mean())
        assert found.deviation[k] == pytest.approx(means.std(), abs=1e-6)
        assert found.contrast[k] == pytest.approx(own.astype(float).std(axis=1).mean())
        assert found.black[k] == pytest.approx((own == 0).mean())
        assert found.white[k] == pytest.approx((own == 255).mean())
        mean = pixels[has[:, k]].astype(float).mean(axis=0)
        assert found.picture[k].reshape(mean.shape) == pytest.approx(mean)


@pytest.mark.parametrize("chunk", [7, 4096])
def test_grey(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(brightness, "CHUNK", chunk)
    pixels = pictures(50, (9, 6))
    targets = np.arange(50) % 3
    store, manifest = made(tmp_path, pixels, targets)
    calls = []
    found = measure(manifest, store, lambda done, total: calls.append((done, total)))
    check(found, pixels, pixels, targets[:, None] == np.arange(3))
    assert calls[-1] == (50, 50) and len(calls) == -(-50 // chunk)


def test_colour_is_taken_as_pil_does(tmp_path):
    pixels = pictures(20, (5, 4, 3))
    targets = np.arange(20) % 2
    store, manifest = made(tmp_path, pixels, targets, "binary", ("a", "b"))
    grey = np.stack([np.asarray(Image.fromarray(p).convert("L")) for p in pixels])
    found = measure(manifest, store)
    assert np.abs(found.mean - [grey[targets == k].mean() for k in (0, 1)]).max() < 0.5
    luma = (pixels.astype(np.float32) @ np.float32([0.299, 0.587, 0.114]) + 0.5).astype(np.uint8)
    assert np.abs(luma.astype(int) - grey).max() <= 1
    check(found, luma, pixels, targets[:, None] == np.arange(2))


def test_several_labels_and_none(tmp_path):
    pixels = pictures(30, (4, 4))
    targets = np.random.default_rng(2).choice(np.float32([0, 1, np.nan]), (30, 3))
    targets[:, 2] = 0  # no picture has it
    store, manifest = made(tmp_path, pixels, targets, "multilabel")
    found = measure(manifest, store)
    has = targets == 1
    assert np.isnan(found.mean[2]) and np.isnan(found.histogram[2]).all()
    check(found, pixels, pixels, has[:, :2])

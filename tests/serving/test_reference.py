"""The statistics that a bundle carries, of the 1,797 digits."""

import numpy as np
import pytest

from layerwise.data.load import DataOptions, load
from layerwise.data.storage.store import build_store
from layerwise.evaluation.predictions import Predictions
from layerwise.serving import reference
from layerwise.serving.measures import SCORES
from layerwise.serving.reference import statistics_of
from layerwise.serving.statistics import Statistics

TRAIN, VALIDATION = 300, 200


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    manifest = load("digits", DataOptions())
    splits = ["train"] * TRAIN + ["val"] * VALIDATION + ["test"] * (len(manifest) - 500)
    manifest = manifest.replace(table=manifest.table.assign(split=splits))
    folder = tmp_path_factory.mktemp("store")
    how = {"size": (8, 8), "channels": 1, "letterbox": False}
    store, manifest = build_store(manifest, **how, folder=folder)
    return manifest, store


@pytest.fixture(scope="module")
def validation(digits):
    manifest, _ = digits
    rows = manifest.indices("val")
    scores = np.random.default_rng(0).dirichlet(np.ones(10), VALIDATION).astype(np.float32)
    ids = np.asarray(manifest.table["id"].iloc[rows].tolist())
    return Predictions(ids, manifest.targets[rows], scores, ids)


def test_inputs_are_the_training_parts_and_scores_the_validation_parts(digits, validation):
    manifest, store = digits
    found = Statistics.from_json(statistics_of(manifest, store, validation, None), "bundle")
    assert (found.images, found.answers) == (TRAIN, VALIDATION)
    pixels = store.read(manifest.indices("train"))
    mean = pixels.mean(axis=(1, 2, 3))
    expected, _ = np.histogram(mean, np.linspace(0, 256, 65))
    np.testing.assert_array_equal(found.inputs["brightness"], expected)
    assert found.inputs["enlarged"].tolist() == [TRAIN, 0]
    best = validation.scores.argmax(axis=1)
    for k, label in enumerate(manifest.labels):
        assert found.decided[label][1] == (best == k).sum()
        hist, _ = np.histogram(validation.scores[:, k].astype(float), SCORES)
        np.testing.assert_array_equal(found.scores[label], hist)


def test_of_many_pictures_the_same_sample_is_taken(digits, validation, monkeypatch):
    monkeypatch.setattr(reference, "MOST", 100)
    made = [statistics_of(*digits, validation, None) for _ in range(2)]
    assert made[0] == made[1]
    assert Statistics.from_json(made[0], "bundle").images == 100

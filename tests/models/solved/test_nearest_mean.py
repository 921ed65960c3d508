"""The nearest class mean against scikit-learn's and against distances written out."""

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler

from layerwise.evaluation.predictions import probabilities
from layerwise.models.solved import rotation
from layerwise.models.solved.nearest_mean import nearest_mean
from layerwise.models.solved.rotation import Columns


def data(classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    y = generator.integers(0, classes, 150)
    centres = generator.normal(size=(classes, 12)) + 3
    x = centres[y] + generator.normal(size=(150, 12)) * generator.uniform(0.1, 4, 12)
    return x.astype(np.float32), y, np.arange(150) % 5


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_decisions_are_scikit_learns(monkeypatch, task, standardise):
    x, y, fold = data(2 if task == "binary" else 4)
    z = StandardScaler().fit_transform(x.astype(np.float64)) if standardise else x.astype(float)
    monkeypatch.setattr(rotation, "BLOCK", 4 * 150 * 5)  # five columns at a time
    linear, held = nearest_mean(Columns.of(x), y, fold, task, standardise=standardise)

    def decided(logits: np.ndarray) -> np.ndarray:
        return logits.argmax(axis=1) if task == "multiclass" else (logits[:, 0] > 0).astype(int)

    np.testing.assert_array_equal(decided(linear.logits(x)), NearestCentroid().fit(z, y).predict(z))
    for f in range(5):
        other = NearestCentroid().fit(z[fold != f], y[fold != f])
        np.testing.assert_array_equal(decided(held[fold == f]), other.predict(z[fold == f]))


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_probabilities_are_the_softmax_of_minus_the_squared_distances(task):
    x, y, fold = data(2 if task == "binary" else 4)
    linear, _ = nearest_mean(Columns.of(x), y, fold, task)
    means = np.stack([x[y == k].mean(axis=0, dtype=float) for k in range(y.max() + 1)])
    distances = ((x[:, None] - means) ** 2).sum(axis=2)
    wanted = np.exp(-distances + distances.min(axis=1, keepdims=True))
    wanted /= wanted.sum(axis=1, keepdims=True)
    said = probabilities(task, linear.logits(x))
    np.testing.assert_allclose(said, wanted if task == "multiclass" else wanted[:, 1:], atol=1e-3)


def test_labels_are_decided_one_by_one_on_known_rows():
    x, y, fold = data(4)
    targets = np.stack([y % 2, y > 1], axis=1).astype(np.float32)
    targets[:40, 1] = np.nan
    linear, held = nearest_mean(Columns.of(x), targets, fold, "multilabel")
    for k, rows in enumerate((np.arange(150), np.arange(40, 150))):
        one, alone = nearest_mean(
            Columns.of(x[rows]), targets[rows, k].astype(int), fold[rows], "binary"
        )
        np.testing.assert_allclose(linear.weight[k], one.weight[0], atol=1e-5)
        assert linear.bias[k] == pytest.approx(one.bias[0], abs=1e-3)
        np.testing.assert_allclose(held[rows, k], alone[:, 0], atol=1e-3)


def test_a_constant_value_counts_for_nothing():
    x, y, fold = data(2)
    x[:, 3] = 7
    linear, _ = nearest_mean(Columns.of(x), y, fold, "binary", standardise=True)
    assert linear.weight[0, 3] == 0
    assert np.isfinite(linear.weight).all()

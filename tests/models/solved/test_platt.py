"""Calibration against scikit-learn's, and against values worked out by hand."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import PredefinedSplit
from sklearn.svm import LinearSVC

from layerwise.models.solved.linear import Linear
from layerwise.models.solved.platt import calibrate


def margins(n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy margins (n, classes) on odd scales, and classes (n,)."""
    generator = np.random.default_rng(classes)
    y = generator.integers(0, classes, n)
    out = 3.0 * np.eye(classes)[y] + generator.normal(size=(n, classes)) * 2 - 1
    return out * np.linspace(1, 5, classes), y


def layer(outputs: int) -> Linear:
    return Linear(np.eye(outputs, dtype=np.float32), np.zeros(outputs, np.float32), 0.5)


def test_two_classes_equal_scikit_learn():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 5))
    y = (x[:, 0] + generator.normal(size=200) > 0.7).astype(np.int64)
    fold = np.arange(200) % 4
    other = CalibratedClassifierCV(
        LinearSVC(C=0.1, dual=False, tol=1e-8), cv=PredefinedSplit(fold), ensemble=False
    ).fit(x, y)
    inner = LinearSVC(C=0.1, dual=False, tol=1e-8)
    held = np.empty((200, 1))
    for f in range(4):
        held[fold == f, 0] = inner.fit(x[fold != f], y[fold != f]).decision_function(x[fold == f])
    inner.fit(x, y)
    linear = Linear(inner.coef_.astype(np.float32), inner.intercept_.astype(np.float32), 0.1)
    found = calibrate(linear, held, y, "binary")
    assert found.penalty == 0.1
    ours = 1 / (1 + np.exp(-found.logits(x.astype(np.float32))[:, 0]))
    np.testing.assert_allclose(ours, other.predict_proba(x)[:, 1], atol=1e-4)


def test_every_label_is_scaled_by_itself_on_its_known_rows():
    held, y = margins(300, 2)
    targets = np.stack([y, 1 - y], axis=1).astype(np.float32)
    targets[::3, 1] = np.nan
    found = calibrate(layer(2), held, targets, "multilabel")
    for k in range(2):
        known = ~np.isnan(targets[:, k])
        one = calibrate(layer(1), held[known, k : k + 1], targets[known, k], "binary")
        assert found.weight[k, k] == pytest.approx(one.weight[0, 0], rel=1e-4)
        assert found.bias[k] == pytest.approx(one.bias[0], rel=1e-4)


def smooth(y: np.ndarray, classes: int) -> np.ndarray:
    """The targets of Platt's priors, written out."""
    out = np.empty((len(y), classes))
    for i, label in enumerate(y):
        count = (y == label).sum()
        out[i] = 1 / (count + classes)
        out[i, label] = (count + 1) / (count + classes)
    return out


def cross_entropy(logits: np.ndarray, wanted: np.ndarray) -> float:
    top = logits.max(axis=1, keepdims=True)
    return float(
        (np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]).sum() - (logits * wanted).sum()
    )


def test_several_classes_are_learnt_for_the_softmax_over_them():
    held, y = margins(400, 3)
    found = calibrate(layer(3), held, y, "multiclass")
    slope, wanted = np.diag(found.weight).astype(float), smooth(y, 3)
    best = cross_entropy(held * slope + found.bias, wanted)
    assert best < cross_entropy(held, wanted) - 10
    for k in range(3):  # no change of one number makes it better
        for change in (-0.01, 0.01):
            other = slope.copy()
            other[k] *= 1 + change
            assert cross_entropy(held * other + found.bias, wanted) > best
            moved = found.bias + change * (np.arange(3) == k)
            assert cross_entropy(held * slope + moved, wanted) > best


def test_without_offsets_one_slope_changes_no_decision():
    held, y = margins(400, 3)
    found = calibrate(layer(3), held, y, "multiclass", offsets=False)
    slope = np.diag(found.weight)
    assert slope.min() == slope.max() > 0
    assert found.bias.tolist() == [0, 0, 0]
    wanted = smooth(y, 3)
    best = minimize_scalar(
        lambda t: cross_entropy(held * t, wanted), bounds=(0.01, 5), method="bounded"
    )
    assert slope[0] == pytest.approx(best.x, rel=1e-3)
    one = calibrate(layer(1), held[:, :1], (y == 0).astype(np.int64), "binary", offsets=False)
    assert one.bias[0] == 0 < one.weight[0, 0]


def test_margins_that_separate_ask_for_no_endless_slope():
    y = np.repeat([0, 1], 50)
    found = calibrate(layer(1), (2000.0 * y - 1000)[:, None], y, "binary")
    sure = 1 / (1 + np.exp(-1000.0 * found.weight[0, 0] - found.bias[0]))
    assert sure == pytest.approx(51 / 52, abs=1e-4)

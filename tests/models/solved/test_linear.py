"""The streaming linear probe against scikit-learn and closed forms."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from layerwise.models.solved import linear


def features(rows: int, width: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, width)) * generator.uniform(0.1, 3, width) + 1
    return x.astype(np.float32)


def reference(
    x: np.ndarray, y: np.ndarray, penalty: float
) -> tuple[LogisticRegression, np.ndarray]:
    z = StandardScaler().fit_transform(x.astype(np.float64))
    model = LogisticRegression(C=penalty, class_weight="balanced", max_iter=5000, tol=1e-9)
    return model.fit(z, y), z


@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_binary_equals_scikit_learn(penalty):
    x = features(600, 30)
    y = (x[:, 0] + np.random.default_rng(1).normal(size=600) > 1.5).astype(np.int64)
    (model,) = linear.fit_logistic(lambda r: x[r], np.arange(600), y, "binary", [penalty])
    other, z = reference(x, y, penalty)
    np.testing.assert_allclose(model.logits(x)[:, 0], other.decision_function(z), atol=2e-3)

    def objective(w: np.ndarray, b: float) -> float:
        weight = 600 / (2 * np.bincount(y))[y]
        loss = np.logaddexp(0, -(2 * y - 1) * (z @ w + b))
        return (0.5 * w @ w + penalty * (weight * loss).sum()) / (penalty * weight.sum())

    ours = objective(model.weight[0] * x.astype(np.float64).std(axis=0), 0.0)
    assert model.objective == pytest.approx(
        objective(other.coef_[0], other.intercept_[0]), rel=1e-4
    )
    assert np.isfinite(ours)


def test_multiclass_equals_scikit_learn_up_to_a_shift():
    x = features(500, 12)
    y = np.digitize(x[:, 0] + 0.3 * x[:, 1], [0.5, 2.0]).astype(np.int64)
    (model,) = linear.fit_logistic(lambda r: x[r], np.arange(500), y, "multiclass", [0.1])
    other, z = reference(x, y, 0.1)
    ours, theirs = model.logits(x), other.decision_function(z)
    np.testing.assert_allclose(
        ours - ours.mean(axis=1, keepdims=True),
        theirs - theirs.mean(axis=1, keepdims=True),
        atol=5e-3,
    )


def test_multilabel_is_one_binary_problem_a_label_on_its_known_rows():
    x = features(400, 8)
    y = np.stack([x[:, 0] > 1, x[:, 1] > 1.2], axis=1).astype(np.float32)
    y[:150, 1] = np.nan
    (model,) = linear.fit_logistic(lambda r: x[r], np.arange(400), y, "multilabel", [0.1])
    mean, scale = x.mean(axis=0), x.std(axis=0)
    z = (x[150:] - mean) / scale  # the standardisation is that of all rows
    other = LogisticRegression(C=0.1, class_weight="balanced", max_iter=5000, tol=1e-9)
    other.fit(z, y[150:, 1])
    np.testing.assert_allclose(model.logits(x[150:])[:, 1], other.decision_function(z), atol=2e-3)


def test_chunks_and_memory_limit_do_not_change_the_answer(monkeypatch):
    x = features(700, 10)
    y = (x[:, 0] > 1).astype(np.int64)
    whole = linear.fit_logistic(lambda r: x[r], np.arange(700), y, "binary", [0.01])[0]
    monkeypatch.setattr(linear, "CHUNK", 64)
    monkeypatch.setattr(linear, "IN_MEMORY", 0)
    parts = linear.fit_logistic(lambda r: x[r], np.arange(700), y, "binary", [0.01])[0]
    np.testing.assert_allclose(parts.logits(x), whole.logits(x), atol=1e-3)


def test_a_constant_feature_gets_no_weight():
    x = features(100, 3)
    x[:, 1] = 7
    y = (x[:, 0] > 1).astype(np.int64)
    (model,) = linear.fit_logistic(lambda r: x[r], np.arange(100), y, "binary", [1.0])
    assert model.weight[0, 1] == 0


def test_noise_is_given_the_strongest_restraint_and_signal_a_weaker_one():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 200)).astype(np.float32)
    groups = np.arange(400).astype(str)
    noise = generator.integers(0, 2, 400)
    signal = (x[:, :5].sum(axis=1) > 0).astype(np.int64)

    def choose(y: np.ndarray) -> float:
        return linear.choose_logistic(
            lambda r: x[r], np.arange(400), y, groups, "binary", seed=0
        ).penalty

    assert choose(noise) == min(linear.PENALTIES)
    assert choose(signal) > min(linear.PENALTIES)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_what_a_row_counts_is_how_often_it_is_repeated(task):
    generator = np.random.default_rng(3)
    x = features(240, 6)
    y = np.digitize(x[:, 0] + x[:, 1], [1.0] if task == "binary" else [0.5, 2.5]).astype(np.int64)
    if task == "multilabel":
        y = np.stack([x[:, 0] > 1, x[:, 1] > 1.5], axis=1).astype(np.float32)
        y[generator.random(y.shape) < 0.1] = np.nan
    counts = generator.integers(1, 5, 240)
    often = np.repeat(np.arange(240), counts)
    groups = (np.arange(240) // 2).astype(str)

    def chosen(rows, importance=None):
        return linear.choose_logistic(
            lambda r: x[r], rows, y[rows], groups[rows], task, seed=0, importance=importance
        )

    weighed, repeated = chosen(np.arange(240), counts.astype(float)), chosen(often)
    assert weighed.penalty == repeated.penalty
    assert weighed.objective == pytest.approx(repeated.objective, rel=1e-6)
    np.testing.assert_allclose(weighed.logits(x), repeated.logits(x), atol=2e-3)
    assert np.abs(weighed.logits(x) - chosen(np.arange(240)).logits(x)).max() > 0.05

"""LogME against the published evidence, evaluated with dense matrices and maximised by scipy."""

import numpy as np
import pytest
from scipy.optimize import minimize

from layerwise.errors import DataError
from layerwise.evaluation.logme import logme


def published(alpha, beta, features, wanted):
    """Equation 2 of You et al. 2021, term by term."""
    n, d = features.shape
    a = alpha * np.eye(d) + beta * features.T @ features
    m = beta * np.linalg.solve(a, features.T @ wanted)
    residual = features @ m - wanted
    return (
        n / 2 * np.log(beta)
        + d / 2 * np.log(alpha)
        - n / 2 * np.log(2 * np.pi)
        - beta / 2 * residual @ residual
        - alpha / 2 * m @ m
        - np.linalg.slogdet(a)[1] / 2
    )


def brute_force(features, wanted):
    """The highest evidence an image that a search over log α and log β finds from many places."""
    best = -np.inf
    for start in ((0, 0), (4, 2), (-4, 2), (8, 1), (2, 6)):
        found = minimize(
            lambda at: -published(np.exp(at[0]), np.exp(at[1]), features, wanted),
            np.array(start, float),
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000},
        )
        best = max(best, -found.fun / len(features))
    return best


def images(n, d, classes, strength, seed):
    """Features of which a few follow the classes."""
    generator = np.random.default_rng(seed)
    targets = np.arange(n) % classes
    features = generator.normal(0.3, 1, (n, d))
    features[:, :classes] += strength * np.eye(classes)[targets]
    return features, targets


@pytest.mark.parametrize(
    ("n", "d", "classes", "task"),
    [(60, 7, 2, "binary"), (90, 12, 4, "multiclass"), (25, 40, 2, "binary")],
    ids=["binary", "multiclass", "more features than images"],
)
def test_the_closed_form_is_the_published_evidence_at_its_maximum(n, d, classes, task):
    features, targets = images(n, d, classes, 1.5, seed=n)
    found = logme(features, targets, task)
    wanted = [brute_force(features, (targets == k).astype(float)) for k in range(classes)]
    np.testing.assert_allclose(found.labels, wanted, rtol=0, atol=1e-6)
    assert found.value == pytest.approx(np.mean(wanted), abs=1e-6)


def test_with_several_labels_unknown_images_are_left_out_label_by_label():
    generator = np.random.default_rng(3)
    features = generator.normal(size=(80, 6))
    targets = (features[:, :3] + generator.normal(0, 0.5, (80, 3)) > 0).astype(np.float32)
    targets[:15, 1] = np.nan
    targets[:, 2] = 1  # all of one kind: there is nothing to explain
    found = logme(features, targets, "multilabel")
    known = [np.arange(80), np.arange(15, 80)]
    wanted = [brute_force(features[rows], targets[rows, k]) for k, rows in enumerate(known)]
    np.testing.assert_allclose(found.labels[:2], wanted, rtol=0, atol=1e-6)
    assert np.isnan(found.labels[2])
    assert found.value == pytest.approx(np.mean(wanted), abs=1e-6)


def test_features_that_say_nothing_reach_the_evidence_of_noise_alone():
    """No weight helps: the model is y ~ N(0, 1/β), whose best evidence is known by heart."""
    targets = np.arange(40) % 2
    features = np.stack([np.where(targets == 0, 1, 0), np.zeros(40)], 1).astype(float)
    value = logme(features, targets, "binary").labels[1]  # orthogonal to the images of class 1
    assert value == pytest.approx(-0.5 * (np.log(2 * np.pi * 0.5) + 1), abs=1e-9)


def test_scale_is_nothing_and_a_zero_column_is_nothing():
    features, targets = images(50, 5, 2, 1.0, seed=0)
    first = logme(features, targets, "binary").value
    assert logme(1e-200 * features, targets, "binary").value == pytest.approx(first, abs=1e-10)
    wider = np.hstack([features, np.zeros((50, 3))])
    assert logme(wider, targets, "binary").value == pytest.approx(first, abs=1e-10)


def test_better_features_have_more_evidence_and_float32_is_enough():
    values = []
    for strength in (0.0, 1.0, 3.0):
        features, targets = images(200, 10, 2, strength, seed=1)
        values.append(logme(features.astype(np.float32), targets, "binary").value)
        assert values[-1] == pytest.approx(logme(features, targets, "binary").value, abs=1e-5)
    assert values == sorted(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f, t: (np.where(np.arange(6)[:, None] == 2, np.nan, f), t), "1 of 6 .*not finite"),
        (lambda f, t: (np.ones_like(f), t), "same for every image.*another cut"),
        (lambda f, t: (f, np.zeros_like(t)), "no label has images with it"),
        (lambda f, t: (f, t[:-1]), "6 rows of features and 5 of labels"),
    ],
    ids=["NaN", "constant", "one class", "lengths"],
)
def test_what_can_not_be_is_named(change, words):
    features, targets = images(6, 3, 2, 1.0, seed=0)
    with pytest.raises(DataError, match=words):
        logme(*change(features, targets), "multiclass")

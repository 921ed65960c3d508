"""Learning curves of an SVM against scikit-learn's, on the same features, folds and sizes."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.model_selection import learning_curve as sklearns
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from layerwise.errors import DataError, TrainingError
from layerwise.models.solved.grid import search
from layerwise.models.solved.learning import learning_curve
from layerwise.models.solved.rotation import Columns

FOLDS = 5


def reference(c):
    return LinearSVC(C=c, dual=False, tol=1e-8, max_iter=100_000)


def data(n, d, classes=2):
    """Features with some signal, and folds of rows f, f + FOLDS, …: of every class alike."""
    generator = np.random.default_rng(n + d + classes)
    y = np.tile(np.arange(classes), n // classes)
    signal = 0.8 * generator.normal(size=(classes, d)) * (np.arange(d) < 12)
    x = np.abs(generator.normal(size=(n, d)) + signal[y] + 0.5)
    return x.astype(np.float32), y.astype(np.int64), (np.arange(n) // classes) % FOLDS


@pytest.mark.parametrize(("n", "d"), [(60, 200), (120, 12)])
@pytest.mark.parametrize("classes", [2, 3])
def test_scores_are_those_of_scikit_learns_learning_curve(n, d, classes):
    """Sizes are the first rows, in multiples of all folds, so each fold loses its share."""
    x, y, fold = data(n, d, classes)
    round_of = classes * FOLDS
    sizes = [round_of, 2 * round_of, n]
    points = learning_curve(
        Columns.of(x),
        y,
        fold,
        "binary" if classes == 2 else "multiclass",
        [np.arange(n) < size for size in sizes],
        [0.1],
    )
    without = [size * (FOLDS - 1) // FOLDS for size in sizes]
    learnt, train, held = sklearns(
        reference(0.1), x.astype(float), y, cv=PredefinedSplit(fold), train_sizes=without
    )
    assert [point.images for point in points] == sizes
    assert [set(point.without_fold) for point in points] == [{size} for size in learnt.tolist()]
    np.testing.assert_allclose([point.train for point in points], train)
    np.testing.assert_allclose([point.held_out for point in points], held)
    assert held.std() > 0.01  # they differ, or nothing is compared
    for size, point in zip(sizes, points, strict=True):
        other = reference(0.1).fit(x[:size].astype(float), y[:size])
        np.testing.assert_allclose(point.linear.weight, other.coef_, atol=1e-4)
        np.testing.assert_allclose(point.linear.bias, other.intercept_, atol=1e-4)


def test_with_all_images_it_is_the_grid_search_at_its_choice():
    x, y, fold = data(60, 90)
    grid = (0.001, 0.01, 1.0)
    found = search(Columns.of(x), y, fold, "binary", kind="squared hinge", penalties=grid)
    (point,) = learning_curve(
        Columns.of(x), y, fold, "binary", [np.ones(60, bool)], found.penalties
    )
    other = GridSearchCV(reference(1.0), {"C": list(grid)}, cv=PredefinedSplit(fold))
    other.fit(x.astype(float), y)
    assert found.penalties == (other.best_params_["C"],)
    assert np.mean(point.held_out) == pytest.approx(other.best_score_)
    np.testing.assert_allclose(point.linear.weight, found.linear.weight, atol=1e-4)


def test_every_label_has_its_own_c_and_its_unknown_rows_count_nowhere():
    x, y, fold = data(60, 20)
    targets = np.stack([y, np.roll(y, 1)], axis=1).astype(np.float32)
    targets[3, 0] = targets[8, 1] = np.nan
    half = np.arange(60) < 30
    (point,) = learning_curve(Columns.of(x), targets, fold, "multilabel", [half], [0.01, 1.0])
    train, held = [], []
    for f in range(FOLDS):
        shares = []
        for k, c in enumerate((0.01, 1.0)):
            known = ~np.isnan(targets[:, k])
            fit, out = half & (fold != f) & known, (fold == f) & known
            model = reference(c).fit(x[fit].astype(float), targets[fit, k])
            shares.append([model.score(x[rows], targets[rows, k]) for rows in (fit, out)])
        train.append(np.mean(shares, axis=0)[0])
        held.append(np.mean(shares, axis=0)[1])
    np.testing.assert_allclose(point.train, train)
    np.testing.assert_allclose(point.held_out, held)
    assert point.linear.penalty is None and point.linear.weight.shape == (2, 20)


def test_one_against_the_rest_is_what_scikit_learn_calls_it():
    x, y, fold = data(60, 30, classes=3)
    (point,) = learning_curve(Columns.of(x), y, fold, "multiclass", [np.ones(60, bool)], [0.1])
    other = OneVsRestClassifier(reference(0.1)).fit(x.astype(float), y)
    np.testing.assert_array_equal(point.linear.logits(x).argmax(axis=1), other.predict(x))


def test_a_fold_in_which_nothing_was_learnt_is_not_counted():
    x, y, fold = data(60, 20)
    only_first = fold == 0
    (point,) = learning_curve(Columns.of(x), y, fold, "binary", [only_first], [1.0])
    assert np.isnan(point.train[0]) and point.without_fold[0] == 0
    assert all(np.isfinite(point.train[1:])) and all(np.isfinite(point.held_out))


def test_what_can_not_be_learnt_is_named():
    x, y, fold = data(60, 20)
    everything = [np.ones(60, bool)]
    with pytest.raises(DataError, match="fold 1 of 5 has no image with the label 'b'.*fewer"):
        wrong = np.where((fold == 0) & (y == 1), 0, y)
        learning_curve(Columns.of(x), wrong, fold, "binary", everything, [1.0], labels=("a", "b"))
    with pytest.raises(TrainingError, match="the same for every image; take another cut"):
        learning_curve(Columns.of(np.ones_like(x)), y, fold, "binary", everything, [1.0])
    x[7, 3] = np.nan
    with pytest.raises(TrainingError, match="not finite.*take other weights, or a lower cut"):
        learning_curve(Columns.of(x), y, fold, "binary", everything, [1.0])

"""Classic baselines: frequencies, planted pixels, classes and labels that are missing."""

from functools import partial

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import roc_auc_score

from layerwise.models import classic
from layerwise.models.classic import Dummy, Forest, shrink

NAN = np.nan


def test_shrinking_is_the_mean_over_areas():
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 128, 1), dtype=np.uint8)
    small = shrink(images, 32).reshape(3, 32, 32)
    means = images[..., 0].reshape(3, 32, 2, 32, 4).mean(axis=(2, 4))
    assert np.abs(small - means).max() <= 1  # rounded once a direction
    colour = np.zeros((1, 32, 32, 3), np.uint8)
    colour[..., 1] = 200
    assert np.abs(shrink(colour, 32).astype(float) - 0.587 * 200).max() <= 1


@pytest.mark.parametrize(
    ("task", "labels", "targets", "wanted"),
    [
        ("binary", 2, np.array([0, 1, 1, 1]), [0.75]),
        ("binary", 2, np.array([0, 0]), [0.0]),
        ("multiclass", 4, np.array([0, 2, 2, 0, 1]), [0.4, 0.2, 0.4, 0.0]),
        (
            "multilabel",
            2,
            np.array([[1, 0], [0, NAN], [NAN, 1], [1, 1]], np.float32),
            [2 / 3, 2 / 3],
        ),
    ],
)
def test_a_dummy_answers_the_frequencies(task, labels, targets, wanted):
    pixels = np.zeros((len(targets), 4), np.uint8)
    scores = Dummy(task, labels).fit(pixels, targets).predict(np.ones((3, 4), np.uint8))
    assert scores.dtype == np.float32 and scores.shape == (3, len(wanted))
    np.testing.assert_allclose(scores, [wanted] * 3, rtol=1e-6)


def planted(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 16), of which pixel k is bright in pictures that have label k of three."""
    generator = np.random.default_rng(seed)
    has = generator.integers(0, 2, (rows, 3))
    pixels = generator.integers(0, 100, (rows, 16))
    pixels[:, :3] += 150 * has
    return pixels.astype(np.uint8), has


def test_a_forest_finds_planted_pixels_despite_unknown_labels():
    pixels, has = planted(120, 0)
    targets = has.astype(np.float32)
    targets[::3, 0] = NAN
    forest = Forest("multilabel", 3, seed=0, threads=1).fit(pixels, targets)
    new, wanted = planted(80, 1)
    scores = forest.predict(new)
    assert scores.shape == (80, 3) and scores.dtype == np.float32
    assert [len(one.estimators_) for one in forest._estimators] == [200, 200, 200]
    for k in range(3):
        assert roc_auc_score(wanted[:, k], scores[:, k]) > 0.99


@pytest.fixture
def few_trees(monkeypatch):
    """What does not depend on how many there are."""
    monkeypatch.setattr(classic, "TREES", 20)


def test_a_forest_and_a_class_without_training_pictures(few_trees):
    pixels, has = planted(60, 0)
    targets = np.where(has[:, 0] == 1, 2, 0)  # class 1 never occurs
    scores = Forest("multiclass", 4, seed=0, threads=1).fit(pixels, targets).predict(pixels)
    assert scores.shape == (60, 4)
    assert not scores[:, [1, 3]].any()
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(scores.argmax(axis=1), targets)


def test_a_forest_of_one_class_only_is_sure_of_it(few_trees):
    pixels, _ = planted(20, 0)
    for value in (0, 1):
        targets = np.full(20, value)
        scores = Forest("binary", 2, seed=0, threads=1).fit(pixels, targets).predict(pixels)
        np.testing.assert_array_equal(scores, np.full((20, 1), value, np.float32))


def test_the_same_seed_gives_the_same_forest(few_trees):
    pixels, has = planted(60, 0)
    one, two, other = (
        Forest("binary", 2, seed=seed, threads=1).fit(pixels, has[:, 2]).predict(pixels)
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("kind", [Dummy, partial(Forest, seed=0, threads=1)])
def test_a_label_that_nobody_knows_is_answered_with_a_half(few_trees, kind):
    pixels, has = planted(40, 0)
    targets = has.astype(np.float32)
    targets[:, 1] = NAN
    new, _ = planted(10, 1)
    scores = kind("multilabel", 3).fit(pixels, targets).predict(new)
    assert (scores[:, 1] == 0.5).all()
    rest = kind("multilabel", 2).fit(pixels, targets[:, [0, 2]]).predict(new)
    np.testing.assert_array_equal(scores[:, [0, 2]], rest)


@pytest.mark.parametrize("strategy", ["prior", "most_frequent", "stratified"])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_dummies_are_those_of_scikit_learn(strategy, task):
    classes = 2 if task == "binary" else 4
    targets = np.random.default_rng(0).choice(classes, 50, p=[0.6, 0.4, 0, 0][:classes])
    pixels = np.zeros((50, 4), np.uint8)
    new = np.zeros((200, 4), np.uint8)
    scores = Dummy(task, classes, strategy, seed=7).fit(pixels, targets).predict(new)
    wanted = DummyClassifier(strategy=strategy, random_state=7).fit(pixels, targets)
    said = wanted.predict_proba(new)  # of the two classes that occur
    if task == "binary":
        np.testing.assert_array_equal(scores[:, 0], said[:, 1].astype(np.float32))
    else:
        np.testing.assert_array_equal(scores[:, :2], said.astype(np.float32))
        assert not scores[:, 2:].any()


def test_the_first_of_equally_frequent_classes_is_taken():
    pixels = np.zeros((6, 1), np.uint8)
    dummy = Dummy("multiclass", 3, "most_frequent").fit(pixels, np.array([2, 1, 2, 1, 0, 0]))
    np.testing.assert_array_equal(dummy.predict(pixels[:2]), [[1, 0, 0]] * 2)


def test_drawn_labels_have_the_frequencies_and_are_independent():
    rows = 4000
    targets = np.zeros((rows, 3), np.float32)
    targets[: rows // 4, 0] = 1
    targets[: rows // 2, 1:] = 1
    targets[rows // 2 :, 2] = NAN  # known to be there, or not known
    pixels = np.zeros((rows, 1), np.uint8)
    said = Dummy("multilabel", 3, "stratified", seed=0).fit(pixels, targets).predict(pixels)
    assert set(np.unique(said)) == {0, 1} and (said[:, 2] == 1).all()
    # four standard errors of a share of 4000 draws
    assert abs(said[:, 0].mean() - 0.25) < 0.028 and abs(said[:, 1].mean() - 0.5) < 0.032
    assert abs(np.corrcoef(said[:, 0], said[:, 1])[0, 1]) < 0.064
    again = Dummy("multilabel", 3, "stratified", seed=0).fit(pixels, targets).predict(pixels)
    np.testing.assert_array_equal(said, again)
    other = Dummy("multilabel", 3, "stratified", seed=1).fit(pixels, targets).predict(pixels)
    assert (said[:, 1] != other[:, 1]).any()


def test_the_most_frequent_answer_of_each_label():
    targets = np.array([[1, 0, NAN], [1, NAN, NAN], [0, 0, NAN], [NAN, 1, NAN]], np.float32)
    pixels = np.zeros((4, 1), np.uint8)
    said = Dummy("multilabel", 3, "most_frequent").fit(pixels, targets).predict(pixels)
    np.testing.assert_array_equal(said, [[1, 0, 0.5]] * 4)


def test_activations_do_as_well_as_pixels(few_trees):
    pixels, has = planted(120, 0)
    one = Forest("binary", 2, seed=0, threads=1).fit(pixels, has[:, 0]).predict(pixels)
    rows = pixels.astype(np.float32)
    other = Forest("binary", 2, seed=0, threads=1).fit(rows, has[:, 0]).predict(rows)
    np.testing.assert_array_equal(one, other)

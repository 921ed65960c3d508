"""Balancing: equal classes by closed form, fair turns, and the same rows for the same epoch."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwise.data.balance import (
    METHODS,
    PLAIN,
    Epochs,
    class_weights,
    describe,
    positive_weights,
)
from layerwise.errors import TrainingError

SIZES = (50, 20, 7)
TARGETS = np.random.default_rng(0).permutation(np.repeat(np.arange(3), SIZES))
TRAIN = np.flatnonzero(np.arange(77) % 7 > 0)  # 66 of the 77


def made(method, targets=TARGETS, train=TRAIN, seed=5):
    return Epochs(method, targets, train, seed)


@pytest.mark.parametrize("method", METHODS)
def test_an_epoch_follows_from_seed_and_number_alone(method):
    epochs = made(method)
    first = [epochs.draw(e) for e in range(4)]
    again = made(method)
    for e in (3, 0, 2, 1):  # in any order, from a fresh start
        for one, other in zip(first[e], again.draw(e), strict=True):
            np.testing.assert_array_equal(one, other)
    orders = [tuple(rows) for rows, _ in first] + [tuple(made(method, seed=6).draw(0)[0])]
    assert len(set(orders)) == 5
    for rows, copies in first:
        assert rows.dtype == copies.dtype == np.int64
        assert rows.shape == copies.shape == (epochs.size,)
        assert np.isin(rows, TRAIN).all()
        seen = list(zip(rows.tolist(), copies.tolist(), strict=True))
        assert len(set(seen)) == len(seen)  # no two equal pictures in an epoch


@pytest.mark.parametrize("method", ["none", "weights"])
def test_without_drawing_every_row_comes_once_as_ever(method):
    epochs = made(method)
    assert epochs.size == 66 and epochs.augmented.tolist() == TRAIN.tolist()
    for e in range(3):
        rows, copies = epochs.draw(e)
        np.testing.assert_array_equal(rows, np.random.default_rng([5, e]).permutation(TRAIN))
        assert not copies.any()


def test_sampling_expects_every_class_equally_often():
    epochs = made("sampling")
    assert epochs.size == 66 and epochs.augmented.tolist() == TRAIN.tolist()
    draws = 600
    rows = np.concatenate([epochs.draw(e)[0] for e in range(draws)])
    share = np.bincount(TARGETS[rows]) / len(rows)
    deviation = np.sqrt((1 / 3) * (2 / 3) / len(rows))
    assert np.abs(share - 1 / 3).max() < 5 * deviation
    for value in range(3):  # and within a class, every row
        members = TRAIN[TARGETS[TRAIN] == value]
        times = np.array([(rows == row).sum() for row in members])
        expected = len(rows) / 3 / len(members)
        assert np.abs(times - expected).max() < 5 * np.sqrt(expected)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 25), min_size=1, max_size=4).filter(lambda c: sum(c) > 0),
    seed=st.integers(0, 3),
    start=st.integers(0, 100),
)
def test_copies_make_classes_equal_and_are_dealt_out_in_turn(counts, seed, start):
    targets = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    train = np.arange(len(targets))
    epochs = Epochs("augment", targets, train, seed)
    most, present = max(counts), sum(c > 0 for c in counts)
    assert epochs.size == most * present
    total = np.zeros(len(targets), int)
    for e in range(start, start + 3):
        rows, copies = epochs.draw(e)
        originals = copies == PLAIN
        assert sorted(rows[originals].tolist()) == train.tolist()  # every picture once, as it is
        per_class = np.bincount(targets[rows], minlength=len(counts))
        assert all(n == (most if c else 0) for n, c in zip(per_class, counts, strict=True))
        times = np.bincount(rows[~originals], minlength=len(targets))
        for value in np.unique(targets):
            assert np.ptp(times[targets == value]) <= 1
        for row in np.unique(rows[~originals]):
            mine = np.sort(copies[(rows == row) & ~originals])
            assert mine.tolist() == list(range(len(mine)))
        total += times
    for value in np.unique(targets):
        assert np.ptp(total[targets == value]) <= 1  # over several epochs as well
    smaller = [v for v, c in enumerate(counts) if c < most]
    assert epochs.augmented.tolist() == np.flatnonzero(np.isin(targets, smaller)).tolist()


def test_the_counts_of_the_thesis():
    """Buluttekin 2020, table 3.1: 3,875 with pneumonia, 1,341 normal."""
    targets = np.repeat([1, 0], [3875, 1341])
    epochs = Epochs("augment", targets, np.arange(5216), 0)
    rows, copies = epochs.draw(0)
    assert np.bincount(targets[rows]).tolist() == [3875, 3875]
    copied = copies != PLAIN
    assert copied.sum() == 2534 and not targets[rows[copied]].any()
    assert set(np.bincount(rows[copied], minlength=5216)[3875:].tolist()) == {1, 2}
    said = describe("augment", targets, ("NORMAL", "PNEUMONIA"), "radiograph")
    assert "3,875 pictures of each class" in said and "(2,534 of NORMAL)" in said


@pytest.mark.parametrize("method", ["sampling", "augment"])
def test_several_labels_an_image_can_not_be_drawn(method):
    targets = np.zeros((6, 3), np.float32)
    with pytest.raises(TrainingError, match=rf"{method}.*several labels.*--balance weights"):
        Epochs(method, targets, np.arange(6), 0)
    assert Epochs("weights", targets, np.arange(6), 0).size == 6


def test_the_methods_are_those_of_the_command_line():
    from layerwise.cli.flags import BALANCE
    from layerwise.training.recipe import Recipe

    assert BALANCE == METHODS == get_args(Recipe.__dataclass_fields__["balance"].type)
    assert Recipe().balance == "weights"


def test_weights_give_every_class_the_same_sum():
    targets = np.array([0] * 6 + [1] * 3 + [2])
    weights = class_weights(targets, 3)
    assert [weights[targets[targets == c]].sum() for c in range(3)] == pytest.approx([10 / 3] * 3)
    assert weights[targets].mean() == pytest.approx(1)
    assert weights.dtype == np.float32


def test_weights_without_images_of_a_class():
    targets = np.array([0, 0, 0, 2])
    weights = class_weights(targets, 4)
    assert weights[[0, 2]].tolist() == pytest.approx([4 / 6, 2])
    assert weights[targets].mean() == pytest.approx(1)
    assert np.isfinite(weights).all()


def test_positive_weights_leave_unknown_ones_out():
    nan = np.nan
    targets = np.array(
        [[1, 0, 0, 1], [0, nan, 0, 1], [nan, 1, 0, 1], [0, nan, 0, nan], [0, nan, 0, 1]], np.float32
    )
    weights = positive_weights(targets)
    assert weights.dtype == np.float32
    assert weights.tolist() == pytest.approx([3, 1, 5, 0.01])  # never more than a hundredfold
    assert positive_weights(np.r_[np.zeros((500, 1)), [[1.0]]]).tolist() == [100.0]


def test_the_sentence_has_the_numbers():
    names = ("a", "b")
    targets = np.array([0, 0, 0, 1])
    assert describe("weights", targets, names, "none").endswith("pictures weigh a 0.667, b 2.")
    several = np.array([[1, 0], [0, 0], [0, 1]], np.float32)
    assert describe("weights", several, names, "none").endswith("positives weigh a 2, b 2.")
    assert "not balanced" in describe("none", targets, names, "none")
    assert "with replacement" in describe("sampling", targets, names, "none")
    assert "(2 of b)" in describe("augment", targets, names, "natural")
    assert "no picture is augmented" in describe("augment", np.arange(2), names, "natural")

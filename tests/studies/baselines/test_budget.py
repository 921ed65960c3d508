"""What the time holds, with costs made up so that the answer can be worked out by hand."""

import pytest

from layerwise.errors import LayerwiseError, ModelError
from layerwise.studies.baselines import budget
from layerwise.studies.baselines.budget import (
    SAFETY,
    Allotted,
    allot,
    choose_side,
    epoch_seconds,
    sides_for,
)

NAMES = {"a": "A", "b": "B", "c": "C"}
COSTS = {"a": 1.0, "b": 10.0, "c": 3.0}  # seconds an epoch


@pytest.mark.parametrize(
    ("shorter", "sides"),
    [
        (224, [224, 192, 160, 128, 96]),
        (1024, [224, 192, 160, 128, 96]),
        (150, [160, 128, 96]),
        (64, [64]),
        (28, [32]),
        (8, [32]),
    ],
)
def test_pictures_are_hardly_enlarged_and_not_made_too_small(shorter, sides):
    assert sides_for(shorter) == sides


@pytest.mark.parametrize(("room", "side"), [(None, 224), (500, 224), (499, 160), (1, 96)])
def test_the_largest_size_that_the_time_holds(room, side):
    """5 epochs of two networks at 224 pixels take 5 · (50 + 50) s, at 160 half of it."""
    cost = {224: 50.0, 160: 25.0, 96: 10.0}
    found = choose_side(
        [224, 160, 96], ["vgg16", "cbr-tiny"], lambda _, s: cost[s], room, all_of_them=True
    )
    assert found == side


def test_a_size_that_a_named_network_does_not_take_is_none():
    some = ["alexnet", "lenet5"]

    def cost(_name, _side):
        return 1e9

    assert choose_side([96, 64], some, cost, 1.0, all_of_them=True) == 96
    assert choose_side([96, 64], some, cost, 1.0, all_of_them=False) == 64
    with pytest.raises(ModelError, match="none of the sizes tried is taken by all.*--image-size"):
        choose_side([64, 32], some, cost, 1.0, all_of_them=True)


def test_an_epoch_is_what_is_learnt_and_a_third_of_what_is_answered():
    assert epoch_seconds(0.1, [90, 120], 30) == pytest.approx(0.1 * (90 + 10 + 120 + 10))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        # 80% of the time is promised: 560 s hold 40 epochs of all three, 13 with three repeats.
        (700, (("a", "b", "c"), 13, 3)),
        # 112 s hold 8 epochs of all three, but not 10 with three repeats.
        (140, (("a", "b", "c"), 8, 1)),
        # 40 s do not hold 5 epochs of all (70 s): the dearest goes; 10 of the others, once.
        (50, (("a", "c"), 10, 1)),
        # 8 s hold 8 epochs of the cheapest alone.
        (10, (("a",), 8, 1)),
        (5, ((), 0, 1)),
    ],
)
def test_networks_then_epochs_then_repeats(seconds, expected):
    found = allot(COSTS, NAMES, seconds, 100)
    assert (found.networks, found.epochs, found.repeats) == expected
    left = [one.name for one in found.left_out]
    assert left == [NAMES[k] for k in NAMES if k not in found.networks]
    assert found.epochs * found.repeats * sum(COSTS[k] for k in found.networks) <= SAFETY * seconds


def test_what_is_left_out_says_what_would_bring_it_back():
    (left,) = allot(COSTS, NAMES, 50, 100).left_out
    assert left.name == "B"
    assert "5 epochs" in left.reason and "--models b" in left.reason and "--time" in left.reason


def test_epochs_that_were_asked_for_are_kept():
    assert allot(COSTS, NAMES, None, 100, epochs=7) == Allotted(("a", "b", "c"), 7, 3)
    assert allot(COSTS, NAMES, None, 100, epochs=7, quick=True).repeats == 1
    assert allot(COSTS, NAMES, None, 100, epochs=7, repeats=2).repeats == 2
    within = allot(COSTS, NAMES, 200, 100, epochs=10)  # 160 s: once, not three times
    assert (within.networks, within.epochs, within.repeats) == (("a", "b", "c"), 10, 1)
    fewer = allot(COSTS, NAMES, 100, 100, epochs=10)  # 80 s do not hold the dearest
    assert (fewer.networks, fewer.epochs, fewer.repeats) == (("a", "c"), 10, 1)


def test_no_more_epochs_than_are_of_use():
    found = allot(COSTS, NAMES, 1e6, 12)
    assert (found.epochs, found.repeats) == (12, 3)
    assert allot(COSTS, NAMES, 1e6, 12, repeats=5).repeats == 5


def test_networks_that_were_named_are_never_left_out():
    found = allot(COSTS, NAMES, 35, 100, asked=list(COSTS))  # 28 s: 2 epochs of all three
    assert (found.networks, found.epochs, found.repeats) == (("a", "b", "c"), 2, 1)
    with pytest.raises(LayerwiseError, match=r"--time is too short: 2 epochs of A, B, C.*--models"):
        allot(COSTS, NAMES, 34, 100, asked=list(COSTS))


def test_one_that_was_named_stays_and_the_others_go():
    found = allot(COSTS, NAMES, 69, 100, asked=["b"])  # 55.2 s: 5 epochs of it and the cheapest
    assert (found.networks, found.epochs, found.repeats) == (("a", "b"), 5, 1)
    assert [one.name for one in found.left_out] == ["C"]
    found = allot(COSTS, NAMES, 25, 100, asked=["b"])
    assert (found.networks, found.epochs) == (("b",), 2)
    with pytest.raises(LayerwiseError, match=r"2 epochs of B, with and without"):
        allot(COSTS, NAMES, 24, 100, asked=["b"])


def test_a_longer_step_is_measured_once(monkeypatch):
    import torch

    calls = []
    monkeypatch.setattr(budget, "median_seconds", lambda *_: calls.append(1) or 0.8)
    fast = budget.image_seconds("lenet5", 32, torch.device("cpu"))
    assert calls == [1] and fast == 0.1
    monkeypatch.setattr(budget, "LONG", 0.0)
    assert budget.image_seconds("lenet5", 32, torch.device("cpu")) > 0 and calls == [1]

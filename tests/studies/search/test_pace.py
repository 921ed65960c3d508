"""The time: how many epochs and trials it holds, and that a search ends near its end."""

import numpy as np
import pytest

from layerwise.errors import LayerwiseError
from layerwise.studies.search.pace import (
    FEWEST_EPOCHS,
    Budget,
    Cost,
    allot,
    holds,
    measure_costs,
)
from layerwise.studies.search.settings import Settings
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer


@pytest.mark.parametrize(
    ("seconds", "trials", "wanted"),
    [
        (1000, 50, (9, 52)),  # 20 s each: 1 + 9 · 2
        (100, 50, (FEWEST_EPOCHS, 14)),  # 7 s each
        (1e6, 50, (60, 8264)),  # no more than are of use for 1,000 images
        (1000, 1, (60, 8)),
    ],
)
def test_epochs_are_those_that_the_time_holds(seconds, trials, wanted):
    assert allot(Cost(1.0, 2.0), seconds, trials, 1000) == wanted


def test_a_time_too_short_for_one_trial_says_what_would_do():
    with pytest.raises(LayerwiseError, match=r"--time is too short .*10 epochs take about 31 s"):
        holds(Cost(1.0, 3.0), 30.0, 10)
    assert holds(Cost(1.0, 3.0), 31.0, 10) == 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("epoch", [0.4, 3.0])
def test_a_search_ends_within_a_tenth_of_its_time(seed, epoch):
    """Played through with a clock of our own: trials of 10 epochs, half of them pruned early."""
    generator = np.random.default_rng(seed)
    now = [12.0]  # after preparing
    seconds, reserve = 600.0, 30.0
    budget = Budget(seconds, 0.0, 0.0, lambda: now[0])
    taken: list[float] = []
    while not taken or budget.may_begin(float(np.mean(taken[-10:]))):
        began, pace = now[0], epoch * generator.uniform(0.3, 3.0)  # by the size of the network
        for _ in range(10 if generator.random() < 0.5 else 2):
            now[0] += pace
            if taken and budget.must_end(pace):
                break
        taken.append(now[0] - began)
    assert 0.9 * seconds <= now[0] + reserve <= 1.1 * seconds


def test_earlier_sittings_count():
    now = [100.0]
    fresh, later = (Budget(600.0, spent, 100.0, lambda: now[0]) for spent in (0.0, 560.0))
    assert fresh.left == 570.0 and later.left == 10.0
    assert fresh.may_begin(200.0) and not later.may_begin(200.0)
    assert not fresh.must_end(50.0) and later.must_end(50.0)


def test_costs_are_measured_of_as_many_settings_as_the_time_allows(workspace):
    work = workspace("binary", model="custom")
    settings = [
        Settings({"units": str(units)}, Transfer("none", copy="none"), Recipe(batch=8))
        for units in (2, 4, 8)
    ]
    told = iter(range(0, 1000, 10))
    cost = measure_costs(work, settings, 100.0, clock=lambda: float(next(told)))
    assert cost.once > 0 and cost.epoch > 0  # two of them: then 10 s are more than 6
    assert next(told) == 20


@pytest.mark.parametrize(
    ("epochs", "mean"), [([1.0, 9.0, 2.0, 5.0], 7.0), ([3.0, 1.0, 2.0], 2.5), ([4.0], 4.0)]
)
def test_planned_is_with_the_dearer_half(monkeypatch, epochs, mean):
    """A search of networks ends among the large ones; half of them is rounded up."""
    told = iter(epochs)
    monkeypatch.setattr(
        "layerwise.studies.search.pace.measure_cost", lambda *_: Cost(2.0, next(told))
    )
    assert measure_costs(None, [None] * len(epochs), 100.0, clock=lambda: 0.0) == Cost(2.0, mean)

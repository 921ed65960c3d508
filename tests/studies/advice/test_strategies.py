"""Cuts and rates of the three strategies, on planted profiles and against the optimiser."""

import numpy as np
import pytest

from layerwise.evaluation.estimates import Estimate
from layerwise.studies.advice.matrix import Likeness
from layerwise.studies.advice.measure import Profile
from layerwise.studies.advice.strategies import copied_rate, frozen_cut, rates, ways
from layerwise.studies.planner import most_epochs
from layerwise.studies.profile import probe_transfer, profile
from layerwise.training.recipe import Recipe, make_optimizer
from layerwise.training.transfer import Transfer

NOISE = np.random.default_rng(0).normal(0, 0.01, 200)


def planted(*values, wobble=0.0):
    """Scores whose differences are sure, but for a wobble of their own in each."""
    generator = np.random.default_rng(1)
    return [Estimate(v, v + NOISE + wobble * generator.normal(0, 1, 200), (v,)) for v in values]


@pytest.mark.parametrize(
    ("values", "wobble", "similar", "deeper"),
    [
        ((0.6, 0.7, 0.85, 0.9, 0.95), 0.0, 3, 2),  # the last but one, below the best; half: 0.775
        ((0.6, 0.9, 0.95, 0.94, 0.9), 0.0, 2, 1),
        ((0.6, 0.94, 0.95, 0.94, 0.9), 0.02, 1, 1),  # within noise of the best; and half way
        ((0.9, 0.8, 0.7), 0.0, 0, 0),
        ((0.6, 0.9), 0.0, 0, 0),
        ((0.6,), 0.0, 0, 0),
    ],
)
def test_where_layers_are_frozen_in_part(values, wobble, similar, deeper):
    scores = planted(*values, wobble=wobble)
    assert frozen_cut(scores, similar=True) == similar
    assert frozen_cut(scores, similar=False) == deeper


def test_the_rate_grows_with_the_distance():
    assert [copied_rate(far) for far in (0.0, 0.5, 1.0, 1.5, 2.0, 9.0)] == [
        0.1,
        0.1,
        0.15,
        0.225,
        0.3,
        0.3,
    ]


def profiled(work):
    probes = tuple(profile(work))
    scores = tuple(planted(*np.linspace(0.6, 0.9, len(probes) - 1), 0.8))
    return Profile(probes, (None,) * len(probes), scores, len(probes) - 2, 0.0)


def test_the_three_strategies_are_transfers(workspace, seen):
    work = workspace("binary", model="timm:test_resnet", weights=seen)
    found = profiled(work)
    names = [probe.cut.name for probe in found.probes]
    far = {"value": 1.0, "low": 0.9, "high": 1.1}
    base = Recipe(lr=2e-3, batch=16)
    every, some, none = ways("w", found, Likeness(far, None), base, 3000)
    assert every.transfer == Transfer("w")
    assert some.transfer == Transfer("w", freeze=some.cut)
    assert none.transfer == probe_transfer(names[-2], "w") and none.cut == names[-2]
    for way in (every, some, none):
        assert way.recipe.epochs == most_epochs(3000) == 20
        assert (way.recipe.lr, way.recipe.batch, way.recipe.copied_lr) == (2e-3, 16, 0.3)


def test_rates_are_those_of_the_optimiser(workspace, seen):
    work = workspace("binary", model="timm:test_resnet", weights=seen)
    cuts = work.cuts()
    recipe = Recipe(lr=1e-3, copied_lr=0.2, layer_decay=0.5)
    for frozen in ("", cuts[0].name):
        network = work.network(Transfer(work.weights_name, freeze=frozen or "none"))
        peaks = {round(group["peak"], 12) for group in make_optimizer(recipe, network).param_groups}
        said = rates(recipe, cuts, frozen)
        assert next(iter(said)) == "classifier"
        assert peaks <= {round(rate, 12) for rate in said.values()}
        lowest = min(said.values())
        learns = cuts[0].parameters if not frozen else cuts[1].parameters - cuts[0].parameters
        assert not learns or min(peaks) == pytest.approx(lowest)

"""The quick test: what time pays for, and what the scores say of the advice."""

import numpy as np
import pytest

from layerwise.evaluation.estimates import Estimate, estimate, holm
from layerwise.evaluation.intervals import paired_difference
from layerwise.studies.advice.quick import (
    FAILED,
    FEWEST_EPOCHS,
    HELD,
    SHARES,
    UNTOLD,
    Compared,
    Cost,
    compare,
    plan_quick,
    planned,
    sampled,
    verdict,
)
from layerwise.studies.advice.strategies import Way
from layerwise.studies.planner import SAFETY, Speed
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

RECIPE = Recipe(epochs=50, batch=8, augment="flip", balance="none")
WAYS = [
    Way("all", Transfer("w"), RECIPE, ""),
    Way("some", Transfer("w", freeze="conv1"), RECIPE, "conv1"),
    Way("none", Transfer("w", freeze="all"), RECIPE, "conv2"),
]


def cost(step, bottom=0.0, evaluate=0.0, once=0.0):
    return Cost(Speed(step, bottom, evaluate), once, RECIPE.batch)


def test_what_a_run_costs():
    one = cost(0.8, bottom=0.01, evaluate=0.05, once=2.0)
    # Once; 30 pictures through the bottom; 3 epochs of 20 images and 10 scored ones; 10 at the end.
    assert one.seconds(20, 10, 3) == pytest.approx(2 + 30 * 0.01 + 3 * (20 * 0.1 + 0.5) + 0.5)
    for epochs in (0, 1, 7):
        paid = one.seconds(20, 10, epochs)
        assert one.epochs(20, 10, paid + 1e-9) == epochs
        assert one.epochs(20, 10, paid - 1e-3) == max(0, epochs - 1)


def test_the_time_is_shared_and_what_is_not_used_goes_on(workspace):
    work = workspace("binary")  # 48 training images, 24 for validation
    costs = {"all": cost(0.8), "some": cost(0.08), "none": cost(8e-4)}
    found = plan_quick(work, WAYS, costs, 100.0)
    assert found.images == 48 and not found.why_not
    epochs = {run.strategy: run.recipe.epochs for run in found.runs}
    budget = 100 * SAFETY
    per = {s: 48 * costs[s].speed.step / 8 for s in costs}
    assert epochs["none"] == 100  # as many as are ever of use
    assert epochs["some"] == int(budget * SHARES["some"] / per["some"])
    left = budget - epochs["none"] * per["none"] - epochs["some"] * per["some"]
    assert epochs["all"] == int(left / per["all"])
    assert [run.recipe.augment for run in found.runs] == ["none"] * 3
    assert sum(run.seconds for run in found.runs) <= budget + 0.2


def test_with_little_time_all_learn_from_the_same_fewer_images(workspace, monkeypatch):
    monkeypatch.setattr("layerwise.studies.advice.quick.FEWEST_IMAGES", 8)
    work = workspace("binary")
    costs = {"all": cost(0.8), "some": cost(0.08), "none": cost(8e-4)}
    found = plan_quick(work, WAYS, costs, 10.0)
    share = 10 * SAFETY * SHARES["all"]
    assert found.images * 0.1 * FEWEST_EPOCHS <= share < (found.images / 0.85) * 0.1 * FEWEST_EPOCHS
    assert found.scored == 24  # all: fewer than a hundred
    few = sampled(work, found)
    assert len(few.rows("val")) == 24 and len(few.rows("test")) == 0
    assert abs(len(few.rows("train")) - found.images) <= 2
    runs = planned(few, found)
    assert {run.recipe.batch for run in runs} == {4}
    assert all(run.parts == () for run in runs)


def test_without_enough_time_nothing_is_tested_and_the_time_is_named(workspace):
    costs = {"all": cost(80.0), "some": cost(0.08), "none": cost(8e-4)}
    found = plan_quick(workspace("binary"), WAYS, costs, 10.0)
    assert found.runs == ()
    # 48 images, twice, at 10 s an image; and a hundredth of that
    assert "over 48 images would need about 961 s, and 10 s were left; give more --time" in (
        found.why_not
    )


def test_differences_are_paired_and_corrected_for_two():
    generator = np.random.default_rng(0)
    targets = np.arange(120) % 2
    groups = np.array([f"p{i // 2}" for i in range(120)])
    said = {
        s: (targets + generator.normal(0, noise, 120))[:, None]
        for s, noise in (("all", 0.4), ("some", 0.7), ("none", 1.5))
    }
    said = {s: 1 / (1 + np.exp(-v)) for s, v in said.items()}
    scores = {s: estimate("auroc", "binary", targets, [v], groups, seed=5) for s, v in said.items()}
    found = compare(scores, "all", {"all": 1, "some": 1, "none": 1})
    assert [one.strategy for one in found] == ["some", "none"]
    for one in found:
        wanted = paired_difference(
            "auroc", "binary", targets, said["all"], said[one.strategy], groups, seed=5
        )
        assert one.difference == pytest.approx(wanted)
    assert [one.adjusted for one in found] == holm([one.p for one in found])
    assert found[1].verdict == "better" and verdict(found) == HELD
    assert compare({"some": scores["some"]}, "all", {}) == ()
    # The other way round, the frozen one is behind: it will not catch up, and that counts.
    (one,) = compare({s: scores[s] for s in ("all", "none")}, "none", {"all": 2, "none": 90})
    assert one.verdict == "worse"


@pytest.mark.parametrize(("advised", "side"), [("all", "worse"), ("none", "better")])
def test_who_learns_more_and_is_behind_must_have_had_its_passes(advised, side):
    generator = np.random.default_rng(0)
    targets = np.repeat([0, 1], 60)
    groups = np.arange(120).astype(str)
    far = {"all": 4.0, "none": 0.3}
    scores = {
        s: estimate(
            "auroc", "binary", targets, [(targets + generator.normal(0, n, 120))[:, None]], groups
        )
        for s, n in far.items()
    }
    for epochs, wanted in ((4, "too few passes"), (5, side)):
        found = compare(scores, advised, {"all": epochs, "none": 100})
        assert [one.verdict for one in found] == [wanted]
        assert (verdict(found) == UNTOLD) == (epochs == 4)


def against(*verdicts):
    values = {"better": (0.1, 0.01), "worse": (-0.1, 0.01), "within noise": (0.1, 0.2)}
    values |= {"too few passes": (-0.1, 0.01), "not known": (np.nan, np.nan)}
    return [
        Compared("none", {"value": v, "low": v, "high": v}, p, p, name == "too few passes")
        for name in verdicts
        for v, p in [values[name]]
    ]


@pytest.mark.parametrize(
    ("verdicts", "wanted"),
    [
        (("better", "better"), HELD),
        (("better", "within noise"), HELD),
        (("better", "worse"), FAILED),
        (("within noise", "worse"), FAILED),
        (("within noise", "within noise"), UNTOLD),
        (("too few passes", "within noise"), UNTOLD),
        (("too few passes", "worse"), FAILED),
        (("not known", "not known"), UNTOLD),
        ((), UNTOLD),
    ],
)
def test_the_verdict(verdicts, wanted):
    found = against(*verdicts)
    assert [one.verdict for one in found] == list(verdicts)
    assert verdict(found) == wanted


def test_a_score_that_is_not_defined_can_not_be_told():
    nothing = Estimate(float("nan"), np.full(10, np.nan), (float("nan"),))
    found = compare({"all": nothing, "none": nothing}, "all", {"all": 1, "none": 1})
    assert [one.verdict for one in found] == ["not known"]

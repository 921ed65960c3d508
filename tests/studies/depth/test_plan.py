"""How a time is shared out, worked out by hand; and the file."""

import json

import pytest

from layerwise.errors import LayerwiseError
from layerwise.studies.depth.costs import START, Costs, Measured, makespan, pace_of
from layerwise.studies.depth.plan import (
    DepthPlan,
    DepthSettings,
    Stage,
    StageRun,
    allot,
    read_depth_plan,
    write_depth_plan,
)
from layerwise.studies.plan import Plan, read_plan
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

# A step takes 1 ms a multiply–add; 10 steps an epoch and 100 images to score at 0.01 ms each.
COSTS = Costs((Measured("low", 0, 0.0, 0.0), Measured("all", 1000, 1.0, 0.01)), 10, 100, 1000, 500)


def test_costs_are_read_off_between_what_was_measured():
    assert COSTS.run(1000, 4) == pytest.approx(START + 4 * (10 * 1.0 + 100 * 0.01))
    assert COSTS.run(250, 4) == pytest.approx(START + 4 * (10 * 0.25 + 100 * 0.0025))
    once = 0.005 * (1000 + 2 * 500)  # every image and two views of half of them
    assert COSTS.frozen(1000, 500, 4, 2) == pytest.approx(START + once + 4 * (11 - 5.5))
    # Never more than not freezing.
    assert COSTS.frozen(1000, 900, 1, 9) == COSTS.run(1000, 1)


def test_runs_go_to_the_worker_that_is_free_first():
    assert makespan([5, 1, 1, 4], 2) == 6  # 5 + … | 1 + 1 + 4
    assert makespan([5, 1, 1, 4], 1) == 11
    assert makespan([], 3) == 0


def test_paces_are_quarters_and_never_below_one():
    assert [pace_of(100, t) for t in (50, 110, 113, 190, 300)] == [1, 1, 1.25, 2, 3]
    assert pace_of(0, 9) == 1


def at(seconds: float, **settings: object) -> tuple[int, int] | None:
    """Full 11 s an epoch; truncated ones 5.5, 2.75 and 8.25 s, and START each."""
    return allot(COSTS, 1000, [500, 250, 750], 0, seconds, DepthSettings(**settings), 20)


def test_epochs_and_cuts_are_what_the_time_holds():
    # All four networks: 27.5 s an epoch. Half of 287 s is 143.5 = 4 · 1.5 + 5 · 27.5.
    assert at(287.1) == (5, 3)
    # One second less: the third cut goes, two cuts of 5 epochs and more fit.
    assert at(285) == (7, 2)  # (142.5 − 4.5) / 19.25 = 7.2
    # No five epochs of two cuts in half the time: what fits with two.
    assert at(100) == (2, 2)  # (50 − 4.5) / 19.25 = 2.4
    # Only by giving it all: two epochs of two cuts need 43 s, of one 36 s.
    assert at(44) == (2, 2)
    assert at(37) == (2, 1)
    assert at(35) is None
    assert at(1e6) == (20, 3)  # more epochs are of no use


def test_epochs_asked_for_are_kept():
    assert at(287.1, epochs=5) == (5, 3)
    assert at(285, epochs=5) == (5, 2)
    assert at(90, epochs=5) == (5, 1)  # 3 + 5 · 16.5 = 85.5
    assert at(85, epochs=5) is None


def test_cuts_asked_for_are_all_trained():
    cuts = ("a", "b", "c")
    assert at(287.1, cuts=cuts) == (8, 3)  # 0.8 · 287.1 = 229.7 = 6 + 8.1 · 27.5
    assert at(61.5, cuts=cuts) == (2, 3)
    assert at(60, cuts=cuts) is None
    assert at(150, cuts=cuts, epochs=5) == (5, 3)


def run(name: str, seconds: float) -> StageRun:
    return StageRun("truncated", Transfer("w", keep=name, copy=name), Recipe(), 0, seconds, "why")


@pytest.fixture
def plan() -> DepthPlan:
    setup = Plan(
        data="d", data_key="k", model="lenet5", arguments={}, weights="w", weights_digest="x",
        image_size=32, letterbox=False, channels=1, augment="none", seed=0, threads=2,
        budget_seconds=100.0, fingerprint={"n": 1}, request={"data": "d"},
    )  # fmt: skip
    return DepthPlan(setup, DepthSettings(workers=2), 100.0, COSTS, Recipe(), 2)


def test_a_stage_holds_what_fits_after_those_before_it(plan):
    plan = plan.with_stage(Stage("coarse", (run("a", 30), run("b", 20), run("c", 10))))
    assert plan.spent() == 30  # 30 | 20 + 10
    wanted = [run("d", 55), run("e", 40), run("f", 45)]
    taken, rest = plan.fitting(wanted, 0.8, 1.0)  # 50 s are left
    assert [r.transfer.keep for r in taken] == ["e", "f"]  # side by side
    assert [r.transfer.keep for r in rest] == ["d"]
    # Twice as slow: 80 / 2 − 30 = 10 s of planned time are left.
    assert plan.fitting(wanted, 0.8, 2.0)[0] == []
    assert plan.fitting([run("g", 10), *wanted], 0.8, 2.0)[0] == [run("g", 10)]
    assert plan.fitting(wanted, 0.8, 1.0, whole=True) == ([], wanted)


def test_the_file_holds_all_of_it(plan, tmp_path):
    path = tmp_path / "plan.json"
    plan = plan.with_stage(Stage("coarse", (run("a", 30),), (), 1.25))
    write_depth_plan(plan, path)
    assert read_depth_plan(path) == plan
    assert read_plan(path) == plan.setup  # what `export` needs of it


def test_other_plans_and_keys_are_refused(plan, tmp_path):
    path = tmp_path / "plan.json"
    write_depth_plan(plan, path)
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"cutz": 1}))
    with pytest.raises(LayerwiseError, match="unknown setting 'cutz'"):
        read_depth_plan(path)
    path.write_text(json.dumps(found["setup"]))
    with pytest.raises(LayerwiseError, match="plan of `layerwise fit`.*--out"):
        read_depth_plan(path)
    path.write_text(json.dumps({"study": "gain"}))
    with pytest.raises(LayerwiseError, match="plan of `layerwise study gain`"):
        read_depth_plan(path)

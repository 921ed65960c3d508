"""What a transferability study plans: the table of the paper, shared controls, seeds, failures."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from layerwise.errors import LayerwiseError, ModelError, TrainingError
from layerwise.studies.board import Board
from layerwise.studies.engine import Done, Engine
from layerwise.studies.study import Outcome, Run
from layerwise.studies.transferability.experiment import (
    LAYERED,
    TREATMENTS,
    Place,
    Scope,
    cuts_of,
    plan_bases,
    plan_others,
    run_study,
    treatments_of,
    with_fewer_images,
)
from layerwise.studies.transferability.pairs import Side, make_tasks
from layerwise.training.network import build
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

CUTS = ("conv1", "conv3", "fc2")
RECIPE = Recipe(epochs=2, batch=16, copied_lr=0.3, layer_decay=0.9)


def scope(**changes: object) -> Scope:
    settings = {
        "treatments": TREATMENTS[:-1],
        "cuts": CUTS,
        "numbers": (1, 3, 5),
        "recipe": RECIPE,
        "seed": 0,
        "repeats": 1,
        "both": True,
    }
    return Scope(**settings | changes)  # type: ignore[arg-type]


def a_base(key: str, repeat: int) -> Run:
    return Run("base", "trained", {"space": key, "repeat": repeat})


def everything(tasks, what, smaller=None):  # type: ignore[no-untyped-def]
    return [*plan_bases(tasks, what), *plan_others(tasks, what, a_base, smaller)]


def test_the_transfers_are_those_of_the_paper(six_classes):
    tasks = make_tasks(six_classes(), splits=1)
    a, b = "random 1 A", "random 1 B"
    planned = {
        (p.treatment, p.cut, p.source, p.target): one for p, one in everything(tasks, scope())
    }
    wanted: dict[tuple[object, ...], tuple[Transfer, Run | None]] = {}
    for own, other in ((a, b), (b, a)):  # (target, source)
        nothing = Transfer("none", keep="all", copy="none", freeze="none")
        wanted["base", None, None, own] = (nothing, None)
        wanted["base, twice as long", None, None, own] = (nothing, None)
        for n in CUTS:
            mine, theirs = a_base(own, 0), a_base(other, 0)
            for name, source, run, freeze in (
                ("BnB", own, mine, n),
                ("BnB+", own, mine, "none"),
                ("AnB", other, theirs, n),
                ("AnB+", other, theirs, "none"),
            ):
                copied = Transfer(f"run {run.id}", "all", n, freeze, classifier="own")
                wanted[name, n, source, own] = (copied, run)
            filters = Transfer("untrained", "all", n, n, classifier="own")
            wanted["random filters", n, None, own] = (filters, None)
    assert {key: (one.transfer, one.source) for key, one in planned.items()} == wanted
    for (treatment, _, _, target), one in planned.items():
        assert one.task == target
        assert (one.recipe.copied_lr, one.recipe.layer_decay) == (1, 1)  # one rate for all layers
        assert one.recipe.epochs == (4 if treatment == "base, twice as long" else 2)
        assert one.parts == (("test", "train") if treatment == "base" else ("test",))


def test_a_foreign_networks_classifiers_all_start_near_zero(six_classes):
    tasks = make_tasks(six_classes(), splits=1)
    for place, one in everything(tasks, scope(foreign=True)):
        layered = place.treatment in LAYERED
        assert one.transfer.classifier == ("auto" if layered else "small")  # auto: copied, so small


def test_what_starts_anew_does_not_start_where_the_base_did(six_classes):
    """Above the cut the weights of BnB are not those that its base began with."""
    tasks = make_tasks(six_classes(), splits=1)
    plan = {p: one for p, one in everything(tasks, scope(repeats=3))}
    own = tasks.pairs[0].b.space
    for repeat in range(3):
        base = plan[Place("base", own, repeat=repeat)]
        selffer = plan[Place("BnB", own, own, "conv3", repeat)]
        assert plan[Place("base, twice as long", own, repeat=repeat)].seed == base.seed == repeat
        work = tasks.spaces[own]
        starts = [
            build(
                replace(one.transfer, source="given" if one.source else "none"),
                model=work.model,
                outputs=work.outputs,
                seed=one.seed,
                image_size=32,
                source_weights=work.blank().module.state_dict(),
            ).weights()
            for one in (base, selffer)
        ]
        for layer in ("fc1", "fc2", "fc3"):
            a, b = (start[f"{layer}.weight"].numpy() for start in starts)
            assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.2
            assert a.std() == pytest.approx(b.std(), rel=0.1)  # and they start alike
    seeds = Counter((p.treatment == "base", one.seed) for p, one in plan.items())
    assert not {s for base, s in seeds if base} & {s for base, s in seeds if not base} - {0, 1, 2}


def test_nothing_is_planned_twice(six_classes):
    tasks = make_tasks(six_classes(), splits=3)
    plan = everything(tasks, scope(repeats=2))
    places = [place for place, _ in plan]
    assert len(set(places)) == len(places)
    # of each of 6 tasks and 2 seeds: a base, a longer one, and 5 treatments at 3 cuts
    assert len(places) == 6 * 2 * (2 + 5 * 3)
    one_way = everything(tasks, scope(both=False))
    assert len(one_way) == 3 * (2 + 1 + 5 * 3)  # the base of A is there to be copied


def test_only_what_is_asked_for_is_planned(six_classes):
    tasks = make_tasks(six_classes(), splits=1)
    few = scope(treatments=("base", "BnB"), cuts=("fc2",), both=False)
    b = tasks.pairs[0].b.space
    assert [(p.treatment, p.cut, p.target) for p, _ in everything(tasks, few)] == [
        ("base", None, b),
        ("BnB", "fc2", b),
    ]


def test_given_weights_are_copied_from_the_workspace(six_classes):
    work = six_classes()
    work.weights, work.weights_name = work.blank().module.state_dict(), "w.pth"
    work.weights_digest = "0" * 64
    tasks = make_tasks(work, splits=0)
    plan = everything(tasks, scope())
    (b,) = {one.task for p, one in plan if p.treatment == "base"}
    for place, one in plan:
        if place.treatment in ("AnB", "AnB+"):
            assert tasks.spaces[one.task].weights is work.weights
            assert (one.source, one.transfer.source) == (None, "w.pth")
        else:
            assert one.task == b
    assert len(plan) == 2 + 5 * 3


def test_fewer_images_get_as_many_steps(six_classes):
    tasks = make_tasks(six_classes(), splits=1)  # 36 training images a task, 12 a class
    what = scope(treatments=TREATMENTS, recipe=replace(RECIPE, epochs=5, batch=4))
    more, smaller = with_fewer_images(tasks, what)
    assert {f: len(more.spaces[key].rows("train")) for f, key in smaller.items()} == {
        1 / 2: 18,
        1 / 4: 9,
    }  # a tenth would be one image a class
    plan = [(p, one) for p, one in everything(more, what, smaller) if p.treatment == "overfitting"]
    # 5 epochs of 36 // 4 = 9 steps; 18 // 4 = 4 and 9 // 4 = 2 steps an epoch
    assert {p.fraction: one.recipe.epochs for p, one in plan} == {1 / 2: 11, 1 / 4: 22}
    assert {one.task for _, one in plan} == set(smaller.values())
    assert all(p.target == tasks.pairs[0].b.space for p, _ in plan)
    assert with_fewer_images(tasks, scope()) == (tasks, {})


def test_treatments_and_cuts_are_checked_with_the_nearest(six_classes):
    assert treatments_of(()) == TREATMENTS
    assert treatments_of(["AnB+", "AnB"]) == ("base", "AnB", "AnB+")
    with pytest.raises(LayerwiseError, match=r"--treatments 'random filter'.*'random filters'"):
        treatments_of(["random filter"])
    work = six_classes()
    assert cuts_of(work, ["fc1", "conv2"]) == (("conv2", "fc1"), (2, 4))
    assert cuts_of(work, ()) == (("conv1", "conv2", "conv3", "fc1", "fc2"), (1, 2, 3, 4, 5))
    with pytest.raises(ModelError, match="--cuts conv9: lenet5 has no such layer.*conv1"):
        cuts_of(work, ["conv9"])


class Pretending(Engine):
    """An engine that trains nothing; runs of some tasks fail."""

    def __init__(self, spaces, failing):  # type: ignore[no-untyped-def]
        super().__init__(spaces, workers=1, board=Board())
        self.failing, self.asked = failing, []

    def run_of(self, planned):  # type: ignore[no-untyped-def]
        return a_base(planned.task, planned.seed)

    def run(self, planned):  # type: ignore[no-untyped-def]
        self.asked += planned
        out = []
        for one in planned:
            run = Run(one.transfer.name, "trained", {"task": one.task, "seed": one.seed})
            run = self.run_of(one) if one.treatment == "base" else run
            failed = one.task in self.failing
            outcome = None if failed else Outcome(run, 1.0, 1, None)  # type: ignore[arg-type]
            out.append(Done(one, run, outcome, "it diverged" if failed else ""))
        return out


def test_what_stands_on_a_failed_base_fails_with_it(six_classes):
    tasks = make_tasks(six_classes(), splits=1)
    a, b = (side.space for side in (tasks.pairs[0].a, tasks.pairs[0].b))
    engine, board = Pretending(tasks.spaces, {a}), Board()
    done = run_study(engine, tasks, scope(treatments=("base", "BnB", "AnB")), {}, board)
    assert board.totals().left == len(done) == 2 + 4 * 3
    for place, one in done.items():
        assert (one.outcome is None) == (place.target == a or place.source == a)
    assert "it diverged" in done[Place("AnB", b, a, "conv1")].failure
    stood_on_it = {one.source.settings["space"] for one in engine.asked if one.source is not None}
    assert stood_on_it == {b}
    with pytest.raises(TrainingError, match="no base network could be trained: it diverged"):
        run_study(Pretending(tasks.spaces, {a, b}), tasks, scope(), {}, Board())


def test_runs_have_names_that_tell_them_apart(six_classes):
    tasks = make_tasks(six_classes(), splits=1)
    places = [place for place, _ in everything(tasks, scope(repeats=2))]
    names = [place.name for place in places]
    assert len(set(names)) == len(names)
    assert Place("AnB", "b", "a", "conv1", 1).name == "AnB to conv1, a → b, repeat 2"
    assert Place("overfitting", "b", fraction=0.5).name == "overfitting, b, 0.5 of the images"


def test_directions_of_a_scope_are_those_of_all_pairs(six_classes):
    tasks = make_tasks(six_classes(), splits=2)
    found = scope().directions(tasks)
    assert len(found) == 4
    assert all(isinstance(side, Side) for direction in found for side in direction)

"""The list of runs of a gain study, its networks and its plan, against what is written out here."""

from dataclasses import replace

import pytest
from safetensors.torch import save_file

from layerwise.config import read_json, write_json
from layerwise.data.fingerprint import data_key
from layerwise.errors import LayerwiseError, ModelError, WeightsError
from layerwise.models.registry import create
from layerwise.studies.board import Board
from layerwise.studies.engine import Engine
from layerwise.studies.gain.experiment import (
    RI,
    SOURCE,
    TL,
    Design,
    check_fractions,
    expected,
    longer,
    planned_runs,
    relative_costs,
    source_runs,
    spaces_of,
    steps_an_epoch,
    unfinished,
)
from layerwise.studies.gain.fractions import training_parts
from layerwise.studies.gain.networks import (
    Candidate,
    Started,
    candidates,
    common_size,
    source_name,
    starts,
)
from layerwise.studies.gain.plan import GainPlan, keep_plan
from layerwise.studies.prepare import Request, prepare
from layerwise.studies.study import Run
from layerwise.training.activations import state_digest
from layerwise.training.recipe import Recipe

FRACTIONS = (0.25, 1.0)


@pytest.fixture
def weights(tmp_path):
    """LeNet-5's weights of another seed, for three labels."""
    path = tmp_path / "lenet.safetensors"
    save_file(create("lenet5", outputs=3, seed=9, image_size=32).module.state_dict(), path)
    return path


@pytest.fixture
def planned(workspace, weights):
    """(source) → the design, the workspaces and the parts of two networks with two repeats."""

    def make(source=False):
        work = workspace("binary")
        names = ("lenet5", "cbr-tiny")
        given = None if source else str(weights)
        networks = tuple(Candidate(n, n, {}, given) for n in names)
        lenet = starts(networks[:1], 32)[0]
        found = [lenet, lenet if source else Started(None, "run x")]
        parts = training_parts(work.manifest, FRACTIONS, 2, contents=work.store.digests, seed=0)
        keys = {place: data_key(m, work.store) for place, m in parts.items()}
        recipes = {f: Recipe(epochs=2, batch=4, lr=f) for f in FRACTIONS}
        design = Design(networks, FRACTIONS, 2, recipes, Recipe(epochs=1) if source else None)
        other = workspace("multiclass") if source else None
        return design, spaces_of(work, other, parts, keys, networks, found), parts

    return make


def test_every_network_fraction_repeat_and_treatment_is_there_once(planned):
    design, spaces, _ = planned()
    runs = planned_runs(design, spaces, seed=5)
    wanted = {
        (n, f, r, t)
        for n in ("lenet5", "cbr-tiny")
        for f in FRACTIONS
        for r in (0, 1)
        for t in (RI, TL)
    }
    found = {
        (spaces[p.task].model, p.recipe.lr, p.seed - 5, p.treatment.partition(",")[0]) for p in runs
    }
    assert found == wanted and len(runs) == len(wanted)
    assert {p.treatment for p in runs} == set(expected(design))
    assert sum(expected(design).values()) == len(runs)


def test_treatments_differ_in_their_start_alone(planned):
    design, spaces, _ = planned()
    runs = [p for p in planned_runs(design, spaces, seed=0) if "lenet5" in p.task]
    for random, copied in zip(runs[::2], runs[1::2], strict=True):
        assert (random.recipe, random.seed, random.parts) == (copied.recipe, copied.seed, ("test",))
        one, other = spaces[random.task], spaces[copied.task]
        assert one.manifest is other.manifest and one.data_key == other.data_key
        assert random.transfer.to_dict() == {
            "source": "none",
            "keep": "all",
            "copy": "none",
            "freeze": "none",
        }
        assert copied.transfer.to_dict() == {
            "source": "lenet.safetensors",
            "keep": "all",
            "copy": "all",
            "freeze": "none",
        }
        assert one.weights is None and one.weights_digest == "none"


def test_random_initialisation_is_one_run_whatever_it_is_compared_with(planned):
    """A second set of weights brings TL runs, and the RI runs of the first are found again."""
    design, spaces, parts = planned()
    engine = Engine(spaces, workers=1, board=Board())
    before = {p.treatment[:2]: engine.run_of(p).id for p in planned_runs(design, spaces, 0)[:2]}
    changed = {
        k: replace(s, weights_digest="x") if k.endswith("TL") else s for k, s in spaces.items()
    }
    engine = Engine(changed, workers=1, board=Board())
    after = {p.treatment[:2]: engine.run_of(p).id for p in planned_runs(design, changed, 0)[:2]}
    assert before[RI] == after[RI] and before[TL] != after[TL]


def test_smaller_fractions_and_other_repeats_are_other_data(planned):
    _, spaces, parts = planned()
    keys = {
        place: {s.data_key for k, s in spaces.items() if f"{place[0]!r} | {place[1]}" in k}
        for place in parts
    }
    assert all(len(found) == 1 for found in keys.values())
    assert keys[0.25, 0] != keys[0.25, 1] and keys[1.0, 0] == keys[1.0, 1]


def test_on_source_data_every_network_is_trained_first(planned):
    design, spaces, _ = planned(source=True)
    first = source_runs(design, seed=3)
    assert [(p.treatment, p.seed, p.parts, p.transfer.copy) for p in first] == [
        (SOURCE, 3, (), "none")
    ] * 2
    assert [spaces[p.task].manifest.task for p in first] == ["multiclass"] * 2
    engine = Engine(spaces, workers=1, board=Board())
    assert len(unfinished(engine, design, spaces, 3)) == 2 + 16
    run = Run("", "trained", {"any": 1})
    runs = planned_runs(design, spaces, 3, {"lenet5": run, "cbr-tiny": run})
    for one in runs:
        assert one.source == (run if one.treatment.startswith(TL) else None)


def test_steps_and_epochs(planned):
    _, _, parts = planned()  # 48 training images, 12 of them at a quarter
    recipe = Recipe(epochs=3, batch=4, balance="none")
    assert [steps_an_epoch(recipe, parts, f) for f in FRACTIONS] == [3, 12]
    assert longer(recipe, parts, 0.25, 0, 0) == recipe
    assert longer(recipe, parts, 0.25, 10, 0).epochs == 4  # 12 steps; 9 in three epochs
    assert longer(recipe, parts, 1.0, 10, 0) == recipe
    assert steps_an_epoch(replace(recipe, batch=64), parts, 0.25) == 1


def test_relative_costs_count_pictures(planned):
    design, _, parts = planned()
    costs = relative_costs(design, parts)
    assert costs["RI, 25% of the images"] == 2 * (12 + 24 / 3)
    assert costs["TL, 100% of the images"] == 2 * (48 + 24 / 3)


@pytest.mark.parametrize("bad", [(0.0, 1.0), (1.5,), ()])
def test_bad_fractions_are_refused(bad):
    with pytest.raises(LayerwiseError, match="--fractions"):
        check_fractions(bad)


def test_fractions_are_sorted_and_each_once():
    assert check_fractions((1.0, 0.1, 1.0, 0.05)) == (0.05, 0.1, 1.0)


def test_networks_get_their_weights_in_order():
    found = candidates(["a:x", "b:y"], ["one.pth", "two.pth"], ["k=1", "b:y:j=2"], None)
    assert [(c.name, c.weights, dict(c.arguments)) for c in found] == [
        ("x", "one.pth", {"k": "1"}),
        ("y", "two.pth", {"k": "1", "j": "2"}),
    ]
    assert [c.weights for c in candidates(["a", "b"], ["one"], [], None)] == ["one", "one"]
    assert [c.weights for c in candidates(["a", "b"], [], [], None)] == ["pretrained"] * 2
    assert [c.weights for c in candidates(["a", "b"], [], [], "DATA2")] == [None, None]
    twice = candidates(["a", "a"], ["one.pth", "pretrained"], [], None)
    assert [c.name for c in twice] == ["a, one", "a, pretrained"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((["a", "b", "c"], ["x", "y"], [], None), "2 --weights for 3 --model"),
        ((["a"], ["none"], [], None), "--weights none.*--source DATA2"),
        ((["a"], ["x"], [], "DATA2"), "--source DATA2 and --weights x.*leave one out"),
        ((["a", "a"], [], [], None), "--model a is named twice"),
        ((["a"], [], ["pad"], None), "--model-arg 'pad'.*a:pad_type=same"),
        ((["a"], [], ["b:k=1"], None), r"--model-arg 'b:k=1'.*\(networks are a\)"),
        (([], [], [], None), "--model"),
    ],
)
def test_flags_that_do_not_fit_are_refused(arguments, words):
    with pytest.raises(LayerwiseError, match=words):
        candidates(*arguments)


def test_a_network_without_published_weights_says_where_some_come_from():
    with pytest.raises(WeightsError) as error:
        starts([Candidate("cbr-tiny", "cbr-tiny", {}, "pretrained")], 32)
    for words in ("--model cbr-tiny", "layerwise fit DATA2 --model cbr-tiny", "--source DATA2"):
        assert words in str(error.value)


def test_absent_weights_name_the_network(tmp_path):
    with pytest.raises(WeightsError, match=r"--model lenet5: --weights .*gone.pth: no such file"):
        starts([Candidate("lenet5", "lenet5", {}, str(tmp_path / "gone.pth"))], 32)


def test_the_size_is_the_largest_that_all_take():
    lenet, cbr = (Candidate(n, n, {}, "pretrained") for n in ("lenet5", "cbr-tiny"))
    small = Candidate("small", "caffenet-32", {}, "pretrained")
    own = {n: create(n, outputs=1).contract.height for n in ("lenet5", "caffenet-32", "cbr-tiny")}
    assert own["caffenet-32"] < own["cbr-tiny"]
    assert common_size([small], None) == own["caffenet-32"]
    assert common_size([small, cbr], None) == own["cbr-tiny"]
    assert common_size([lenet, cbr], 40) == 40
    with pytest.raises(ModelError):
        common_size([Candidate("alexnet", "alexnet", {}, "pretrained")], 8)


@pytest.mark.parametrize("kind", ["file", "run"])
def test_sources_are_called_as_in_other_studies(data_file, tmp_path, weights, kind):
    """Else equal runs of two studies would have two keys."""
    where = weights
    if kind == "run":
        where = tmp_path / "runs" / "0123456789abcdef"
        where.mkdir(parents=True)
        weights.rename(where / "weights.safetensors")
    request = Request(
        str(data_file("multiclass")),
        tmp_path / "o",
        tmp_path / "c",
        model="lenet5",
        weights=str(where),
        image_size=32,
        threads=1,
    )
    work = prepare(request, lambda _: None, lambda _: lambda _a, _b: None, lambda *_: 32).work
    (start,) = starts([Candidate("lenet5", "lenet5", {}, str(where))], 32, 3)
    assert start.name == work.weights_name == source_name("lenet5", str(where))
    assert start.weights is not None
    assert state_digest(start.weights) == work.weights_digest


def plan(**changes):
    values = {
        "request": {"data": "x", "fractions": [0.1, 1.0]},
        "image_size": 32,
        "threads": 1,
        "data_key": "k",
        "weights": {"lenet5": "w"},
        "recipes": {"10%": {"lr": 0.1}},
    }
    return GainPlan(**values | changes)


def test_a_plan_is_kept_and_repeated(tmp_path):
    path = tmp_path / "plan.json"
    keep_plan(plan(), path)
    before = path.read_bytes()
    keep_plan(plan(threads=2), path)
    assert path.read_bytes() == before and read_json(path)["study"] == "gain"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"request": {"data": "x", "fractions": [1.0]}}, r"fractions = \[0.1, 1.0\].*\[1.0\]"),
        ({"recipes": {"10%": {"lr": 0.2}}}, "lr = 0.1.*0.2"),
        ({"data_key": "other"}, "made for other images, labels or split"),
        ({"weights": {"lenet5": "v"}}, "other weights of lenet5"),
    ],
)
def test_another_plan_is_refused(tmp_path, changes, words):
    keep_plan(plan(), tmp_path / "plan.json")
    with pytest.raises(LayerwiseError, match=words) as error:
        keep_plan(plan(**changes), tmp_path / "plan.json")
    assert "--out" in str(error.value)


@pytest.mark.parametrize(
    ("found", "words"), [({"study": "depth"}, "study depth"), ({}, "another command")]
)
def test_the_plan_of_another_command_is_refused(tmp_path, found, words):
    write_json(tmp_path / "plan.json", found)
    with pytest.raises(LayerwiseError, match=f"{words}.*--out"):
        keep_plan(plan(), tmp_path / "plan.json")

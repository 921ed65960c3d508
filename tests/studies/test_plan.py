"""The plan: read back as written, misspelt keys refused, an edited one obeyed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from layerwise.data.load import load
from layerwise.errors import LayerwiseError, TrainingError
from layerwise.models.registry import create
from layerwise.studies import planner
from layerwise.studies.automatic import run_automatic
from layerwise.studies.plan import Plan, PlannedRun, read_plan, refuse_other_request, write_plan
from layerwise.studies.prepare import Request
from layerwise.studies.profile import profile
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

RUNS = (
    PlannedRun(Transfer(keep="conv2"), Recipe(epochs=2, batch=12), "short", 1.5),
    PlannedRun(Transfer(), Recipe(optimizer="sgd", lr=0.05), "long", 9.0, "no time"),
)
PLAN = Plan(
    data="binary",
    data_key="k",
    model="lenet5",
    arguments={"a": "1"},
    weights="none",
    weights_digest="none",
    image_size=32,
    letterbox=False,
    channels=1,
    augment="none",
    seed=0,
    threads=1,
    budget_seconds=20.0,
    fingerprint={"images": 96},
    request={"data": "x", "seed": 0},
    cuts=("conv1", "conv2"),
    reasons=("because",),
    training=RUNS,
    complete=True,
)


def test_a_plan_is_read_as_it_was_written(tmp_path):
    write_plan(PLAN, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == PLAN
    assert [run.name for run in PLAN.training] == [run.transfer.name for run in RUNS]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda plan: plan.update(modle="lenet5"), "modle"),
        (lambda plan: plan.update(metric="brier"), "metric is 'brier'; it must be one of auroc"),
        (lambda plan: plan["training"][0].update(seconds_="1"), "seconds_"),
        (lambda plan: plan["training"][0]["recipe"].update(learning_rate=1), "learning_rate"),
        (lambda plan: plan["training"][1]["transfer"].update(freezee="all"), "freezee"),
        (lambda plan: plan["training"][0]["recipe"].update(optimizer="adam"), "adamw, sgd"),
        (lambda plan: plan["training"][0]["recipe"].update(epochs="3"), "epochs"),
        (lambda plan: plan["training"][0]["recipe"].update(epochs=0), "epochs"),
        (lambda plan: plan.update(image_size=32.5), "image_size"),
        (lambda plan: plan.pop("model"), "model"),
        (lambda plan: plan.update(balance="both"), "balance is 'both'; it must be one of none, we"),
        (
            lambda plan: plan["training"][0]["recipe"].update(class_weights="balanced"),
            "class_weights and balance; two ways .* count twice. Leave class_weights out",
        ),
        (
            lambda plan: (
                plan["training"][0]["recipe"].pop("balance"),
                plan["training"][0]["recipe"].update(class_weights="balanced"),
            ),
            'class_weights is now one of .* write "balance": "weights"',
        ),
        (
            lambda plan: plan["training"][0]["recipe"].update(balance="augment"),
            "copies would be equal pictures",
        ),
    ],
)
def test_what_can_not_be_is_refused_by_name(tmp_path, edit, words):
    path = tmp_path / "plan.json"
    write_plan(PLAN, path)
    plan = json.loads(path.read_text())
    edit(plan)
    path.write_text(json.dumps(plan))
    with pytest.raises(LayerwiseError, match=words):
        read_plan(path)


def test_a_damaged_or_absent_plan_is_named(tmp_path):
    with pytest.raises(LayerwiseError, match="plan.json: no such file"):
        read_plan(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text('{"data": ')
    with pytest.raises(LayerwiseError, match=r"plan\.json: not readable"):
        read_plan(tmp_path / "plan.json")


def test_leaving_out_keeps_the_rest():
    after = PLAN.leave_out(0, "too slow")
    assert after.training[0] == replace(RUNS[0], left_out="too slow")
    assert after.training[1] == RUNS[1]
    assert replace(after, training=RUNS) == PLAN


def test_another_request_is_refused(tmp_path):
    refuse_other_request(PLAN, dict(PLAN.request), tmp_path)
    with pytest.raises(LayerwiseError, match=r"seed = 0, and this one has 1.*--out"):
        refuse_other_request(PLAN, PLAN.request | {"seed": 1}, tmp_path)
    with pytest.raises(LayerwiseError, match="letterbox = None"):
        refuse_other_request(PLAN, PLAN.request | {"letterbox": True}, tmp_path)


def test_longer_epochs_are_planned_as_such(workspace, monkeypatch):
    """With copies an epoch has more steps, so fewer of them fit; the arithmetic written out."""
    work = workspace()
    targets = work.manifest.targets.copy()
    train = work.rows("train")  # 48
    targets[train] = np.arange(48) % 4 == 0  # 36 and 12
    work = replace(work, manifest=work.manifest.replace(targets=targets))
    speed = planner.Speed(step=2.0, bottom=0.5, evaluate=0.25)
    monkeypatch.setattr(planner, "measure_speed", lambda *_: speed)
    fixed = planner.CHECK_STEPS * 2.0 + 96 * 0.5
    for balance, steps, augmented in (
        ("weights", 12, 48),
        ("sampling", 12, 48),
        ("augment", 18, 12),
    ):
        base = planner.base_recipe(work, "radiograph", balance)
        assert base.batch == 4
        run = planner._Allotment(work, base, 1000.0).fit(Transfer(freeze="conv2"), 1000.0, "why")
        views = min(8, int((300 - 48) / (augmented * 0.5)))
        epochs = int((1000 - fixed - views * augmented * 0.5) / (steps * 2.0 + 24 * 0.25))
        assert (run.recipe.views, run.recipe.epochs, run.recipe.balance) == (views, epochs, balance)
        seconds = fixed + views * augmented * 0.5 + epochs * (steps * 2.0 + 24 * 0.25)
        assert run.seconds == pytest.approx(seconds, abs=0.1)
        whose = "image of the smaller classes" if balance == "augment" else "training image"
        assert f"{views} augmented views of every {whose} are kept" in run.reason
        request = Request(data="", out=Path(), cache=Path(), balance=balance)
        assert planner._images_an_epoch(request, work.manifest) == 4 * steps
        unsplit = work.manifest.replace(split=np.full(96, "", dtype=object))
        size = 0.7 * (96 if balance != "augment" else 2 * (targets == 0).sum())
        assert planner._images_an_epoch(request, unsplit) == round(size)


def test_all_views_that_there_are_are_kept_whatever_they_cost(workspace, monkeypatch):
    work = workspace()
    speed = planner.Speed(step=2.0, bottom=0.5, evaluate=0.25)
    monkeypatch.setattr(planner, "measure_speed", lambda *_: speed)
    for vertical, seconds in ((False, 1000.0), (True, 1000.0), (True, 400.0)):
        base = planner.base_recipe(work, "flip", "weights", vertical)
        run = planner._Allotment(work, base, seconds).fit(Transfer(freeze="conv2"), seconds, "why")
        views = 4 if vertical else 2  # of the 48 to be trained on, the plain one among the 96
        fixed = planner.CHECK_STEPS * 2.0 + 96 * 0.5 + (views - 1) * 48 * 0.5
        epochs = int((seconds - fixed) / (12 * 2.0 + 24 * 0.25))
        assert run.recipe.epochs == epochs
        assert run.seconds == pytest.approx(fixed + epochs * 30, abs=0.1)
        assert f"all {views} views of every training image are kept" in run.reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"balance": "sampling"}, "several labels.*--balance weights"),
        ({"balance": "augment", "augment": "radiograph"}, "several labels"),
        ({"balance": "augment", "augment": "none"}, "equal pictures"),
        ({"balance": "augment", "task": "binary"}, "equal pictures.*--augment radiograph"),
        ({"vertical_flip": True, "augment": "none"}, "leave --vertical-flip out"),
        ({"vertical_flip": True, "task": "binary"}, "leave --vertical-flip out"),  # auto: too small
    ],
)
def test_balancing_that_can_not_be_is_refused_before_anything_is_trained(workspace, changes, words):
    with pytest.raises(LayerwiseError, match=words):
        workspace(**{"task": "multilabel", **changes})


def test_with_keep_no_run_keeps_more(workspace, tmp_path, monkeypatch):
    """Every transfer that is planned, with plenty of time and with little; weights or none."""
    work = workspace(keep="conv3")
    assert [cut.name for cut in work.cuts()] == ["conv1", "conv2", "conv3"]
    speed = planner.Speed(step=0.01, bottom=0.001, evaluate=0.001)
    measured = []
    monkeypatch.setattr(
        planner, "measure_speed", lambda _w, transfer, _r: (measured.append(transfer), speed)[1]
    )
    probes = profile(work)
    base = planner.base_recipe(work, "none")
    runs, _ = planner.plan_training(work, probes, base, 1000.0)
    assert [run.transfer for run in runs] == [Transfer(keep="conv3", copy="none")]

    weights = work.network(Transfer(copy="none")).weights()
    work = replace(work, weights=weights, weights_name="w")
    for keep in ("conv3", "conv1"):  # below the lowest cut there is nothing to freeze but all
        work = replace(work, keep=keep, _cuts=[])
        probes = profile(work)
        runs, _ = planner.plan_training(work, probes, base, 1000.0)
        kinds = [(run.transfer.copy, run.transfer.freeze) for run in runs]
        assert ("none", "none") in kinds and (keep, "none") in kinds
        assert any(freeze != "none" for _, freeze in kinds)
        assert all(not run.left_out for run in runs)
        order = ["conv1", "conv2", "conv3"]
        for run in runs:
            assert order.index(run.transfer.keep) <= order.index(keep)
            work.network(run.transfer)  # and it can be made
    assert {transfer.keep for transfer in measured} <= {"conv1", "conv2", "conv3"}


def test_a_shorter_network_may_see_larger_pictures(tmp_path, monkeypatch):
    """What is timed to choose the size ends at the cut."""
    request = Request(data="digits", out=tmp_path, cache=tmp_path, model="timm:test_resnet")
    network = create("timm:test_resnet", outputs=10, seed=0)
    timed = []

    def seconds(module, _contract, _side, _device):
        timed.append({name for name, _ in module.named_parameters()})
        return 0.0

    monkeypatch.setattr(planner, "_image_seconds", seconds)
    for keep in ("all", "layer2"):
        wanted = replace(request, keep=keep)
        planner.image_size_for(wanted, network, load("digits"), torch.device("cpu"))
    whole, kept = timed
    assert whole == set(dict(network.module.named_parameters()))
    assert kept == {n for n in whole if n.startswith(("conv1", "bn1", "layer1", "layer2"))}


def quiet(_title: str):
    return lambda _done, _all: None


def test_an_edited_plan_is_obeyed_and_nothing_is_done_twice(data_file, tmp_path, monkeypatch):
    from layerwise.studies import automatic

    monkeypatch.setattr(planner, "most_epochs", lambda _images: 6)
    request = Request(
        data=str(data_file("binary")),
        out=tmp_path / "first",
        cache=tmp_path / "cache",
        model="lenet5",
        weights="none",
        image_size=32,
        seconds=4.0,
        threads=1,
    )
    first = run_automatic(request, print, quiet)
    path = tmp_path / "first" / "plan.json"
    plan = read_plan(path)
    assert plan.complete and plan == first.plan
    assert plan.cuts == ("conv1", "conv2", "conv3", "fc1", "fc2")
    assert plan.request == json.loads(json.dumps(request.identity()))

    recipe = Recipe(epochs=2, batch=12, lr=2e-3, schedule="constant", balance="sampling")
    edited = replace(
        plan,
        training=(
            PlannedRun(Transfer(keep="conv2"), recipe, "mine", 1.0),
            PlannedRun(Transfer(), recipe, "not this one", 1.0, "left out by hand"),
        ),
    )
    write_plan(edited, tmp_path / "edited.json")
    other = replace(request, out=tmp_path / "second", seed=5, model="timm:test_resnet")
    done = run_automatic(other, print, quiet, plan_file=tmp_path / "edited.json")
    assert done.work.model == "lenet5" and done.work.seed == 0  # as the plan says
    (mine, outcome), (theirs, nothing) = done.trained
    assert (mine.reason, theirs.left_out) == ("mine", "left out by hand")
    assert nothing is None
    assert outcome.details["epochs"] == 2
    assert outcome.run.settings["recipe"]["schedule"] == "constant"
    assert outcome.run.settings["recipe"]["balance"] == "sampling" and plan.balance == "weights"
    assert any("balanced by weights in the loss" in reason for reason in plan.reasons)
    assert outcome.run.settings["transfer"]["keep"] == "conv2"
    assert read_plan(tmp_path / "second" / "plan.json").training == edited.training

    # The same command again finds everything, the test included.
    monkeypatch.setattr(automatic, "test_logits", None)
    again = run_automatic(other, print, quiet, plan_file=tmp_path / "edited.json")
    assert again.chosen.run.id == done.chosen.run.id
    np.testing.assert_array_equal(again.said.scores, done.said.scores)
    assert again.test == done.test and again.threshold == done.threshold

    with pytest.raises(LayerwiseError, match="seed = 0, and this one has 7"):
        run_automatic(replace(request, seed=7), print, quiet)


def test_a_run_that_fails_its_checks_is_left_out_and_the_rest_is_done(
    data_file, tmp_path, monkeypatch
):
    """One of two fails: the other is trained. Both fail: an error, and nothing computed is lost."""
    from layerwise.studies import trained

    check, failing = trained.check_before_training, {"conv2"}

    def picky(job, outputs):
        if job.network.transfer.keep in failing:
            raise TrainingError(f"check before training: {job.network.transfer.keep}; leave it out")
        check(job, outputs)

    monkeypatch.setattr(trained, "check_before_training", picky)
    recipe = Recipe(epochs=2, batch=12, lr=2e-3)
    runs = [
        PlannedRun(Transfer(keep=keep, copy="none"), recipe, f"ends at {keep}", 1.0)
        for keep in ("conv2", "conv3")
    ]
    request = Request(
        data=str(data_file("binary")), out=tmp_path / "one", cache=tmp_path / "cache", threads=1
    )
    plan = replace(PLAN, arguments={}, training=tuple(runs), request=request.identity())
    write_plan(plan, tmp_path / "plan.json")
    said: list[str] = []
    done = run_automatic(request, said.append, quiet, plan_file=tmp_path / "plan.json")
    (first, none), (second, outcome) = done.trained
    assert none is None and outcome.details["epochs"] == 2 and second.left_out == ""
    assert first.left_out == "check before training: conv2; leave it out"
    assert any(words.startswith("left out: truncated at conv2") for words in said)
    kept = read_plan(tmp_path / "one" / "plan.json")
    assert [run.left_out for run in kept.training] == [first.left_out, ""]
    again = run_automatic(request, said.append, quiet)  # it stays left out, without a new check
    assert again.trained[0][0].left_out == first.left_out and again.test == done.test

    failing.add("conv3")
    other = replace(request, out=tmp_path / "none")
    for _ in range(2):  # the second time as the first
        with pytest.raises(TrainingError, match="check before training: conv2"):
            run_automatic(other, said.append, quiet, plan_file=tmp_path / "plan.json")
    kept = read_plan(tmp_path / "none" / "plan.json")
    assert [run.left_out for run in kept.training] == ["", ""]
    assert len(list((tmp_path / "none" / "runs").glob("*/result.json"))) == 2 + 5  # floors, probes
    failing.remove("conv3")
    mended = run_automatic(other, said.append, quiet, plan_file=tmp_path / "plan.json")
    assert mended.trained[1][1] is not None


@pytest.mark.parametrize("model, expected", [("lenet5", 224), ("timm:mobilenetv3_small_050", 128)])
def test_a_network_that_takes_one_size_only_keeps_it_however_short_the_time(
    tmp_path, model, expected
):
    request = Request(data="digits", out=tmp_path, cache=tmp_path, model=model, seconds=1e-3)
    network = create(model, outputs=10, seed=0)
    side = planner.image_size_for(request, network, load("digits"), torch.device("cpu"))
    assert side == expected  # half of 224, in steps of 32, is 128 at the least

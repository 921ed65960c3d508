"""One trained run: its key, its resumption, and that what is kept is what was trained."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from layerwise.errors import TrainingError
from layerwise.evaluation.predictions import probabilities
from layerwise.studies import trained
from layerwise.studies.trained import rebuild, test_logits, train, trained_run
from layerwise.training import activations as cache
from layerwise.training import loop
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

RECIPE = Recipe(epochs=2, batch=12, lr=3e-3)
predict = test_logits  # pytest would take the other name for a test
del test_logits


class Stop(Exception):
    """What a watch raises."""


def test_everything_that_decides_a_result_is_in_its_key(workspace):
    work = workspace()
    start = trained_run(work, Transfer(), RECIPE)
    assert trained_run(workspace(), Transfer(), replace(RECIPE)).id == start.id
    others = [
        trained_run(work, Transfer(keep="conv2"), RECIPE),
        trained_run(work, Transfer(), replace(RECIPE, lr=0.1)),
        trained_run(workspace(seed=1), Transfer(), RECIPE),
        trained_run(workspace("multiclass"), Transfer(), RECIPE),
        trained_run(workspace(threads=2), Transfer(), RECIPE),
        trained_run(workspace(model="timm:test_resnet"), Transfer(), RECIPE),
        trained_run(workspace(letterbox=True), Transfer(), RECIPE),
        trained_run(replace(work, weights_digest="other"), Transfer(), RECIPE),
        trained_run(replace(work, metric="auprc"), Transfer(), RECIPE),
    ]
    assert len({start.id, *(run.id for run in others)}) == 10
    assert "metric" not in start.settings  # so runs from before there was one are found


def test_a_finished_run_is_never_trained_again(workspace, monkeypatch):
    first = train(workspace(), Transfer(), RECIPE)
    monkeypatch.setattr(trained, "fit", None)
    again = train(workspace(), Transfer(), RECIPE)
    assert again.details == first.details and len(first.details["history"]) == 2
    np.testing.assert_array_equal(again.validation.scores, first.validation.scores)
    assert first.weights.keys() == again.weights.keys()
    for name, value in first.weights.items():
        np.testing.assert_array_equal(value, again.weights[name])


def test_a_stopped_run_goes_on_to_the_same_bits(workspace, tmp_path, monkeypatch):
    whole = train(workspace(out=tmp_path / "whole"), Transfer(), RECIPE)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    checked: list[int] = []
    check = trained.check_before_training
    monkeypatch.setattr(
        trained, "check_before_training", lambda job, n: (checked.append(n), check(job, n))
    )

    def watch(step: int, _steps: int) -> None:
        if step in (2, 6):
            raise Stop

    for _ in range(2):
        with pytest.raises(Stop):
            train(workspace(), Transfer(), RECIPE, watch)
    stopped = train(workspace(), Transfer(), RECIPE)
    assert checked == [1]  # only before the first sitting
    assert stopped.run.id == whole.run.id
    np.testing.assert_array_equal(stopped.validation.scores, whole.validation.scores)
    for name, value in whole.weights.items():
        np.testing.assert_array_equal(value, stopped.weights[name], err_msg=name)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_what_is_kept_is_what_was_trained(workspace, task):
    work = workspace(task)
    transfer = Transfer(keep="conv2")
    outcome = train(work, transfer, replace(RECIPE, epochs=3))
    network = rebuild(work, transfer, outcome)
    rows = work.rows("val")
    scores = probabilities(task, predict(work, network, rows))
    np.testing.assert_allclose(scores, outcome.validation.scores, atol=1e-6)
    np.testing.assert_array_equal(outcome.validation.targets, work.manifest.targets[rows])
    assert outcome.validation.ids.tolist() == [f"val/{i}" for i in range(24)]
    outputs = 1 if task == "binary" else 3
    # conv1: 3·6·25 + 6, conv2: 6·16·25 + 16, a linear layer on 16 channels
    assert outcome.parameters == 456 + 2416 + 17 * outputs
    assert sum(w.size for w in outcome.weights.values()) == outcome.parameters


def test_two_runs_share_the_activations_of_one_frozen_bottom(workspace, tmp_path, monkeypatch):
    base = train(workspace(out=tmp_path / "base"), Transfer(), RECIPE)
    source = str(tmp_path / "base" / "runs" / base.run.id)
    computed: list[int] = []

    class Counting(cache.Runner):
        def __call__(self, images: torch.Tensor) -> np.ndarray:
            computed.append(len(images))
            return super().__call__(images)

    monkeypatch.setattr(cache, "Runner", Counting)
    work = workspace(weights=source)
    frozen = Transfer(work.weights_name, copy="all", freeze="conv2")
    recipe = replace(RECIPE, augment="radiograph", views=2)
    first = train(work, frozen, recipe)
    assert sum(computed) == 96 + 2 * 48
    second = train(workspace(weights=source), frozen, replace(recipe, lr=0.01))
    assert sum(computed) == 96 + 2 * 48  # nothing more
    assert first.run.id != second.run.id
    for outcome in (first, second):
        for name in ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"):
            np.testing.assert_array_equal(outcome.weights[name], base.weights[name])
        for name in ("conv3.weight", "fc1.weight", "fc2.bias", "fc3.weight"):
            assert not np.array_equal(outcome.weights[name], base.weights[name])
        network = rebuild(work, frozen, outcome)  # pictures through the whole network
        scores = probabilities("binary", predict(work, network, work.rows("val")))
        np.testing.assert_allclose(scores, outcome.validation.scores, atol=1e-4)


def test_only_the_smaller_class_has_views_when_it_is_balanced_by_copies(
    data_file, workspace, tmp_path, monkeypatch
):
    with np.load(data_file("binary")) as whole:
        arrays = dict(whole)
    kept = np.flatnonzero((np.arange(48) % 2 == 0) | (np.arange(48) % 8 == 1))  # 24 of 0, 6 of 1
    for name in ("train_images", "train_labels"):
        arrays[name] = arrays[name][kept]
    np.savez(tmp_path / "unequal.npz", **arrays)
    computed: list[int] = []

    class Counting(cache.Runner):
        def __call__(self, images: torch.Tensor) -> np.ndarray:
            computed.append(len(images))
            return super().__call__(images)

    monkeypatch.setattr(cache, "Runner", Counting)
    work = workspace(data=str(tmp_path / "unequal.npz"))
    frozen = Transfer("untrained", copy="conv2", freeze="conv2")
    recipe = replace(RECIPE, augment="radiograph", views=2, balance="augment")
    steps: list[tuple[int, int]] = []
    balanced = train(work, frozen, recipe, lambda *at: steps.append(at))
    assert sum(computed) == 30 + 48 + 2 * 6  # every picture, and two views of six
    assert steps[-1] == (2 * 4, 2 * 4)  # two epochs of 48 pictures, 12 a step
    ids = {trained_run(work, frozen, recipe).id}
    for method in ("none", "weights", "sampling"):
        ids.add(trained_run(work, frozen, replace(recipe, balance=method)).id)
    assert len(ids) == 4 and balanced.run.id in ids
    assert trained_run(work, frozen, replace(recipe, vertical_flip=True)).id not in ids


@pytest.mark.parametrize("balance", ["weights", "augment"])
@pytest.mark.parametrize(
    "transfer",
    [
        Transfer("untrained", keep="conv3", copy="conv2", freeze="conv2"),
        Transfer("untrained", keep="conv2", copy="conv2", freeze="conv2"),
        Transfer("untrained", keep="conv2", copy="conv2", freeze="conv2", head="connected"),
    ],
    ids=["above the cut", "linear", "connected"],
)
def test_cached_activations_teach_what_the_pictures_would(
    data_file, workspace, tmp_path, monkeypatch, balance, transfer
):
    """With as many views as epochs, and one copy of each picture at most, both read the same."""
    with np.load(data_file("binary")) as whole:
        arrays = dict(whole)
    kept = np.flatnonzero((np.arange(48) % 2 == 0) | (np.arange(48) % 4 == 1))  # 24 and 12
    for name in ("train_images", "train_labels"):
        arrays[name] = arrays[name][kept]
    np.savez(tmp_path / "unequal.npz", **arrays)
    work = workspace(data=str(tmp_path / "unequal.npz"))
    recipe = replace(RECIPE, epochs=3, augment="radiograph", views=3, balance=balance, lr=1e-3)
    cached = train(work, transfer, recipe, check=False)
    # The pictures as they are, and three views.
    assert len(list((work.cache / "activations").iterdir())) == 1 + 3
    monkeypatch.setattr(trained, "MOST_DISK", 0)
    whole = train(
        replace(work, runs=type(work.runs)(tmp_path / "whole")), transfer, recipe, check=False
    )
    losses = ([epoch["loss"] for epoch in one.details["history"]] for one in (cached, whole))
    np.testing.assert_allclose(*losses, rtol=1e-4)
    for name, value in whole.weights.items():
        np.testing.assert_allclose(cached.weights[name], value, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("balance", "vertical"), [("weights", False), ("sampling", True), ("augment", True)]
)
def test_flips_are_cached_as_they_are_and_not_as_some_of_them(
    data_file, workspace, tmp_path, monkeypatch, balance, vertical
):
    """In any number of epochs, with any copies, and whatever number of views is asked for."""
    with np.load(data_file("binary")) as whole:
        arrays = dict(whole)
    kept = np.flatnonzero((np.arange(48) % 2 == 0) | (np.arange(48) % 8 == 1))  # 24 and 6
    for name in ("train_images", "train_labels"):
        arrays[name] = arrays[name][kept]
    np.savez(tmp_path / "unequal.npz", **arrays)
    work = workspace(data=str(tmp_path / "unequal.npz"))
    recipe = replace(
        RECIPE, epochs=6, augment="flip", views=1, vertical_flip=vertical, balance=balance, lr=1e-3
    )
    transfer = Transfer("untrained", keep="conv3", copy="conv2", freeze="conv2")
    cached = train(work, transfer, recipe, check=False)
    entries = list((work.cache / "activations").iterdir())
    assert len(entries) == (4 if vertical else 2)  # the pictures as they are stand there once
    monkeypatch.setattr(trained, "MOST_DISK", 0)
    whole = train(
        replace(work, runs=type(work.runs)(tmp_path / "whole")), transfer, recipe, check=False
    )
    losses = ([epoch["loss"] for epoch in one.details["history"]] for one in (cached, whole))
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for name, value in whole.weights.items():
        np.testing.assert_allclose(cached.weights[name], value, atol=1e-4, err_msg=name)


def test_a_place_is_cached_once_under_any_name(workspace):
    """Pooled and flat activations of one cut are two things, and never taken for each other."""
    work = workspace()
    source = work.network(Transfer(copy="none")).weights()
    work = replace(work, weights=source, weights_name="w")
    recipe = replace(RECIPE, epochs=1)
    kept = Transfer("w", keep="conv2", copy="conv2", freeze="conv2")
    shapes = []
    for transfer in (
        *(kept, replace(kept, freeze="all"), replace(kept, head="connected")),
        *(Transfer("w", freeze="conv2"), Transfer("w", freeze="all"), Transfer("w", freeze="fc2")),
    ):
        train(work, transfer, recipe, check=False)
        metas = sorted((work.cache / "activations").glob("*/meta.json"))
        shapes.append(sorted(json.loads(m.read_text())["shape"] for m in metas))
    pooled, flat, last = [96, 16], [96, 16, 10, 10], [96, 84]
    assert shapes[:2] == [[pooled], [pooled]]
    assert shapes[2:4] == [[pooled, flat]] * 2
    assert shapes[4:] == [[pooled, flat, last]] * 2


def test_a_run_that_fails_its_checks_leaves_no_folder(workspace, monkeypatch):
    def refuse(_job, _outputs):
        raise TrainingError("check before training: a test; leave it")

    monkeypatch.setattr(trained, "check_before_training", refuse)
    work = workspace()
    with pytest.raises(TrainingError, match="a test"):
        train(work, Transfer(), RECIPE)
    assert not work.runs.folder.exists()


def test_too_large_for_the_disk_it_trains_through_the_whole_network(workspace, monkeypatch):
    said: list[str] = []
    work = replace(workspace(), say=said.append)
    transfer = Transfer("untrained", copy="conv2", freeze="conv2")
    recipe = replace(RECIPE, lr=1e-3)
    cached = train(work, transfer, recipe)
    monkeypatch.setattr(trained, "MOST_DISK", 0)
    whole = train(replace(work, runs=type(work.runs)(work.runs.folder / "again")), transfer, recipe)
    assert any("computed again in every epoch" in words for words in said)
    np.testing.assert_allclose(cached.validation.scores, whole.validation.scores, atol=1e-3)
    np.testing.assert_array_equal(cached.weights["conv1.weight"], whole.weights["conv1.weight"])


def test_a_network_with_batch_norm_is_found_rebuilt_and_serves_as_a_source(workspace, tmp_path):
    model = "timm:test_resnet"
    work = workspace("multiclass", out=tmp_path / "base", model=model)
    train(work, Transfer(), RECIPE)
    found = train(work, Transfer(), RECIPE)  # from the disk
    network = rebuild(work, Transfer(), found)
    scores = probabilities("multiclass", predict(work, network, work.rows("val")))
    np.testing.assert_allclose(scores, found.validation.scores, atol=1e-6)

    source = str(tmp_path / "base" / "runs" / found.run.id)
    target = workspace(model=model, weights=source)
    copied = target.network(Transfer(target.weights_name)).weights()
    for name, value in found.weights.items():
        if not name.startswith("fc."):
            np.testing.assert_array_equal(copied[name].numpy(), value, err_msg=name)


def test_want_of_memory_is_said_and_other_errors_are_not_taken_for_it(workspace, monkeypatch):
    def step(*_more, **_rest):
        torch.empty(1 << 60, dtype=torch.uint8)  # an exabyte

    monkeypatch.setattr(loop, "train_step", step)
    with pytest.raises(TrainingError, match="memory ran out .*smaller batch .it is 12."):
        train(workspace(), Transfer(), RECIPE)

    def mistaken(*_more, **_rest):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(loop, "train_step", mistaken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(workspace(), Transfer(), RECIPE)

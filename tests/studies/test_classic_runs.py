"""The floor: the dummy by closed form, the forest on planted pixels, nothing done twice."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from layerwise.errors import ModelError
from layerwise.models.classic import Forest
from layerwise.models.cuts import tap
from layerwise.models.tuned import KernelSVM, TunedForest
from layerwise.studies import classic_runs
from layerwise.studies.classic_runs import classic_run, floor_on_test, floors
from layerwise.studies.profile import profile
from layerwise.training import cached_rows
from layerwise.training.transfer import Transfer


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_both_floors(workspace, task, monkeypatch):
    work = workspace(task)
    dummy, forest = floors(work)
    assert (dummy.run.name, forest.run.name) == ("dummy", "random forest")
    learnt = work.manifest.targets[work.rows("train")]
    if task == "binary":
        share = np.array([learnt.mean()])
    elif task == "multiclass":
        share = np.array([(learnt == k).mean() for k in range(3)])
    else:
        share = learnt.mean(axis=0)
    for outcome, split in ((dummy.validation, "val"), (floor_on_test(work, dummy), "test")):
        np.testing.assert_allclose(outcome.scores, np.tile(share, (24, 1)), rtol=1e-6)
        np.testing.assert_array_equal(outcome.targets, work.manifest.targets[work.rows(split)])
        assert outcome.ids.tolist() == [f"{split}/{i}" for i in range(24)]
    for said in (forest.validation, floor_on_test(work, forest)):
        scores = said.scores[:, 0] if task == "binary" else said.scores
        assert scores.dtype == np.float32
        assert roc_auc_score(said.targets, scores / _sum(scores, task), multi_class="ovr") > 0.99

    monkeypatch.setattr(classic_runs, "_fit", None)  # nothing is fitted again
    for one, other in zip((dummy, forest), floors(workspace(task)), strict=True):
        np.testing.assert_array_equal(one.validation.scores, other.validation.scores)


def _sum(scores: np.ndarray, task: str) -> np.ndarray | float:
    """scikit-learn wants rows of exactly 1."""
    return scores.sum(axis=1, keepdims=True) if task == "multiclass" else 1.0


def test_the_forest_learns_from_a_bounded_sample(workspace, monkeypatch):
    work = workspace()
    monkeypatch.setattr(classic_runs, "MOST", 30)
    rows = classic_runs._sample(work)
    assert len(rows) == 30 and set(rows) <= set(work.rows("train"))
    assert rows.tolist() == sorted(set(rows.tolist()))
    np.testing.assert_array_equal(rows, classic_runs._sample(work))
    monkeypatch.setattr(classic_runs, "MOST", 48)
    np.testing.assert_array_equal(classic_runs._sample(work), work.rows("train"))


def test_small_pictures_come_in_chunks_and_in_order(workspace, monkeypatch):
    work = workspace()
    rows = work.rows("val")
    whole = classic_runs._small(work, rows)
    assert whole.shape == (24, 1024) and whole.dtype == np.uint8
    np.testing.assert_array_equal(whole, work.store.read(rows).reshape(24, -1))  # 32×32 already
    monkeypatch.setattr(classic_runs, "CHUNK", 7)
    np.testing.assert_array_equal(classic_runs._small(work, rows), whole)


@pytest.fixture
def small(monkeypatch):
    """Grids of a test's size: a few trees, two values of C."""
    make = {
        "random forest, tuned": lambda task, k, seed, n: TunedForest(
            task, k, seed=seed, threads=n, folds=2, trees=(5, 10), max_features=("sqrt",)
        ),
        "kernel SVM": lambda task, k, seed, n: KernelSVM(
            task, k, seed=seed, threads=n, folds=2, penalties=(1.0, 10.0), widths=(1.0,)
        ),
    }
    for name, maker in make.items():
        monkeypatch.setitem(classic_runs.KINDS, name, replace(classic_runs.KINDS[name], make=maker))


def macro(said) -> float:
    scores = said.scores[:, 0] if said.scores.shape[1] == 1 else said.scores
    task = "multiclass" if said.targets.ndim == 1 and said.scores.shape[1] > 1 else "other"
    return roc_auc_score(said.targets, scores / _sum(scores, task), multi_class="ovr")


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("kind", ["random forest, tuned", "kernel SVM"])
def test_tuned_models_on_pixels(workspace, small, monkeypatch, task, kind):
    work = workspace(task)
    outcome = classic_run(work, kind)
    assert outcome.run.kind == "floor" and outcome.run.name == kind
    assert outcome.details["images"] == outcome.details["of"] == 48
    chosen = outcome.details["chosen"]
    assert len(chosen) == (3 if task == "multilabel" else 1)
    for one in chosen:
        assert one["folds"] == 2 and one["auroc"] > 0.9
        assert one["C"] in (1, 10) if kind == "kernel SVM" else one["trees"] in (5, 10)
    assert macro(outcome.validation) > 0.95 and macro(floor_on_test(work, outcome)) > 0.95
    monkeypatch.setattr(classic_runs, "_fit", None)  # nothing is fitted again
    again = classic_run(workspace(task), kind)
    np.testing.assert_array_equal(again.validation.scores, outcome.validation.scores)
    assert again.details == outcome.details


def test_a_model_at_a_cut_is_one_on_the_pooled_activations(workspace):
    """Against the same forest on activations that torch computes here, one picture at a time."""
    work = workspace("multiclass")
    outcome = classic_run(work, "random forest", on="conv2")
    assert outcome.run.name == "random forest on conv2"
    network = work.network(Transfer("untrained"))
    below = tap(network.original, ["conv2"])

    def pooled(split: str) -> np.ndarray:
        rows = []
        for image in work.store.read(work.rows(split)):
            with torch.inference_mode():
                (found,) = below(network.pixels(torch.from_numpy(image[None])))
            rows.append(found.mean(dim=(2, 3))[0].numpy())
        return np.stack(rows)

    forest = Forest("multiclass", 3, seed=0, threads=1)
    forest.fit(pooled("train"), work.manifest.targets[work.rows("train")])
    for split, said in (("val", outcome.validation), ("test", floor_on_test(work, outcome))):
        # A split of a tree may fall between two roundings of one activation.
        np.testing.assert_allclose(said.scores, forest.predict(pooled(split)), atol=0.02)
    assert outcome.details["of"] == 48


def test_the_probes_pass_over_the_pictures_serves_models_at_cuts(workspace, small, monkeypatch):
    work = workspace()
    profile(work)
    monkeypatch.setattr(cached_rows, "_compute", None)  # no further pass
    ids = {classic_run(work, kind, on="conv1").run.id for kind in classic_runs.KINDS}
    ids |= {classic_run(work, "dummy", on=cut).run.id for cut in ("conv2", "pixels")}
    assert len(ids) == len(classic_runs.KINDS) + 2


def test_the_floor_and_a_classic_run_are_one_run(workspace, monkeypatch):
    work = workspace()
    floor = floors(work)
    monkeypatch.setattr(classic_runs, "_fit", None)
    for outcome in floor:
        assert classic_run(work, outcome.run.name).run.id == outcome.run.id


def test_dummies_of_three_kinds(workspace):
    work = workspace("multiclass")
    learnt = work.manifest.targets[work.rows("train")]
    first = np.bincount(learnt).argmax()
    said = classic_run(work, "dummy, most frequent").validation.scores
    np.testing.assert_array_equal(said, np.tile(np.eye(3)[first], (24, 1)))
    drawn = classic_run(work, "dummy, stratified").validation.scores
    assert set(np.unique(drawn)) == {0, 1} and (drawn.sum(axis=1) == 1).all()
    assert len(np.unique(drawn.argmax(axis=1))) > 1
    other = classic_run(workspace("multiclass", seed=1), "dummy, stratified").validation.scores
    assert not np.array_equal(drawn, other)


def test_a_kernel_svm_learns_from_fewer_pictures_and_says_so(workspace, small, monkeypatch):
    few = replace(classic_runs.KINDS["kernel SVM"], most=20)
    monkeypatch.setitem(classic_runs.KINDS, "kernel SVM", few)
    outcome = classic_run(workspace(), "kernel SVM")
    assert (outcome.details["images"], outcome.details["of"]) == (20, 48)


@pytest.mark.parametrize(
    ("kind", "on", "message"),
    [
        ("random forrest", "pixels", "no classic model; it is one of dummy, "),
        ("dummy", "conv9", "no cut 'conv9'.*near are conv3"),
    ],
)
def test_unknown_words_are_answered_with_known_ones(workspace, kind, on, message):
    with pytest.raises(ModelError, match=message):
        classic_run(workspace(), kind, on)

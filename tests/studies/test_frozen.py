"""Solved classifiers as runs: against scikit-learn on the same activations, and as networks."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from layerwise.data.splits.folds import fold_numbers
from layerwise.errors import DataError, ModelError, TrainingError
from layerwise.evaluation.predictions import probabilities
from layerwise.models.cuts import truncate
from layerwise.studies import frozen
from layerwise.studies.frozen import KINDS, classify, head_transfer
from layerwise.studies.trained import rebuild
from layerwise.training.transfer import Transfer

GRID = (0.01, 1.0)


def settled(work):
    """The lowest cut, training and validation rows, targets, flattened activations of all."""
    cut = work.cuts()[0]
    network = work.network(Transfer("untrained")).eval()
    with torch.no_grad():
        pixels = network.pixels(torch.from_numpy(work.store.read(np.arange(len(work.manifest)))))
        out = truncate(network.original, cut.name)(pixels).numpy()
    return cut, work.rows("train"), work.rows("val"), work.manifest.targets, out


@pytest.mark.parametrize("flattened", [False, True])
@pytest.mark.parametrize(
    ("task", "model", "kinds"),
    [
        ("binary", "lenet5", KINDS),
        ("multiclass", "lenet5", KINDS),
        ("multilabel", "lenet5", KINDS),
        ("multiclass", "timm:test_resnet", ["svm"]),
    ],
)
def test_every_classifier_is_a_network_that_can_be_deployed(
    workspace, task, model, kinds, flattened
):
    work = workspace(task, model=model)
    cut = work.cuts()[0 if model == "lenet5" else -2]
    images = torch.from_numpy(work.store.read(work.rows("val")))
    for kind in kinds:
        outcome = classify(work, cut, kind, flattened=flattened, folds=3, penalties=GRID)
        network = rebuild(work, head_transfer(cut, work.weights_name, flattened), outcome)
        with torch.no_grad():
            logits = network(images).numpy()
        said = outcome.validation
        np.testing.assert_allclose(probabilities(task, logits), said.scores, atol=1e-4)
        np.testing.assert_array_equal(said.targets, work.manifest.targets[work.rows("val")])
        assert sum(p.numel() for p in network.parameters()) == outcome.parameters
        assert said.scores.std() > 0.1, kind  # the squares are easy to see


@pytest.mark.parametrize("flattened", [False, True])
def test_logistic_regression_is_scikit_learns_grid_search(workspace, flattened):
    work = workspace()
    cut, train, validation, targets, out = settled(work)
    x = out.reshape(len(out), -1) if flattened else out.mean(axis=(2, 3))
    outcome = classify(work, cut, "logistic", flattened=flattened, folds=4, penalties=GRID)
    z = StandardScaler().fit(x[train].astype(np.float64)).transform(x.astype(np.float64))
    part = work.manifest.take(train)
    fold = fold_numbers(part, 4, contents=work.store.digests[train], seed=work.seed)
    other = GridSearchCV(
        LogisticRegression(class_weight="balanced", max_iter=10000, tol=1e-9),
        {"C": list(GRID)},
        cv=PredefinedSplit(fold),
    ).fit(z[train], targets[train])
    assert outcome.details["C"] == other.best_params_["C"]
    np.testing.assert_allclose(outcome.details["accuracy"], other.cv_results_["mean_test_score"])
    wanted = other.predict_proba(z[validation])[:, 1:]
    np.testing.assert_allclose(outcome.validation.scores, wanted, atol=1e-3)


def test_nearest_mean_decides_as_scikit_learn(workspace):
    work = workspace("multiclass")
    cut, train, validation, targets, out = settled(work)
    x = out.mean(axis=(2, 3)).astype(np.float64)
    outcome = classify(work, cut, "nearest mean", folds=3)
    other = make_pipeline(StandardScaler(), NearestCentroid()).fit(x[train], targets[train])
    np.testing.assert_array_equal(
        outcome.validation.scores.argmax(axis=1), other.predict(x[validation])
    )
    assert outcome.details.keys() == {"cut", "folds"}


def test_a_finished_one_is_found_again_and_another_is_another(workspace, monkeypatch):
    work = workspace()
    cut = work.cuts()[0]
    first = classify(work, cut, "svm", folds=3, penalties=(1.0, 0.01))
    others = {
        frozen.frozen_run(work, cut, "svm", folds=3, penalties=GRID).id: True,
        frozen.frozen_run(work, cut, "svm", folds=4, penalties=GRID).id: False,
        frozen.frozen_run(work, cut, "svm", folds=3, penalties=(1.0,)).id: False,
        frozen.frozen_run(work, cut, "logistic", folds=3, penalties=GRID).id: False,
        frozen.frozen_run(work, cut, "svm", folds=3, penalties=GRID, flattened=True).id: False,
        frozen.frozen_run(work, cut, "svm", folds=3, penalties=GRID, standardise=False).id: False,
    }
    assert len(others) == 6
    assert [first.run.id == other for other in others] == list(others.values())

    def never(*_more, **_named):
        raise AssertionError("computed again")

    monkeypatch.setattr(frozen, "search", never)
    monkeypatch.setattr(frozen, "activations", never)
    again = classify(workspace(), cut, "svm", folds=3, penalties=GRID)
    np.testing.assert_array_equal(again.validation.scores, first.validation.scores)
    assert again.details == first.details


def test_blocks_of_columns_are_the_flattened_activation(tmp_path):
    from layerwise.data.storage.rows import Rows

    whole = np.random.default_rng(0).normal(size=(7, 5, 2, 3)).astype(np.float32)
    (tmp_path / "rows.bin").write_bytes(whole.tobytes())
    rows = np.array([4, 0, 6])
    columns = frozen._columns(Rows(tmp_path / "rows.bin", whole.shape, np.float32), rows)
    assert (columns.rows, columns.width) == (3, 30)
    flat = whole[rows].reshape(3, 30)
    for first in range(30):
        for last in range(first + 1, 31):
            np.testing.assert_array_equal(columns.read(first, last), flat[:, first:last])


def test_what_can_not_be_solved_is_said(workspace, monkeypatch):
    work = workspace()
    cut = work.cuts()[0]
    with pytest.raises(ModelError, match="'forest' is unknown; take one of svm, logistic"):
        classify(work, cut, "forest")
    with pytest.raises(DataError, match="24 images .* 30 are needed.* take fewer --folds"):
        classify(work, cut, "svm", folds=30)
    assert not work.runs.folder.exists()
    read = frozen.Rows.read

    def broken(self, rows):
        out = read(self, rows)
        return np.where(np.arange(out.shape[1]) == 1, np.nan, out) if out.ndim == 2 else out

    monkeypatch.setattr(frozen.Rows, "read", broken)
    with pytest.raises(TrainingError, match="not finite.*take other weights, or a lower cut"):
        classify(work, cut, "svm", folds=3)

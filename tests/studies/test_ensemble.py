"""Ensembles by closed forms, by brute force and by scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from layerwise.errors import LayerwiseError
from layerwise.evaluation.metrics import measure
from layerwise.evaluation.predictions import Predictions, probabilities
from layerwise.studies import ensemble
from layerwise.studies.ensemble import (
    RIDGE,
    aligned,
    aurocs,
    combine,
    cross_fitted,
    greedy_weights,
    stacked_weights,
)

TASKS = ["binary", "multiclass", "multilabel"]


def library(task: str, runs: int = 4, rows: int = 120, seed: int = 0) -> dict[str, Predictions]:
    """Runs that err independently, the later ones less; 3 labels or classes; 2 rows a patient."""
    generator = np.random.default_rng(seed)
    if task == "multilabel":
        has = generator.integers(0, 2, (rows, 3))
        targets = has.astype(np.float32)
        targets[generator.random((rows, 3)) < 0.1] = np.nan
    else:
        targets = generator.integers(0, 2 if task == "binary" else 3, rows)
        has = targets[:, None] if task == "binary" else np.eye(3)[targets]
    ids = np.array([f"{k:03}" for k in range(rows)])
    groups = np.array([f"p{k // 2}" for k in range(rows)])
    out = {}
    for k in range(runs):
        logits = (0.4 + 0.3 * k) * (2 * has - 1) + generator.normal(0, 1, has.shape)
        out[f"run {k}"] = Predictions(ids, targets, probabilities(task, logits), groups)
    return out


def stack(runs: dict[str, Predictions]) -> np.ndarray:
    return np.stack([p.scores.astype(np.float64) for p in runs.values()])


@pytest.mark.parametrize("task", TASKS)
def test_aurocs_are_those_of_the_metrics(task):
    runs = library(task)
    said = stack(runs).round(1)  # with many equal scores
    targets = runs["run 0"].targets
    wanted = [measure(task, targets, scores, None)["auroc"] for scores in said]
    np.testing.assert_allclose(aurocs(task, targets, said), wanted, atol=1e-12)
    if task == "multiclass":  # a class that is not there does not count
        part = targets != 2
        wanted = [measure(task, targets[part], scores[part], None)["auroc"] for scores in said]
        np.testing.assert_allclose(aurocs(task, targets[part], said[:, part]), wanted, atol=1e-12)
    if task == "binary":
        assert aurocs(task, np.ones(5, int), said[:, :5]).tolist() == [-1] * 4


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("way", ensemble.WAYS)
def test_what_is_said_together_is_the_weighted_mean(task, way):
    runs = library(task)
    found = combine(task, runs, way)
    assert sum(found.weights.values()) == pytest.approx(1) and min(found.weights.values()) > 0
    if way == "mean":
        assert found.weights == dict.fromkeys(runs, 0.25)
    wanted = sum(w * runs[name].scores.astype(float) for name, w in found.weights.items())
    np.testing.assert_allclose(found.validation.scores, wanted, atol=1e-7)
    assert found.validation.scores.dtype == np.float32
    np.testing.assert_array_equal(found.validation.targets, runs["run 0"].targets)
    assert found.score == pytest.approx(measure(task, found.validation.targets, wanted)["auroc"])
    singles = [measure(task, p.targets, p.scores)["auroc"] for p in runs.values()]
    assert found.score > max(singles)  # they err independently
    if task == "multiclass":
        np.testing.assert_allclose(found.validation.scores.sum(axis=1), 1, atol=1e-6)


def test_weights_are_those_of_logistic_regression():
    """As scikit-learn's where no weight would be negative; C is 1/RIDGE, its weights of sum 1."""
    runs = library("binary")
    said, targets = stack(runs), runs["run 0"].targets
    balance = np.where(targets == 1, 0.5 / (targets == 1).sum(), 0.5 / (targets == 0).sum())
    model = LogisticRegression(C=1 / RIDGE, tol=1e-10, max_iter=10_000)
    weights = model.fit(said[:, :, 0].T, targets, balance).coef_[0]
    assert (weights > 0).all()
    np.testing.assert_allclose(
        stacked_weights("binary", said, targets), weights / weights.sum(), atol=1e-5
    )


@pytest.mark.parametrize("task", TASKS)
def test_no_other_weights_have_a_smaller_loss(task, monkeypatch):
    """Brute force over directions: the loss of the module's docstring, written out anew."""
    runs = library(task, runs=3)
    targets = runs["run 0"].targets
    said = stack(runs)
    said[1] = said[1][::-1]  # tells nothing of the truth
    monkeypatch.setattr(ensemble, "SMALLEST", 0.0)
    caught = []
    solve = ensemble.minimize

    def spy(loss, start, **how):
        caught.append((loss, solve(loss, start, **how)))
        return caught[-1][1]

    monkeypatch.setattr(ensemble, "minimize", spy)
    weights = stacked_weights(task, said, targets)
    loss, found = caught[0]

    def wanted(values: np.ndarray) -> float:
        total, kinds = 0.0, []
        for j in range(said.shape[2]):
            truth = (
                targets == j if task == "multiclass" else targets.reshape(len(targets), -1)[:, j]
            )
            for answer in (0, 1):
                rows = np.flatnonzero(truth == answer)
                logits = values[:3] @ said[:, rows, j] + values[3 + j]
                kinds.append(np.mean(np.log1p(np.exp(-logits if answer else logits))))
        total = np.mean(kinds)
        return total + 0.5 * RIDGE * (values[:3] ** 2).sum()

    assert loss(found.x)[0] == pytest.approx(wanted(found.x), abs=1e-9)
    generator = np.random.default_rng(0)
    for step in (1.0, 0.1, 0.01):
        for _ in range(100):
            other = found.x + step * generator.normal(size=len(found.x))
            other[:3] = np.maximum(other[:3], 0)
            assert wanted(other) > found.fun - 1e-9
    np.testing.assert_allclose(weights, found.x[:3] / found.x[:3].sum(), atol=1e-12)
    assert weights[1] < 0.1 and weights[2] > weights[0]


def test_runs_that_only_mislead_all_count_the_same():
    runs = library("binary")
    wrong = 1 - stack(runs)
    np.testing.assert_allclose(stacked_weights("binary", wrong, runs["run 0"].targets), [0.25] * 4)


@pytest.mark.parametrize("task", TASKS)
def test_greedy_selection_is_that_of_trying_everything(task):
    """Round by round, with the metric itself."""
    runs = library(task, runs=5, rows=40)
    targets, said = runs["run 0"].targets, stack(runs)
    bag: list[int] = []
    path = []
    for _ in range(6):
        scores = [measure(task, targets, said[[*bag, k]].mean(0))["auroc"] for k in range(5)]
        top = [k for k in range(5) if scores[k] >= max(scores) - 1e-12]
        bag.append(min(top, key=lambda k: (k not in bag, k)))
        path.append((max(scores), list(bag)))
    best = max(score for score, _ in path)
    good = [chosen for score, chosen in path if score >= best - 1e-12]
    chosen = min(good, key=lambda chosen: (len(set(chosen)), len(chosen)))
    wanted = np.bincount(chosen, minlength=5) / len(chosen)
    np.testing.assert_allclose(greedy_weights(task, said, targets, rounds=6), wanted)


def test_greedy_is_as_good_as_any_two_of_equal_weight():
    runs = library("binary", runs=6, seed=3)
    targets, said = runs["run 0"].targets, stack(runs)
    first = int(np.argmax([measure("binary", targets, s)["auroc"] for s in said]))
    pairs = [measure("binary", targets, (said[first] + s) / 2)["auroc"] for s in said]
    weights = greedy_weights("binary", said, targets)
    mixed = np.tensordot(weights, said, axes=1)
    assert measure("binary", targets, mixed)["auroc"] >= max(pairs) - 1e-12


def test_of_equally_good_ensembles_the_smaller_is_taken():
    runs = library("binary", runs=1)
    said = np.concatenate([stack(runs)] * 3)  # nobody adds anything
    weights = greedy_weights("binary", said, runs["run 0"].targets)
    np.testing.assert_array_equal(weights, [1, 0, 0])
    sure = runs["run 0"].targets[:, None].astype(float)
    weights = greedy_weights("binary", np.stack([said[0], sure]), runs["run 0"].targets)
    np.testing.assert_array_equal(weights, [0, 1])


@pytest.mark.parametrize("way", ensemble.WAYS)
def test_each_patient_is_answered_by_weights_that_have_not_seen_it(way):
    runs = library("binary")
    one = runs["run 0"]
    said = cross_fitted("binary", runs, way, folds=3, seed=1)
    scores, matched = stack(runs), np.zeros(120, bool)
    names, patient = np.unique(one.groups, return_inverse=True)
    fold = (np.random.default_rng(1).permutation(len(names)) % 3)[patient]
    for number in range(3):
        held = fold == number
        weights = ensemble.choose("binary", scores[:, ~held], one.targets[~held], way)
        wanted = np.tensordot(weights, scores[:, held], axes=1)
        np.testing.assert_allclose(said.scores[held], wanted, atol=1e-6)
        matched |= held
    assert matched.all()
    if way == "mean":  # nothing is chosen: the same as all together
        together = combine("binary", runs, way).validation.scores
        np.testing.assert_allclose(said.scores, together, atol=1e-7)


def test_choosing_among_runs_that_know_nothing_is_seen_through():
    """Of 40 random runs a greedy choice looks good on the rows it chose by, and on no others."""
    generator = np.random.default_rng(0)
    targets, ids = np.arange(80) % 2, np.arange(80).astype(str)
    runs = {
        f"{k}": Predictions(ids, targets, generator.random((80, 1), np.float32), ids)
        for k in range(40)
    }
    found = combine("binary", runs, "greedy")
    assert found.score > 0.75
    assert abs(found.unseen_score - 0.5) < 0.15


def test_too_few_patients_leave_nothing_to_estimate_by():
    runs = library("binary")
    for groups in (np.array(["one"] * 120), np.where(runs["run 0"].targets == 1, "a", "b")):
        same = {name: replace(p, groups=groups) for name, p in runs.items()}
        found = combine("binary", same, "weighted")
        assert found.unseen is None and found.unseen_score == -1


def test_runs_of_other_pictures_are_refused():
    runs = library("multilabel", runs=2)
    assert aligned(runs).shape == (2, 120, 3)
    one, two = runs.values()
    swapped = two.ids[::-1]
    others = [
        (replace(two, ids=swapped), "their ids differ"),
        (replace(two, ids=two.ids[:50]), "their ids differ"),
        (replace(two, targets=1 - two.targets), "their targets differ"),
        (replace(two, groups=swapped), "their groups differ"),
        (replace(two, scores=two.scores[:, :2]), "has 3 outputs and two 2"),
    ]
    for other, message in others:
        with pytest.raises(LayerwiseError, match=message):
            combine("multilabel", {"one": one, "two": other}, "mean")
    with pytest.raises(LayerwiseError, match="two runs or more"):
        combine("multilabel", {"one": one}, "mean")

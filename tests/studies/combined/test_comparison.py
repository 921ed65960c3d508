"""Ensembles of made-up runs, whose gains can be worked out otherwise."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from layerwise.errors import LayerwiseError
from layerwise.evaluation.estimates import holm
from layerwise.evaluation.intervals import paired_difference
from layerwise.evaluation.operating import choose_threshold
from layerwise.evaluation.predictions import Predictions
from layerwise.studies import ensemble
from layerwise.studies.combined.comparison import METRICS, Member, compare
from layerwise.studies.ensemble import FOLDS, auroc, choose, cross_fitted

COUNT = 150


def said(logits, targets, part):
    ids = np.array([f"{part}{i}" for i in range(len(targets))])
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return Predictions(ids, targets, scores[:, None], ids)


def runs(skills, seed=0, shared=0.0):
    """Runs whose logits are skill × truth and noise, a part of which all share."""
    generator = np.random.default_rng(seed)
    targets = {part: generator.integers(0, 2, COUNT) for part in ("val", "test")}
    common = {part: generator.normal(0, shared, COUNT) for part in targets}
    out = []
    for number, skill in enumerate(skills):
        each = {
            part: said(skill * truth + generator.normal(0, 1, COUNT) + common[part], truth, part)
            for part, truth in targets.items()
        }
        out.append(Member(f"run{number}", f"run {number}", 10, each["val"], each["test"]))
    return out


def test_independent_runs_are_better_together_and_by_how_much():
    members = runs([1.2, 1.3, 1.1, 1.2])
    found = compare("binary", members, draws=200, seed=0)
    alone = {m.id: roc_auc_score(m.validation.targets, m.validation.scores[:, 0]) for m in members}
    best = max(members, key=lambda m: alone[m.id])
    assert found.best.weights == {best.id: 1.0} and found.members[0] is best
    assert found.best.test["auroc"]["value"] == pytest.approx(
        roc_auc_score(best.test.targets, best.test.scores[:, 0])
    )
    (mean,) = [way for way in found.ways if way.way == "mean"]
    together = np.mean([m.test.scores for m in members], axis=0)
    assert mean.test["auroc"]["value"] == pytest.approx(
        roc_auc_score(best.test.targets, together[:, 0])
    )
    before = np.mean([m.validation.scores for m in members], axis=0, dtype=np.float64)
    limit = choose_threshold(
        "binary", best.validation.targets, before.astype(np.float32), best.validation.ids, seed=0
    )
    assert mean.threshold == pytest.approx(limit)
    assert mean.test["f1"]["value"] == pytest.approx(
        f1_score(best.test.targets, together[:, 0] >= limit)
    )
    reference = paired_difference(
        *("auroc", "binary", best.test.targets, together, best.test.scores, best.test.groups),
        draws=200,
        seed=0,
    )
    for side in ("value", "low", "high"):
        assert mean.test_gain["auroc"][side] == pytest.approx(reference[side], abs=1e-6)
    assert mean.test_gain["auroc"]["value"] > 0.04 and found.helps()
    flat = [way.test_gain[metric] for way in found.ways for metric in METRICS]
    assert [one["p_holm"] for one in flat] == holm([one["p"] for one in flat])


def test_the_best_alone_is_cross_fitted_too():
    """By hand: every fold is answered by the run that is best on the others."""
    members = runs([1.0, 1.0, 1.0], seed=4)
    found = compare("binary", members, draws=50, seed=0)
    said_of = {m.id: m.validation for m in found.members}
    one = found.members[0].validation
    names, patient = np.unique(one.groups, return_inverse=True)
    fold = (np.random.default_rng(0).permutation(len(names)) % FOLDS)[patient]
    expected = np.empty(COUNT)
    for number in range(FOLDS):
        held = fold == number
        scores = [roc_auc_score(p.targets[~held], p.scores[~held, 0]) for p in said_of.values()]
        expected[held] = list(said_of.values())[int(np.argmax(scores))].scores[held, 0]
    assert len(set(map(tuple, np.round(expected, 3)[:, None]))) > 10
    assert found.best.unseen["value"] == pytest.approx(roc_auc_score(one.targets, expected))
    for way in found.ways:
        gap = way.unseen["value"] - found.best.unseen["value"]
        assert way.unseen_gain["value"] == pytest.approx(gap)
    assert found.best.unseen_gain == {} and found.best.test_gain == {}
    top = max(way.unseen["value"] for way in found.ways)
    assert found.chosen.unseen["value"] == top


def test_without_a_member_the_others_are_weighed_anew():
    members = runs([2.0, 0.8, 0.9], seed=2)
    found = compare("binary", members, ["weighted"], draws=100, seed=0)
    chosen = found.chosen
    assert chosen.way == "weighted" and len(found.contributions) == len(chosen.weights)
    whole = sum(
        w * next(m for m in members if m.id == i).test.scores.astype(float)
        for i, w in chosen.weights.items()
    )
    targets = members[0].test.targets
    for one in found.contributions:
        rest = [m for m in found.members if m.id != one.id]
        scores = np.stack([m.validation.scores.astype(float) for m in rest])
        weights = choose("binary", scores, rest[0].validation.targets, "weighted")
        without = sum(w * m.test.scores.astype(float) for w, m in zip(weights, rest, strict=True))
        expected = roc_auc_score(targets, whole[:, 0]) - roc_auc_score(targets, without[:, 0])
        assert one.test["value"] == pytest.approx(expected, abs=1e-6)
        assert one.weight == chosen.weights[one.id]
    values = [one.test["value"] for one in found.contributions]
    assert values == sorted(values, reverse=True)
    assert found.contributions[0].id == "run0" and found.contributions[0].beyond_noise


def test_of_two_runs_the_other_one_is_what_is_left():
    members = runs([1.0, 1.1], seed=1)
    found = compare("binary", members, ["mean"], draws=50)
    total = found.chosen.test["auroc"]["value"]
    for one in found.contributions:
        other = next(m for m in members if m.id != one.id)
        left = roc_auc_score(other.test.targets, other.test.scores[:, 0])
        assert one.test["value"] == pytest.approx(total - left, abs=1e-6)


def test_copies_of_one_run_gain_nothing():
    (one,) = runs([1.0])
    members = [Member(f"copy{i}", "", 10, one.validation, one.test) for i in range(3)]
    found = compare("binary", members, draws=50)
    for way in found.ways:
        assert way.test_gain["auroc"]["value"] == pytest.approx(0, abs=1e-6)
    assert not found.helps()
    (greedy,) = [way for way in found.ways if way.way == "greedy"]
    assert greedy.weights == {"copy0": 1.0}


def test_one_patient_leaves_nothing_to_cross_fit():
    members = [
        Member(
            m.id,
            m.name,
            10,
            Predictions(
                m.validation.ids, m.validation.targets, m.validation.scores, np.full(COUNT, "p")
            ),
            m.test,
        )
        for m in runs([1.0, 1.2])
    ]
    found = compare("binary", members, draws=20)
    assert found.best.unseen == {} and all(way.unseen_gain == {} for way in found.ways)
    assert found.chosen.way == "mean"  # in which nothing is chosen


def test_runs_of_other_test_pictures_are_refused():
    one, other = runs([1.0, 1.0])
    wrong = Predictions(other.test.ids, 1 - other.test.targets, other.test.scores, other.test.ids)
    with pytest.raises(LayerwiseError, match="targets differ"):
        compare("binary", [one, Member("x", "x", 1, other.validation, wrong)], draws=5)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_best_is_a_choice_of_one(task):
    generator = np.random.default_rng(0)
    outputs = 1 if task == "binary" else 3
    targets = generator.integers(0, 2 if task == "binary" else 3, 60)
    scores = generator.random((4, 60, outputs))
    weights = choose(task, scores, targets, "best")
    every = [auroc(task, targets, s) for s in scores]
    assert weights.tolist() == [float(i == int(np.argmax(every))) for i in range(4)]
    assert "best" not in ensemble.WAYS
    ids = np.arange(60).astype(str)
    same = {str(i): Predictions(ids, targets, scores[0].astype(np.float32), ids) for i in range(2)}
    found = cross_fitted(task, same, "best")
    np.testing.assert_array_equal(found.scores, scores[0].astype(np.float32))

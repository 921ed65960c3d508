"""Forest and kernel SVM tuned by cross-validation, held against scikit-learn on the same folds."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from layerwise.models.classic import forest
from layerwise.models.tuned import KernelSVM, TunedForest, group_folds, held_out_margins

GRID = {"penalties": (1.0, 100.0), "widths": (0.1, 1.0)}


def rings(rows: int, seed: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (n, 4) whose class is how far the first two are from 0; groups of two rows."""
    generator = np.random.default_rng(seed)
    features = generator.normal(0, 1, (rows, 4)).astype(np.float32)
    away = np.hypot(features[:, 0], features[:, 1])
    edges = np.quantile(away, np.arange(1, classes) / classes)
    targets = np.digitize(away + generator.normal(0, 0.1, rows), edges)
    return features, targets, (np.arange(rows) // 2).astype(str)


def test_folds_hold_whole_groups_and_every_row_once():
    _, targets, groups = rings(60, 0, 3)
    folds = group_folds(targets, groups, 4, seed=0)
    held = np.concatenate([held for _, held in folds])
    assert sorted(held.tolist()) == list(range(60)) and len(folds) == 4
    for learnt, held in folds:
        assert not set(groups[learnt]) & set(groups[held])
        assert len(learnt) + len(held) == 60
        assert set(targets[held]) == {0, 1, 2}


def test_folds_that_tell_nothing_are_left_out():
    targets = np.array([0] * 8 + [1] * 4)
    groups = np.array([*"abcdefgh", *"xxyy"])  # class 1 is of two patients
    for learnt, held in group_folds(targets, groups, 5, seed=0):
        assert set(targets[learnt]) == set(targets[held]) == {0, 1}
    assert group_folds(targets, np.array(["a"] * 12), seed=0) == []
    assert group_folds(targets, np.array(["a"] * 8 + ["b"] * 4), seed=0) == []
    assert group_folds(np.zeros(9, np.int64), np.arange(9).astype(str), seed=0) == []


def reference_scorer(estimator, features, targets) -> float:
    said = estimator.decision_function(features)
    if said.ndim == 1:
        return roc_auc_score(targets, said)
    return np.mean([roc_auc_score(targets == k, said[:, k]) for k in range(said.shape[1])])


@pytest.mark.parametrize("classes", [2, 3])
def test_a_kernel_svm_is_that_of_scikit_learn_on_the_same_folds(classes):
    features, targets, groups = rings(120, 0, classes)
    new, _, _ = rings(50, 1, classes)
    task = "binary" if classes == 2 else "multiclass"
    svm = KernelSVM(task, classes, seed=0, threads=2, folds=3, **GRID)
    scores = svm.fit(features, targets, groups).predict(new)

    folds = group_folds(targets, groups, 3, seed=0)
    pipe = make_pipeline(StandardScaler(), SVC(class_weight="balanced"))
    grid = {"svc__C": [1.0, 100.0], "svc__gamma": [0.025, 0.25]}
    found = GridSearchCV(pipe, grid, scoring=reference_scorer, cv=folds).fit(features, targets)
    (chosen,) = svm.chosen
    assert chosen["C"] == found.best_params_["svc__C"]
    assert chosen["gamma"] == found.best_params_["svc__gamma"]
    assert chosen["auroc"] == pytest.approx(found.best_score_, abs=1e-12)
    assert chosen["folds"] == 3
    wanted = CalibratedClassifierCV(
        found.best_estimator_, method="sigmoid", cv=folds, ensemble=False
    ).fit(features, targets)
    said = wanted.predict_proba(new)
    np.testing.assert_allclose(scores, said[:, 1:] if classes == 2 else said, atol=1e-5)
    assert scores.dtype == np.float32


def test_a_round_kernel_sees_what_a_straight_one_can_not():
    features, targets, groups = rings(200, 0)
    new, wanted, _ = rings(200, 1)
    found = {}
    for kernel in ("rbf", "linear"):
        svm = KernelSVM("binary", 2, seed=0, threads=1, folds=3, kernel=kernel, **GRID)
        said = svm.fit(features, targets, groups).predict(new)[:, 0]
        found[kernel] = roc_auc_score(wanted, said)
    assert found["rbf"] > 0.95 and found["linear"] < 0.65


def test_probabilities_are_of_rows_that_were_held_out():
    """On labels that nothing tells, rows learnt by heart would be sure of themselves."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(120, 30)).astype(np.float32)
    targets = generator.integers(0, 2, 120)
    svm = KernelSVM("binary", 2, seed=0, threads=1, folds=3, penalties=(100.0,), widths=(1.0,))
    said = svm.fit(features, targets).predict(features)[:, 0]
    assert abs(said - targets.mean()).max() < 0.3
    fitted = svm._estimators[0]._estimator
    assert (fitted.predict(features) == targets).all()  # although it knows all of them


def test_held_out_margins_have_no_value_where_a_class_was_not_learnt():
    features, targets, groups = rings(60, 0)
    groups = groups.copy()
    targets = targets.copy()
    targets[:4], groups[:4] = 2, "only"
    folds = group_folds(targets, groups, 3, seed=0)
    svm = SVC(kernel="linear")
    held = held_out_margins(svm, features, targets, folds)
    assert held.shape == (60, 3)
    (without,) = [held_rows for learnt, held_rows in folds if 2 not in targets[learnt]]
    assert set(without) >= {0, 1, 2, 3}
    assert np.isnan(held[without, 2]).all() and np.isfinite(np.delete(held, without, 0)).all()
    learnt, rows = next(fold for fold in folds if 2 in targets[fold[0]])
    wanted = SVC(kernel="linear").fit(features[learnt], targets[learnt])
    np.testing.assert_allclose(held[rows], wanted.decision_function(features[rows]))
    scores = KernelSVM("multiclass", 3, seed=0, threads=1, folds=3, **GRID)
    said = scores.fit(features, targets, groups).predict(features)
    np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-6)


def test_a_forest_is_that_of_scikit_learn_on_the_same_folds():
    features, targets, groups = rings(100, 0, 3)
    new, _, _ = rings(40, 1, 3)
    how = {"trees": (3, 9), "max_features": (0.25, 1.0)}
    model = TunedForest("multiclass", 3, seed=5, threads=2, folds=3, **how)
    scores = model.fit(features, targets, groups).predict(new)

    def scorer(estimator, rows, truth):
        said = estimator.predict_proba(rows)
        return np.mean([roc_auc_score(truth == k, said[:, k]) for k in range(3)])

    grid = {"n_estimators": [3, 9], "max_features": [0.25, 1.0]}
    folds = group_folds(targets, groups, 3, seed=5)
    found = GridSearchCV(forest(5, trees=1), grid, scoring=scorer, cv=folds).fit(features, targets)
    np.testing.assert_allclose(scores, found.predict_proba(new), atol=1e-7)
    (chosen,) = model.chosen
    assert (chosen["trees"], chosen["max_features"]) == (
        found.best_params_["n_estimators"],
        found.best_params_["max_features"],
    )
    assert chosen["auroc"] == pytest.approx(found.best_score_, abs=1e-12)


@pytest.mark.parametrize("kind", [TunedForest, KernelSVM])
def test_several_labels_each_choose_on_their_known_rows(kind):
    features, one, groups = rings(90, 0)
    targets = np.stack([one, 1 - one, np.full(90, np.nan), np.zeros(90)], 1).astype(np.float32)
    targets[::3, 1] = np.nan
    small = {"trees": (20,)} if kind is TunedForest else {"penalties": (10.0,), "widths": (1.0,)}
    model = kind("multilabel", 4, seed=0, threads=1, folds=3, **small)
    scores = model.fit(features, targets, groups).predict(features)
    assert scores.shape == (90, 4)
    assert (scores[:, 2] == 0.5).all() and not scores[:, 3].any()  # known for none; always absent
    alone = kind("binary", 2, seed=0, threads=1, folds=3, **small)
    keep = ~np.isnan(targets[:, 1])
    said = alone.fit(features[keep], 1 - one[keep], groups[keep]).predict(features)
    np.testing.assert_array_equal(scores[:, 1], said[:, 0])
    assert model.chosen[1] == alone.chosen[0] and model.chosen[2] == {}


@pytest.mark.parametrize("kind", [TunedForest, KernelSVM])
def test_one_patient_is_no_reason_to_fail(kind):
    features, targets, _ = rings(30, 0)
    model = kind("binary", 2, seed=0, threads=1)
    scores = model.fit(features, targets, np.array(["one"] * 30)).predict(features)
    assert model.chosen[0]["folds"] == 0 and "auroc" not in model.chosen[0]
    assert roc_auc_score(targets, scores[:, 0]) > 0.9
    if kind is KernelSVM:
        assert (model.chosen[0]["C"], model.chosen[0]["gamma"]) == (1.0, 0.25)
    else:
        assert (model.chosen[0]["trees"], model.chosen[0]["max_features"]) == (200, "sqrt")


def test_settings_do_not_depend_on_the_number_of_threads():
    features, targets, groups = rings(60, 0)
    one, two = (
        KernelSVM("binary", 2, seed=0, threads=threads, folds=3, **GRID) for threads in (1, 2)
    )
    a = one.fit(features, targets, groups).predict(features)
    np.testing.assert_array_equal(a, two.fit(features, targets, groups).predict(features))
    assert one.chosen == two.chosen

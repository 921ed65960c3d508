"""The grid search against scikit-learn's, with the same folds on the same features."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, PredefinedSplit, StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.class_weight import compute_sample_weight

from layerwise.errors import DataError, TrainingError
from layerwise.models.solved import newton, rotation
from layerwise.models.solved.grid import Searched, check_folds, search
from layerwise.models.solved.rotation import Columns

GRID = (0.001, 0.01, 0.1, 1.0)
REFERENCE = {
    "squared hinge": LinearSVC(dual=False, tol=1e-8, max_iter=100_000),
    "logistic": LogisticRegression(solver="newton-cholesky", tol=1e-7, max_iter=1000),
}


def data(n: int, d: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positive, correlated features of falling strength, noisy classes, folds by patient."""
    generator = np.random.default_rng(n + d)
    r = min(n, d)
    strength = np.arange(1, r + 1) ** -0.7
    x = np.abs((generator.normal(size=(n, r)) * strength) @ generator.normal(size=(r, d)) + 0.5)
    rank = np.argsort(np.argsort(x[:, :9].sum(axis=1) + 2 * generator.normal(size=n)))
    y = (rank * classes // n).astype(np.int64)
    patients = np.sort(generator.integers(0, n // 3, n))
    fold = np.empty(n, np.int64)
    kfold = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for number, (_, held) in enumerate(kfold.split(x, y, patients)):
        fold[held] = number
    return x.astype(np.float32), y, fold


def reference(x: np.ndarray, y: np.ndarray, fold: np.ndarray, kind: str, **settings: object):
    model = REFERENCE[kind].set_params(class_weight=settings.get("weight"))
    cv = PredefinedSplit(fold)
    return GridSearchCV(model, {"C": list(settings.get("grid", GRID))}, cv=cv).fit(
        x.astype(float), y
    )


def objective(
    x: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    bias: float,
    c: float,
    kind: str,
    s: object = 1,
) -> float:
    """scikit-learn's, of y = 0 or 1."""
    w = weight.astype(np.float64)
    margin = (2 * y - 1) * (x.astype(np.float64) @ w + bias)
    if kind == "squared hinge":
        return float((w @ w + bias * bias) / 2 + c * (s * np.maximum(0, 1 - margin) ** 2).sum())
    return float(w @ w / 2 + c * (s * np.logaddexp(0, -margin)).sum())


@pytest.mark.parametrize("kind", list(REFERENCE))
@pytest.mark.parametrize(("n", "d"), [(90, 250), (240, 25)])
@pytest.mark.parametrize(("standardise", "balanced"), [(False, False), (True, True)])
def test_two_classes_equal_scikit_learn(kind, n, d, standardise, balanced):
    x, y, fold = data(n, d)
    y = y * (np.arange(n) % 3 > 0)  # unequal classes
    z = StandardScaler().fit_transform(x.astype(np.float64)) if standardise else x
    other = reference(z, y, fold, kind, weight="balanced" if balanced else None)
    found = search(
        Columns.of(x),
        y,
        fold,
        "binary",
        kind=kind,
        penalties=GRID,
        standardise=standardise,
        balanced=balanced,
    )
    c = other.best_params_["C"]
    assert found.penalties == (c,) == (found.linear.penalty,)
    np.testing.assert_array_equal(found.scores[:, 0], other.cv_results_["mean_test_score"])
    best = other.best_estimator_
    s = compute_sample_weight("balanced", y) if balanced else 1
    theirs = objective(z, y, best.coef_[0], best.intercept_[0], c, kind, s)
    assert found.objectives[0] == pytest.approx(theirs, rel=1e-6)
    if not standardise:
        mine = objective(x, y, found.linear.weight[0], found.linear.bias[0], c, kind, s)
        assert mine == pytest.approx(theirs, rel=1e-4)
    np.testing.assert_allclose(
        found.linear.logits(x)[:, 0], other.decision_function(z), atol=2e-3, rtol=1e-3
    )


@pytest.mark.parametrize("kind", list(REFERENCE))
@pytest.mark.parametrize(("n", "d"), [(60, 90), (300, 20)])
def test_several_classes_equal_scikit_learn(kind, n, d):
    x, y, fold = data(n, d, classes=4)
    other = reference(x, y, fold, kind)
    found = search(Columns.of(x), y, fold, "multiclass", kind=kind, penalties=GRID)
    assert found.penalties == (other.best_params_["C"],)
    np.testing.assert_array_equal(found.scores[:, 0], other.cv_results_["mean_test_score"])
    ours, theirs = found.linear.logits(x), other.decision_function(x)
    if kind == "logistic":  # a shift of all classes together changes nothing
        ours, theirs = (a - a.mean(axis=1, keepdims=True) for a in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, atol=2e-3, rtol=1e-3)
    if kind == "squared hinge":
        best = other.best_estimator_
        for k in range(4):
            value = objective(x, y == k, best.coef_[k], best.intercept_[k], best.C, kind)
            assert found.objectives[k] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("kind", list(REFERENCE))
def test_every_label_is_a_search_of_its_own_on_its_known_rows(kind):
    x, y, fold = data(240, 30)
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 2, 240)
    targets = np.stack([y, noise], axis=1).astype(np.float32)
    targets[generator.random(240) < 0.3, 0] = np.nan
    found = search(Columns.of(x), targets, fold, "multilabel", kind=kind, penalties=GRID)
    for k in range(2):
        known = ~np.isnan(targets[:, k])
        other = reference(x[known], targets[known, k].astype(int), fold[known], kind)
        assert found.penalties[k] == other.best_params_["C"]
        np.testing.assert_array_equal(found.scores[:, k], other.cv_results_["mean_test_score"])
        np.testing.assert_allclose(
            found.linear.logits(x[known])[:, k], other.decision_function(x[known]), atol=2e-3
        )
    assert found.penalties[0] != found.penalties[1]
    assert found.linear.penalty is None


def test_ties_go_to_the_smallest_penalty_as_in_scikit_learn():
    x, _, fold = data(90, 120)
    y = (x[:, 0] > np.median(x[:, 0])).astype(np.int64)
    x[:, 1] = 100 * y  # so that every C separates
    other = reference(x, y, fold, "squared hinge", grid=(0.1, 1.0, 10.0))
    found = search(Columns.of(x), y, fold, "binary", kind="squared hinge", penalties=(10, 0.1, 1))
    assert found.scores.tolist() == [[1.0]] * 3
    assert found.penalties == (0.1,) == (other.best_params_["C"],)
    assert found.grid == (0.1, 1.0, 10.0)


@pytest.mark.parametrize("kind", list(REFERENCE))
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_held_out_margins_are_those_of_models_that_had_not_seen_the_rows(kind, task):
    x, y, fold = data(150, 40, classes=2 if task == "binary" else 3)
    found = search(Columns.of(x), y, fold, task, kind=kind, penalties=[0.1])
    for f in range(5):
        held = fold == f
        model = REFERENCE[kind].set_params(C=0.1, class_weight=None)
        model.fit(x[~held].astype(float), y[~held])
        theirs = model.decision_function(x[held]).reshape(held.sum(), -1)
        ours = found.held_out[held]
        if kind == "logistic" and task == "multiclass":
            ours, theirs = (a - a.mean(axis=1, keepdims=True) for a in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


def same(one: Searched, other: Searched) -> None:
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_allclose(one.objectives, other.objectives, rtol=1e-6)
    np.testing.assert_allclose(one.linear.weight, other.linear.weight, atol=2e-5)
    np.testing.assert_allclose(one.linear.bias, other.linear.bias, atol=2e-4)


@pytest.mark.parametrize(("n", "d"), [(90, 400), (300, 25)])
@pytest.mark.parametrize("kind", list(REFERENCE))
def test_blocks_batches_and_factorisations_do_not_change_the_answer(monkeypatch, kind, n, d):
    x, y, fold = data(n, d, classes=3)
    answer = search(Columns.of(x), y, fold, "multiclass", kind=kind, penalties=GRID)
    one_by_one = search(Columns.of(x), y, fold, "multiclass", kind=kind, penalties=GRID, at_once=1)
    same(answer, one_by_one)
    for limit in (0.0, 1e9):  # factorised always; conjugate gradients always
        monkeypatch.setattr(newton, "_worth", lambda _d, b, x=limit: np.full(len(b.diagonal), x))
        same(answer, search(Columns.of(x), y, fold, "multiclass", kind=kind, penalties=GRID))
    monkeypatch.setattr(rotation, "BLOCK", 4 * n * 7)  # seven columns
    same(answer, search(Columns.of(x), y, fold, "multiclass", kind=kind, penalties=GRID))


def test_what_can_not_be_searched_is_said(monkeypatch):
    x, y, fold = data(90, 20)

    def refused(error, words, x=x, y=y, fold=fold, task="binary", **more):
        with pytest.raises(error, match=words):
            search(Columns.of(x), y, fold, task, kind="squared hinge", **more)

    refused(TrainingError, r"penalties \[\]: give one or more", penalties=[])
    refused(TrainingError, "numbers above 0", penalties=[1, 0])
    refused(TrainingError, "numbers above 0", penalties=[np.inf])
    refused(DataError, "one fold leaves nothing to learn from", fold=np.zeros(90, np.int64))
    lonely = y * (fold != 2)
    words = "fold 3 of 5 has no image with the label 'sick' .*fewer --folds"
    refused(DataError, words, y=lonely, labels=["well", "sick"])
    refused(DataError, "fold 3 of 5 has no image with the label number 0", y=lonely)
    targets = np.stack([y, np.where(fold == 1, np.nan, y)], axis=1).astype(np.float32)
    with pytest.raises(DataError, match="fold 2 of 5 has no image with the label 'b'"):
        check_folds(targets, fold, "multilabel", ["a", "b"])
    refused(TrainingError, "the same for every image; take another cut", x=np.ones_like(x))
    for odd in (np.nan, np.inf, -np.inf):
        broken = x.copy()
        broken[17, 3] = odd
        refused(TrainingError, "not finite; the weights of the network", x=broken)
    monkeypatch.setattr(rotation, "MOST_TURNED", 20)
    refused(TrainingError, "90 images with 20 values each are too many.*pooled")
    monkeypatch.undo()
    monkeypatch.setattr(newton, "STEPS", 1)
    refused(TrainingError, "C = 0.01 was not found in 1 steps")

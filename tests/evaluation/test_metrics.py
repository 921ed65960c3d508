"""Metrics against scikit-learn and against values worked out by hand."""

import math

import numpy as np
import pytest
from sklearn import metrics as reference

from layerwise.evaluation.metrics import METRICS, Prepared, measure, per_label


def binary(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets and scores with many ties."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, n)
    return targets, np.round(np.clip(rng.normal(0.35 + 0.3 * targets, 0.25), 0, 1), 1)


def of_sklearn(targets: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float]:
    decided = scores >= threshold
    return {
        "auroc": reference.roc_auc_score(targets, scores),
        "auprc": reference.average_precision_score(targets, scores),
        "accuracy": reference.accuracy_score(targets, decided),
        "balanced_accuracy": reference.balanced_accuracy_score(targets, decided),
        "f1": reference.f1_score(targets, decided, zero_division=0),
        "precision": reference.precision_score(targets, decided, zero_division=0),
        "recall": reference.recall_score(targets, decided),
        "specificity": reference.recall_score(targets, decided, pos_label=0),
        "brier": reference.brier_score_loss(targets, scores),
    }


@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.5, 2.0])
def test_binary_equals_scikit_learn(threshold: float) -> None:
    targets, scores = binary()
    got = measure("binary", targets, scores[:, None].astype(np.float32), threshold)
    assert tuple(got) == METRICS
    # float32 0.4 is above 0.4 as float64: decide on the same numbers as the reference
    expected = of_sklearn(targets, scores.astype(np.float32).astype(float), threshold)
    assert got == pytest.approx(expected, abs=1e-12)


def test_by_hand() -> None:
    got = measure("binary", np.array([0, 1, 1, 0]), np.array([0.1, 0.8, 0.4, 0.4]), 0.4)
    # pairs (positive, negative): 3 won, 1 tied of 4; decisions: 2 right positives, 1 false alarm
    assert got == pytest.approx(
        {
            "auroc": 0.875,
            "auprc": 0.5 * 1 + 0.5 * 2 / 3,
            "accuracy": 0.75,
            "balanced_accuracy": 0.75,
            "f1": 0.8,
            "precision": 2 / 3,
            "recall": 1.0,
            "specificity": 0.5,
            "brier": (0.01 + 0.04 + 0.36 + 0.16) / 4,
        }
    )


def test_weights_are_repetitions() -> None:
    targets, scores = binary(60, 3)
    weights = np.random.default_rng(1).integers(0, 4, (5, 60))
    values = Prepared.of("binary", targets, scores, 0.5).overall(weights.astype(float))
    for row, times in enumerate(weights):
        rows = np.repeat(np.arange(60), times)
        expected = of_sklearn(targets[rows], scores[rows], 0.5)
        assert {k: v[row] for k, v in values.items()} == pytest.approx(expected, abs=1e-12)


def test_what_images_count_need_not_be_whole() -> None:
    targets, scores = binary(60, 3)
    counts = np.random.default_rng(1).random(60)
    found = measure("binary", targets, scores, 0.5, counts)
    assert found["auroc"] == pytest.approx(
        reference.roc_auc_score(targets, scores, sample_weight=counts), abs=1e-12
    )
    assert found["auprc"] == pytest.approx(
        reference.average_precision_score(targets, scores, sample_weight=counts), abs=1e-12
    )
    assert found["f1"] == pytest.approx(
        reference.f1_score(targets, scores >= 0.5, sample_weight=counts), abs=1e-12
    )


def test_multiclass_equals_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    targets = rng.integers(0, 4, 150)
    logits = rng.normal(size=(150, 4)) + 1.5 * np.eye(4)[targets]
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    decided = scores.argmax(1)
    one_hot = np.eye(4)[targets]
    negatives = [np.mean(decided[targets != k] != k) for k in range(4)]
    expected = {
        "auroc": reference.roc_auc_score(targets, scores, multi_class="ovr"),
        "auprc": reference.average_precision_score(one_hot, scores),
        "accuracy": np.mean(decided == targets),
        "balanced_accuracy": reference.balanced_accuracy_score(targets, decided),
        "f1": reference.f1_score(targets, decided, average="macro"),
        "precision": reference.precision_score(targets, decided, average="macro"),
        "recall": reference.recall_score(targets, decided, average="macro"),
        "specificity": np.mean(negatives),
        "brier": np.mean(((scores - one_hot) ** 2).sum(1)),
    }
    assert measure("multiclass", targets, scores) == pytest.approx(expected, abs=1e-12)
    each = per_label("multiclass", "abcd", targets, scores)
    assert list(each) == list("abcd")
    assert each["c"]["auroc"] == pytest.approx(
        reference.roc_auc_score(targets == 2, scores[:, 2]), abs=1e-12
    )
    assert each["c"]["recall"] == pytest.approx(np.mean(decided[targets == 2] == 2))


def test_multilabel_masks_the_unknown_and_skips_labels_of_one_class() -> None:
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 2, (80, 3)).astype(np.float32)
    scores = np.clip(0.5 * truth + 0.5 * rng.random((80, 3)), 0, 1)
    truth[::5, 0] = np.nan
    truth[:, 2] = 0
    thresholds = [0.3, 0.7, 0.5]
    known = ~np.isnan(truth[:, 0])
    first = of_sklearn(truth[known, 0].astype(int), scores[known, 0], 0.3)
    second = of_sklearn(truth[:, 1].astype(int), scores[:, 1], 0.7)
    got = measure("multilabel", truth, scores, thresholds)
    assert got == pytest.approx({k: (first[k] + second[k]) / 2 for k in METRICS}, abs=1e-12)
    each = per_label("multilabel", ["x", "y", "z"], truth, scores, thresholds)
    assert each["x"] == pytest.approx(first, abs=1e-12)
    assert math.isnan(each["z"]["auroc"]) and each["z"]["specificity"] == 1 - np.mean(
        scores[:, 2] >= 0.5
    )


def test_one_class_only_is_undefined_and_silent() -> None:
    got = measure("binary", np.zeros(5, int), np.linspace(0, 1, 5), 0.6)
    undefined = {"auroc", "auprc", "balanced_accuracy", "f1", "precision", "recall"}
    assert {k for k, v in got.items() if math.isnan(v)} == undefined
    assert got["accuracy"] == got["specificity"] == 0.6
    assert all(math.isnan(v) for v in measure("binary", np.zeros(0, int), np.zeros(0)).values())
    nothing_known = measure("multilabel", np.full((3, 2), np.nan), np.zeros((3, 2)))
    assert all(math.isnan(v) for v in nothing_known.values())


def test_a_class_without_images_does_not_count() -> None:
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]])
    got = measure("multiclass", np.array([0, 1, 1]), scores)
    assert got["balanced_accuracy"] == pytest.approx(0.75)
    assert got["auroc"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("task", "targets", "scores"),
    [
        ("binary", np.zeros(3, int), np.zeros((3, 2))),
        ("multiclass", np.zeros(3, int), np.zeros((4, 2))),
        ("multilabel", np.zeros((3, 3)), np.zeros((3, 2))),
        ("binary", np.zeros(2, int), np.array([0.1, np.nan])),
    ],
)
def test_shapes_that_do_not_fit(task: str, targets: np.ndarray, scores: np.ndarray) -> None:
    with pytest.raises(ValueError, match="scores"):
        measure(task, targets, scores)  # type: ignore[arg-type]

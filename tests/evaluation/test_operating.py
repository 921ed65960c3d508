"""Thresholds and calibration against brute force and closed forms."""

import numpy as np
import pytest

from layerwise.errors import LayerwiseError
from layerwise.evaluation.metrics import measure
from layerwise.evaluation.operating import choose_threshold, reliability


def test_separable_scores_give_the_middle_of_the_gap_in_logits() -> None:
    targets = np.array([0] * 50 + [1] * 50)
    scores = np.where(targets == 1, 0.9, 0.2)
    middle = (np.log(9) + np.log(0.25)) / 2
    got = choose_threshold("binary", targets, scores[:, None])
    assert got == pytest.approx(1 / (1 + np.exp(-middle)))


def test_near_the_best_balanced_accuracy() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random(4000) < 0.8).astype(int)
    scores = 1 / (1 + np.exp(-rng.normal(2.0 * targets - 0.5, 1)))
    got = choose_threshold("binary", targets, scores)
    best = max(
        measure("binary", targets, scores, t)["balanced_accuracy"] for t in np.linspace(0, 1, 201)
    )
    assert measure("binary", targets, scores, got)["balanced_accuracy"] > best - 0.01
    # two normal densities of equal width, one apart by 2: they cross half way, at logit 0.5
    assert np.log(got / (1 - got)) == pytest.approx(0.5, abs=0.2)


def test_steadier_than_the_plain_maximum() -> None:
    def plain(targets: np.ndarray, scores: np.ndarray) -> float:
        values = np.unique(scores)
        j = [scores[targets == 1] >= v for v in values]
        gain = [
            h.mean() - (scores[targets == 0] >= v).mean() for h, v in zip(j, values, strict=True)
        ]
        return float(values[np.argmax(gain)])

    stable, jumpy = [], []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        targets = np.repeat([0, 1], 60)
        scores = 1 / (1 + np.exp(-rng.normal(6.0 * targets - 3, 1.6)))
        stable.append(choose_threshold("binary", targets, scores, draws=60))
        jumpy.append(plain(targets, scores))
    logit = [np.std(np.log(t) - np.log1p(-np.array(t))) for t in (stable, jumpy)]
    assert logit[0] < 0.7 * logit[1]


def test_patients_are_resampled_together_and_seeds_repeat() -> None:
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 2, 200)
    scores = np.clip(0.3 * targets + 0.7 * rng.random(200), 0, 1)
    patients = [f"p{i // 10}" for i in range(200)]
    by_patient = choose_threshold("binary", targets, scores, patients, seed=5)
    assert by_patient == choose_threshold("binary", targets, scores, patients, seed=5)
    assert by_patient != choose_threshold("binary", targets, scores, None, seed=5)


def test_by_task() -> None:
    assert choose_threshold("multiclass", np.arange(3), np.eye(3)) is None
    truth = np.array([[0, np.nan, 1], [1, 0, 1], [0, 0, 1], [1, 1, 1]] * 9, float)
    scores = np.where(truth == 1, 0.8, 0.5)
    got = choose_threshold("multilabel", truth, scores)
    assert got == pytest.approx([2 / 3, 2 / 3, 0.5])  # the logit's middle of 0.5 and 0.8 is 2/3
    assert choose_threshold("binary", np.zeros(3, int), np.zeros(3)) == 0.5
    with pytest.raises(LayerwiseError, match="policy"):
        choose_threshold("binary", [0, 1], [0.0, 1.0], policy="youden")  # type: ignore[arg-type]


def test_certain_scores_stay_finite() -> None:
    got = choose_threshold("binary", np.array([0, 0, 1, 1]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert got == pytest.approx(0.5)


def test_reliability_by_hand() -> None:
    got = reliability([0, 1, 1, 1, np.nan], [0.1, 0.3, 0.9, 1.0, 0.2], bins=2)
    assert got["count"].tolist() == [2, 2]
    assert got["score"] == pytest.approx([0.2, 0.95])
    assert got["rate"] == pytest.approx([0.5, 1.0])
    assert got["error"] == pytest.approx(0.5 * 0.3 + 0.5 * 0.05)
    # Wilson's interval of 1 in 2 and of 2 in 2
    assert got["low"] == pytest.approx([0.0945, 0.3424], abs=1e-3)
    assert got["high"] == pytest.approx([0.9055, 1.0], abs=1e-3)
    assert np.isnan(reliability([1], [0.9], bins=3)["rate"][0])

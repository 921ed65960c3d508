"""Intervals against a brute-force bootstrap with scikit-learn on repeated rows."""

import numpy as np
import pytest
from sklearn import metrics as reference

from layerwise.evaluation import intervals
from layerwise.evaluation.intervals import (
    bootstrap,
    paired_difference,
    pr_band,
    resamples,
    roc_band,
)
from layerwise.evaluation.metrics import METRICS, measure


def example(n: int = 90) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    patients = np.array([f"p{i}" for i in rng.integers(0, 40, n)])
    targets = rng.integers(0, 2, n)
    return targets, np.round(np.clip(rng.normal(0.4 + 0.2 * targets, 0.25), 0, 1), 1), patients


def repeated_rows(patients: np.ndarray, draws: int, seed: int) -> list[np.ndarray]:
    """The rows of each resample, written the long way."""
    names = np.unique(patients)
    generator = np.random.default_rng(seed)
    return [
        np.concatenate([np.flatnonzero(patients == names[g]) for g in drawn])
        for drawn in (generator.integers(0, len(names), len(names)) for _ in range(draws))
    ]


def test_equals_brute_force_with_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, scores, patients = example()
    monkeypatch.setattr(intervals, "CELLS", 90 * 7)  # seven resamples at a time
    got = bootstrap("binary", targets, scores, 0.5, patients, draws=60, seed=3)
    rows = repeated_rows(patients, 60, 3)
    for name, score in {
        "auroc": lambda r: reference.roc_auc_score(targets[r], scores[r]),
        "auprc": lambda r: reference.average_precision_score(targets[r], scores[r]),
        "f1": lambda r: reference.f1_score(targets[r], scores[r] >= 0.5),
        "brier": lambda r: reference.brier_score_loss(targets[r], scores[r]),
    }.items():
        low, high = np.percentile([score(r) for r in rows], [2.5, 97.5])
        expected = {"value": score(np.arange(90)), "low": low, "high": high}
        assert got[name] == pytest.approx(expected, abs=1e-12)


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, patients = example()
    whole = np.concatenate(list(resamples(90, patients, draws=20, seed=1)))
    monkeypatch.setattr(intervals, "CELLS", 1)
    assert np.array_equal(whole, np.concatenate(list(resamples(90, patients, draws=20, seed=1))))
    for name in np.unique(patients):  # a patient's images are drawn together
        assert (np.ptp(whole[:, patients == name], axis=1) == 0).all()


def test_unknown_patients_stand_alone() -> None:
    drawn = np.concatenate(list(resamples(6, ["", "", "", "", "a", "a"], draws=50, seed=0)))
    assert np.array_equal(drawn[:, 4], drawn[:, 5])
    assert not np.array_equal(drawn[:, 0], drawn[:, 1])


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_many_labels_equal_measure_on_repeated_rows(task: str) -> None:
    rng = np.random.default_rng(5)
    scores = rng.dirichlet(np.ones(3), 50)
    targets = rng.integers(0, 3, 50)
    if task == "multilabel":
        targets = (rng.random((50, 3)) < scores).astype(float)
        targets[:10, 1] = np.nan
    patients = np.array([f"p{i // 2}" for i in range(50)])
    got = bootstrap(task, targets, scores, None, patients, labels="abc", draws=30, seed=2)  # type: ignore[arg-type]
    each = [measure(task, targets[r], scores[r]) for r in repeated_rows(patients, 30, 2)]  # type: ignore[arg-type]
    for name in METRICS:
        low, high = np.percentile([m[name] for m in each], [2.5, 97.5])
        assert got[name]["low"] == pytest.approx(low, abs=1e-12), name
        assert got[name]["high"] == pytest.approx(high, abs=1e-12), name
    assert set(got["per_label"]) == set("abc") and set(got["per_label"]["a"]) == set(METRICS)


def test_resamples_without_a_class_do_not_count() -> None:
    targets = np.array([1] + [0] * 9)
    got = bootstrap("binary", targets, np.linspace(1, 0, 10), 0.5, draws=200)
    assert got["auroc"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    one = bootstrap("binary", np.zeros(4, int), np.zeros(4), 0.5, draws=10)["auroc"]
    assert all(np.isnan(v) for v in one.values())


def test_paired_difference_is_of_the_same_resamples() -> None:
    targets, a, patients = example()
    b = np.round(np.clip(a + np.random.default_rng(9).normal(0, 0.3, 90), 0, 1), 1)
    got = paired_difference("auroc", "binary", targets, a, b, patients, draws=40, seed=4)
    rows = repeated_rows(patients, 40, 4)
    gaps = [
        reference.roc_auc_score(targets[r], a[r]) - reference.roc_auc_score(targets[r], b[r])
        for r in rows
    ]
    low, high = np.percentile(gaps, [2.5, 97.5])
    assert (got["low"], got["high"]) == pytest.approx((low, high), abs=1e-12)
    same = paired_difference("brier", "binary", targets, a, a, patients, draws=20)
    assert same == {"value": 0, "low": 0, "high": 0}
    for name in METRICS:  # each alone, as together
        alone = paired_difference(
            name, "multiclass", [0, 1, 2], np.eye(3), np.eye(3)[::-1], draws=2
        )
        both = [measure("multiclass", np.arange(3), s)[name] for s in (np.eye(3), np.eye(3)[::-1])]
        assert alone["value"] == pytest.approx(both[0] - both[1])
    with pytest.raises(ValueError, match="unknown metric"):
        paired_difference("auc", "binary", targets, a, b)


def test_paired_difference_of_images_that_count_more_is_that_of_repeated_ones() -> None:
    targets, a, _ = example()
    b = np.round(np.clip(a + np.random.default_rng(9).normal(0, 0.3, 90), 0, 1), 1)
    images = np.array([f"i{number:02d}" for number in range(90)])
    counts = np.random.default_rng(2).integers(1, 4, 90)
    rows = np.repeat(np.arange(90), counts)
    got = paired_difference(
        "auroc", "binary", targets, a, b, images, counts=counts.astype(float), draws=40
    )
    long = paired_difference(
        "auroc", "binary", targets[rows], a[rows], b[rows], images[rows], draws=40
    )
    assert got == pytest.approx(long, abs=1e-12)


def test_roc_band_holds_the_curve() -> None:
    targets, scores, patients = example()
    band = roc_band(targets, scores, patients, draws=100)
    false, true, _ = reference.roc_curve(targets, scores, drop_intermediate=False)
    curve = np.interp(band["grid"], false, true)
    assert (band["low"] <= curve + 1e-9).all() and (curve <= band["high"] + 1e-9).all()
    rows = repeated_rows(patients, 100, 0)
    brute = []
    for r in rows:
        f, t, _ = reference.roc_curve(targets[r], scores[r], drop_intermediate=False)
        brute.append(np.interp(0.35, f, t))
    assert band["mean"][35] == pytest.approx(np.mean(brute), abs=1e-12)


def test_pr_band_equals_brute_force() -> None:
    targets, scores, patients = example()
    band = pr_band(targets, scores, patients, draws=50)
    brute = []
    for r in repeated_rows(patients, 50, 0):
        precision, recall, _ = reference.precision_recall_curve(targets[r], scores[r])
        # recall falls along scikit-learn's arrays: the last that still reaches one half
        brute.append(precision[np.flatnonzero(recall >= 0.5 - 1e-12)[-1]])
    assert band["mean"][50] == pytest.approx(np.mean(brute), abs=1e-12)
    low, high = np.percentile(brute, [2.5, 97.5])
    assert (band["low"][50], band["high"][50]) == pytest.approx((low, high), abs=1e-12)


def test_bands_of_one_class_are_undefined() -> None:
    for band in (roc_band, pr_band):
        got = band(np.zeros(4), np.linspace(0, 1, 4), draws=5)
        assert np.isnan(got["mean"]).all()


def test_large_data_in_bounded_memory() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 200_000)
    got = bootstrap("binary", targets, rng.random(200_000), 0.5, draws=4)
    assert 0.49 < got["auroc"]["low"] <= got["auroc"]["high"] < 0.51

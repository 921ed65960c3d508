"""Estimates against slow loops over repeated rows, closed forms and simulated truth."""

import math

import numpy as np
import pytest

from layerwise.evaluation.estimates import (
    REPEATS_STREAM,
    Estimate,
    estimate,
    holm,
    label_estimates,
    mean_of,
    within_noise,
)
from layerwise.evaluation.intervals import bootstrap, paired_difference
from layerwise.evaluation.metrics import METRICS, Task, measure, per_label


def made(task: Task, repeats: int, n: int = 40) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Targets, scores of each repeat and patients, some unknown."""
    rng = np.random.default_rng(len(task))
    k = 1 if task == "binary" else 3
    if task == "multilabel":
        targets = rng.integers(0, 2, (n, k)).astype(float)
        targets[rng.random((n, k)) < 0.1] = np.nan
    else:
        targets = rng.integers(0, max(2, k), n)
    scores = [np.round(rng.random((n, k)), 1) for _ in range(repeats)]
    patients = np.array([f"p{i}" if i else "" for i in rng.integers(0, 15, n)])
    return targets, scores, patients


def rows_of_draws(patients: np.ndarray, draws: int, seed: int) -> list[np.ndarray]:
    """The rows of each resample, written the long way: whole patients, unknown ones alone."""
    names = [p or f"~{i:05d}" for i, p in enumerate(patients)]  # unknown ones sort last
    known = sorted(set(names))
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        drawn = generator.integers(0, len(known), len(known))
        found.append(np.array([i for g in drawn for i, x in enumerate(names) if x == known[g]]))
    return found


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("repeats", [1, 3])
def test_equals_a_slow_loop(task: Task, repeats: int) -> None:
    targets, scores, patients = made(task, repeats)
    labels = ["a", "b", "c"] if task != "binary" else ["no", "yes"]
    rows = rows_of_draws(patients, 12, 5)
    picks = np.random.default_rng([5, REPEATS_STREAM]).integers(0, repeats, (12, repeats))
    for metric in METRICS:
        got = estimate(metric, task, targets, scores, patients, draws=12, seed=5)
        slow = [
            np.mean([measure(task, targets[r], scores[i][r])[metric] for i in pick])
            for r, pick in zip(rows, picks, strict=True)
        ]
        assert got.draws == pytest.approx(slow, abs=1e-12, nan_ok=True)
        assert got.repeats == pytest.approx([measure(task, targets, s)[metric] for s in scores])
        assert got.value == pytest.approx(np.mean(got.repeats))
        one = estimate(metric, task, targets, scores, patients, label=0, draws=12, seed=5)
        slow = [
            np.mean(
                [
                    next(iter(per_label(task, labels, targets[r], scores[i][r]).values()))[metric]
                    for i in pick
                ]
            )
            for r, pick in zip(rows, picks, strict=True)
        ]
        assert one.draws == pytest.approx(slow, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_all_labels_at_once_are_those_one_by_one(task: Task) -> None:
    targets, scores, patients = made(task, 2)
    found = label_estimates(METRICS, task, targets, scores, patients, draws=9, seed=4)
    assert len(found) == (1 if task == "binary" else 3)
    for number, by_metric in enumerate(found):
        assert list(by_metric) == list(METRICS)
        for metric, got in by_metric.items():
            one = estimate(metric, task, targets, scores, patients, label=number, draws=9, seed=4)
            np.testing.assert_allclose(got.draws, one.draws, rtol=0, atol=1e-12)
            assert got.value == pytest.approx(one.value, abs=1e-12)
            assert got.repeats == pytest.approx(one.repeats, abs=1e-12)


def test_one_repeat_is_the_bootstrap_of_the_report() -> None:
    targets, (scores, other), patients = made("multiclass", 2)
    names = ["a", "b", "c"]
    whole = bootstrap("multiclass", targets, scores, None, patients, labels=names, draws=80, seed=2)
    for metric in METRICS:
        a = estimate(metric, "multiclass", targets, [scores], patients, draws=80, seed=2)
        b = estimate(metric, "multiclass", targets, [other], patients, draws=80, seed=2)
        expected = paired_difference(
            metric, "multiclass", targets, scores, other, patients, draws=80, seed=2
        )
        difference = (a - b).interval()
        last = estimate(
            metric, "multiclass", targets, [scores], patients, label=2, draws=80, seed=2
        )
        for side in ("value", "low", "high"):
            assert a.interval()[side] == pytest.approx(whole[metric][side], abs=1e-12)
            assert difference[side] == pytest.approx(expected[side], abs=1e-12)
            of_label = whole["per_label"]["c"][metric][side]
            assert last.interval()[side] == pytest.approx(of_label, abs=1e-12)


def test_threshold_is_that_of_the_decision() -> None:
    targets, scores, _ = made("binary", 2)
    got = estimate("recall", "binary", targets, scores, threshold=0.8, draws=3)
    assert got.repeats == pytest.approx(
        [measure("binary", targets, s, 0.8)["recall"] for s in scores]
    )


def test_differences_have_closed_forms() -> None:
    """Accuracy is a mean over images, so a difference is the mean of paired differences."""
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 2, 300)
    a, b = rng.random((300, 1)), rng.random((300, 1))
    right_a, right_b = ((s[:, 0] >= 0.5) == targets for s in (a, b))
    d = right_a.astype(float) - right_b
    got = estimate("accuracy", "binary", targets, [a], draws=4000, seed=3) - estimate(
        "accuracy", "binary", targets, [b], draws=4000, seed=3
    )
    assert got.value == pytest.approx(d.mean())
    # The deviation of a bootstrapped mean is that of the values over √N.
    assert got.draws.std() == pytest.approx(d.std() / math.sqrt(300), rel=0.05)
    interval = got.interval()
    half = 1.96 * d.std() / math.sqrt(300)
    assert interval["high"] - interval["low"] == pytest.approx(2 * half, rel=0.1)


def test_repeats_add_their_variance_as_documented() -> None:
    """Every image alike: what is left of the draws' variance is (R − 1)/R of s²/R."""
    targets = np.ones(50, int)
    scores = [np.full((50, 1), p) for p in (0.5, 0.7, 0.9)]
    got = estimate("brier", "binary", targets, scores, draws=6000, seed=0)
    each = np.array([0.25, 0.09, 0.01])
    assert got.repeats == pytest.approx(each)
    assert got.sd == pytest.approx(each.std(ddof=1))
    assert got.draws.var() == pytest.approx(each.var(ddof=1) / 3 * 2 / 3, rel=0.05)
    alone = estimate("brier", "binary", targets, scores[:1], draws=20)
    assert np.isnan(alone.sd) and np.ptp(alone.draws) < 1e-12


def test_equal_treatments_differ_by_exactly_nothing() -> None:
    targets, scores, patients = made("multilabel", 3)
    a, b = (
        estimate("auroc", "multilabel", targets, scores, patients, draws=50, seed=9)
        for _ in range(2)
    )
    got = a - b
    assert got.interval() == {"value": 0, "low": 0, "high": 0, "sd": 0, "repeats": [0, 0, 0]}
    assert got.p() == 1 and within_noise(got.interval())
    # A constant offset is the same in every resample and every repeat.
    brighter = [s + 0.25 for s in scores]
    shifted = estimate("auroc", "multilabel", targets, brighter, patients, draws=50, seed=9) - a
    assert np.abs(shifted.draws).max() < 1e-12


def test_sums_and_means_go_draw_by_draw() -> None:
    a = Estimate(1.0, np.array([1.0, 2.0, np.nan]), (0.0, 2.0))
    b = Estimate(3.0, np.array([5.0, 1.0, 2.0]), (2.0, 4.0))
    assert (a + b).value == 4 and (a + b).repeats == (2.0, 6.0)
    assert (b - a).draws == pytest.approx([4, -1, np.nan], nan_ok=True)
    assert (b - a).sd == 0  # both repeats differ by 2
    assert a.scale(-2).draws == pytest.approx([-2, -4, np.nan], nan_ok=True)
    mean = mean_of([a, b, b])
    assert mean.value == pytest.approx(7 / 3) and mean.repeats == pytest.approx((4 / 3, 10 / 3))
    assert mean.draws == pytest.approx([11 / 3, 4 / 3, np.nan], nan_ok=True)
    unequal = a - Estimate(0.0, np.zeros(3), (0.0,))
    assert unequal.repeats == () and np.isnan(unequal.sd)
    with pytest.raises(ValueError, match="numbers of draws"):
        a + Estimate(0.0, np.zeros(2))
    with pytest.raises(ValueError, match="at least one"):
        mean_of([])


def test_p_is_twice_the_smaller_side() -> None:
    draws = np.array([-1.0, -2.0, 0.0, *range(1, 17)])  # 19: 3 at or below 0, 17 at or above
    assert Estimate(1.0, draws).p() == pytest.approx(2 * (3 + 1) / 20)
    assert Estimate(1.0, np.arange(1.0, 1000.0)).p() == pytest.approx(2 / 1000)  # its floor
    assert Estimate(-1.0, -np.arange(1.0, 1000.0)).p() == pytest.approx(2 / 1000)
    assert Estimate(0.0, np.array([-1.0, 1.0, np.nan])).p() == 1
    assert np.isnan(Estimate(np.nan, np.ones(3)).p())
    assert np.isnan(Estimate(1.0, np.full(3, np.nan)).p())


def test_undefined_resamples_do_not_count() -> None:
    targets = np.array([1] + [0] * 5)  # a third of the resamples have no positive
    scores = np.linspace(0.9, 0.1, 6)[:, None]
    got = estimate("auroc", "binary", targets, [scores, scores], draws=200)
    missing = np.isnan(got.draws).mean()
    assert missing == pytest.approx((5 / 6) ** 6, abs=0.1)
    assert got.interval()["low"] == got.interval()["high"] == 1
    nowhere = estimate("auroc", "binary", np.zeros(6, int), [scores], draws=20).interval()
    assert np.isnan([nowhere["value"], nowhere["low"], nowhere["high"]]).all()
    assert within_noise(nowhere)


def test_holm_on_a_worked_example() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04 → ×4, ×3, ×2, ×1 = 0.02, 0.03, 0.06, 0.04; then made to rise
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([0.02, float("nan"), 0.04]) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)
    assert holm([]) == []


def test_within_noise() -> None:
    assert within_noise({"low": -0.1, "high": 0.1}) and within_noise({"low": 0.0, "high": 0.1})
    assert not within_noise({"low": 0.01, "high": 0.1})
    assert not within_noise({"low": -0.1, "high": -0.01})


def test_intervals_cover_the_truth() -> None:
    """200 simulated studies of two treatments with a true difference of 0.1 in accuracy."""
    rng = np.random.default_rng(7)
    covered, tested = 0, 0
    for trial in range(200):
        hard = rng.random(120)  # what both find hard: their scores are correlated
        a = (hard < 0.8).astype(float)[:, None]
        b = (hard + rng.normal(0, 0.1, 120) < 0.7).astype(float)[:, None]
        ones = np.ones(120, int)
        got = estimate("accuracy", "binary", ones, [a], draws=300, seed=trial) - estimate(
            "accuracy", "binary", ones, [b], draws=300, seed=trial
        )
        interval = got.interval()
        covered += interval["low"] <= 0.1 <= interval["high"]
        tested += (got.p() < 0.05) == (not within_noise(interval))
    assert 0.90 <= covered / 200 <= 0.985
    assert tested >= 190  # p and interval agree, but at the very edge


def test_what_is_not_there_is_named() -> None:
    targets, scores, _ = made("multiclass", 1)
    with pytest.raises(ValueError, match="unknown metric 'auc'; known are auroc"):
        estimate("auc", "multiclass", targets, scores)
    with pytest.raises(ValueError, match="no label 3; there are 3"):
        estimate("auroc", "multiclass", targets, scores, label=3)
    with pytest.raises(ValueError, match="at least one repeat"):
        estimate("auroc", "multiclass", targets, [])


def test_images_that_count_more_are_as_if_repeated():
    targets, (scores,), _ = made("multiclass", 1)
    images = np.array([f"i{number:02d}" for number in range(40)])
    counts = np.random.default_rng(2).integers(1, 4, 40)
    rows = np.repeat(np.arange(40), counts)
    got = estimate(
        "auroc", "multiclass", targets, [scores], images, counts=counts.astype(float), draws=30
    )
    long = estimate("auroc", "multiclass", targets[rows], [scores[rows]], images[rows], draws=30)
    assert got.value == pytest.approx(long.value, abs=1e-12)
    np.testing.assert_allclose(got.draws, long.draws, atol=1e-12)

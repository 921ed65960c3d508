"""The rules of promotion, against brute force, closed forms, and cases made to meet one rule."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from layerwise.errors import LayerwiseError
from layerwise.evaluation.predictions import Predictions
from layerwise.evaluation.subgroups import subgroups
from layerwise.serving.registry.promotion import Judged, Rules, decide

LABELS = ("no", "yes")


def judged(targets, scores, groups=None, name="new", labels=LABELS, threshold=0.5):
    targets = np.asarray(targets)
    ids = np.array([f"i{k}" for k in range(len(targets))])
    groups = ids if groups is None else np.asarray(groups)
    said = Predictions(
        ids, targets, np.asarray(scores, np.float32).reshape(len(targets), -1), groups
    )
    return Judged(name, name, "binary", labels, threshold, said)


def pair(targets, ours, theirs, groups=None, **rules):
    """The decision about `ours` against `theirs`."""
    new, old = judged(targets, ours, groups), judged(targets, theirs, groups, "old")
    return decide(new, old, [], Rules(**rules))


def check(decision, rule):
    (found,) = [one for one in decision.checks if one.rule == rule]
    return found


def right_on(targets, mask):
    """Scores whose decisions are right where the mask says so."""
    return np.where(np.asarray(mask), targets, 1 - np.asarray(targets)).astype(float)


def test_the_interval_is_that_of_a_brute_force_bootstrap_by_patient():
    generator = np.random.default_rng(3)
    targets = np.arange(40) % 2
    groups = np.array([f"p{k // 4:02d}" for k in range(40)])  # 4 images a patient
    ours, theirs = (targets + generator.normal(0, s, 40) for s in (1.0, 0.8))
    ours, theirs = (np.float32(1 / (1 + np.exp(-x))) for x in (ours, theirs))
    found = check(pair(targets, ours, theirs, groups, draws=300, alpha=0.1, seed=5), "not inferior")
    dice, differences = np.random.default_rng(5), []
    for _ in range(300):
        drawn = dice.integers(0, 10, 10)
        rows = np.concatenate([np.flatnonzero(groups == f"p{p:02d}") for p in drawn])
        areas = [roc_auc_score(targets[rows], scores[rows]) for scores in (ours, theirs)]
        differences.append(areas[0] - areas[1])
    gain = found.numbers["difference"]
    np.testing.assert_allclose(
        [gain["value"], gain["low"], gain["high"]],
        [
            roc_auc_score(targets, ours) - roc_auc_score(targets, theirs),
            *np.quantile(differences, [0.05, 0.95]),
        ],
        atol=1e-12,
    )
    assert found.numbers["patients"] == 10


def test_accuracy_has_the_interval_of_the_mean_of_paired_differences():
    """new − old of each image is −1, 0 or 1; its mean is normal for 2000 images."""
    generator = np.random.default_rng(0)
    targets = np.arange(2000) % 2
    old, new = generator.random(2000) < 0.8, generator.random(2000) < 0.82
    decision = pair(targets, right_on(targets, new), right_on(targets, old), metric="accuracy")
    gain = check(decision, "not inferior").numbers["difference"]
    each = new.astype(float) - old
    half = 1.96 * each.std() / np.sqrt(2000)
    assert gain["value"] == pytest.approx(each.mean(), abs=1e-12)
    assert gain["low"] == pytest.approx(each.mean() - half, abs=0.1 * half)
    assert gain["high"] == pytest.approx(each.mean() + half, abs=0.1 * half)


def test_equal_bundles_are_not_worse_unless_the_margin_is_nothing():
    targets = np.arange(30) % 2
    scores = np.linspace(0.1, 0.9, 30)
    decision = pair(targets, scores, scores)
    assert decision.promoted
    assert check(decision, "not inferior").numbers["difference"] == {
        "value": 0,
        "low": 0,
        "high": 0,
    }
    refused = pair(targets, scores, scores, margin=0)
    assert not refused.promoted and "does not lie above 0.000" in refused.reasons[0]


def test_worse_is_refused_and_too_few_images_are_said():
    targets = np.arange(200) % 2
    everything = np.ones(200, bool)
    worse = np.arange(200) % 10 < 7  # 70% right
    decision = pair(targets, right_on(targets, worse), right_on(targets, everything))
    assert not decision.promoted
    assert "worse, by more than noise" in decision.reasons[0]
    few = everything.copy()
    few[:1] = False  # one image of 200 worse: 0.005, but its interval reaches −0.015
    doubt = pair(targets, right_on(targets, few), right_on(targets, everything), metric="accuracy")
    found = check(doubt, "not inferior")
    gain = found.numbers["difference"]
    assert not found.passed and gain["value"] == pytest.approx(-0.005)
    width = gain["value"] - gain["low"]
    assert found.numbers["times"] == pytest.approx((width / 0.005) ** 2)
    assert "times as many patients" in found.reason
    assert pair(
        targets,
        right_on(targets, few),
        right_on(targets, everything),
        metric="accuracy",
        margin=0.05,
    ).promoted


def test_a_lower_brier_score_is_a_gain():
    targets = np.arange(100) % 2
    sure, unsure = np.where(targets, 0.9, 0.1), np.where(targets, 0.6, 0.4)
    gain = check(pair(targets, sure, unsure, metric="brier"), "not inferior").numbers
    assert gain["difference"]["value"] == pytest.approx(0.4**2 - 0.1**2, abs=1e-6)
    assert pair(targets, sure, unsure, metric="brier").promoted
    assert not pair(targets, unsure, sure, metric="brier").promoted


def test_a_missing_class_promotes_nothing():
    scores = np.linspace(0, 1, 20)
    decision = pair(np.ones(20, int), scores, scores)
    assert not decision.promoted and "a class is missing" in decision.reasons[0]


def test_other_labels_are_refused_without_being_compared():
    new = judged([0, 1], [0.1, 0.9], labels=("healthy", "ill"))
    old = Judged("old", "old", "binary", LABELS, 0.5, None)
    decision = decide(new, old, [], Rules())
    assert not decision.promoted
    assert "no, yes" in decision.reasons[0] and "healthy, ill" in decision.reasons[0]


def test_a_first_bundle_has_to_meet_the_floors_only():
    generator = np.random.default_rng(1)
    targets = np.arange(400) % 2
    right = generator.random(400) < 0.9
    new = judged(targets, right_on(targets, right))
    assert decide(new, None, [], Rules()).promoted
    half = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 400)
    low = right.mean() - half  # of the binomial
    for floor, passes in ((low - 0.01, True), (low + 0.01, False), (right.mean(), False)):
        decision = decide(new, None, [], Rules(floors={"accuracy": floor}))
        assert decision.promoted is passes
        assert f"below the floor of {floor:g}" in " ".join(decision.reasons)
    brier = 1 - right.mean()  # scores are 0 and 1
    assert decide(new, None, [], Rules(floors={"brier": brier + 0.1})).promoted
    assert not decide(new, None, [], Rules(floors={"brier": brier})).promoted


def test_a_fall_of_sensitivity_at_the_thresholds_is_seen_though_the_ranking_stays():
    """The same scores with another threshold: AUROC is equal, half of the positives are lost."""
    targets = np.repeat([0, 1], 100)
    scores = np.concatenate([np.linspace(0.0, 0.4, 100), np.linspace(0.5, 1.0, 100)])
    old, new = judged(targets, scores, threshold=0.45), judged(targets, scores, threshold=0.75)
    assert decide(new, old, [], Rules()).promoted
    decision = decide(new, old, [], Rules(recall_limit=0.1, specificity_limit=0.1))
    found = check(decision, "recall kept")
    assert not decision.promoted and not found.passed
    assert found.numbers["difference"]["value"] == pytest.approx(-0.5)
    assert check(decision, "specificity kept").passed


def grouped(sex, ours, theirs, targets, **rules):
    new, old = judged(targets, ours), judged(targets, theirs, name="old")
    found = subgroups({"sex": sex}, "binary", targets, new.said.groups)
    return decide(new, old, found, Rules(metric="accuracy", margin=0.5, **rules))


def test_a_subgroup_that_falls_blocks_though_the_whole_gains():
    targets = np.arange(1000) % 2
    sex = np.where(np.arange(1000) < 200, "F", "M")
    theirs = np.arange(1000) % 10 < 8  # 80% right everywhere
    ours = np.where(sex == "F", np.arange(1000) % 10 < 6, True)  # F 60%, M all
    decision = grouped(sex, right_on(targets, ours), right_on(targets, theirs), targets)
    found = check(decision, "subgroups")
    assert check(decision, "not inferior").numbers["difference"]["value"] == pytest.approx(0.12)
    assert not decision.promoted and "sex F falls by 0.200" in found.reason
    blocks = {one["value"]: one["blocks"] for one in found.numbers["groups"]}
    assert blocks == {"F": True, "M": False}
    # Past a limit of 0.25 it did not fall.
    assert grouped(
        sex, right_on(targets, ours), right_on(targets, theirs), targets, subgroup_limit=0.25
    ).promoted


def test_a_fall_within_noise_warns_and_few_patients_are_named():
    targets = np.arange(144) % 2
    sex = np.array(["M"] * 100 + ["F"] * 24 + ["X"] * 20, dtype=object)
    sex[124:136] = "M"  # X has 8 images, 4 a class
    theirs = np.ones(144, bool)
    ours = theirs.copy()
    ours[100:102] = False  # 2 of 24: P(a draw has neither) = (22/24)²⁴ = 12%, so 0 is inside
    ours[136:144] = False  # X falls from 1 to 0
    decision = grouped(sex, right_on(targets, ours), right_on(targets, theirs), targets)
    found = check(decision, "subgroups")
    assert decision.promoted and found.numbers["looked_at"] == 2
    assert "sex F falls by 0.083" in decision.warnings[0]
    assert "within noise" in decision.warnings[0]
    assert "sex X (8 images)" in decision.warnings[1]
    one = {group["value"]: group for group in found.numbers["groups"]}
    assert one["F"]["difference"]["high"] == 0 and one["F"]["falls"] and not one["F"]["blocks"]
    assert "p_holm" not in one["X"] and one["X"]["small"]
    p = sorted(one[sex]["p"] for sex in "FM")
    assert sorted(one[sex]["p_holm"] for sex in "FM") == [min(1, 2 * p[0]), max(p[1], 2 * p[0])]


def test_without_subgroups_that_is_said():
    targets = np.arange(40) % 2
    decision = pair(targets, right_on(targets, np.ones(40)), right_on(targets, np.ones(40)))
    assert decision.promoted and "--subgroup" in decision.warnings[0]


@pytest.mark.parametrize(
    "rules, says",
    [
        ({"metric": "auc"}, "--metric 'auc'"),
        ({"floors": {"f2": 1}}, "--floor 'f2'"),
        ({"margin": -0.1}, "--margin -0.1"),
        ({"alpha": 0.0}, "--alpha 0.0"),
        ({"recall_limit": 1.0}, "--recall-limit 1.0"),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)
def test_rules_that_make_no_sense_are_refused(rules, says):
    with pytest.raises(LayerwiseError, match=says):
        Rules(**rules)


@pytest.mark.slow
def test_a_bundle_worse_by_the_margin_is_seldom_promoted_and_an_equal_one_often():
    """The size of the test where it is largest, at a true difference of −margin: 2.5%.

    Scores are normal, so the true AUROC is Φ(d / √2). The champion's and the new bundle's noise
    share a half, as of two networks on the same pictures. 400 data sets each: three deviations
    above 2.5% is 4.8%.
    """
    from scipy.stats import norm

    d_old, margin = 1.5, 0.05
    area = norm.cdf(d_old / np.sqrt(2))
    d_worse = np.sqrt(2) * norm.ppf(area - margin)
    targets = np.arange(300) % 2
    promoted = {d_worse: 0, d_old: 0}
    for seed in range(400):
        dice = np.random.default_rng(seed)
        shared, *own = dice.normal(0, 1, (3, 300))
        for d in promoted:
            new, old = (
                1 / (1 + np.exp(-(targets * s + np.sqrt(0.5) * (shared + e))))
                for s, e in zip((d, d_old), own, strict=True)
            )
            decision = pair(targets, new, old, margin=margin, draws=400, seed=seed)
            promoted[d] += decision.promoted
    assert 1 <= promoted[d_worse] <= 0.048 * 400
    assert promoted[d_old] > 10 * promoted[d_worse]

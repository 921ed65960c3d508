"""The sentences say the facts that the curves were made of, and nothing else."""

import math
import re

import pytest

from layerwise.reporting.transferability.answer import answer, notes
from layerwise.reporting.transferability.findings import apart, chance, kinds
from layerwise.reporting.transferability.terms import digits, layers_words
from layerwise.reporting.transferability.words import (
    decomposition_words,
    figure2_words,
    figure3_words,
    overfitting_words,
    table1_words,
)

NULL = {
    "random": {t: [0.001, -0.002, 0.0] for t in ("BnB", "BnB+", "AnB", "AnB+", "random filters")}
}
THREE = ["conv1", "conv2", "fc1"]
QUICK = {"groups": {"AnB": [-0.002, -0.03, -0.08], "AnB+": [0.0, 0.0, -0.005]}}


def everything(curves) -> str:
    said = []
    for words in (
        answer,
        figure2_words,
        figure3_words,
        decomposition_words,
        table1_words,
        overfitting_words,
        notes,
    ):
        said += words(curves)
    return "\n".join(said)


def test_layers_in_words():
    assert layers_words([3]) == "layer 3"
    assert layers_words([2, 1]) == "layers 1 and 2"
    assert layers_words([1, 2, 3, 5]) == "layers 1–3 and 5"
    assert layers_words([1, 3, 4, 7, 8, 9]) == "layers 1, 3, 4 and 7–9"


def test_digits_have_a_true_minus_and_no_minus_zero():
    assert [digits(v) for v in (-0.0304, -0.0004, 0.5, math.nan)] == [
        "−0.030",
        "0.000",
        "0.500",
        "—",
    ]
    assert [digits(v, sign=True) for v in (0.0304, -0.0004)] == ["+0.030", "0.000"]


def test_answer_says_up_to_where_to_freeze_and_whether_to_fine_tune(fabricate):
    similar, other, *evidence = answer(fabricate())
    assert similar == (
        "Transfer between random halves of the classes: copy and freeze up to layer 2 (conv2), "
        "which reaches 0.716 against 0.720 of training from scratch; for the best result fine-tune "
        "what you copy (+0.021 on average)."
    )
    assert other.startswith("Transfer between man-made and natural: copy and freeze up to layer 1 ")
    frozen, tuned = evidence[:2]
    assert frozen == (
        "Transfer between random halves of the classes, frozen: at layer 2 (conv2) the difference "
        "to the base is within noise (−0.004, 95% −0.014 to 0.006), which leaves room for a loss "
        "of 0.014 at most; up to layer 3 (conv3) it loses 0.035 (95% 0.025 to 0.045), and most up "
        "to layer 4 (conv4), 0.085 (95% 0.075 to 0.095)."
    )
    assert "fine-tuned: on average +0.021 (95% 0.011 to 0.031) against the base;" in tuned
    assert "at layers 3–7, where frozen layers are below the base, they are not" in tuned
    assert "It is not the longer training: AnB+ beats BnB+ by 0.020" in tuned
    assert "the base trained twice as long by 0.019" in tuned
    assert len(evidence) == 4


def test_interpretations(fabricate):
    first, second, third, fourth, fifth = figure2_words(fabricate())
    # Halves of four and five classes: guessing is right in (1/4 + 1/5) / 2 of the cases.
    assert first.startswith("1. Base networks, the mean of 4 tasks, reach 0.720")
    assert "chance is 0.225" in first and "twice as long" in first and "within noise" in first
    assert "2. Fragile co-adaptation shows at layers 3–6:" in second
    assert "most at layer 4 (conv4) (−0.060, 95% −0.070 to −0.050)" in second
    assert "At layers 1, 2 and 7 it is within noise of the base." in second
    assert third.startswith("3. Fine-tuning recovers it: at layers 3–6,")
    assert fourth.startswith("4. Layers 1 and 2 are general for these tasks")
    assert "It falls below the base at layers 3–7, most at layer 4 (conv4)" in fourth
    assert fifth.startswith("5. Copying and fine-tuning (AnB+) is above the base at layers 1–7")
    assert "It is not the longer training" in fifth


def test_decomposition(fabricate):
    similar, other = decomposition_words(fabricate())
    # Half-widths are 0.01: layer 3 loses 0.03 and 0.005, layer 7 0.001 and 0.079.
    assert "lost co-adaptation alone at layer 3" in similar
    assert "specificity of the features alone at layer 7" in similar
    assert "both lost co-adaptation and specificity at layers 4–6" in similar
    assert "lost co-adaptation is the larger at layers 4 and 5" in similar
    assert "specificity is the larger at layer 6" in similar
    assert "specificity of the features alone at layers 2 and 7" in other
    assert "At layer 7 (fc7), where the loss is greatest (0.250, 95% 0.240 to 0.260)" in other


def test_other_tasks_and_random_filters(fabricate):
    further, *filters = figure3_words(fabricate())
    assert further == (
        "Transfer between man-made and natural falls further than between random halves, beyond "
        "noise at layers 2–7: at layer 7 (fc7), −0.250 (95% −0.260 to −0.240) against −0.080 (95% "
        "−0.090 to −0.070) from the base."
    )
    assert "below the base at layers 1–7" in filters[0]
    # 0.72 − 0.46 is 0.26 ± 0.01, above chance; 0.22 ± 0.01 is not.
    assert "not to be told from chance, 0.225, at layers 6 and 7" in filters[0]
    assert filters[1].startswith("Random filters fall fastest")
    assert "between random halves of the classes at every layer" in filters[1]
    # Worse by 0.42; sides of 0.01 each, combined as of independent estimates.
    assert "at layer 7 (fc7) by 0.420 (95% 0.406 to 0.434)" in filters[1]


def test_other_tasks_without_the_paired_rows(fabricate):
    """A study of kinds that share no resamples: the sides are combined as independent."""
    curves = fabricate() | {"kinds_compared": []}
    assert "beyond noise at layers 2–7" in figure3_words(curves)[0]
    got = apart(
        {"value": 0.5, "low": 0.47, "high": 0.52}, {"value": 0.3, "low": 0.26, "high": 0.34}
    )
    assert got["low"] == pytest.approx(0.2 - 0.05) and got["value"] == pytest.approx(0.2)
    assert got["high"] == pytest.approx(0.2 + math.hypot(0.02, 0.04))


def test_table1(fabricate):
    similar, other = table1_words(fabricate())
    assert similar.startswith(
        "Transfer between random halves of the classes, layers 1-7: AnB+ is higher than the base "
        "by 0.021 accuracy (95% 0.011 to 0.031)."
    )
    assert "man-made" in other


def test_overfitting(fabricate):
    fewer, bases = overfitting_words(fabricate())
    # 0.99 − 0.42 with 50 images a class, 0.9 − 0.7 with 500.
    assert "with 50 images per class" in fewer.lower() and "0.570 (95% 0.560 to 0.580)" in fewer
    assert "with 500, 0.200 (95% 0.190 to 0.210)" in fewer and "lower" in fewer
    assert "is 0.180 on average, and beyond noise for 6 of 6" in bases


def test_where_nothing_differs_nothing_is_claimed(fabricate):
    curves = fabricate(NULL, THREE, base=0.8, overfitting=False)
    said = everything(curves)
    for claim in ("falls", "fall fastest", "recovers", "beats", "Careful", "higher", "lower than"):
        assert claim not in said, claim
    assert not re.search(r"\b(Fragile|brings)\b", said)
    advice, frozen, tuned = answer(curves)
    assert "copy and freeze all layers that were measured, up to layer 3 (fc1)" in advice
    assert "fine-tuning gains nothing beyond noise (0.000 on average)" in advice
    assert "is within noise (0.000, 95% −0.010 to 0.010)" in frozen
    assert "against the base, within noise;" in tuned
    second, third, fourth, fifth = figure2_words(curves)[1:]
    assert second.startswith("2. No fragile co-adaptation shows")
    assert third.startswith("3. There is no drop of BnB for BnB+ to recover")
    assert fourth.startswith("4. Layers 1–3 are general") and "Nowhere does AnB fall" in fourth
    assert fifth == "5. No boost shows: AnB+ is within noise of the base at layers 1–3."
    assert decomposition_words(curves) == [
        "Transfer between random halves of the classes: nowhere is AnB's loss beyond noise, so "
        "there is none to explain."
    ]
    filters = figure3_words(curves)
    assert "nowhere below the base beyond noise" in filters[0]
    assert "within noise at layers 1–3" in filters[1]


def test_a_wide_interval_is_no_proof_of_generality(fabricate):
    """The same drops with wide intervals: within noise, and the loss that this allows is said."""
    curves = fabricate({"random": {"AnB": [-0.03, -0.05, -0.09]}}, THREE, half=0.1, longer=None)
    assert "which leaves room for a loss of 0.190 at most" in answer(curves)[1]


def test_quick_study_with_missing_parts(fabricate):
    curves = fabricate(QUICK, THREE, [1, 3, 5], longer=None, overfitting=False, repeats=1)
    advice, frozen, tuned = answer(curves)
    assert "copy and freeze up to layer 1 (conv1)" in advice
    assert "to copy more layers, fine-tune them (−0.002 on average, within noise)" in advice
    assert "up to layer 3 (conv2) it loses 0.030" in frozen
    assert "at layers 3 and 5, where frozen layers are below the base, they are not" in tuned
    said = figure2_words(curves)
    assert [line[0] for line in said] == ["1", "4", "5"]
    (other,) = figure3_words(curves)
    assert other.startswith("Without random halves of the classes it is not known whether transfer")
    assert decomposition_words(curves) == [] and overfitting_words(curves) == []


def test_a_boost_that_extra_training_explains_is_called_that(fabricate):
    """The prototype's study of CIFAR-10: its base was not trained to the end."""
    curves = fabricate(
        {
            "random": {
                "BnB": [0.014, 0.036, 0.027],
                "BnB+": [0.017, 0.043, 0.058],
                "AnB": [0.001, -0.010, -0.030],
                "AnB+": [0.018, 0.036, 0.021],
            }
        },
        ["conv1", "conv2", "conv3"],
        longer=0.04,
    )
    advice, careful, _, tune = answer(curves)
    assert "fine-tuning (+0.025 on average) may gain no more than longer training would" in advice
    assert "AnB+ does not beat BnB+" in tune and "the boost is that of extra training" in tune
    assert "It is not the longer training" not in everything(curves)
    assert careful.startswith("Careful: the base networks for transfer between random halves")
    assert "were not trained to their end" in careful and "0.040 accuracy" in careful
    second = figure2_words(curves)[1]
    assert "a sign of too short training" in second and "At layers 1–3 it is above" in second
    # Without that control, BnB above its own base gives it away.
    untold = fabricate({"random": {"BnB": [0.03] * 3, "AnB": [0.0] * 3}}, THREE, longer=None)
    assert "BnB is above its own base at layers 1–3" in answer(untold)[1]


def test_a_boost_without_controls_is_not_believed(fabricate):
    curves = fabricate({"random": {"AnB+": [0.03] * 3}}, THREE, longer=None)
    advice, tune = answer(curves)
    assert "Neither BnB+ nor a base trained twice as long was run" in tune


def test_transfer_that_costs(fabricate):
    curves = fabricate({"random": {"AnB": [-0.05] * 3, "AnB+": [-0.04] * 3}}, THREE)
    advice, frozen, tuned = answer(curves)
    assert "do not freeze copied layers, since even layer 1 (conv1) costs 0.050" in advice
    assert "do not fine-tune what you copy (−0.040 on average)" in advice
    assert "up to layer 1 (conv1) it loses 0.050 (95% 0.040 to 0.060)" in frozen
    assert "−0.040 (95% −0.050 to −0.030) against the base;" in tuned
    assert "4. Not even layer 1 (conv1) is general" in "\n".join(figure2_words(curves))


def test_tuning_that_does_not_recover(fabricate):
    curves = fabricate({"random": {"BnB": [-0.05, 0, 0], "BnB+": [-0.05, 0, 0]}}, THREE)
    assert figure2_words(curves)[2].startswith("3. Fine-tuning does not recover it")


def test_given_weights_come_first_and_may_beat_the_base(fabricate):
    curves = fabricate(
        {
            "random": {"AnB": [0.0, -0.03, -0.05]},
            "weights": {"AnB": [0.03, 0.06, 0.02], "AnB+": [0.07] * 3},
        },
        THREE,
    )
    said = answer(curves)
    assert said[0].startswith("Transfer from one set to another: copy and freeze all layers")
    assert any("it is highest at layer 2 (conv2), +0.060" in line for line in said)
    assert "falls less far than between random halves" in figure3_words(curves)[0]


def test_undefined_numbers_make_no_claim(fabricate):
    curves = fabricate(NULL, THREE)
    for row in curves["means"]:
        row["difference_to_base"] = dict.fromkeys(("value", "low", "high"))
    assert "Careful" not in everything(curves)
    (kind,) = kinds(curves)
    assert kind.below("AnB") == kind.above("AnB") == kind.layers("AnB") == []


def test_chance(fabricate):
    curves = fabricate()
    assert chance(curves, "random") == pytest.approx((1 / 4 + 1 / 5) / 2)
    assert chance(curves | {"metric": "auroc"}, "random") == 0.5
    assert math.isnan(chance(curves | {"metric": "f1"}, "random"))
    one_way = fabricate(directions=1)
    assert chance(one_way, "groups") == pytest.approx(1 / 4)  # the target is A, of four classes

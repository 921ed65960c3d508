"""The sentences of a gain study: what they say in cases whose numbers are known."""

import pytest

from layerwise.reporting.gain import text as gain_text
from layerwise.studies.gain.experiment import RI, TL
from layerwise.studies.gain.scores import MEAN, Balance, Bar, Best, Learning

IMAGES = {0.05: 1539, 1.0: 30807}


def interval(value, half=0.02):
    return {
        "value": value,
        "low": value - half,
        "high": value + half,
        "sd": 0.01,
        "repeats": [value],
    }


def bar(network, gain, p=0.01, fraction=0.05, metric="auroc", label=MEAN):
    """A bar of RI 0.7 whose gain has an interval of ± 0.02."""
    tested = interval(gain) | {"p": p, "p_holm": p}
    return Bar(
        network, fraction, label, metric, interval(0.7), interval(0.7 + gain), tested, (0, 1, 2)
    )


def both(network, gain, p=0.01, fraction=0.05):
    return [bar(network, gain, p, fraction, metric) for metric in ("auroc", "auprc")]


def test_advice_is_transfer_where_it_gains_beyond_noise():
    said = gain_text.advice([*both("a", 0.1), *both("b", 0.2), *both("c", 0.0, p=1.0)], IMAGES)
    assert said == (
        "Start from pretrained weights. With 5% of the training images (1,539), transfer scores "
        "higher than random initialisation by more than noise for a and b (2 of 3 networks); on "
        "average over networks the gain is +0.100 AUROC and +0.100 AUPRC."
    )
    assert "for all 2 networks" in gain_text.advice([*both("a", 0.1), *both("b", 0.2)], IMAGES)
    assert "noise for a;" in gain_text.advice(both("a", 0.1), IMAGES)


def test_advice_is_random_where_transfer_loses():
    said = gain_text.advice(both("a", -0.1), IMAGES)
    assert said.startswith("Start at random.") and "−0.100 AUROC" in said


def test_advice_depends_where_networks_differ():
    said = gain_text.advice([*both("a", 0.1), *both("b", -0.1)], IMAGES)
    assert said.startswith("It depends on the network.")
    assert "noise for a (1 of 2 networks), and lower for b (1 of 2 networks)" in said


def test_advice_without_a_difference_at_any_fraction():
    said = gain_text.advice([*both("a", 0.01, p=0.5), *both("a", -0.02, 0.4, 1.0)], IMAGES)
    assert said.startswith("Neither start is measurably better.")
    assert "with 5% of the training images (1,539) the gain is +0.010 AUROC" in said


def test_advice_names_where_differences_begin():
    said = gain_text.advice([*both("a", 0.01, p=0.5), *both("a", 0.1, 0.01, 1.0)], IMAGES)
    assert said == (
        "With 5% of the training images (1,539), no difference between transfer and random "
        "initialisation is beyond noise; there are gains beyond noise with all training images "
        "(30,807)."
    )


def test_fading_is_said_with_its_interval_or_as_noise():
    found = {"auroc": interval(0.08), "auprc": interval(0.01)}
    one, other = gain_text.fading(found, IMAGES)
    assert one == (
        "The mean gain with 5% of the images is higher than that with 100% by 0.080 AUROC (95% "
        "0.060 to 0.100)."
    )
    assert "is within noise" in other and "0.010" in other
    assert gain_text.fading({}, IMAGES) == []


def best(metric, network, treatment, ahead, second="z RI"):
    return Best(0.05, metric, network, treatment, interval(0.9), second, interval(ahead))


def test_metrics_that_agree_about_the_best():
    said = gain_text.best_words(
        0.05, [best("auroc", "a", TL, 0.1), best("auprc", "a", TL, 0.01)], IMAGES
    )
    assert said == (
        "With 5% of the training images (1,539), a TL is best by both metrics (AUROC 0.900, AUPRC "
        "0.900); z RI is within noise of it by AUPRC."
    )


def test_metrics_that_disagree_about_the_best():
    """As in Peng et al. 2021, §3.2, at 10%."""
    said = gain_text.best_words(
        0.05, [best("auroc", "a", TL, 0.1), best("auprc", "b", RI, 0.1)], IMAGES
    )
    assert said == (
        "With 5% of the training images (1,539), the two metrics disagree about the best: a TL by "
        "AUROC 0.900 and b RI by AUPRC 0.900."
    )
    assert gain_text.best_words(1.0, [best("auroc", "a", TL, 0.1)], IMAGES) == ""


def test_pairs_are_told_by_fraction_and_metric():
    bars = [*both("a", 0.1), *both("b", 0.2), *both("c", -0.1), *both("d", 0.0, 1.0)]
    bars += [*both("a", 0.0, 1.0, 1.0), *both("b", 0.0, 1.0, 1.0)]
    said = gain_text.pair_sentences(bars, IMAGES)
    assert said == [
        *(
            f"With 5% of the training images (1,539), transfer raises {name} beyond noise for a "
            f"and b (2 of 4 networks), most for b (+0.200 {name}, 95% 0.180 to 0.220) and lowers "
            f"{name} beyond noise for c (1 of 4 networks), most for c (−0.100 {name}, 95% −0.120 "
            "to −0.080); 1 is within noise."
            for name in ("AUROC", "AUPRC")
        ),
        "With all training images (30,807), no difference in AUROC or AUPRC between TL and RI is "
        "beyond noise.",
    ]


@pytest.mark.parametrize(
    ("gain", "p", "words"),
    [
        (0.1, 0.01, "TL of a is higher than RI by 0.100 AUROC (95% 0.080 to 0.120)."),
        (0.01, 0.5, "the difference between TL of a and RI"),
        (
            0.1,
            0.2,
            "TL less RI is +0.100 AUROC, 95% 0.080 to 0.120 for a: within noise after Holm.",
        ),
    ],
)
def test_a_single_network(gain, p, words):
    (said,) = gain_text.pair_sentences([bar("a", gain, p)], {0.05: 1539})
    assert words in said


def test_labels_are_counted_and_the_extremes_named():
    bars = [
        bar("a", 0.1, label="Pt."),
        bar("b", 0.3, label="Pt."),
        bar("a", -0.1, label="EC"),
        bar("b", 0.0, 1.0, label="EC"),
        bar("b", float("nan"), float("nan"), label="PO"),
    ]
    assert gain_text.label_sentences(bars) == [
        "By AUROC, TL is higher than RI beyond noise in 2 of 4 pairs of label and network, lower "
        "in 1, and 1 is within noise. Most of all in Pt. with b: +0.300 AUROC, 95% 0.280 to "
        "0.320. Least in EC with a: −0.100 AUROC, 95% −0.120 to −0.080."
    ]


def test_ratios_as_peng_writes_them_and_the_warning():
    """Peng et al. 2021, §2.3: 1,777 to 29,030 and 1,777 to 5,228."""
    one = [
        Balance("train", 1.0, "COVID", 30807, 1777, 29030),
        Balance("test", 1.0, "COVID", 7005, 1777, 5228),
    ]
    said = gain_text.ratio_sentences(one)
    assert said[0] == (
        "The imbalance ratio of COVID (one with it to so many without it) is 1:2.94 in the test "
        "part and 1:16.3 in the training images."
    )
    assert said[1].startswith("AUPRC can not be compared across such ratios (Peng et al. 2021, §4;")
    several = [Balance("test", 1.0, "PO", 769, 10, 759), Balance("test", 1.0, "EC", 208, 10, 198)]
    first, second = gain_text.ratio_sentences(several)
    assert "from 1:19.8 (EC) to 1:75.9 (PO)." in first  # the paper's, §4
    assert second.endswith("may not, and those of different labels neither.")
    assert gain_text.ratio_words(4321.4) == "1:4,321" and gain_text.ratio_words(0.346) == "1:0.346"
    assert gain_text.ratio_sentences([]) == []


def test_learning_that_was_short_or_not_at_its_end_is_said():
    def run(treatment, steps, late):
        return Learning(0.05, treatment, 10, steps, 6, late)

    assert gain_text.learning_sentences([run(RI, 900, 3), run(TL, 900, 2)]) == []
    (short,) = gain_text.learning_sentences([run(RI, 40, 3), run(TL, 40, 2)])
    assert "10 epochs are only 40 steps" in short and "--least-steps" in short
    (late,) = gain_text.learning_sentences([run(RI, 900, 6), run(TL, 900, 1)])
    assert "in 6 of 6 runs from random weights and in 1 of 6 of transfer" in late

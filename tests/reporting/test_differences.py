"""Differences in words: which way, how far, and when it is noise."""

import pytest

from layerwise.reporting.differences import difference_words


def said(value, low, high, a="AnB", b="the base", **more):
    return difference_words(a, b, {"value": value, "low": low, "high": high}, **more)


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        (
            (-0.031, -0.05, -0.012),
            "AnB is lower than the base by 0.031 accuracy (95% 0.012 to 0.050).",
        ),
        (
            (0.031, 0.012, 0.05),
            "AnB is higher than the base by 0.031 accuracy (95% 0.012 to 0.050).",
        ),
        (
            (-0.004, -0.018, 0.011),
            "The difference between AnB and the base is within noise "
            "(−0.004, 95% −0.018 to 0.011).",
        ),
        (  # it touches 0
            (0.02, 0.0, 0.04),
            "The difference between AnB and the base is within noise (0.020, 95% 0.000 to 0.040).",
        ),
        (  # no minus before a zero
            (-0.0001, -0.0004, 0.0002),
            "The difference between AnB and the base is within noise (0.000, 95% 0.000 to 0.000).",
        ),
        (
            (0.0004, 0.0001, 0.0007),
            "AnB is higher than the base by 0.0004 accuracy (95% 0.0001 to 0.0007).",
        ),
        ((None, None, None), "The difference between AnB and the base is not defined."),
        ((float("nan"),) * 3, "The difference between AnB and the base is not defined."),
        (
            (0.02, None, float("nan")),
            "The difference between AnB and the base is 0.020 accuracy; how sure is not known.",
        ),
    ],
)
def test_words(sides, words):
    assert said(*sides) == words


def test_another_measure_and_names_at_the_beginning():
    assert said(0.1, 0.05, 0.15, "The base", "AnB", what="AUROC") == (
        "The base is higher than AnB by 0.100 AUROC (95% 0.050 to 0.150)."
    )
    assert said(0.1, -0.05, 0.15, "The base", "AnB").startswith(
        "The difference between the base and AnB is within noise"
    )
    assert said(0.1, -0.05, 0.15, what="AUPRC") == (
        "The difference between AnB and the base is within noise "
        "(0.100 AUPRC, 95% −0.050 to 0.150)."
    )
    assert difference_words("A", "B", {}) == "The difference between A and B is not defined."

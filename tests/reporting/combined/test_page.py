"""The page of an ensemble study: its advice follows from the tests."""

import re

import numpy as np
import pytest

from layerwise.evaluation.predictions import Predictions
from layerwise.reporting.combined.figures import gains, worth
from layerwise.reporting.combined.page import ensemble_page
from layerwise.reporting.combined.words import answer
from layerwise.reporting.study_page import csv_text, standalone
from layerwise.studies.combined.comparison import METRICS, Compared, Contribution, Member, Tried

NAMES = {"a": "lenet5, from random weights", "b": "resnet18", "c": "vgg16"}


def interval(value, p=None):
    found = {"value": value, "low": value - 0.01, "high": value + 0.01, "sd": float("nan")}
    return found if p is None else found | {"p": p, "p_holm": p}


def tried(way, weights, value, gain=0.0, p=1.0, unseen=0.9):
    best = way == "best"
    return Tried(
        way,
        weights,
        0.5,
        unseen + 0.02,
        interval(unseen),
        {} if best else interval(gain),
        {metric: interval(value) for metric in METRICS},
        {} if best else {metric: interval(gain, p) for metric in METRICS},
    )


def compared(gain, p, weights=None, contributions=(), unseen=True):
    ids = np.array(["i"])
    said = Predictions(ids, np.array([1]), np.ones((1, 1), np.float32), ids)
    members = tuple(Member(name, NAMES[name], 1000, said, said) for name in NAMES)
    best = tried("best", {"a": 1.0}, 0.9)
    way = tried("mean", weights or dict.fromkeys(NAMES, 1 / 3), 0.9 + gain, gain, p)
    if not unseen:
        way = Tried(way.way, way.weights, 0.5, 0.9, {}, {}, way.test, way.test_gain)
    alone = {name: (interval(0.9), interval(0.88)) for name in NAMES}
    return Compared(members, alone, best, (way,), way, tuple(contributions), 100)


def contribution(name, value, p):
    return Contribution(name, 1 / 3, interval(value), interval(value, p))


def test_an_ensemble_that_helps():
    some = [contribution("b", 0.03, 0.001), contribution("c", 0.001, 0.9)]
    said = answer(compared(0.05, 0.001, contributions=some), NAMES)
    assert said[0].startswith("Combining helps: the plain mean of 3 runs reaches an AUROC of 0.950")
    assert NAMES["a"] in said[0]
    assert said[1] == (
        "On the test part the plain mean is higher than the best run alone by 0.050 AUROC (95% "
        "0.040 to 0.060)."
    )
    assert "would be 0.920 instead of 0.900" in said[3]
    assert said[-1] == (
        "Without resnet18 it is worse beyond noise; any single one of the other 1 could be left "
        "out."
    )


@pytest.mark.parametrize(
    ("gain", "p", "weights", "message"),
    [
        (0.005, 0.3, None, "Combining does not help measurably: .*costs 3 networks"),
        (-0.05, 0.001, None, "Keep one run, lenet5.*is worse than it on the test part"),
        (0.0, 1.0, {"a": 1.0}, "Keep one run, lenet5.*takes lenet5, from random weights alone"),
        (0.02, 0.2, None, "does not help measurably"),
    ],
)
def test_an_ensemble_that_does_not(gain, p, weights, message):
    said = answer(compared(gain, p, weights), NAMES)
    assert re.search(message, said[0]), said[0]
    assert any("After Holm" in s for s in said) == (gain == 0.02)


def test_too_few_patients_are_said():
    said = answer(compared(0.05, 0.001, unseen=False), NAMES)
    assert any("too few patients" in sentence for sentence in said)


def test_figures_name_everything_and_stand_alone():
    some = [contribution("b", 0.03, 0.001), contribution("c", 0.001, 0.9)]
    found = compared(0.05, 0.001, contributions=some)
    svg = standalone(worth(some, NAMES))
    assert "resnet18  0.33" in svg and "vgg16  0.33" in svg and "var(" not in svg
    assert ">mean<" in gains(found.ways) and "mean +0.050" in gains(found.ways)
    places = [float(x) for x in re.findall(r'<use [^>]*?x="([\d.]+)"[^>]*stroke: #0072b2', svg)]
    assert places[0] > places[1]  # 0.03 is to the right of 0.001
    page = ensemble_page(found, NAMES, "chests", ["a note"], "the command")
    assert [f.name for f in page.figures] == ["gains", "contributions"]
    table = csv_text(page.tables[1].rows, list(page.tables[1].columns)).splitlines()
    assert table[0].endswith("parameters,mean") and len(table) == 4
    assert page.notes[-1] == "a note"
    assert [f.name for f in ensemble_page(compared(0.1, 0.01), NAMES, "x", [], "").figures] == [
        "gains"
    ]

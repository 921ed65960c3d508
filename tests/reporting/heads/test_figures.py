"""The figures of a heads study: what is drawn is what was measured."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from layerwise.reporting.heads.figures import by_epoch, by_size, comparison
from layerwise.reporting.study_page import standalone
from layerwise.studies.heads.experiment import CONNECTED, HEADS, POOLED, SVM

PARTS = ("train", "val", "test")


def span(value, half=0.02):
    return {"value": value, "low": value - half, "high": value + half}


def texts(svg):
    root = ElementTree.fromstring(standalone(svg))
    return [e.text for e in root.iter() if e.tag.endswith("text") and e.text]


def lines(svg, colour):
    """The points of every polyline of a colour, in points from the top left."""
    found = []
    for path, style in re.findall(r'<path d="([^"]*)"[^>]*style="([^"]*)"', svg):
        if colour in style and "stroke-width: 1.8" in style and "L" in path:
            points = re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)
            found.append(np.array(points, float))
    return found


def epochs(repeats=1, count=5):
    return [
        {
            "head": POOLED,
            "repeat": r,
            "epoch": e + 1,
            "train_accuracy": 0.6 + 0.08 * e,
            "val_accuracy": 0.5 + 0.04 * e + 0.02 * r,
            "train_loss": 1 / (e + 1),
            "val_loss": 0.5 + 0.1 * abs(e - 2),
            "kept": e == 2,
        }
        for r in range(repeats)
        for e in range(count)
    ]


def sizes(heads=HEADS):
    return [
        {
            "head": head,
            "images": images,
            "train_accuracy": None if head == SVM else 1.0,
            "val_accuracy": span(0.7 + images / 1000),
            "learnt_in_folds": 0.9 * images,
            "train_in_folds": {"value": 1.0, "sd": 0.0},
            "cross_validated": {"value": 0.65 + images / 1000, "sd": None},
        }
        for images in (20, 50, 200)
        for head in heads
    ]


def test_curves_by_epoch_rise_and_fall_as_measured():
    svg = by_epoch("pooled", epochs(), "said")
    blue = [line for line in lines(svg, "--c1") if len(line) == 5]
    accuracy, loss = blue[:2]
    steps = -np.diff(accuracy[:, 1])  # in a picture up is less
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3)
    assert steps[0] > 0
    np.testing.assert_allclose(loss[[0, 1], 1], loss[[4, 3], 1], rtol=1e-4)
    assert loss[2, 1] == loss[:, 1].max()
    for word in ("Accuracy", "Loss", "Epoch", "training", "validation", "kept"):
        assert texts(svg).count(word) == 1, word


def test_of_several_repeats_the_mean_is_drawn_thick():
    one = lines(by_epoch("pooled", epochs(1), "said"), "--c1")
    three = lines(by_epoch("pooled", epochs(3), "said"), "--c1")
    assert len([line for line in one if len(line) == 5]) == len(
        [line for line in three if len(line) == 5]
    )
    assert "stroke-opacity: 0.35" in by_epoch("pooled", epochs(3), "said")


@pytest.mark.parametrize("heads", [HEADS, (POOLED, SVM), (CONNECTED,)])
def test_every_head_has_a_panel_of_its_own(heads):
    drawn = texts(by_size(sizes(heads), "said"))
    for head in HEADS:
        assert drawn.count(head[0].upper() + head[1:]) == (head in heads)
    assert drawn.count("cross-validation") == (SVM in heads)
    assert drawn.count("Accuracy") == len(heads)


def test_the_comparison_names_every_value():
    rows = [
        {
            "head": head,
            "train_accuracy": span(0.997),
            "val_accuracy": span(0.851 + n / 100),
            "test_accuracy": {"value": None, "low": None, "high": None},
        }
        for n, head in enumerate(HEADS)
    ]
    drawn = texts(comparison(rows, "said"))
    for words in (*HEADS, "0.851", "0.861", "0.871", "training", "validation", "test"):
        assert drawn.count(words) == 1, words
    assert drawn.count("0.997") == 3


def test_no_number_of_the_comparison_lies_on_the_next_marker():
    rows = [{"head": head, **{f"{p}_accuracy": span(0.9234) for p in PARTS}} for head in HEADS]
    svg = comparison(rows, "said")
    found = re.findall(r'(?:x="|translate\()([\d.]+)[^>]*>0\.923<', svg)
    starts = sorted(float(x) for x in found)
    assert len(starts) == 9
    # Five digits of 7.5 points, each at most 0.64 of that wide, then a gap and half a marker.
    assert min(np.diff(starts)) > 5 * 0.64 * 7.5 + 6 + 3


def test_a_loss_that_does_not_fall_is_not_cut_at_the_top():
    flat = [row | {"train_loss": 2.303, "val_loss": 2.302} for row in epochs()]
    svg = by_epoch("pooled", flat, "said")
    panels = re.findall(
        r'<clipPath[^>]*>\s*<rect x="[\d.]+" y="([\d.]+)"[^>]*height="([\d.]+)"', svg
    )
    top, height = max((float(y), float(h)) for y, h in panels)  # the lower one
    loss = [line for line in lines(svg, "--c1") if len(line) == 5][1]
    assert loss[:, 1].min() > top + 0.05 * height


def test_equal_figures_have_equal_bytes():
    assert by_size(sizes(), "x") == by_size(sizes(), "x")
    assert by_epoch("pooled", epochs(2), "x") == by_epoch("pooled", epochs(2), "x")

"""Both sides of the matrix, and its four quadrants, on planted numbers."""

import numpy as np
import pytest

from layerwise.evaluation.estimates import Estimate
from layerwise.studies.advice.distance import Distance, Layer
from layerwise.studies.advice.matrix import (
    MOST_LEFT,
    QUADRANTS,
    Likeness,
    Size,
    likeness,
    quadrant,
    size_of,
)


def span(value, low=None, high=None):
    low, high = value if low is None else low, value if high is None else high
    return {"value": value, "low": low, "high": high}


def auroc(value, *draws):
    return Estimate(value, np.array(draws or (value,), float), (value,))


def shifted(value):
    return Distance((Layer("bn", 4, value**2 / 2),), value, value, value, 10, 0.1)


@pytest.mark.parametrize(
    ("images", "left", "shift", "wanted", "strategy"),
    [
        (1000, 0.6, 0.1, 1, "all"),
        (5000, 0.1, 0.6, 1, "all"),
        (1000, 0.5, 0.5, 2, "some"),
        (999, 0.6, 0.6, 3, "some"),
        (10, 0.1, None, 4, "none"),
        (10, 0.6, None, 3, "some"),
    ],
)
def test_the_quadrants_are_the_papers(images, left, shift, wanted, strategy):
    like = Likeness(span(left), None if shift is None else span(shift))
    found = quadrant(Size(images, "a", {"a": images}), like)
    assert (found, QUADRANTS[found]) == (wanted, strategy)


def test_the_measure_that_is_further_out_decides():
    like = Likeness(span(0.25, 0.2, 0.3), span(0.6, 0.55, 0.7))
    assert like.decided_by == "batch norm" and not like.similar
    assert like.far == pytest.approx(span(1.2, 1.1, 1.4))
    assert like.parts["probe"] == pytest.approx(span(0.5, 0.4, 0.6))
    assert Likeness(span(0.7), span(0.6)).decided_by == "probe"
    assert Likeness(span(0.7), None).decided_by == "probe"


@pytest.mark.parametrize(
    ("far", "near"),
    [
        ((0.5, 0.4, 0.6), False),
        ((0.7, 0.6, 0.75), True),  # within a factor of 1.5
        ((0.5, 0.2, 1.1), True),  # the interval reaches over
        ((1.4, 1.3, 1.5), True),
        ((1.6, 1.55, 1.7), False),
    ],
)
def test_near_the_border(far, near):
    assert Likeness(span(*(each / 2 for each in far)), None).near is near


@pytest.mark.parametrize(
    ("images", "near"), [(600, False), (700, True), (1400, True), (1600, False)]
)
def test_near_in_size(images, near):
    assert Size(images, "a", {}).near is near


def test_the_error_left_is_that_of_each_resample():
    found = likeness(auroc(0.9, 0.9, 0.8, 1.0), auroc(0.8, 0.8, 0.6, 0.9), shifted(0.3))
    assert found.error_left["value"] == pytest.approx(0.5)
    low, high = np.percentile([0.5, 0.5, 0.0], [2.5, 97.5])
    assert (found.error_left["low"], found.error_left["high"]) == pytest.approx((low, high))
    assert found.shift == span(0.3)


def test_where_nothing_errs_nothing_is_left():
    one, worse = auroc(1.0), auroc(0.9)
    unknown = Distance((), 0.0, 0.0, 0.0, 10, 0.1, "none")
    assert likeness(one, one, unknown).error_left["value"] == 0
    assert likeness(worse, one, unknown).error_left["value"] == MOST_LEFT
    assert likeness(worse, one, unknown).shift is None


def test_size_is_that_of_the_smallest_class_of_the_training_part(workspace):
    manifest = workspace("multiclass").manifest
    split = manifest.table["split"].to_numpy(dtype=object).copy()
    last = np.flatnonzero((manifest.targets == 2) & (split == "train"))
    split[last[:5]] = "test"
    found = size_of(manifest.replace(split=split))
    assert (found.images, found.label) == (11, manifest.labels[2])
    assert list(found.each.values()) == [16, 16, 11]

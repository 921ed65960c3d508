"""The sentences of an advice, on planted numbers, and where the matrix puts the data."""

import re
from dataclasses import replace
from types import SimpleNamespace as Made
from xml.etree import ElementTree

import numpy as np
import pytest

from layerwise.evaluation.estimates import Estimate
from layerwise.reporting.advice.figures import _across, matrix
from layerwise.reporting.advice.words import answer, check_sentences, reasons
from layerwise.reporting.study_page import standalone
from layerwise.studies.advice.matrix import Likeness, Size, quadrant
from layerwise.studies.advice.quick import (
    UNTESTED,
    Checked,
    Compared,
    QuickRun,
    QuickTest,
    verdict,
)
from layerwise.studies.advice.strategies import Way
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

CUTS = [Made(cut=Made(name=name, parameters=n)) for n, name in enumerate(("low", "middle", "top"))]
RECIPE = Recipe(lr=1e-3, copied_lr=0.3, layer_decay=0.9, epochs=20)


def span(value, low, high):
    return {"value": value, "low": low, "high": high}


def sure(value):
    return Estimate(value, np.full(5, value), (value,))


def rows(**counts):
    return Made(rows=lambda part: range(counts[part]), image_size=(128, 128))


def compared(strategy, value, p):
    return Compared(strategy, span(value, value - 0.01, value + 0.01), p, p)


def checked(*found, epochs=2):
    runs = [
        QuickRun(s, Transfer("w"), Recipe(epochs=n), 1.0)
        for s, n in (("none", 90), ("some", 9), ("all", epochs))
    ]
    done = tuple(Made(outcome=Made(), failure="") for _ in runs)
    work = rows(train=300, val=120)
    return Checked(QuickTest(300, 120, tuple(runs)), work, done, {}, tuple(found), verdict(found))


def advice(size, like, found):
    ways = (
        Way("all", Transfer("w"), RECIPE, ""),
        Way("some", Transfer("w", freeze="low"), RECIPE, "low"),
        Way("none", Transfer("w", keep="middle", copy="middle", freeze="middle"), RECIPE, "middle"),
    )
    place = quadrant(size, like)
    profile = Made(probes=CUTS, best=1, scores=[sure(0.8), sure(0.95), sure(0.9)])
    profile.logme = (-0.6, -0.3, -0.4)
    random = Made(probes=CUTS[:1], best=0, scores=[sure(0.75)], logme=(-0.5,))
    return Made(
        size=size,
        like=like,
        quadrant=place,
        ways=ways,
        advised=ways[{1: 0, 2: 1, 3: 1, 4: 2}[place]],
        tested=found,
        source=profile,
        random=random,
        plan=Made(distance=Made(layers=[0] * 52, images=128, why_not="it has none")),
        work=rows(train=700, val=400),
        prepared=Made(work=rows(train=4434, val=782)),
    )


LARGE = Size(1140, "NORMAL", {"NORMAL": 1140, "PNEUMONIA": 3294})
SMALL = Size(70, "cat", {"cat": 70, "dog": 80})
FAR, CLOSE = span(0.62, 0.6, 0.64), span(0.3, 0.2, 0.35)
LEFT = span(0.2, 0.1, 0.3)


def test_many_and_different():
    found = advice(LARGE, Likeness(LEFT, FAR), checked(compared("some", 0.02, 0.01)))
    said = answer(found)
    assert said[0].startswith("Train the entire model. There are many images, and they are diff")
    assert "quadrant 1" in said[0]
    # 1e-3 · 0.3, and two blocks further down · 0.9²
    assert "learning rate 0.001, copied layers from 3.0e-4 at top down to 2.4e-4 at low" in (
        said[1].replace("with learning", "learning")
    )
    assert "bears the advice out: it is better than training some layers." in said[2]
    assert "2308.07444" in said[-1]
    why = " ".join(reasons(found))
    assert "NORMAL, the smallest class, has 1,140 training images" in why
    assert "That is near the border, within a factor of 1.5." in why
    assert "The source leaves 0.200 (0.100–0.300) of random filters' error" in why
    assert "in the median of 52 batch norms they are shifted by 0.620 (0.600–0.640)" in why
    assert "lies at 1.240 (1.200–1.280) times its border: the data count as different" in why
    assert "on whose other side the advice is to train some layers" in why
    assert "LogME is highest at middle, −0.300 nats an image, 0.200 more" in why
    assert "700 of 4,434 training and 400 of 782 validation images of 128×128" in why


def test_few_and_similar_and_without_batch_norms():
    found = advice(SMALL, Likeness(LEFT, None), checked(compared("all", -0.03, 0.01)))
    said = answer(found)
    assert said[0].startswith(
        "The matrix advises to freeze the convolutional base, but on these images training the "
        "entire model did better in the quick test. There are few images, and they are similar"
    )
    assert "Keep and freeze the layers up to middle, cut off what lies above it, and" in said[1]
    assert "did not hold: it is worse than training the entire model." in said[2]
    why = " ".join(reasons(found))
    assert "nothing can be said of this network, since it has none; the probe decides" in why
    assert "near the border" not in why


def test_what_the_test_says():
    both = checked(compared("all", 0.01, 0.2), compared("none", -0.01, 0.6), epochs=2)
    said = check_sentences(both)
    assert said[0].endswith(
        "the difference to training the entire model and to freezing the convolutional base is "
        "within noise."
    )
    assert "has +0.010 validation AUROC (95% 0.000 to 0.020; p = 0.200 by Holm's method)" in said[1]
    assert "has −0.010 validation AUROC (95% −0.020 to 0.000; p = 0.600" in said[2].replace(
        "−0.000", "0.000"
    )
    assert (
        "300 training images; the passes that the time paid for are 2 for training the" in said[3]
    )
    assert said[4].startswith("Training the entire model pays with more images")
    early = replace(compared("none", -0.05, 0.01), unfinished=True)
    said = check_sentences(checked(compared("some", -0.01, 0.2), early))
    assert said[0].endswith(
        "for the difference to freezing the convolutional base, the one that learns more had too "
        "few passes."
    )
    assert said[2].endswith("too few passes.")
    assert len(check_sentences(checked(compared("all", 0.01, 0.2), epochs=5))) == 3  # no caution
    why = QuickTest(64, 100, why_not="two passes would need 900 s")
    nothing = Checked(why, None, (), {}, (), UNTESTED)
    assert check_sentences(nothing) == ["The advice was not tested: two passes would need 900 s."]


@pytest.mark.parametrize(("far", "place"), [(1.0, 1.0), (2.0, 0.5), (0.25, 4.0)])
def test_similarity_is_the_distance_turned_round(far, place):
    assert _across(far) == place
    assert 1 / 8 < _across(1e9) < 0.14 and 7.5 < _across(0.0) < 8


def test_the_matrix_is_one_picture_that_asks_for_nothing():
    like = Likeness(LEFT, FAR)
    svg = standalone(matrix(LARGE, like, 1, "said"))
    root = ElementTree.fromstring(svg.partition("?>")[2])
    words = "".join(root.itertext())
    for part in ("train the entire model", "freeze the convolutional base", "border", "1,000"):
        assert part in words, part
    assert re.findall(r'(?:href="|url\()(?!#)', svg) == []
    assert svg == standalone(matrix(LARGE, like, 1, "said"))

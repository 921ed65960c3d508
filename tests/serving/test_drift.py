"""Drift is found where there is some, and nowhere else: simulated pictures of known difference."""

import math
from functools import cache

import numpy as np
import pytest

from layerwise.errors import StatisticsError
from layerwise.evaluation.distances import jensen_shannon, kolmogorov, psi
from layerwise.serving import drift
from layerwise.serving.drift import THRESHOLDS, Limits, checks, compare, prevalence
from layerwise.serving.measures import INPUTS, SCORES, binned, measure
from layerwise.serving.statistics import Statistics, reference

LABELS = ("NORMAL", "PNEUMONIA")
MANY = 1500


def pictures(n, seed=0, brighter=0.0):
    """X-rays of a kind: bright in the middle, each with its own exposure and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:24j, -1:1:20j]
    base = 150 * np.exp(-2 * (x**2 + y**2)) * rng.uniform(0.7, 1.1, (n, 1, 1))
    noisy = base + rng.normal(40 + brighter, 12, (n, 1, 1)) + rng.normal(0, 8, (n, 24, 20))
    return noisy.clip(0, 255).astype(np.uint8)[..., None]


def said(pixels):
    """A model that answers by brightness, and decides at 0.4."""
    z = pixels.mean(axis=(1, 2, 3)) / 255 - 0.4
    scores = (1 / (1 + np.exp(-12 * z)))[:, None].astype(np.float32)
    return scores, (scores[:, 0] >= 0.4).astype(np.int64)


@cache
def trained():
    """The bundle's: 1,500 training pictures of 300×240 pixels, 700 validation ones."""
    sizes = [(300, 240)] * MANY
    return reference("binary", LABELS, [pictures(MANY)], sizes, *said(pictures(700, seed=1)))


def after(pixels, sizes=None):
    found = trained().beside()
    found.add(pixels, *said(pixels), sizes or [(300, 240)] * len(pixels))
    return found


def judged(pixels, sizes=None, **limits):
    return compare(trained(), after(pixels, sizes), Limits(**limits))


def named(found):
    return {(one.kind, one.name): one for one in found}


def drifted(found):
    return {one.name for one in found if one.verdict == "drifted"}


@pytest.mark.parametrize(("n", "seed"), [(1, 2), (5, 3), (30, 4), (30, 5), (400, 6), (400, 7)])
def test_more_of_the_same_is_no_drift(n, seed):
    assert drifted(judged(pictures(n, seed=seed))) == set()


def test_with_many_pictures_nothing_is_left_open_and_with_few_most_is():
    many = named(judged(pictures(1500, seed=8)))
    assert {one.verdict for one in many.values()} == {"none"}
    assert set(checks(list(many.values())).values()) == {False}
    few = named(judged(pictures(6, seed=9)))
    assert few["input", "brightness"].verdict == few["score", "PNEUMONIA"].verdict == "within noise"
    assert few["sign", "negative"].verdict == "within noise"  # 0 of 6: up to 39% may be
    assert few["sign", "negative"].difference["high"] == pytest.approx(0.390, abs=0.001)
    assert math.isnan(few["sign", "negative"].p)  # none before, none now: nothing to test
    told = checks(list(few.values()))
    assert told["negative"] is told["window"] is None


def test_a_few_inverted_pictures_are_found_and_counted():
    pixels = pictures(400, seed=10)
    pixels[:20] = 255 - pixels[:20]
    found = judged(pixels)
    one = named(found)["sign", "negative"]
    assert (one.verdict, one.after.tolist()) == ("drifted", [380, 20])
    assert one.difference["value"] == pytest.approx(0.05)
    assert checks(found)["negative"] is True
    # 1 of 400 is beyond what matters at 0.2%, but chance could give it
    rare = pictures(400, seed=10)
    rare[:1] = 255 - rare[:1]
    assert named(judged(rare, sign=0.002))["sign", "negative"].verdict == "within noise"


def test_brighter_pictures_are_found_in_pictures_scores_and_decisions():
    found = judged(pictures(450, seed=11, brighter=15))
    assert {"brightness", "PNEUMONIA"} <= drifted(found)
    by = named(found)
    assert by["score", "PNEUMONIA"].verdict == by["decided", "PNEUMONIA"].verdict == "drifted"
    assert all(by[k, "PNEUMONIA"].rises for k in ("score", "decided"))
    told = checks(found)
    assert told["window"] is True and told["negative"] is told["bars"] is False
    # 15 levels of a deviation of about 19: psi would be 0.6 of two normals, and is of this order
    assert 0.3 < by["input", "brightness"].distances["psi"].excess < 1.2


def test_a_difference_beyond_chance_that_does_not_matter_is_none():
    one = named(judged(pictures(3000, seed=12, brighter=3)))["input", "brightness"]
    assert one.p_holm < 0.05 and one.verdict == "none"
    strict = judged(pictures(3000, seed=12, brighter=3), threshold=0.001)
    assert named(strict)["input", "brightness"].verdict == "drifted"


@pytest.mark.parametrize("measure_by", ["psi", "js", "ks"])
def test_every_measure_finds_a_narrower_window(measure_by):
    wide = pictures(300, seed=13).astype(float)
    narrow = ((wide - 128) * 2 + 128).clip(0, 255).astype(np.uint8)
    found = judged(narrow, measure=measure_by, threshold=THRESHOLDS[measure_by])
    assert {"contrast", "black"} <= drifted(found)
    assert checks(found)["window"] is True


def test_bars_too_few_pixels_smoothing_blank_pictures_and_colour():
    barred = pictures(300, seed=14)
    barred[:90, :4] = 0
    found = judged(barred)
    assert named(found)["sign", "barred"].after.tolist() == [210, 90]
    assert checks(found)["bars"] is True

    small = judged(pictures(300, seed=15), [(20, 20)] * 60 + [(300, 240)] * 240)
    assert named(small)["sign", "enlarged"].after.tolist() == [240, 60]
    assert checks(small)["resolution"] is True and {"aspect", "side"} <= drifted(small)

    smooth = pictures(300, seed=16).astype(float)
    smooth[:, :, 1:-1] = (smooth[:, :, :-2] + smooth[:, :, 1:-1] + smooth[:, :, 2:]) / 3
    found = judged(smooth.astype(np.uint8))
    assert "detail" in drifted(found) and checks(found)["resolution"] is True

    blank = pictures(300, seed=17)
    blank[:30] = 128
    assert checks(judged(blank))["blank"] is True

    sharp = pictures(450, seed=18)
    sharp[:, :, ::2] = (sharp[:, :, ::2].astype(int) * 0.8).astype(np.uint8)
    found = judged(sharp)
    assert "detail" in drifted(found) and checks(found)["resolution"] is False


def test_colour_among_grey_pictures_is_found():
    grey = np.repeat(pictures(400, seed=19), 3, axis=3)
    before = reference("binary", LABELS, [grey], None, *said(grey))
    coloured = np.repeat(pictures(100, seed=20), 3, axis=3)
    coloured[:15, :6, :, 0] = 250
    now = before.beside()
    now.add(coloured, *said(coloured))
    told = checks(compare(before, now, Limits()))
    assert told["colour"] is True
    assert told["resolution"] is None  # without the sizes of the files


def test_what_training_pictures_do_not_share_can_not_be_inverted():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (100, 24, 20, 1)).astype(np.uint8)
    before = reference("binary", LABELS, [noise], None, *said(noise))
    now = before.beside()
    now.add(255 - noise, *said(noise))
    assert checks(compare(before, now, Limits()))["negative"] is None


def test_pictures_that_come_together_count_as_one():
    pixels = pictures(60, seed=11, brighter=8)
    alone = named(judged(pixels))["input", "brightness"]
    together = named(judged(pixels, clump=6.0))["input", "brightness"]
    assert alone.verdict == "drifted" and together.verdict == "within noise"
    assert together.distances["psi"].expected > 3 * alone.distances["psi"].expected


def test_without_counts_nothing_is_known():
    found = named(judged(pictures(40, seed=21), [None] * 40))
    assert {found["input", "aspect"].verdict, found["sign", "enlarged"].verdict} == {"not known"}
    with pytest.raises(StatisticsError, match="this bundle's server"):
        compare(trained(), Statistics("binary", ("A", "B")), Limits())


def test_the_thresholds_of_the_measures_are_one_shift():
    """A normal distribution that moves by √0.1 deviations, in fine bins."""
    edges = np.linspace(-7, 7, 800)
    both = [np.round(1e9 * np.exp(-((edges - m) ** 2) / 2)) for m in (0, math.sqrt(0.1))]
    assert psi(*both) == pytest.approx(THRESHOLDS["psi"], abs=5e-4)
    assert jensen_shannon(*both) == pytest.approx(THRESHOLDS["js"], abs=5e-4)
    assert kolmogorov(*both) == pytest.approx(THRESHOLDS["ks"], abs=1e-3)


def test_the_true_share_from_the_decided_one():
    scores = {"recall": {"value": 0.9}, "specificity": {"value": 0.8}}
    decided = np.array([590, 410])  # 0.9 · 0.3 + 0.2 · 0.7
    found = prevalence(decided, scores)
    assert found["value"] == pytest.approx(0.3)
    half = 1.96 * math.sqrt(0.41 * 0.59 / 1000) / 0.7  # Wilson's is nearly Wald's here
    assert found["low"] == pytest.approx(0.3 - half, abs=0.002)
    assert found["high"] == pytest.approx(0.3 + half, abs=0.002)
    assert prevalence(np.array([95, 5]), scores)["value"] == 0
    assert prevalence(np.array([5, 95]), scores)["value"] == 1
    poor = {"recall": {"value": 0.6}, "specificity": {"value": 0.4}}
    assert prevalence(decided, poor) is prevalence(decided, {}) is None


def alarms(times, n, m):
    """How often anything at all is beyond chance, both samples being of one population."""
    pool = pictures(3000, seed=22)
    template = trained().template
    values = measure(pool, template, [(300, 240)] * len(pool))
    scores, decisions = said(pool)

    def counted(rows):
        found = Statistics("binary", LABELS, template)
        for name in values:
            found.inputs[name] = binned(values[name][rows], INPUTS[name])
        found.scores[LABELS[1]] = binned(scores[rows, 0].astype(float), SCORES)
        yes = int(decisions[rows].sum())
        found.decided[LABELS[1]] = np.array([len(rows) - yes, yes])
        return found

    rng, hits = np.random.default_rng(m), 0
    for k in range(times):
        rows = rng.permutation(len(pool))
        found = compare(counted(rows[:n]), counted(rows[n : n + m]), Limits(), seed=1000 * k)
        hits += any(one.p_holm < 0.05 for one in found)
    return hits / times


@pytest.mark.slow
@pytest.mark.parametrize("m", [4, 50, 600])
def test_a_false_alarm_over_all_quantities_is_as_rare_as_asked_for(m):
    assert alarms(200, 1000, m) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


def test_draws_are_enough_for_the_smallest_level(monkeypatch):
    """Holm divides by the number of quantities: the smallest p-value must be below that."""
    monkeypatch.setattr(drift, "DRAWS", 1)
    found = judged(pictures(300, seed=11, brighter=60), alpha=0.01)
    assert "brightness" in drifted(found)

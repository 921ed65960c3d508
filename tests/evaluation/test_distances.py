"""Distances of binned samples against scipy, closed forms and brute force; false alarms; power."""

from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2, fisher_exact, ks_2samp

from layerwise.evaluation.distances import (
    distances,
    jensen_shannon,
    kolmogorov,
    psi,
    quantile,
    share,
    share_difference,
    share_test,
)


def counts(values, bins=8):
    return np.bincount(values, minlength=bins)


def test_psi_is_the_closed_form():
    first, second = np.array([30, 50, 20]), np.array([10, 20, 70])
    p, q = (first + 0.5) / 101.5, (second + 0.5) / 101.5
    expected = sum((b - a) * np.log(b / a) for a, b in zip(p, q, strict=True))
    assert psi(first, second) == pytest.approx(expected)
    assert psi(second, first) == pytest.approx(expected)
    # Of two normals of one width, δ deviations apart, it is δ²: here 0.5 apart in fine bins.
    edges = np.linspace(-6, 6, 400)
    density = np.exp(-((edges[None] - np.array([[0], [0.5]])) ** 2) / 2)
    fine = np.round(density * 1e9)
    assert psi(fine[0], fine[1]) == pytest.approx(0.25, abs=1e-4)


def test_jensen_shannon_is_scipys():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 40, (2, 5, 12))
    first[0, :6], second[0, 6:] = 0, 0  # apart: 1 bit
    expected = [jensenshannon(a, b, base=2) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(jensen_shannon(first, second), expected)
    assert jensen_shannon(first, second)[0] == pytest.approx(1)
    assert jensen_shannon(first, first).tolist() == [0] * 5


def test_kolmogorov_is_scipys():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 8, 60), rng.integers(2, 8, 45)
    expected = ks_2samp(a, b).statistic
    assert kolmogorov(counts(a), counts(b)) == pytest.approx(expected)


def test_p_is_the_share_of_all_ways_to_draw_apart():
    """Every one of the 252 ways to draw 5 of 10, by brute force."""
    values = [0, 0, 1, 1, 2, 3, 4, 5, 6, 7]
    a, b = [0, 0, 1, 1, 3], [2, 4, 5, 6, 7]
    seen = kolmogorov(counts(a), counts(b))
    gaps = []
    for chosen in combinations(range(10), 5):
        one = counts([values[k] for k in chosen])
        gaps.append(kolmogorov(one, counts(values) - one))
    exact = np.mean(np.array(gaps) >= seen - 1e-12)
    found = distances(counts(a), counts(b), draws=20_000)["ks"]
    assert found.p == pytest.approx(exact, abs=4 * np.sqrt(exact / 20_000))
    assert found.expected == pytest.approx(np.mean(gaps), abs=0.01)


@pytest.mark.parametrize("clump", [1, 3])
def test_chance_alone_gives_the_chi_square_of_psi(clump):
    """(1/n + 1/m) χ² with as many degrees of freedom as bins less one (Yurdakul 2018)."""
    first, second = np.full(10, 200), np.full(10, 60)
    found = distances(first, second, draws=4000, clump=clump)["psi"]
    scale = clump * (1 / 2000 + 1 / 600)
    assert found.expected == pytest.approx(scale * 9, rel=0.04)
    assert found.bound == pytest.approx(scale * chi2.ppf(0.95, 9), rel=0.06)
    assert (found.value, found.p, found.excess) == (pytest.approx(0, abs=1e-12), 1, 0)


def test_what_is_in_few_bins_is_not_lost_beside_a_heap():
    """Training pictures are all at 0; 3 of 100 are not: no tenth, yet seen."""
    first, second = np.zeros(20, int), np.zeros(20, int)
    first[5], second[5] = 2000, 94
    second[[1, 9, 12]] = 2
    found = distances(first, second)
    assert all(one.p < 0.01 for one in found.values())
    assert found["ks"].value == pytest.approx(0.04)  # 2 below the heap, 4 above it
    assert found["psi"].value > 0.1


def test_very_many_images_are_no_harder_than_many():
    many = np.array([10**11, 2 * 10**11, 10**11])
    found = distances(many, many * 3)
    assert all(one.p == 1 for one in found.values())
    moved = distances(many, many * np.array([1, 1, 2]))
    assert moved["ks"].value == pytest.approx(0.15, abs=1e-6)
    assert moved["ks"].p < 0.001


def test_an_empty_sample_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        distances(np.zeros(3, int), np.ones(3, int))


def test_shares_and_their_difference_are_the_published_ones():
    """Newcombe 1998, table II, example (a): 56/70 − 48/80, 0.0524 to 0.3339."""
    found = share_difference(np.array([32, 48]), np.array([14, 56]))
    assert found["value"] == pytest.approx(0.2)
    assert (found["low"], found["high"]) == (
        pytest.approx(0.0524, abs=5e-5),
        pytest.approx(0.3339, abs=5e-5),
    )
    # Example (g): 0/10 − 0/20 has −0.1611 to 0.2775 (second less first: the other way round)
    none = share_difference(np.array([20, 0]), np.array([10, 0]))
    assert none["low"] == pytest.approx(-0.1611, abs=5e-5)
    assert none["high"] == pytest.approx(0.2775, abs=5e-5)
    assert share(np.array([10, 0]))[0] == 0 == share(np.array([10, 0]))[1]


def test_the_test_of_shares_is_fishers():
    table = np.array([[8, 2], [1, 5]])
    assert share_test(*table) == pytest.approx(fisher_exact(table)[1])
    assert share_test(*table) == pytest.approx(0.034965, abs=1e-6)  # Agresti's worked table


def test_quantiles_are_read_between_the_edges():
    values = np.random.default_rng(0).normal(100, 20, 20_000)
    edges = np.linspace(0, 256, 65)
    binned = np.histogram(values, edges)[0]
    for wanted in (0.1, 0.5, 0.9):
        assert quantile(binned, edges, wanted) == pytest.approx(np.quantile(values, wanted), abs=1)
    one = np.array([0, 4, 0])
    assert [quantile(one, np.array([0, 1, 2, 3]), q) for q in (0, 0.5, 1)] == [1, 1.5, 2]


def sample(rng, n, shift=0.0):
    """Counts of a skewed quantity with a heap at its lower end, as shares of black are."""
    values = np.maximum(rng.gamma(2, 1, n) - 1 + shift, 0)
    return np.histogram(values, np.concatenate([[-1], np.linspace(1e-9, 12, 50)]))[0]


def rejections(times, n, m, shift=0.0, draws=199, clump=1.0, seed=0):
    """How often each distance has p ≤ 0.05."""
    rng = np.random.default_rng(seed)
    hits = dict.fromkeys(("psi", "js", "ks"), 0)
    for k in range(times):
        pair = sample(rng, n), sample(rng, m, shift)
        for name, one in distances(*pair, draws=draws, seed=k, clump=clump).items():
            hits[name] += one.p <= 0.05
    return {name: hit / times for name, hit in hits.items()}


@pytest.mark.parametrize("m", [5, 300])
def test_few_false_alarms(m):
    """At most 5%, give or take three standard errors of 60 trials."""
    assert max(rejections(60, 800, m).values()) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)


def test_a_shift_is_found():
    assert min(rejections(20, 800, 300, shift=0.5).values()) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("m", [3, 20, 500])
def test_false_alarms_are_at_the_nominal_level(m):
    found = rejections(1500, 1000, m, draws=399, seed=m)
    error = 3 * np.sqrt(0.05 * 0.95 / 1500)
    assert max(found.values()) <= 0.05 + error
    if m == 500:  # where heaps of equal distances do not make the test careful
        assert min(found.values()) >= 0.05 - error - 0.01

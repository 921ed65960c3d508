"""The Pareto front by brute force, and who is good enough on known intervals."""

import numpy as np
import pytest

from layerwise.evaluation.estimates import Estimate
from layerwise.studies.depth.front import best_of, pareto, smallest, standings


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_brute_force_finds(seed):
    generator = np.random.default_rng(seed)
    costs = generator.integers(0, 6, 12).astype(float)  # with ties
    values = generator.integers(0, 6, 12).astype(float)
    if seed % 2:
        costs[3], values[5] = np.nan, np.nan

    def beaten(i):
        return any(
            costs[j] <= costs[i]
            and values[j] >= values[i]
            and (costs[j] < costs[i] or values[j] > values[i])
            for j in range(12)
        )

    known = [i for i in range(12) if not np.isnan(costs[i] + values[i])]
    front = pareto(list(costs), list(values))
    assert sorted(front) == [i for i in known if not beaten(i)]
    assert [costs[i] for i in front] == sorted(costs[i] for i in front)


def shifted(value: float, common: np.ndarray, own: float = 0.0, seed: int = 0) -> Estimate:
    """A network whose resamples go up and down with the others', beside noise of its own."""
    noise = np.random.default_rng(seed).normal(0, own, len(common)) if own else 0.0
    return Estimate(value, value + common + noise, (value,))


COMMON = np.random.default_rng(9).normal(0, 0.02, 2000)


def test_a_paired_difference_tells_what_an_interval_hides():
    """0.97 lies inside 0.98 ± 0.04, but it is 0.01 lower in every single resample."""
    top, lower, noisy = shifted(0.98, COMMON), shifted(0.97, COMMON), shifted(0.97, COMMON, 0.02, 1)
    found = standings([top, lower, noisy], 0)
    assert [one.inside for one in found] == [True, True, True]
    assert [one.equal for one in found] == [True, False, True]
    assert [one.enough for one in found] == [True, False, True]
    assert found[1].difference["value"] == pytest.approx(-0.01)
    assert found[1].difference["high"] == pytest.approx(-0.01)


def test_outside_the_interval_is_not_good_enough_however_noisy():
    found = standings([shifted(0.98, COMMON), shifted(0.90, COMMON, 0.2, 2)], 0)
    assert not found[1].inside and found[1].equal and not found[1].enough


def test_the_smallest_good_enough_one_is_recommended():
    qualities = [
        shifted(0.95, COMMON),
        shifted(0.98, COMMON),
        shifted(0.975, COMMON, 0.02, 3),
        shifted(0.60, COMMON),
    ]
    sizes = [(100, 9), (50, 5), (20, 3), (5, 1)]
    best = best_of(qualities, [s for s, _ in sizes])
    standing = standings(qualities, best)
    assert best == 1
    assert smallest(standing, sizes, [q.value for q in qualities]) == 2


def test_of_equal_sizes_the_better_one_and_of_equal_qualities_the_smaller():
    qualities = [
        shifted(0.90, COMMON),
        shifted(0.91, COMMON, 0.02, 4),
        shifted(0.91, COMMON, 0.02, 4),
    ]
    assert best_of(qualities, [10, 30, 20]) == 2
    standing = standings(qualities, 2)
    alike = [(20, 3), (20, 3), (20, 4)]
    assert smallest(standing, alike, [0.90, 0.91, 0.91]) == 1


def test_undefined_quality_is_never_best_and_never_enough():
    nan = Estimate(float("nan"), np.full(10, np.nan), ())
    good = shifted(0.7, COMMON[:10])
    assert best_of([nan, good], [1, 9]) == 1
    assert not standings([nan, good], 1)[0].enough

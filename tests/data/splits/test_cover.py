"""Every class in every part: found exactly when there is a way."""

import itertools

import numpy as np

from layerwise.data.splits import cover as module
from layerwise.data.splits.cover import cover


def covers(part, classes, parts):
    """Whether every part has every class, by looking."""
    every = set(itertools.chain(*classes))
    return all(
        {k for p, holds in zip(part, classes, strict=True) if p == q for k in holds} == every
        for q in range(parts)
    )


def test_found_exactly_when_there_is_a_way():
    generator = np.random.default_rng(0)
    outcomes = []
    for _ in range(300):
        units, kinds, parts = generator.integers((3, 1, 2), (8, 4, 4))
        classes = [
            np.flatnonzero(row) for row in generator.random((units, kinds)) < 0.55 if row.any()
        ]
        every = set(itertools.chain(*(holds.tolist() for holds in classes)))
        if every != set(range(kinds)):
            continue
        part = generator.integers(0, parts, len(classes))
        ways = itertools.product(range(parts), repeat=len(classes))
        possible = any(covers(way, classes, parts) for way in ways)
        found = cover(part, classes, generator.integers(1, 9, len(classes)), int(parts))
        assert (found is not None) == possible
        if found is not None:
            assert covers(found, classes, parts)
        outcomes.append(possible)
    assert 50 < sum(outcomes) < len(outcomes) - 50


def test_what_is_in_place_stays_and_the_smallest_moves():
    classes = [np.array([0])] * 3 + [np.array([1])] * 4
    part = np.array([0, 1, 2, 0, 0, 0, 1])
    size = np.array([5, 5, 5, 9, 2, 7, 1])
    assert cover(part, classes, size, 3).tolist() == [0, 1, 2, 0, 2, 0, 1]
    whole = np.array([0, 1, 2, 0, 1, 2, 1])
    assert cover(whole, classes, size, 3).tolist() == whole.tolist()


def test_many_classes_and_parts():
    """A hundred classes in ten parts, two a unit, all in part 0 at first."""
    generator = np.random.default_rng(1)
    classes = [np.sort(generator.choice(100, 2, replace=False)) for _ in range(4000)]
    part = np.zeros(4000, np.int64)
    found = cover(part, classes, np.ones(4000, np.int64), 10)
    assert covers(found, classes, 10)


def test_the_search_gives_up(monkeypatch):
    monkeypatch.setattr(module, "TRIES", 3)
    classes = [np.array([0, 1])] * 4
    assert cover(np.zeros(4, np.int64), classes, np.ones(4, np.int64), 4) is None

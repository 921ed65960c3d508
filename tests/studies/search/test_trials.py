"""What Optuna keeps, proposes and prunes: the same after a kill as without one."""

import math
import statistics

import numpy as np
import pytest

from layerwise.errors import LayerwiseError
from layerwise.studies.search import trials as module
from layerwise.studies.search.space import Dimension, Space
from layerwise.studies.search.trials import (
    JUDGED,
    RANDOM,
    Book,
    Pruner,
    Trial,
    importances,
    propose,
)

SPACE = Space(
    (
        Dimension("model", "layers", (), 2, 5, whole=True),
        Dimension("model", "kernel", (3, 5, 7)),
        Dimension("training", "lr", (), 1e-4, 1e-1, log=True),
        Dimension("training", "momentum", (), 0.0, 0.9),
        Dimension("training", "optimizer", ("sgd",)),
    )
)


def done(number, values, score, curve=()):
    return Trial(number, "done", dict(values), score, tuple(curve))


def goodness(values):
    """Best at lr 0.01."""
    return 1 - abs(math.log10(values["lr"]) + 2)


def sequence(count, trials=()):
    """Trials as a search makes them."""
    trials = list(trials)
    while len(trials) < count:
        values = propose(SPACE, trials, seed=3)
        trials.append(done(len(trials), values, goodness(values)))
    return trials


def test_a_sequence_goes_on_as_if_it_had_never_been_interrupted():
    whole = sequence(RANDOM + 4)
    for cut in (0, 1, RANDOM - 1, RANDOM, RANDOM + 2):
        assert sequence(RANDOM + 4, whole[:cut]) == whole
    names = [d.name for d in SPACE.dimensions]
    for trial in whole:
        assert list(trial.values) == names
        assert trial.values["layers"] in (2, 3, 4, 5) and trial.values["kernel"] in (3, 5, 7)
        assert 1e-4 <= trial.values["lr"] <= 1e-1 and 0 <= trial.values["momentum"] <= 0.9
        assert trial.values["optimizer"] == "sgd"
    assert len({tuple(t.values.values()) for t in whole}) == len(whole)
    assert sequence(3) != [
        done(t.number, propose(SPACE, [], 4), t.score) for t in whole[:3]
    ]  # another seed, other values


def test_what_did_well_is_drawn_more_often():
    """After the random trials the mean distance to the best rate is smaller than theirs."""
    trials = sequence(RANDOM + 12)
    near = [abs(math.log10(t.values["lr"]) + 2) for t in trials]
    assert statistics.fmean(near[RANDOM:]) < statistics.fmean(near[:RANDOM])


def test_a_finite_space_is_tried_whole_and_nothing_twice():
    space = Space((Dimension("model", "kernel", (3, 5)), Dimension("training", "batch", (8, 16))))
    trials, seen = [], []
    while (values := propose(space, trials, 0)) is not None:
        seen.append(tuple(values.values()))
        trials.append(done(len(trials), values, float(values["kernel"])))
    assert sorted(seen) == [(3, 8), (3, 16), (5, 8), (5, 16)]


def test_a_space_without_fields_has_one_trial():
    assert propose(Space(()), [], 0) == {}
    assert propose(Space(()), [done(0, {}, 0.5)], 0) is None


def test_the_file_gives_back_what_was_written_exactly(tmp_path):
    path = tmp_path / "odd {name} 100%?#.d" / "search.db"
    book = Book(path, SPACE)
    values = propose(SPACE, [], 0)
    first = book.begin(values)
    assert first == Trial(0, "running", values, None, ())
    book.report(0, 0, 0.1 + 0.2)
    book.close()  # as a kill leaves it

    book = Book(path, SPACE)
    assert book.trials() == [Trial(0, "running", values, None, (0.1 + 0.2,))]
    book.report(0, 0, 99.0)  # told again, it stays
    book.report(0, 1, 1 / 3)
    book.end(0, "done", 2 / 3, seconds=1.5, run="abc")
    for number, state in enumerate(("pruned", "stopped", "failed"), 1):
        book.begin(propose(SPACE, book.trials(), 0))
        if state != "failed":
            book.report(number, 0, 0.25)
        book.end(number, state, reason=f"because {number}")
    found = book.trials()
    book.close()
    notes = {"seconds": 1.5, "run": "abc"}
    assert found[0] == Trial(0, "done", values, 2 / 3, (0.1 + 0.2, 1 / 3), notes)
    assert [t.state for t in found] == ["done", "pruned", "stopped", "failed"]
    assert [t.curve for t in found[1:]] == [(0.25,), (0.25,), ()]
    assert [t.score for t in found[1:]] == [None] * 3
    assert found[3].notes == {"reason": "because 3"}
    assert path.is_file() and not (tmp_path / "search.db").exists()


def test_a_file_that_is_no_database_is_named(tmp_path):
    path = tmp_path / "search.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(LayerwiseError, match=r"search.db: can not be used .*remove it"):
        Book(path, SPACE)


def test_a_file_of_another_space_is_refused(tmp_path):
    Book(tmp_path / "search.db", SPACE).close()
    Book(tmp_path / "search.db", Space(SPACE.dimensions)).close()
    with pytest.raises(LayerwiseError, match="search over other fields"):
        Book(tmp_path / "search.db", Space(SPACE.dimensions[1:]))


def curves(count, epochs, seed=0):
    generator = np.random.default_rng(seed)
    values = generator.uniform(0.5, 1.0, (count, epochs))
    return [tuple(map(float, row)) for row in values]


def test_pruning_is_the_median_rule():
    """By hand: below the median of the finished ones at this epoch, by the best score so far."""
    every = curves(JUDGED + 2, 10)
    values = {d.name: d.ends[0] for d in SPACE.dimensions}
    before = [done(i, values, max(c), c) for i, c in enumerate(every)]
    before.append(Trial(len(before), "pruned", values, None, (0.99,) * 5))  # has no say
    pruner = Pruner(SPACE, before, epochs=10)
    for curve in curves(20, 10, seed=1):
        for epoch in range(10):
            median = statistics.median(c[epoch] for c in every)
            wanted = epoch >= 1 and max(curve[: epoch + 1]) < median  # two epochs are given to all
            assert pruner.hopeless(curve[: epoch + 1]) == wanted


def test_nothing_is_pruned_before_enough_trials_are_finished():
    values = {d.name: d.ends[0] for d in SPACE.dimensions}
    before = [done(i, values, 0.9, (0.9,) * 4) for i in range(JUDGED - 1)]
    assert not Pruner(SPACE, before, 4).hopeless((0.1, 0.1, 0.1))
    before.append(done(JUDGED - 1, values, 0.9, (0.9,) * 4))
    assert Pruner(SPACE, before, 4).hopeless((0.1, 0.1, 0.1))


def test_a_failed_trial_keeps_the_sampler_away():
    """All trials above lr 0.01 fail; later ones are drawn below it more often than at random."""
    trials = []
    for number in range(RANDOM + 15):
        values = propose(SPACE, trials, seed=1)
        bad = values["lr"] > 1e-2
        state = ("failed", None) if bad else ("done", 0.5)
        trials.append(Trial(number, state[0], values, state[1], ()))
    late = [t.state == "failed" for t in trials[RANDOM:]]
    assert any(t.state == "failed" for t in trials[:RANDOM])
    assert sum(late) / len(late) < 1 / 3


def test_importance_finds_the_field_that_decides(monkeypatch):
    monkeypatch.setattr(module, "RESAMPLES", 3)
    monkeypatch.setattr(module, "TREES", 24)
    generator = np.random.default_rng(0)
    trials = []
    for number in range(40):
        values = {
            "layers": int(generator.integers(2, 6)),
            "kernel": int(generator.choice([3, 5, 7])),
            "lr": float(10 ** generator.uniform(-4, -1)),
            "momentum": float(generator.uniform(0, 0.9)),
            "optimizer": "sgd",
        }
        trials.append(done(number, values, goodness(values)))
    found = importances(SPACE, trials, seed=0)
    assert list(found)[0] == "lr" and "optimizer" not in found
    assert found["lr"][0] > 0.8
    assert sum(share for share, _, _ in found.values()) == pytest.approx(1)
    assert all(low <= high for _, low, high in found.values())
    assert importances(SPACE, trials, seed=0) == found
    # By the rate itself and not its logarithm, most of the axis would be above 0.01.
    assert found["lr"][0] > found["layers"][0] + found["momentum"][0] + found["kernel"][0]


@pytest.mark.parametrize("scores", [(0.5, 0.6, 0.7), (0.5,) * 8])
def test_importance_of_too_few_or_equal_trials_is_not_said(scores):
    values = {d.name: d.ends[0] for d in SPACE.dimensions}
    assert importances(SPACE, [done(i, values, s) for i, s in enumerate(scores)], 0) == {}

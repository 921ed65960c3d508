"""The board of a study: counts, and the time left in cases that can be worked out by hand."""

import threading

import pytest

from layerwise.studies.board import Board, Row


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def made(board, clock, index, treatment, seconds):
    """A whole run that takes so long."""
    board.started(index, treatment, f"{treatment} {index}")
    clock.now += seconds
    board.finished(index, seconds, found=False)


def test_counts(clock):
    board = Board(clock=clock)
    board.expect({"base": 1, "AnB": 4})
    board.expect({"AnB": 2, "random": 3})  # added to what was expected before
    board.started(0, "base", "base A")
    board.finished(0, 50.0, found=True)
    board.started(1, "AnB", "AnB to conv1")
    board.started(2, "AnB", "AnB to conv2")
    board.finished(2, 0.0, found=False, failed=True)
    assert board.rows() == [("base", 1, 0, 0), ("AnB", 1, 1, 4), ("random", 0, 0, 3)]
    assert board.totals() == ("all", 2, 1, 7) and board.totals().total == 10
    assert [(run.name, run.found, run.failed) for run in board.ended] == [
        ("base A", True, False),
        ("AnB to conv2", False, True),
    ]
    assert board.running() == [("AnB to conv1", "AnB", 0.0)]


def test_more_runs_than_expected_leave_none(clock):
    board = Board(clock=clock)
    board.expect({"AnB": 1})
    made(board, clock, 0, "AnB", 3)
    made(board, clock, 1, "AnB", 3)
    made(board, clock, 2, "surprise", 3)
    assert board.rows() == [Row("AnB", 2, 0, 0), Row("surprise", 1, 0, 0)]
    assert board.eta() == 0


def test_nothing_is_known_at_first(clock):
    board = Board(clock=clock)
    assert board.eta() == 0  # nothing is expected
    board.expect({"AnB": 3})
    assert board.eta() is None
    board.started(0, "AnB", "first")
    clock.now += 5
    board.progress(0, 0, 100)
    assert board.eta() is None
    board.finished(0, 40.0, found=True)  # found: known to be done, but not how long it takes here
    board.started(1, "AnB", "second")
    board.finished(1, 1.0, found=False, failed=True)
    assert board.eta() is None


def test_one_worker_takes_what_is_left_one_after_the_other(clock):
    board = Board(clock=clock)
    board.expect({"AnB": 5})
    made(board, clock, 0, "AnB", 8)
    made(board, clock, 1, "AnB", 12)
    assert board.eta() == pytest.approx(3 * 10)


def test_relative_cost_until_a_treatment_has_shown_its_own(clock):
    board = Board(clock=clock)
    board.expect({"AnB+": 2, "AnB": 2, "probe": 1}, {"AnB+": 4.0, "AnB": 1.0})
    made(board, clock, 0, "AnB+", 20)  # 5 s a unit of cost
    assert board.eta() == pytest.approx(20 + 2 * 5 + 5)  # a cost that is not said is 1
    made(board, clock, 1, "AnB", 11)  # 31 s for 5 units
    assert board.eta() == pytest.approx(20 + 11 + 31 / 5)


def test_two_workers_share_what_is_left(clock):
    board = Board(clock=clock)
    board.expect({"AnB": 9})
    made(board, clock, 0, "AnB", 10)
    assert board.eta() == pytest.approx(80)
    board.workers = 2
    assert board.eta() == pytest.approx(40)
    board.workers = 3
    assert board.eta() == pytest.approx(30)  # 3, 3 and 2 runs
    board.workers = 20
    assert board.eta() == pytest.approx(10)


def test_the_most_seen_at_a_time_counts_as_workers(clock):
    board = Board(clock=clock)
    board.expect({"AnB": 6})
    board.started(0, "AnB", "a")
    board.started(1, "AnB", "b")
    clock.now += 10
    board.finished(0, 10.0, found=False)
    board.finished(1, 10.0, found=False)
    assert board.eta() == pytest.approx(20)


def test_a_running_one_is_as_quick_as_it_was_so_far(clock):
    board = Board(clock=clock)
    board.expect({"AnB": 3})
    board.started(0, "AnB", "a")
    clock.now += 4  # preparing
    board.progress(0, 0, 200)
    clock.now += 10
    board.progress(0, 50, 200)  # 40 s for the whole, of which 30 are left; 44 s with preparing
    assert board.running() == [("a", "AnB", 0.25)]
    assert board.eta() == pytest.approx(30 + 2 * 44)
    clock.now += 6  # no news; time passes all the same
    assert board.eta() == pytest.approx(24 + 2 * 44)
    clock.now += 100
    assert board.eta() == pytest.approx(0 + 2 * 44)


def test_a_run_that_goes_on_after_a_kill_is_not_taken_for_a_quick_one(clock):
    board = Board(clock=clock)
    board.expect({"AnB": 2})
    board.started(0, "AnB", "a")
    board.progress(0, 80, 100)
    clock.now += 10
    board.progress(0, 90, 100)
    assert board.eta() == pytest.approx(10 + 100)  # its second half will not take a tenth
    clock.now += 10
    board.finished(0, 101.0, found=False)  # over both sittings
    assert board.eta() == pytest.approx(101)


def test_a_run_without_progress_is_expected_to_be_like_the_others(clock):
    board = Board(clock=clock)
    board.expect({"AnB": 2})
    made(board, clock, 0, "AnB", 30)
    board.started(1, "AnB", "b")
    clock.now += 12
    assert board.eta() == pytest.approx(18)
    clock.now += 40
    assert board.eta() == 0


def test_late_progress_of_an_ended_run_is_nothing(clock):
    board = Board(clock=clock)
    board.expect({"AnB": 1})
    made(board, clock, 0, "AnB", 3)
    board.progress(0, 5, 10)
    board.progress(0, 0, 0)
    assert board.totals() == ("all", 1, 0, 0) and board.running() == []


def test_found_runs_do_not_make_it_look_quick(clock):
    board = Board(clock=clock)
    board.expect({"AnB": 12})
    for index in range(10):
        board.started(index, "AnB", f"{index}")
        board.finished(index, 0.001, found=True)
    made(board, clock, 10, "AnB", 60)
    assert board.eta() == pytest.approx(60)


def test_shown_after_every_change(clock):
    seen = []
    board = Board(lambda it: seen.append(it.totals()[1:]), clock=clock)
    board.expect({"AnB": 2})
    board.started(0, "AnB", "a")
    board.progress(0, 1, 2)
    board.finished(0, 1.0, found=False)
    assert seen == [(0, 0, 2), (0, 1, 1), (0, 1, 1), (1, 0, 1)]


def test_threads_may_share_one():
    board = Board()
    board.expect({"AnB": 400})

    def work(first):
        for index in range(first, first + 100):
            board.started(index, "AnB", "")
            board.progress(index, 1, 2)
            board.eta()
            board.finished(index, 1.0, found=False)

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert board.rows() == [("AnB", 400, 0, 0)] and board.eta() == 0

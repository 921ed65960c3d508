"""What is in hand, and the seconds that are told to whom there is no room for."""

import pytest

from layerwise.serving.http.admission import Admission
from layerwise.serving.http.problems import Problem
from layerwise.serving.http.settings import Settings


def test_pictures_are_counted_and_given_back():
    admission = Admission(Settings(queue=5))
    with admission.place() as one:
        one.take(2)
        with admission.place() as other, pytest.raises(Problem) as refused:
            other.take(2)
        assert (refused.value.status, admission.pictures) == (429, 3)
        with admission.place() as third:
            third.take(1)
            assert admission.pictures == 5
            with pytest.raises(Problem):
                admission.place()
    assert (admission.pictures, admission.held) == (0, 0)


def test_bytes_of_all_requests_together_are_bounded():
    admission = Admission(Settings(max_bytes=100))  # eight requests of the largest size
    with admission.place() as one, admission.place() as other:
        one.hold(500)
        other.hold(300)
        with pytest.raises(Problem) as refused:
            other.hold(1)
        assert refused.value.status == 429
        assert admission.held == 800
    assert admission.held == 0


def test_retry_after_follows_the_measured_pace():
    now = [0.0]
    admission = Admission(Settings(queue=40), clock=lambda: now[0])
    assert admission.retry_after() == 1  # nothing is known
    waiting = [admission.place() for _ in range(40)]
    for _ in range(10):  # one every half second
        now[0] += 0.5
        waiting.pop().__exit__(None, None, None)
    # 30 are left, at 0.5 s each
    assert admission.retry_after() == 15
    for _ in range(10):
        waiting.append(admission.place())
    with pytest.raises(Problem) as refused:
        admission.place()
    assert refused.value.headers == {"Retry-After": "20"}
    assert "20 s" in refused.value.detail


def test_an_idle_time_does_not_count_as_pace():
    now = [0.0]
    admission = Admission(Settings(queue=9), clock=lambda: now[0])
    for _ in range(3):
        with admission.place():
            now[0] += 1000
    assert admission.retry_after() == 1


def test_no_one_is_sent_away_for_more_than_a_minute():
    now = [0.0]
    admission = Admission(Settings(queue=9), clock=lambda: now[0])
    waiting = [admission.place() for _ in range(9)]
    for _ in range(3):
        now[0] += 1000
        waiting.pop().__exit__(None, None, None)
    assert admission.retry_after() == 60

"""A process that may die: what it was asked gets None, the next question a new process."""

import os
import sys
import threading

import pytest

from layerwise.data.pictures.sandbox import Sandbox

MODULE = """
import os, sys, time
from layerwise.data.pictures.sandbox import serve

def answer(question):
    if question == b"die":
        os.abort()
    if question == b"hang":
        time.sleep(60)
    if question == b"complain":
        os.write(2, b"premature end of everything")
    if question == b"who":
        return str(os.getpid()).encode()
    os.write(1, b"noise on standard output")
    return question[::-1]

if __name__ == "__main__":
    serve(answer, refuse=(b"premature end",))
"""


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    (tmp_path / "mirror_for_the_test.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    one = Sandbox("mirror_for_the_test", 30)
    yield one
    one.close()


def test_answers_of_any_size_in_order(sandbox):
    for size in (0, 1, 70_000, 3_000_000):
        question = os.urandom(size)
        assert sandbox.ask(question) == question[::-1]
    assert sandbox.ask(b"complain") == b""
    assert sandbox.ask(b"fine") == b"enif"  # the complaint is forgotten


def test_it_dies_and_is_replaced(sandbox):
    before = sandbox.ask(b"who")
    assert sandbox.ask(b"who") == before
    assert sandbox.ask(b"die") is None
    assert sandbox.ask(b"abc") == b"cba"
    assert sandbox.ask(b"who") != before


def test_it_hangs_and_is_killed(sandbox):
    sandbox.ask(b"who")  # started before the clock runs
    sandbox._seconds = 0.2
    assert sandbox.ask(b"hang") is None
    sandbox._seconds = 30
    assert sandbox.ask(b"abc") == b"cba"


def test_threads_get_their_own_answers(sandbox):
    got = {}
    names = [f"question {k}".encode() for k in range(8)]
    threads = [threading.Thread(target=lambda q=q: got.update({q: sandbox.ask(q)})) for q in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {name: name[::-1] for name in names}


def test_a_module_that_is_not_there(capfd):
    assert Sandbox("no_such_module_of_ours", 30).ask(b"x") is None
    assert capfd.readouterr().err == "" and sys.exc_info() == (None, None, None)

"""Entries of the cache: computed by one process, found by all, and bounded on the disk."""

import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from layerwise.errors import OutputError
from layerwise.training import cached_rows as module
from layerwise.training.cached_rows import cached_rows

VALUES = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
SPAWN = multiprocessing.get_context("spawn")


def batches(values: np.ndarray = VALUES) -> Iterator[np.ndarray]:
    for start in range(0, len(values), 4):
        yield values[start : start + 4]


def never() -> Iterator[np.ndarray]:
    raise AssertionError("computed again")


def fill(folder: Path, name: str, kilobytes: int, used: float) -> Path:
    """An entry of this size, last used at this time."""
    place = folder / name
    values = np.full((kilobytes, 256), len(name), np.float32)  # rows of 1024 bytes
    cached_rows(place, len(values), lambda: iter([values]))
    os.utime(place / "meta.json", (used, used))
    return place


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_rows_are_computed_once_and_found_again(tmp_path):
    told: list[tuple[int, int]] = []
    rows = cached_rows(tmp_path / "a", 10, batches, lambda *at: told.append(at))
    np.testing.assert_array_equal(rows.read(np.arange(10)), VALUES)
    assert told == [(4, 10), (8, 10), (10, 10)]
    again = cached_rows(tmp_path / "a", 10, never)
    np.testing.assert_array_equal(again.read(np.array([7, 0])), VALUES[[7, 0]])
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["meta.json", "rows.bin"]


def test_an_error_leaves_nothing(tmp_path):
    def failing() -> Iterator[np.ndarray]:
        yield VALUES[:4]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_rows(tmp_path / "a", 10, failing)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("damage", ["short", "no rows", "no meta", "no shape", "not json", "kind"])
def test_a_damaged_entry_is_computed_anew(tmp_path, damage):
    place = tmp_path / "a"
    cached_rows(place, 10, batches)
    meta, rows = place / "meta.json", place / "rows.bin"
    {
        "short": lambda: rows.write_bytes(rows.read_bytes()[:-1]),
        "no rows": rows.unlink,
        "no meta": meta.unlink,
        "no shape": lambda: meta.write_text("{}"),
        "not json": lambda: meta.write_text('{"shape"'),
        "kind": lambda: meta.write_text("[10, 3]"),
    }[damage]()
    found = cached_rows(place, 10, batches)
    np.testing.assert_array_equal(found.read(np.arange(10)), VALUES)
    assert names(tmp_path) == {"a"} and names(place) == {"meta.json", "rows.bin"}


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.RowWriter, "write", full)
    with pytest.raises(OutputError, match="No space left"):
        cached_rows(tmp_path / "a", 10, batches)
    assert names(tmp_path) == set()


def work_for(place: Path, log: Path, ready: threading.Barrier, seconds: float) -> None:
    """What two processes do: they meet, then both want the entry."""

    def slowly() -> Iterator[np.ndarray]:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        for part in batches():
            time.sleep(seconds)
            yield part

    ready.wait(120)
    found = cached_rows(place, 10, slowly).read(np.arange(10))
    np.testing.assert_array_equal(found, VALUES)


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_of_two_at_once_one_computes(tmp_path, kind):
    log, place = tmp_path / "log", tmp_path / "cache" / "a"
    ready = SPAWN.Barrier(2) if kind == "processes" else threading.Barrier(2)
    start = SPAWN.Process if kind == "processes" else threading.Thread
    both = [start(target=work_for, args=(place, log, ready, 0.1)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(120)
    if kind == "processes":
        assert [one.exitcode for one in both] == [0, 0]
    assert len(log.read_text().splitlines()) == 1
    np.testing.assert_array_equal(cached_rows(place, 10, never).read(np.arange(10)), VALUES)
    assert names(tmp_path / "cache") == {"a"}


def test_who_waits_for_a_killed_one_computes_it(tmp_path):
    log, place = tmp_path / "log", tmp_path / "cache" / "a"
    alone = SPAWN.Barrier(1)
    killed = SPAWN.Process(target=work_for, args=(place, log, alone, 600))
    killed.start()
    end = time.monotonic() + 120
    while not log.exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert (tmp_path / "cache" / "a.part").is_dir()
    waiting = threading.Thread(target=work_for, args=(place, log, threading.Barrier(1), 0))
    waiting.start()
    killed.kill()
    killed.join(60)
    waiting.join(60)
    assert not waiting.is_alive() and len(log.read_text().splitlines()) == 2
    np.testing.assert_array_equal(cached_rows(place, 10, never).read(np.arange(10)), VALUES)
    assert names(tmp_path / "cache") == {"a"}


def test_what_a_killed_one_left_of_another_entry_is_swept_away(tmp_path):
    left = tmp_path / "b.part"
    left.mkdir()
    (left / "lock").touch()
    (left / "rows.bin").write_bytes(b"half")
    cached_rows(tmp_path / "a", 10, batches)
    assert names(tmp_path) == {"a"}


def test_what_was_not_used_for_longest_makes_room(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT", 100 * 1024)
    fill(tmp_path, "old", 40, 1000)
    fill(tmp_path, "middle", 30, 2000)
    fill(tmp_path, "new", 30, 3000)
    assert names(tmp_path) == {"old", "middle", "new"}  # 100 of 100
    opened = cached_rows(tmp_path / "old", 40, never)  # used now, so the newest
    fill(tmp_path, "more", 20, 4000)
    assert names(tmp_path) == {"old", "new", "more"}  # 90 of 100
    fill(tmp_path, "most", 60, 5000)  # 130 without the two next
    assert names(tmp_path) == {"old", "most"}
    fill(tmp_path, "huge", 120, 6000)  # more than there may be, and yet it is wanted
    assert names(tmp_path) == {"huge"}
    assert (opened.read(np.arange(40)) == 3).all()  # who had it open still reads it


def test_a_full_disk_makes_room_too(tmp_path, monkeypatch):
    fill(tmp_path, "old", 40, 1000)
    fill(tmp_path, "new", 30, 2000)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=10 * 1024))
    fill(tmp_path, "more", 45, 3000)  # 35 are missing, and the oldest has 40
    assert names(tmp_path) == {"new", "more"}


def test_what_is_being_computed_counts_and_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT", 100 * 1024)
    fill(tmp_path, "old", 30, 1000)
    inner = np.zeros((50, 256), np.float32)

    def nested() -> Iterator[np.ndarray]:
        yield np.ones((20, 256), np.float32)  # 40 are reserved now
        fill(tmp_path, "inner", len(inner), 2000)  # 30 + 40 + 50
        yield np.ones((20, 256), np.float32)

    cached_rows(tmp_path / "outer", 40, nested)
    assert names(tmp_path) == {"outer", "inner"}


def test_an_entry_that_vanishes_while_it_is_opened_is_computed_again(tmp_path, monkeypatch):
    cached_rows(tmp_path / "a", 10, batches)
    original, removed = module.Rows, []

    def vanishing(path: Path, *more: object) -> module.Rows:
        if not removed:  # between the look at meta.json and the opening of rows.bin
            removed.append(shutil.rmtree(path.parent))
        return original(path, *more)

    monkeypatch.setattr(module, "Rows", vanishing)
    found = cached_rows(tmp_path / "a", 10, batches)
    np.testing.assert_array_equal(found.read(np.arange(10)), VALUES)

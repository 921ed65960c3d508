"""Chunks for worker processes: every row once, whatever the numbers; as many processes as repay."""

import pytest
from PIL import Image

from layerwise.data.storage import workers
from layerwise.data.storage.workers import map_chunks, worker_count

HEADERS = {"what": "headers"}


@pytest.mark.parametrize("count, rows", [(1, None), (1, [5, 0, 8]), (2, None), (2, [1, 3, 6, 7])])
def test_every_row_is_answered_once_by_its_own_file(tmp_path, count, rows):
    paths = []
    for i in range(9):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.new("L", (10 + i, 3)).save(paths[-1])
    found = {}
    for chunk, answers in map_chunks(paths, HEADERS, count, rows):
        for row, answer in zip(chunk, answers, strict=True):
            assert row not in found
            found[row] = answer["width"]
    assert found == {row: 10 + row for row in (range(9) if rows is None else rows)}


def test_nothing_to_do_starts_nothing():
    assert list(map_chunks([], HEADERS, 2)) == []
    assert list(map_chunks(["a"], HEADERS, 2, [])) == []


def test_chunks_are_small_enough_to_share_and_never_large(monkeypatch):
    monkeypatch.setattr(workers, "answer", lambda task: {"found": task["paths"]})
    sizes = {}
    for total in (3, 100, 10_000):
        chunks = list(map_chunks([str(i) for i in range(total)], HEADERS, 1))
        assert [int(p) for _, found in chunks for p in found] == list(range(total))
        sizes[total] = max(len(found) for _, found in chunks)
    assert sizes == {3: 1, 100: 6, 10_000: 32}


def test_processes_by_the_amount_of_work(monkeypatch):
    monkeypatch.setattr(workers, "usable_cores", lambda: 4)
    assert worker_count(None, 100) == 1  # small files, few of them
    assert worker_count(None, 100, 40 * 2**20) == 4  # large files
    assert worker_count(None, 1, 400 * 2**20) == 1
    assert worker_count(None, 500) == 3
    assert worker_count(None, 10**6) == 4
    assert worker_count(0, 10**6) == 1 and worker_count(7, 10) == 7

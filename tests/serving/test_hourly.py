"""A server's statistics outlive it: by hour, merged after a restart, from several servers."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from threading import Thread

import numpy as np
import pytest

from layerwise.errors import StatisticsError
from layerwise.serving.hourly import Hourly, is_hourly, read
from layerwise.serving.statistics import Statistics

LABELS = ("NORMAL", "PNEUMONIA")
ID, OTHER = "0123456789ab", "ba9876543210"


def at(day, hour, minute=0):
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


def some(n, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 1, (n, 1)).astype(np.float32)
    pixels = rng.integers(0, 256, (n, 8, 8, 1)).astype(np.uint8)
    return pixels, scores, (scores[:, 0] >= 0.5).astype(np.int64)


def hourly(folder, bundle=ID):
    return Hourly(folder, bundle, Statistics("binary", LABELS))


def test_hours_are_kept_apart_and_added_up_over_restarts(tmp_path):
    place = tmp_path / "new" / "statistics"
    whole = Statistics("binary", LABELS)
    when = [at(1, 9), at(1, 9, 59), at(1, 10), at(2, 0)]
    for k, now in enumerate(when):
        whole.add(*some(k + 1, seed=k))
        server = hourly(place)  # a restart
        server.add(*some(k + 1, seed=k), now=now)
        assert server.now().images == (k + 1) * (k + 2) // 2
        server.save()
    assert server.now().to_json() == whole.to_json() == read(place, ID).to_json()
    assert [p.name for p in sorted(place.glob("*.json"))] == [
        f"{ID}-2026-03-01.json",
        f"{ID}-2026-03-02.json",
    ]
    hours = json.loads((place / f"{ID}-2026-03-01.json").read_text())["hours"]
    assert list(hours) == ["2026-03-01T09:00Z", "2026-03-01T10:00Z"]
    first = Statistics("binary", LABELS)
    first.add(*some(1, seed=0))
    first.add(*some(2, seed=1))
    assert hours["2026-03-01T09:00Z"] == first.counts()


def test_hours_are_chosen_by_where_they_begin(tmp_path):
    server = hourly(tmp_path)
    for n, now in enumerate((at(1, 9), at(1, 10), at(2, 9)), start=1):
        server.add(*some(n), now=now)
    server.save()

    def count(since=None, until=None):
        return read(tmp_path, ID, since, until).images

    assert count() == 6
    assert count(since=at(1, 10)) == 5
    assert count(until=at(1, 10)) == 1
    assert count(at(1, 10), at(2, 9)) == 2
    assert read(tmp_path / f"{ID}-2026-03-02.json", ID).images == 3
    with pytest.raises(StatisticsError, match="--since"):
        count(since=at(3, 0))


def test_models_are_kept_apart(tmp_path):
    for bundle, n in ((ID, 2), (OTHER, 5)):
        server = hourly(tmp_path, bundle)
        server.add(*some(n), now=at(1, 9))
        server.save()
        assert server.now().images == n
    assert read(tmp_path, OTHER).images == 5
    with pytest.raises(StatisticsError, match=f"{ID}, {OTHER}|{OTHER}, {ID}|are of {ID}"):
        read(tmp_path, "ffffffffffff")


def test_nothing_is_lost_when_it_can_not_be_written(tmp_path):
    place = tmp_path / "statistics"
    place.write_text("a file")
    server = hourly(place)
    server.add(*some(4), now=at(1, 9))
    with pytest.raises(StatisticsError, match="--statistics"):
        server.save()
    assert server.now().images == 4
    place.unlink()
    server.save()
    server.save()  # nothing waits: nothing is added twice
    assert read(place, ID).images == 4


def test_without_a_folder_it_counts_in_memory():
    server = hourly(None)
    server.add(*some(3))
    server.save()
    assert server.now().images == 3


def test_threads_and_processes_lose_no_count(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from test_hourly import *\n"
        "from pathlib import Path\n"
        "server = hourly(Path(sys.argv[1]))\n"
        "for k in range(20):\n"
        "    server.add(*some(1, seed=k), now=at(1, 9)); server.save()\n"
    )
    here = str(__file__).rpartition("/")[0]
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), here])
    server = hourly(tmp_path)

    def work():
        for k in range(20):
            server.add(*some(1, seed=k), now=at(1, 9))
            server.save()

    threads = [Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait() == 0
    total = read(tmp_path, ID)
    once = Statistics("binary", LABELS)
    for k in range(20):
        once.add(*some(1, seed=k))
    assert total.images == 60
    np.testing.assert_array_equal(total.scores["PNEUMONIA"], 3 * once.scores["PNEUMONIA"])


def test_what_a_server_answers_over_http_is_read_too(tmp_path):
    server = hourly(None)
    server.add(*some(3), now=at(1, 9))
    server.add(*some(4), now=at(2, 9))
    path = tmp_path / "answer.json"
    path.write_text(json.dumps({"bundle": ID, **server.now().to_json()}))
    assert read(path, ID).counts() == server.now().counts()
    assert server.now().images == 7
    with pytest.raises(StatisticsError, match=r"answer.json.* has no hours"):
        read(path, ID, since=at(1, 9))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"bundle": "x", "hours": []}'])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / f"{ID}-2026-03-01.json"
    path.write_text(content)
    assert is_hourly(path) and is_hourly(tmp_path) and not is_hourly(tmp_path / "none")
    with pytest.raises(StatisticsError, match=path.name):
        read(tmp_path, ID)


def test_a_damaged_hour_is_named(tmp_path):
    server = hourly(tmp_path)
    server.add(*some(1), now=at(1, 9))
    server.save()
    path = tmp_path / f"{ID}-2026-03-01.json"
    found = json.loads(path.read_text())
    found["hours"]["2026-03-01T09:00Z"]["decided"]["PNEUMONIA"] = ["x", 1]
    path.write_text(json.dumps(found))
    with pytest.raises(StatisticsError, match=r"2026-03-01T09:00Z.*PNEUMONIA"):
        read(tmp_path, ID)

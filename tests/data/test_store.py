"""The image store: right pixels, whole or absent, found again, and small in memory."""

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layerwise.data import decoder
from layerwise.data.images import prepare
from layerwise.data.load import load
from layerwise.data.manifest import Manifest, make_table
from layerwise.data.store import ImageStore, build_store
from layerwise.errors import DataError, LayerwiseError, OutputError

SOURCE = Path(__file__).resolve().parents[2] / "src"


def folder_of(path, count, size=(20, 30)):
    """Different pictures in two class folders."""
    generator = np.random.default_rng(1)
    for i in range(count):
        file = path / "ab"[i % 2] / f"{i:05d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, size, dtype=np.uint8)).save(file)
    return path


def built(manifest, cache, **changes):
    settings = {"size": (8, 12), "channels": 1, "letterbox": True, "folder": cache, **changes}
    return build_store(manifest, **settings)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_rows_are_prepared_pictures_in_the_manifest_s_order(tmp_path, workers, channels):
    manifest = load(folder_of(tmp_path / "data", 150))
    seen = []
    store, kept = built(
        manifest,
        tmp_path,
        channels=channels,
        workers=workers,
        progress=lambda *at: seen.append(at),
    )
    assert kept is manifest and len(store) == 150 and store.channels == channels
    rows = np.array([149, 0, 70, 0])
    expected = [prepare(manifest.table["path"][i], (8, 12), channels, True) for i in rows]
    assert (store.read(rows) == expected).all()
    assert (store.read(slice(70, 71))[0] == expected[2]).all()
    assert seen[-1] == (150, 150) and [done for done, _ in seen] == sorted(d for d, _ in seen)
    assert len({row.tobytes() for row in store.digests}) == 150
    assert (store.take(np.array([5, 2])).read(slice(0, 1)) == store.read(np.array([5]))).all()


def test_found_again_unless_something_changed(tmp_path, monkeypatch):
    data = folder_of(tmp_path / "data", 10)
    first, _ = built(load(data), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "prepare", None)  # decoding anything would fail
        again, _ = built(load(data), tmp_path)
    assert again.key == first.key
    for changes in ({"size": (9, 12)}, {"letterbox": False}, {"channels": 3}):
        assert built(load(data), tmp_path, **changes)[0].key != first.key
    Image.new("L", (20, 20), 9).save(data / "a" / "00000.png")
    other, _ = built(load(data), tmp_path)
    assert other.key != first.key
    assert (other.read(slice(0, 1)) != first.read(slice(0, 1))).any()
    assert (other.read(slice(1, 10)) == first.read(slice(1, 10))).all()


def test_pictures_of_an_array(tmp_path):
    digits = load("digits")
    store, _ = built(digits, tmp_path, size=(8, 8))
    assert (store.read(slice(0, 1797))[..., 0] == digits.pixels).all()
    part = digits.take(np.arange(5))
    assert built(part, tmp_path, size=(8, 8))[0].key != store.key


def spoilt(tmp_path, bad=12, count=40):
    data = folder_of(tmp_path / "data", count)
    for i in range(bad):
        (data / "ab"[i % 2] / f"{i:05d}.png").write_bytes(b"" if i else b"no picture")
    return load(data)


def test_damaged_pictures_are_listed(tmp_path, monkeypatch):
    manifest = spoilt(tmp_path)
    with pytest.raises(DataError) as caught:
        built(manifest, tmp_path)
    said = str(caught.value)
    assert "12 of 40 pictures" in said and "00000.png" in said and "0 bytes" in said
    assert said.count(".png") == 10 and "and 2 more" in said and "--skip-unreadable" in said
    assert [p.suffix for p in (tmp_path / "images").iterdir()] == [".part"]
    with monkeypatch.context() as patch:  # what was decoded is kept for --skip-unreadable
        tried = []
        patch.setattr(decoder, "read_bytes", lambda path: tried.append(path) or b"")
        store, _ = built(manifest, tmp_path, skip_unreadable=True)
    assert sorted(tried) == sorted(p for p in manifest.table["path"] if int(Path(p).stem) < 12)
    assert len(store) == 28


def test_damaged_pictures_can_be_left_out(tmp_path):
    manifest = spoilt(tmp_path)
    store, kept = built(manifest, tmp_path, skip_unreadable=True)
    assert len(store) == len(kept) == 28 == len(store.digests)
    assert "12 unreadable pictures are left out" in kept.notes[-1]
    for i in (0, 27):
        expected = prepare(kept.table["path"][i], (8, 12), 1, True)
        assert (store.read(np.array([i]))[0] == expected).all()
    with pytest.raises(DataError, match="12 of 40"):  # the finished store knows them still
        built(manifest, tmp_path)
    with pytest.raises(DataError, match="2 of 2 pictures"):
        built(manifest.take(np.array([0, 1])), tmp_path, skip_unreadable=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="cache"):
        built(load("digits"), tmp_path / "cache")


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(OutputError, match="cache"):
        built(load("digits"), tmp_path / "cache")


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(decoder.os, "pwrite", full)
    manifest = load(folder_of(tmp_path / "data", 4))
    with pytest.raises(OutputError, match="No space left"):
        built(manifest, tmp_path)
    assert not list((tmp_path / "images").iterdir())


def test_a_store_that_lost_bytes_is_refused(tmp_path):
    store, _ = built(load("digits"), tmp_path)
    os.truncate(store.folder / "pixels.u8", 1000)
    with pytest.raises(LayerwiseError, match="holds 1,000 bytes and not .*remove"):
        ImageStore(store.folder)


def test_a_worker_that_dies_is_an_error(tmp_path, monkeypatch):
    manifest = load(folder_of(tmp_path / "data", 130))
    monkeypatch.setenv("PYTHONHASHSEED", "nonsense")  # no interpreter starts with this
    with pytest.raises(DataError, match="worker process died"):
        built(manifest, tmp_path, workers=2)


BUILD = """
import sys
from pathlib import Path
from layerwise.data.load import load
from layerwise.data.store import build_store
def progress(done, total):
    print(done, flush=True)
build_store(load(sys.argv[1]), size=(64, 64), channels=3, letterbox=True, folder=Path(sys.argv[2]),
            workers=2, progress=progress)
"""


def test_killed_in_the_middle_and_built_again(tmp_path):
    data = folder_of(tmp_path / "data", 1500, size=(60, 90))
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(data), str(tmp_path / "cache")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    with process:
        done = int(process.stdout.readline())
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGKILL)
    assert 0 < done < 1500
    left = list((tmp_path / "cache" / "images").iterdir())
    assert [part.suffix for part in left] == [".part"]
    settings = {"size": (64, 64), "channels": 3}
    again, _ = built(load(data), tmp_path / "cache", **settings, workers=2)
    fresh, _ = built(load(data), tmp_path / "other", **settings, workers=1)
    assert (again.read(slice(0, 1500)) == fresh.read(slice(0, 1500))).all()
    assert (again.digests == fresh.digests).all()
    names = [part.name for part in (tmp_path / "cache" / "images").iterdir()]
    assert names == [again.folder.name]
    deadline = time.monotonic() + 10
    while any(_runs(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children) == 2 and not any(_runs(child) for child in children)


def _runs(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


MEASURE = """
import sys
from pathlib import Path
import numpy as np
from layerwise.data.store import ImageStore
def resident():
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    return sum(int(lines[k].split()[0]) for k in ("RssAnon", "RssFile", "RssShmem")) / 1024
store = ImageStore(Path(sys.argv[1]))
store.read(np.arange(8))
before, most = resident(), 0
order = np.random.default_rng(0).permutation(len(store))
for start in range(0, len(order), 32):
    store.read(order[start:start + 32])
    most = max(most, resident())
print(most - before)
"""


def test_resident_memory_stays_bounded(tmp_path):
    pixels = np.zeros((4000, 2, 2), np.uint8)
    manifest = Manifest(
        name="many",
        task="binary",
        labels=("a", "b"),
        table=make_table([str(i) for i in range(4000)]),
        targets=np.arange(4000) % 2,
        pixels=pixels,
    )
    store, _ = built(manifest, tmp_path, size=(400, 400))
    assert (store.folder / "pixels.u8").stat().st_size == 640_000_000
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, str(store.folder)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    shutil.rmtree(store.folder)
    # MB, of 610 that were read: 256 before pages are given back, and what the system maps around
    assert float(result.stdout) < 420


def test_real_radiographs(tmp_path, shared_data):
    manifest = load(shared_data / "chest-fullsize")
    store, kept = built(manifest, tmp_path, size=(64, 48))
    assert len(kept) == 23 and len(store) == 23
    file = io.BytesIO(Path(manifest.table["path"][7]).read_bytes())
    with Image.open(file) as image:
        grey = image.convert("L")
        factor = min(64 / grey.height, 48 / grey.width)
        inner = (round(grey.width * factor), round(grey.height * factor))
        plain = np.asarray(grey.resize(inner, Image.Resampling.BILINEAR)).astype(int)
    top, left = (64 - inner[1]) // 2, (48 - inner[0]) // 2
    got = store.read(np.array([7]))[0, top : top + inner[1], left : left + inner[0], 0]
    assert np.abs(got - plain).mean() < 1.5

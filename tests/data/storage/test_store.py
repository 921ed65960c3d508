"""The image store: right pixels, whole or absent, found again, and small in memory."""

import errno
import fcntl
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layerwise.data.load import load
from layerwise.data.manifest import Manifest, make_table
from layerwise.data.pictures.images import prepare
from layerwise.data.storage import decoder, seal
from layerwise.data.storage.store import ImageStore, build_store
from layerwise.errors import DataError, LayerwiseError, OutputError

SOURCE = Path(__file__).resolve().parents[3] / "src"


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


def test_a_worker_that_dies_is_an_error(tmp_path, monkeypatch):
    manifest = load(folder_of(tmp_path / "data", 130))
    monkeypatch.setenv("PYTHONHASHSEED", "nonsense")  # no interpreter starts with this
    with pytest.raises(DataError, match="worker process died"):
        built(manifest, tmp_path, workers=2)


BUILD = """
import sys
from pathlib import Path
from layerwise.data.load import load
from layerwise.data.storage.store import build_store
def progress(done, total):
    print(done, flush=True)
build_store(load(sys.argv[1]), size=(64, 64), channels=3, letterbox=True, folder=Path(sys.argv[2]),
            workers=2, progress=progress)
"""


def start_build(data, cache):
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(data), str(cache)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )


def spy(monkeypatch):
    """The files that this process decodes from now on."""
    read, tried = decoder.read_bytes, []
    monkeypatch.setattr(decoder, "read_bytes", lambda path: tried.append(path) or read(path))
    return tried


def test_killed_several_times_and_gone_on_with(tmp_path, monkeypatch):
    data, cache = folder_of(tmp_path / "data", 900, size=(60, 90)), tmp_path / "cache"
    done, children = 0, []
    for _ in range(3):
        with start_build(data, cache) as process:
            for line in process.stdout:
                if int(line) > done + 60:  # none of what was done before is missing
                    break
            tasks = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            children += tasks.read_text().split()
            process.send_signal(signal.SIGKILL)
        assert done < int(line) < 900
        done = int(line)
        assert [part.suffix for part in (cache / "images").iterdir()] == [".part"]
    deadline = time.monotonic() + 10
    while any(_runs(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children) == 6 and not any(_runs(child) for child in children)
    settings = {"size": (64, 64), "channels": 3, "workers": 1}
    tried = spy(monkeypatch)
    again, _ = built(load(data), cache, **settings)
    assert 0 < len(tried) <= 900 - done
    tried.clear()
    fresh, _ = built(load(data), tmp_path / "other", **settings)
    assert len(tried) == 900
    assert (again.read(slice(0, 900)) == fresh.read(slice(0, 900))).all()
    assert (again.digests == fresh.digests).all()
    assert [part.name for part in (cache / "images").iterdir()] == [again.folder.name]
    names = sorted(file.name for file in again.folder.iterdir())
    assert names == ["digests.u8", "meta.json", "pixels.u8"]


def test_two_builders_of_the_same_store(tmp_path):
    data, cache = folder_of(tmp_path / "data", 300, size=(60, 90)), tmp_path / "cache"
    builders = [start_build(data, cache) for _ in range(2)]
    said = [builder.communicate(timeout=120)[0].split() for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0]
    assert sorted(len(lines) > 1 for lines in said) == [False, True]  # one decoded, one waited
    settings = {"size": (64, 64), "channels": 3}
    store, _ = built(load(data), cache, **settings)
    fresh, _ = built(load(data), tmp_path / "other", **settings)
    assert (store.read(slice(0, 300)) == fresh.read(slice(0, 300))).all()
    assert [part.name for part in (cache / "images").iterdir()] == [store.folder.name]


def test_who_waits_goes_on_with_the_work_of_a_killed_builder(tmp_path):
    data, cache = folder_of(tmp_path / "data", 900, size=(60, 90)), tmp_path / "cache"
    with start_build(data, cache) as first:
        done = int(first.stdout.readline())
        with start_build(data, cache) as second:
            first.send_signal(signal.SIGKILL)
            assert int(second.stdout.readline()) > done
            second.communicate(timeout=120)
            assert second.returncode == 0
    assert len(built(load(data), cache, size=(64, 64), channels=3)[0]) == 900


def test_what_killed_builders_of_other_stores_left_is_removed_and_nothing_else(tmp_path):
    images = tmp_path / "images"
    for name in ("dead.part", "alive.part", "old.part-999999999", "empty.part"):
        (images / name).mkdir(parents=True)
    for name in ("dead.part", "alive.part"):
        (images / name / "lock").touch()
        (images / name / "pixels.u8").write_bytes(b"some")
    with (images / "alive.part" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        store, _ = built(load("digits"), tmp_path)
    names = {part.name for part in images.iterdir()}
    assert names == {"alive.part", store.folder.name}


def flip(file, at):
    content = bytearray(file.read_bytes())
    content[at] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize(
    "harm, said, again",
    [
        (lambda f: flip(f / "pixels.u8", 96 * 7 + 5), r"pixels.u8: 1 rows changed .*\(7\)", [7]),
        (lambda f: os.truncate(f / "pixels.u8", 96 * 30), "pixels.u8: holds 2,880", range(30, 40)),
        (lambda f: (f / "pixels.u8").unlink(), "pixels.u8: can not be read", range(40)),
        (lambda f: flip(f / "digests.u8", 64 * 9), "digests.u8: changed", [9]),
        (lambda f: flip(f / "digests.u8", 64 * 9 + 63), "digests.u8: changed", [9]),
        (lambda f: (f / "digests.u8").write_bytes(b""), "digests.u8: holds 0", range(40)),
        (lambda f: (f / "meta.json").unlink(), "meta.json: no such file", []),
        (lambda f: flip(f / "meta.json", 30), "meta.json: ", []),
        (lambda f: (f / "meta.json").write_text("[]"), "meta.json: changed", []),
        (lambda f: (f / "meta.json").write_text('{"seal": 1}'), "meta.json: changed", []),
        (lambda f: (f / "meta.json").write_bytes(b"\xff{"), "meta.json: not readable", []),
    ],
)
def test_a_damaged_store_is_refused_when_opened_and_mended_when_built(
    tmp_path, monkeypatch, harm, said, again
):
    manifest = load(folder_of(tmp_path / "data", 40))
    store, kept = built(manifest, tmp_path)
    expected = store.read(slice(0, 40))
    harm(store.folder)
    with pytest.raises(LayerwiseError, match=f"(?s){said}.*remove"):
        ImageStore(store.folder)
    tried = spy(monkeypatch)
    mended, noted = built(manifest, tmp_path)
    assert tried == [manifest.table["path"][i] for i in again]  # only what was lost
    assert (mended.read(slice(0, 40)) == expected).all()
    assert (mended.digests == store.digests).all()
    assert re.search(said, noted.notes[-1]) and "mended" in noted.notes[-1]
    assert built(manifest, tmp_path)[1] is manifest  # no note any more


def test_pictures_of_an_array_are_mended_too(tmp_path):
    digits = load("digits")
    store, _ = built(digits, tmp_path, size=(8, 8))
    flip(store.folder / "pixels.u8", 64 * 1000 + 9)
    mended, noted = built(digits, tmp_path, size=(8, 8))
    assert (mended.read(slice(0, 1797))[..., 0] == digits.pixels).all()
    assert "(1000)" in noted.notes[-1]


def test_verified_once_a_process_unless_written_again(tmp_path, monkeypatch):
    store, _ = built(load("digits"), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(seal, "wrong_rows", None)  # verifying would fail
        store.take(np.array([1]))
        ImageStore(store.folder)
    flip(store.folder / "pixels.u8", 5)
    with pytest.raises(LayerwiseError, match="1 rows changed"):
        ImageStore(store.folder)


def _runs(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


MEASURE = """
import sys
from pathlib import Path
import numpy as np
from layerwise.data.storage.store import ImageStore
def resident():
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    return sum(int(lines[k].split()[0]) for k in ("RssAnon", "RssFile", "RssShmem")) / 1024
before = resident()
store = ImageStore(Path(sys.argv[1]))
with open("/proc/self/status") as status:  # ru_maxrss would count the parent's
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
opened = peak - before
store.read(np.arange(8))
before, most = resident(), 0
order = np.random.default_rng(0).permutation(len(store))
for start in range(0, len(order), 32):
    store.read(order[start:start + 32])
    most = max(most, resident())
print(opened, most - before)
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
    opened, read = map(float, result.stdout.split())
    assert opened < 100 and read < 420


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

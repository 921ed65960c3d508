"""Digests of data and code: equal content, equal digest; anything else, another."""

import hashlib
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from layerwise.data.manifest import Manifest, make_table
from layerwise.errors import DataError
from layerwise.serving.pipeline import inputs as module
from layerwise.serving.pipeline.inputs import (
    code_version,
    data_digest,
    path_digest,
    sources,
)


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    for k in range(6):
        (folder / f"{k}.png").write_bytes(b"film %d" % k)
    return folder


def data(folder: Path, order=range(6), **changes) -> Manifest:
    """Six files in an order; changes replace a column's value of row 2."""
    columns = {"patients": "p", "studies": "s", "dates": "2020-01-0", "splits": "train"}
    values = {
        name: [f"{v}{k}" if name != "splits" else v for k in order] for name, v in columns.items()
    }
    at = list(order).index(2)
    for name, value in changes.items():
        if name in values:
            values[name][at] = value
    targets = np.array([k % 2 for k in order])
    if "target" in changes:
        targets[at] = changes["target"]
    table = make_table(
        [f"{k}.png" for k in order], paths=[str(folder / f"{k}.png") for k in order], **values
    )
    return Manifest("films", "binary", changes.get("labels", ("a", "b")), table, targets)


def test_neither_order_nor_place_nor_time_counts(place, tmp_path):
    whole = data_digest(data(place), tmp_path / "files.csv")
    assert data_digest(data(place, order=[3, 1, 5, 0, 2, 4]), tmp_path / "files.csv") == whole
    moved = tmp_path / "elsewhere"
    shutil.copytree(place, moved)
    os.utime(moved / "1.png", (1, 1))
    assert data_digest(data(moved), tmp_path / "other.csv") == whole


@pytest.mark.parametrize(
    "change",
    [
        {"patients": "other"},
        {"studies": "other"},
        {"dates": "2021-01-01"},
        {"splits": "test"},
        {"target": 1},
        {"labels": ("a", "c")},
        {"content": b"retouched"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_that_data_say_counts(place, tmp_path, change):
    whole = data_digest(data(place), tmp_path / "files.csv")
    if "content" in change:
        (place / "2.png").write_bytes(change["content"])
    assert data_digest(data(place, **change), tmp_path / "files.csv") != whole


def test_a_file_more_or_one_that_is_gone_counts(place, tmp_path):
    kept = tmp_path / "files.csv"
    whole = data_digest(data(place), kept)
    fewer = data_digest(data(place).take(np.arange(5)), kept)
    (place / "5.png").unlink()
    gone = data_digest(data(place), kept)
    assert len({whole, fewer, gone}) == 3
    (place / "5.png").write_bytes(b"film 5")
    assert data_digest(data(place), kept) == whole


def test_what_did_not_change_is_not_read_again(place, tmp_path, monkeypatch):
    read = []
    real = path_digest
    monkeypatch.setattr(module, "path_digest", lambda path: (read.append(path.name), real(path))[1])
    kept = tmp_path / "files.csv"
    whole = data_digest(data(place), kept)
    assert sorted(read) == [f"{k}.png" for k in range(6)]
    read.clear()
    assert data_digest(data(place), kept) == whole and read == []
    os.utime(place / "3.png", (5, 5))
    (place / "4.png").write_bytes(b"longer than it was")
    assert data_digest(data(place), kept) != whole
    assert sorted(read) == ["3.png", "4.png"]
    kept.write_text("damaged\n1,2")  # costs a reading, and nothing else
    read.clear()
    assert data_digest(data(place), kept) != whole and len(read) == 6


def test_pictures_of_an_archive_are_their_archive(tmp_path):
    archive = tmp_path / "set.npz"
    archive.write_bytes(b"pictures")
    table = make_table(["train/0", "train/1"], paths=[f"{archive}#train/{k}" for k in range(2)])
    written = Manifest("set", "binary", ("a", "b"), table, np.array([0, 1]))
    loaded = Manifest(
        "set",
        "binary",
        ("a", "b"),
        table.assign(path=""),
        np.array([0, 1]),
        pixels=np.zeros((2, 3, 3), np.uint8),
        source=str(archive),
    )
    first = data_digest(loaded, tmp_path / "files.csv")
    assert data_digest(written, tmp_path / "files.csv") == first
    archive.write_bytes(b"other pictures")
    assert data_digest(loaded, tmp_path / "files.csv") != first


def test_digests_of_files_and_folders(place):
    assert path_digest(place / "0.png") == hashlib.sha256(b"film 0").hexdigest()
    before = path_digest(place)
    (place / "0.png").rename(place / "00.png")
    assert path_digest(place) != before
    with pytest.raises(DataError, match=r"none\.png: can not be read"):
        path_digest(place / "none.png")


def test_other_code_and_other_packages_are_another_version(monkeypatch, tmp_path):
    now = code_version("verify")
    assert now.startswith(module.layerwise.__version__ + "+") and now != code_version("rollback")
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda n: "9" if n == "onnxruntime" else real(n))
    code_version.cache_clear()
    assert code_version("verify") != now
    monkeypatch.undo()

    def write(name, text):
        path = tmp_path / "layerwise" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        code_version.cache_clear()
        return code_version("fit"), code_version("verify")

    monkeypatch.setattr(module.layerwise, "__file__", str(tmp_path / "layerwise" / "__init__.py"))
    for package in ("", "cli/", "training/", "reporting/"):
        write(f"{package}__init__.py", "")
    write("cli/verify.py", "import layerwise\n")
    write("cli/fit.py", "def fit():\n    from layerwise.training import loop, Later\n")
    write("reporting/page.py", "x = 1")
    write("reporting/results.py", "from layerwise.reporting import page\n")
    fit, verify = write("training/loop.py", "from layerwise.reporting.results import (\n  x,\n)\n")
    both = (fit, verify)
    assert write("reporting/page.py", "x = 2") == both  # it only says
    assert write("training/other.py", "x = 1") == both  # nobody asks for it
    for name in ("cli/fit.py", "training/loop.py", "training/__init__.py", "reporting/results.py"):
        text = (tmp_path / "layerwise" / name).read_text()
        changed = write(name, text + "# more\n")
        assert changed[0] != fit and changed[1] == verify, name
        assert write(name, text) == both
    assert write("__init__.py", "y = 1")[1] != verify
    code_version.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["inspect", "fit"])
def test_the_sources_of_a_command_are_those_that_it_runs(tmp_path, command):
    """Whatever it has loaded at its end, beside what every command loads and what only says."""
    flags = {"fit": ["--model", "lenet5", "--weights", "none", "--time", "5s"]}.get(command, [])
    words = [command, "digits", "--out", str(tmp_path / "out"), "--quiet", *flags]
    code = (
        "import sys\nfrom layerwise.cli.main import main\nfirst = set(sys.modules)\n"
        f"assert main({words!r}) == 0\n"
        "print(*(name for name in sys.modules if name.split('.')[0] == 'layerwise' and "
        "name not in first))"
    )
    environment = os.environ | {"LAYERWISE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    ran = {name for name in done.stdout.split() if not module._only_says(name)}
    known = set(sources(f"layerwise.cli.{command}"))
    assert len(ran) > 20 and ran <= known
    assert f"layerwise.cli.{command}" in known and "layerwise.serving.http.app" not in known

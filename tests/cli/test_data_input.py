"""What people really have, through the commands that read it: paths and tables of every kind.

`split` reads the table and looks at every file, so it is the quickest way through all of it.
"""

import gzip
import os
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from layerwise.cli.main import main

NAMES = [f"{kind}/{kind[0]}{i}.png" for kind in ("well", "ill") for i in range(6)]
HEAD = "path,label\n"
ROWS = "".join(f"{name},{name.split('/')[0]}\n" for name in NAMES)


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(noise).save(path, "PNG")


def folder(root: Path) -> Path:
    for seed, name in enumerate(NAMES):
        picture(root / name, seed)
    return root


@pytest.fixture
def pictures(tmp_path):
    return folder(tmp_path / "pictures")


@pytest.fixture
def split(capsys, tmp_path):
    """Run `split`: the manifest's rows, or the one message with which it is refused."""

    def run(data, *more, code=0):
        out = tmp_path / "out"
        assert main(["split", str(data), *map(str, more), "--out", str(out)]) == code
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        if code:
            assert printed.out == "" and printed.err.count("layerwise: ") == 1
            assert len(printed.err) < 5000
            return printed.err
        return pd.read_csv(out / "manifest.csv", dtype=str, keep_default_na=False)

    return run


def whole(manifest, images=12):
    """Every image once, in some part, and its file is there."""
    assert len(manifest) == images and manifest["path"].is_unique
    assert set(manifest["split"]) == {"train", "val", "test"}
    return True


# Paths.


@pytest.mark.parametrize(
    "name",
    ["my pictures of  today", "Röntgen ✓ 胸部", "a [b] {c} %s * $HOME", "new\nline", "-dash"],
)
def test_folders_of_any_name(split, tmp_path, name):
    assert whole(split(folder(tmp_path / name)))


def test_classes_and_files_of_any_name(split, tmp_path):
    names = [f"{kind}/bild {i} é'\"$`.png" for kind in ("gesund ä", "krank 病") for i in range(6)]
    for seed, name in enumerate(names):
        picture(tmp_path / "p" / name, seed)
    manifest = split(tmp_path / "p")
    assert whole(manifest) and set(manifest["id"]) == set(names)


@pytest.mark.parametrize("way", ["pictures", "./pictures/../pictures/", "~/pictures", "."])
def test_absolute_relative_and_home(split, pictures, monkeypatch, way):
    monkeypatch.setenv("HOME", str(pictures.parent))
    monkeypatch.chdir(pictures if way == "." else pictures.parent)
    manifest = split(way)
    assert whole(manifest)
    assert set(manifest["id"]) == set(NAMES)


def test_links_to_folders_and_files_and_in_circles(split, pictures, tmp_path):
    links = tmp_path / "links"
    (links / "well").mkdir(parents=True)
    for file in (pictures / "well").iterdir():
        (links / "well" / file.name).symlink_to(file)
    (links / "ill").symlink_to(pictures / "ill")
    (links / "circle").symlink_to(links)
    (tmp_path / "link").symlink_to(links)
    (links / "circle").unlink()
    (links / "well" / "circle").symlink_to(links / "well")
    assert whole(split(tmp_path / "link"))


def test_a_link_that_leads_nowhere(split, pictures):
    (pictures / "well" / "dead.png").symlink_to(pictures / "nowhere.png")
    assert "dead.png" in split(pictures, code=2)
    assert whole(split(pictures, "--skip-unreadable"))


def test_pipes_are_no_pictures_and_no_tables(split, pictures):
    """Reading one would never end."""
    os.mkfifo(pictures / "well" / "pipe.png")
    (pictures / "well" / "link.png").symlink_to(pictures / "well" / "pipe.png")
    assert whole(split(pictures))
    os.mkfifo(pictures / "t.csv")
    assert "a pipe or a device" in split(pictures / "t.csv", code=2)


def test_a_table_with_absolute_paths_elsewhere(split, pictures, tmp_path):
    table = tmp_path / "elsewhere" / "t.csv"
    table.parent.mkdir()
    table.write_text(HEAD + "".join(f"{pictures}/{row}\n" for row in ROWS.split()))
    assert whole(split(pictures, "--labels", table))
    assert "leave the data folder" in split(table, code=2)


def test_names_in_both_forms_of_unicode(split, tmp_path):
    """A Mac writes é as two characters, a table often as one."""
    for seed in range(12):
        picture(tmp_path / unicodedata.normalize("NFD", f"é{seed}.png"), seed)
    table = tmp_path / "t.csv"
    rows = [f"é{i}.png,{'well' if i % 2 else 'ill'}\n" for i in range(12)]
    table.write_text(HEAD + unicodedata.normalize("NFC", "".join(rows)), encoding="utf-8")
    manifest = split(table)
    assert whole(manifest) and all(Path(p).is_file() for p in absolute(manifest, tmp_path))


def absolute(manifest, tmp_path):
    return [os.path.join(tmp_path / "out", path) for path in manifest["path"]]


def test_a_table_from_windows(split, pictures):
    table = pictures / "t.csv"
    table.write_bytes((HEAD + ROWS).replace("/", "\\").replace("\n", "\r\n").encode("utf-8-sig"))
    assert whole(split(table))


# Tables that can be read.

READABLE = {
    "BOM": (HEAD + ROWS).encode("utf-8-sig"),
    "UTF-16": (HEAD + ROWS).encode("utf-16"),
    "Windows-1252": (HEAD + ROWS).replace(",ill", ",ill ä").encode("cp1252"),
    "old Mac": (HEAD + ROWS).replace("\n", "\r").encode(),
    "semicolons": (HEAD + ROWS).replace(",", ";").encode(),
    "tabs": (HEAD + ROWS).replace(",", "\t").encode(),
    "blank lines": ("\n\n" + HEAD + "\n" + ROWS + "\n\n").encode(),
    "spaces": (HEAD + ROWS).replace(",", " , ").encode(),
    "quoted newline": (HEAD.strip() + ",note\n" + ROWS.replace("\n", ',"two\nlines"\n')).encode(),
    "long field": (HEAD.strip() + ",note\n" + ROWS.replace("\n", f",{'x' * 90_000}\n")).encode(),
    "long heading": (f"path,label,{'x' * 1_000_000}\n" + ROWS.replace("\n", ",1\n")).encode(),
}


@pytest.mark.parametrize("kind", READABLE)
def test_tables_as_programs_write_them(split, pictures, kind):
    table = pictures / "t.csv"
    table.write_bytes(READABLE[kind])
    manifest = split(table)
    assert whole(manifest) and set(manifest["id"]) == set(NAMES)


# Tables that can not: what the message must name.

DAMAGED = {
    "empty": (b"", "it is empty"),
    "a heading only": (HEAD.encode(), "no rows"),
    "no path column": (b"x,label\n1,a\n2,b\n", "--path-column"),
    "no label column": (b"path,foo\n" + ROWS.replace(",ill", ",1").encode(), "--label-column"),
    "NUL": ((HEAD + ROWS).replace("0", "\0").encode(), "NUL"),
    "UTF-32": ((HEAD + ROWS).encode("utf-32"), "save the table again"),
    "open quote": ((HEAD + ROWS + '"well/w0.png,x\n').encode(), "line 14"),
    "two labels": (b"path,label,label\n" + ROWS.replace("\n", ",z\n").encode(), "'label'"),
    "too many values": ((HEAD + ROWS + "well/w0.png,x,y,z\n").encode(), "line 14 has 4"),
    "too few values": ((HEAD + ROWS + "well/w0.png\n").encode(), "line 14 has 1"),
    "no label": ((HEAD + ROWS).replace("w0.png,well", "w0.png,").encode(), "lines 2"),
    "no path": ((HEAD + ROWS + ",well\n").encode(), "is empty in 1 rows (lines 14)"),
    "two rows for one image": ((HEAD + ROWS + "well/w0.png,ill\n").encode(), "lines 2 and 14"),
    "out of the folder": ((HEAD + ROWS + "../../etc/passwd,ill\n").encode(), "leave the data"),
    "a web address": ((HEAD + ROWS + "https://example.org/a.png,ill\n").encode(), "line 14"),
    "a folder": ((HEAD + ROWS + "well,well\n").encode(), "line 14: well"),
    "a million characters": ((HEAD + ROWS + "a" * 1_000_000 + ".png,ill\n").encode(), "line 14"),
    "an endless label": ((HEAD + ROWS + f"well/w0.png,{'x' * 10**6}\n").encode(), "t.csv"),
    "an endless class": ((HEAD + ROWS).replace(",ill", "," + "x" * 10**6, 1).encode(), "has one"),
    "a picture": (None, "t.csv"),
    "noise": (np.random.default_rng(0).bytes(5000), "t.csv"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_tables_end_in_one_message(split, pictures, kind):
    body, words = DAMAGED[kind]
    table = pictures / "t.csv"
    table.write_bytes((pictures / "well" / "w0.png").read_bytes() if body is None else body)
    said = split(table, code=2)
    assert words in said and "t.csv" in said


def test_a_packed_table_that_is_cut_off(split, pictures):
    table = pictures / "t.csv.gz"
    table.write_bytes(gzip.compress((HEAD + ROWS).encode()))
    assert whole(split(table))
    table.write_bytes(table.read_bytes()[:-12])
    assert "t.csv.gz" in split(table, code=2)


# Every pair of commands.


def test_inspect_and_split_read_what_split_writes(split, capsys, pictures, tmp_path):
    whole(split(pictures))
    written = tmp_path / "out" / "manifest.csv"
    again = tmp_path / "again"
    assert main(["split", str(written), "--by", "given", "--out", str(again)]) == 0
    assert main(["inspect", str(written), "--no-images", "--out", str(again), "--json"]) == 0
    first, second = (pd.read_csv(p, dtype=str) for p in (written, again / "manifest.csv"))
    pd.testing.assert_frame_equal(first[["id", "split"]], second[["id", "split"]])

"""`layerwise split` as a user meets it: the manifest it writes is used as it stands."""

import csv
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import typer

from layerwise.cli import flags
from layerwise.cli.main import app, main
from layerwise.data.audit.check import audit
from layerwise.data.fingerprint import data_key
from layerwise.data.load import load
from layerwise.data.splits.assign import assign, in_two_parts
from layerwise.data.storage.store import build_store

PEOPLE = ["--patient-from", r"[ab]\d+"]


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def parts(path):
    return {row["id"]: row["split"] for row in rows(path)}


def made(out, *words):
    """The rows of the one manifest that a command writes."""
    assert main(["split", *map(str, words), "--out", str(out), "--quiet"]) == 0
    return parts(out / "manifest.csv")


@pytest.fixture
def dated(classes, tmp_path):
    """A table of 24 pictures, of one patient each two, one day each."""
    table = []
    for k, label in enumerate(("well", "ill")):
        for i in range(12):
            table.append(
                {
                    "path": f"{label}/{'ab'[k]}{i // 2}_{i}.png",
                    "label": label,
                    "date": f"2020-06-{i + 1:02d}",
                    "who": f"{label}{i // 2}",
                }
            )
    path = classes / "table.csv"
    pd.DataFrame(table).to_csv(path, index=False)
    return [str(path), "--patient-column", "who"]


def test_by_patient_where_patients_are_known(classes, tmp_path, capsys):
    words = ["split", str(classes), *PEOPLE, "--out", str(tmp_path / "out")]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "split --by patient, because patients are known" in shown.err
    lines = [line.split() for line in shown.out.splitlines()[:4]]
    assert lines[0] == ["split", "images", "ill", "well"]
    assert [line[0] for line in lines[1:]] == ["train", "val", "test"]
    assert sum(int(line[1]) for line in lines[1:]) == 24
    assert shown.out.splitlines()[4] == f"manifest: {tmp_path / 'out' / 'manifest.csv'}"
    table = pd.read_csv(tmp_path / "out" / "manifest.csv")
    assert table.groupby("patient")["split"].nunique().max() == 1
    assert table.groupby("split")["label"].nunique().tolist() == [2, 2, 2]


def test_at_random_where_none_are(classes, tmp_path, capsys):
    assert main(["split", str(classes), "--out", str(tmp_path), "--json", "--test", "0.25"]) == 0
    shown = capsys.readouterr()
    assert "split --by random, because no patients are known" in shown.err
    said = json.loads(shown.out)
    (only,) = said["splits"]
    assert said["command"] == "split" and only["manifest"] == str(tmp_path / "manifest.csv")
    assert only["images"] == {"train": 14, "val": 4, "test": 6} and only["patients"] is None
    assert only["counts"]["test"] == {"ill": 3, "well": 3}
    assert any("stratified by label, seed 0" in note for note in only["notes"])


def test_the_manifest_is_used_as_it_stands(classes, tmp_path):
    """The same data to the bit: as what a fit makes of it, even with a tiny validation part."""
    first = made(tmp_path / "out", classes, *PEOPLE, "--val", "0.1", "--test", "0.2")
    manifest = load(tmp_path / "out" / "manifest.csv")
    settings = {"size": (32, 32), "channels": 1, "letterbox": False, "folder": tmp_path / "cache"}
    store, manifest = build_store(manifest, **settings)
    used = assign(manifest, contents=store.digests, seed=5)
    assert dict(zip(used.table["id"], used.table["split"], strict=True)) == first
    assert used.notes == () and used.settled
    assert [finding for finding in audit(used, store) if finding.severity == "leak"] == []
    given = load(classes).replace(settled=False)
    given = given.replace(split=[first[name] for name in given.table["id"]])
    other, given = build_store(given, **settings)
    assert data_key(used, store) == data_key(given, other)
    again = made(tmp_path / "again", tmp_path / "out" / "manifest.csv", "--by", "given")
    assert again == first
    assert (tmp_path / "again" / "manifest.csv").read_bytes() == (
        tmp_path / "out" / "manifest.csv"
    ).read_bytes()


def test_equal_files_stay_together(classes, tmp_path, capsys):
    for i in range(6):
        shutil.copy(classes / "well" / f"a{i}_{2 * i}.png", classes / "well" / f"copy{i}.png")
    for seed in range(4):
        where = made(tmp_path / "out", classes, "--seed", seed, "--val", "0.25", "--test", "0.25")
        assert all(where[f"well/copy{i}.png"] == where[f"well/a{i}_{2 * i}.png"] for i in range(6))
    main(["split", str(classes), "--no-images", "--out", str(tmp_path / "out")])
    assert "files were not looked at (--no-images)" in capsys.readouterr().err


def test_by_date(dated, tmp_path, capsys):
    where = made(tmp_path / "out", *dated, "--by", "date", "--date", "2020-06-09")
    assert {name for name, part in where.items() if part == "test"} == {
        f"{label}/{letter}{i // 2}_{i}.png"
        for label, letter in (("well", "a"), ("ill", "b"))
        for i in range(8, 12)
    }
    assert len(where) == 24
    cut = ["--by", "date", "--date", "2020-06-10"]  # within the two days of a patient
    assert main(["split", *dated, *cut, "--out", str(tmp_path / "cut")]) == 0
    assert "2 images from 2020-06-10 on are left out (1 ill, 1 well)" in capsys.readouterr().err
    assert len(parts(tmp_path / "cut" / "manifest.csv")) == 22
    chosen = made(tmp_path / "chosen", *dated, "--by", "date", "--test", "0.34")
    assert sum(part == "test" for part in chosen.values()) == 8


def test_random_with_patients_is_a_leak(classes, tmp_path, capsys):
    words = ["split", str(classes), *PEOPLE, "--by", "random", "--out", str(tmp_path)]
    assert main(words) == 3
    error = capsys.readouterr().err
    assert "--by random" in error and "patients are in two parts" in error
    assert "--by patient" in error and not (tmp_path / "manifest.csv").exists()
    assert main([*words, "--allow-leaks"]) == 0
    assert "leak, allowed by --allow-leaks" in capsys.readouterr().err
    leaky = load(tmp_path / "manifest.csv")
    assert in_two_parts(leaky, leaky.table["patient"])


def test_folds(classes, tmp_path, capsys):
    words = ["split", str(classes), *PEOPLE, "--folds", "3", "--out"]
    assert main([*words, str(tmp_path / "all")]) == 0
    each = [parts(tmp_path / "all" / f"fold-{i}" / "manifest.csv") for i in (1, 2, 3)]
    tested = [name for where in each for name, part in where.items() if part == "test"]
    assert sorted(tested) == sorted(each[0]) and len(each[0]) == 24
    assert "fold-3" in capsys.readouterr().out
    assert main([*words, str(tmp_path / "one"), "--fold", "2"]) == 0
    assert parts(tmp_path / "one" / "manifest.csv") == each[1]
    capsys.readouterr()
    assert main([*words, str(tmp_path / "more"), "--repeats", "2", "--fold", "2", "--json"]) == 0
    first, second = (tmp_path / "more" / f"repeat-{r}" / "fold-2" / "manifest.csv" for r in (1, 2))
    assert parts(first) == each[1] != parts(second)
    said = json.loads(capsys.readouterr().out)
    assert [entry["manifest"] for entry in said["splits"]] == [str(first), str(second)]


def test_folds_of_an_earlier_command_are_named(classes, tmp_path, capsys):
    words = ["split", str(classes), "--quiet", "--out", str(tmp_path / "out"), "--folds"]
    assert main([*words, "3"]) == 0
    assert capsys.readouterr().err == ""
    assert main([*words, "2"]) == 0
    left = tmp_path / "out" / "fold-3" / "manifest.csv"
    assert f"of an earlier command, and not of this split: {left}" in capsys.readouterr().err


def test_given_parts_that_share_an_image_are_a_leak(classes, tmp_path, capsys):
    for part in ("train", "test"):
        shutil.copytree(classes, tmp_path / "data" / part)
    for i in range(1, 12):  # of the test part one picture stays equal
        name = f"well/a{i // 2}_{i}.png"
        (tmp_path / "data" / "test" / name).write_bytes((classes / name).read_bytes() + bytes([i]))
    shutil.rmtree(tmp_path / "data" / "test" / "ill")
    shutil.copytree(classes / "ill", tmp_path / "data" / "test" / "ill")
    for i in range(12):
        with (tmp_path / "data" / "test" / f"ill/b{i // 2}_{i}.png").open("ab") as file:
            file.write(b" ")
    words = ["split", str(tmp_path / "data"), "--by", "given", "--out", str(tmp_path / "out")]
    assert main(words) == 3
    error = capsys.readouterr().err
    assert "1 images are in two parts (" in error and "test/well/a0_0.png" in error


def test_fewer_training_images_inside_each_other(classes, tmp_path):
    whole = made(tmp_path / "1", classes, *PEOPLE)
    half = made(tmp_path / "2", classes, *PEOPLE, "--train-fraction", "0.5")
    fifth = made(tmp_path / "3", tmp_path / "1" / "manifest.csv", "--by", "given",
                 "--train-fraction", "0.2")  # fmt: skip
    assert fifth.items() < half.items() < whole.items()
    for few in (half, fifth):
        left = {n: p for n, p in whole.items() if p != "train"}
        assert {n: p for n, p in few.items() if p != "train"} == left
    table = pd.read_csv(tmp_path / "2" / "manifest.csv").query("split == 'train'")
    assert table.groupby("patient").size().tolist() == [2] * table["patient"].nunique()


@pytest.mark.parametrize(
    "words, said",
    [
        (["--by", "age"], "--by age is unknown; it is one of random, patient, date, given"),
        (["--by", "patient"], "no patients are known.*--patient-from"),
        (["--by", "patient", "--folds", "3"], "no patients are known.*--patient-from"),
        (["--by", "date"], "no image has a date; name the column with --date-column"),
        (["--date", "2020-06-01"], "--date 2020-06-01 goes with --by date"),
        (["--by", "date", "--date", "2020-01-01", "--test", "0.2"], "--test and --date"),
        (["--val", "0.5", "--test", "0.5"], "--val 0.5 --test 0.5: fractions must be above 0"),
        (["--val", "0"], "--val 0.0"),
        (["--train-fraction", "0"], "--train-fraction 0: it is above 0 and below 1"),
        (["--train-fraction", "1"], "--train-fraction 1"),
        (["--train-fraction", "nan"], "--train-fraction nan"),
        (["--folds", "1"], "--folds 1: two or more"),
        (["--folds", "13"], "class 'ill' has 12 images to share out, and 13 are needed"),
        (["--folds", "3", "--fold", "4"], "--fold 4: with --folds 3 it is one of 1 to 3"),
        (["--folds", "3", "--fold", "0"], "--fold 0"),
        (["--folds", "3", "--repeats", "0"], "--repeats 0"),
        (["--folds", "3", "--test", "0.2"], "--test and --folds"),
        (["--folds", "3", "--val", "0.7"], "--val 0.7 with --folds 3"),
        (["--folds", "3", "--by", "date"], "--folds and --by date"),
        (["--fold", "1"], "--fold goes with --folds K"),
        (["--repeats", "2"], "--repeats goes with --folds K"),
    ],
)
def test_flags_that_make_no_sense(classes, tmp_path, capsys, words, said):
    assert main(["split", str(classes), "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("layerwise: ") and re.search(said, error), error
    assert not list((tmp_path / "out").glob("**/*.csv"))


@pytest.mark.parametrize(
    "date, said",
    [
        ("30.06.2020", "--date '30.06.2020' can not be compared with the dates of the images"),
        ("2021-01-01", "--date 2021-01-01 leaves no images from that day on"),
        ("2020-06-01", "--date 2020-06-01 leaves no images before"),
    ],
)
def test_dates_that_make_no_sense(dated, tmp_path, capsys, date, said):
    words = ["split", *dated, "--by", "date", "--date", date, "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_a_file_that_can_not_be_read(classes, tmp_path, capsys, monkeypatch):
    from layerwise.data.splits import contents
    from layerwise.errors import DataError

    def refuse(path, real=contents.read_bytes):
        if path.endswith("a0_0.png"):
            raise DataError(f"{path}: can not be read (Permission denied)")
        return real(path)

    monkeypatch.setattr(contents, "read_bytes", refuse)
    words = ["split", str(classes), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "1 of 24 files can not be read" in error and "a0_0.png" in error
    assert main([*words, "--skip-unreadable"]) == 0
    assert len(parts(tmp_path / "out" / "manifest.csv")) == 23


def test_pictures_of_an_archive(tmp_path):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 255, (60, 28, 28)).astype(np.uint8)
    arrays = {"train_images": pixels, "train_labels": np.arange(60)[:, None] % 2}
    np.savez(tmp_path / "set.npz", **arrays)
    where = made(tmp_path / "out", tmp_path / "set.npz")
    manifest = load(tmp_path / "out" / "manifest.csv")
    assert (np.asarray(manifest.pixels) == pixels).all()
    assert sorted(set(where.values())) == ["test", "train", "val"]


def test_every_flag_of_data_is_there():
    command = typer.main.get_command(app).commands["split"]
    assert {*flags.DATA_FLAGS, "allow_leaks"} - {p.name for p in command.params} == set()

"""`layerwise study heads` as a user meets it: a tiny study, the same again, and bad input."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from layerwise.cli.heads import parse_counts
from layerwise.cli.main import main
from layerwise.data.manifest import Manifest, make_table
from layerwise.errors import LayerwiseError

HEADS = ["fully connected", "global average pooling", "linear SVM"]


def picture(path, bright, seed):
    """A grey picture: noise around a disc whose brightness tells the class."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32] - 16
    values = 90 + 60 * bright * (x**2 + y**2 < 90) + generator.normal(0, 25, (32, 32))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of two class folders, 30 pictures each."""
    root = tmp_path_factory.mktemp("heads") / "pictures"
    for number in range(30):
        picture(root / "well" / f"a{number}.png", 0, number)
        picture(root / "ill" / f"b{number}.png", 1, 100 + number)
    return root


def words(data, out, *more):
    small = (
        "--model lenet5 --weights none --image-size 32 --threads 1 --workers 1 --epochs 2 --quiet"
    )
    folds = () if "--folds" in more else ("--folds", "3")
    return ["study", "heads", str(data), "--out", str(out), *small.split(), *folds, *map(str, more)]


def without_seconds(value):
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if not k.endswith("seconds")}
    return [without_seconds(each) for each in value] if isinstance(value, list) else value


def test_a_study_of_so_many_images_a_class_and_the_same_again(data, tmp_path, capsys, draw_no_more):
    out = tmp_path / "out"
    command = words(data, out, "--per-class", "12,8,6", "--fractions", "50%,1", "--json")
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    results = json.loads((out / "results.json").read_text())
    assert printed == results
    counts = {p: {"ill": n, "well": n} for p, n in (("train", 12), ("val", 8), ("test", 6))}
    assert results["data"]["counts"] == counts and results["data"]["name"] == "pictures"
    curves = results["curves"]
    assert [row["head"] for row in curves["heads"]] == HEADS
    assert [(r["treatment"], r["fraction"], r["state"]) for r in results["runs"]] == [
        (HEADS[2], 1.0, "done"),
        *((head, fraction, "done") for head in HEADS[:2] for fraction in (1.0, 0.5)),
    ]
    assert len(curves["epochs"]) == 4 and len(curves["sizes"]) == 6 and len(curves["pairs"]) == 6
    assert [row["C"] for row in curves["grid"]] == [0.01, 0.1, 1.0, 10.0, 100.0]
    for row in curves["heads"]:
        run = next(r for r in results["runs"] if r["id"] == row["run"])
        assert row["val_accuracy"]["value"] == run["validation"]["accuracy"]["value"]
        assert row["test_accuracy"]["value"] == run["test"]["accuracy"]["value"]
        assert row["parameters"] == run["parameters"] - results["study"]["base_parameters"]
        gap = row["train_accuracy"]["value"] - row["val_accuracy"]["value"]
        assert row["gap"]["value"] == pytest.approx(gap)
    svm = next(row for row in curves["sizes"] if row["head"] == HEADS[2] and row["fraction"] == 1)
    chosen = next(row for row in curves["grid"] if row["chosen"])
    assert svm["cross_validated"]["value"] == pytest.approx(chosen["cross_validated"])
    for name in ("heads", "connected", "pooled", "sizes"):
        assert (out / f"{name}.svg").read_text().startswith("<?xml")
        assert list(csv.DictReader((out / f"{name}.csv").read_text().splitlines()))
    page = (out / "report.html").read_text()
    assert "52 of 60 images are used (--per-class 12,8,6, seed 0)" in page
    assert "one of random filters" in page and "ImageNet" not in page

    finished = {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("result.json")}
    assert len(finished) == 7  # an SVM, two points of its curve, two heads of two sizes
    draw_no_more()
    assert main(command) == 0
    assert {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("result.json")} == finished
    again = json.loads((out / "results.json").read_text())
    assert without_seconds(again) == without_seconds(results)

    capsys.readouterr()
    for more, message in [
        (["--per-class", "12,8,6"], "fractions = "),
        (["--per-class", "10,8,6", "--fractions", "50%,1"], "per_class = .12, 8, 6., and this one"),
        (["--per-class", "12,8,6", "--fractions", "50%,1", "--folds", "4"], "folds = 3, and"),
    ]:
        assert main(words(data, out, *more)) == 2
        assert re.search(f"{message}.*--out", capsys.readouterr().err, re.S)

    # A run is a network that can be handed over.
    run = out / "runs" / curves["heads"][1]["run"]
    assert main(["export", str(run), "--out", str(tmp_path / "bundle"), "--quiet"]) == 0
    assert (tmp_path / "bundle" / "bundle" / "bundle.json").is_file()


def test_repeats_have_seeds_and_images_of_their_own(data, tmp_path, capsys, draw_no_more):
    draw_no_more()
    out = tmp_path / "out"
    more = ("--repeats", 2, "--cut", "conv2", "--fractions", "0.5", "--C", 0.1)
    assert main(words(data, out, *more)) == 0
    assert re.search(r"head +parameters +training.*\n.*Take the", capsys.readouterr().out, re.S)
    results = json.loads((out / "results.json").read_text())
    assert results["study"]["cut"] == "conv2" and results["study"]["fractions"] == [0.5, 1.0]
    assert len(results["runs"]) == 2 + 8
    assert sorted({run["seed"] for run in results["runs"]}) == [0, 1]
    for row in results["curves"]["heads"]:
        assert len(row["val_accuracy"]["repeats"]) == 2
        assert row["val_accuracy"]["sd"] is not None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--per-class", "12,8"], "--per-class '12,8': write three whole numbers.*100,50,50"),
        (["--per-class", "99,8,6"], "99 images of '(ill|well)' for the train .*16,8,6 would fit"),
        (["--folds", "40"], "has 21 training images.*--folds 21 works"),
        (["--cut", "conv9"], "--cut conv9: .*conv"),
        (["--cut", "all"], "--cut all: name a cut"),
        (["--fractions", "x"], "--fractions 'x'"),
        (["--fractions", "0.01"], "--fractions 0.01 leaves no training image of .* works here is"),
        (["--C", "-1"], "--C -1: .*above 0"),
        (["--weights", "gone.pth"], "--weights gone.pth: no such file"),
    ],
)
def test_bad_input_is_named_with_the_next_step(data, tmp_path, capsys, more, message):
    assert main(words(data, tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err
    assert re.search(message, error, re.S), error
    assert "Traceback" not in error
    assert not (tmp_path / "out" / "plan.json").exists()


def test_two_images_a_class_are_too_few(tmp_path, capsys):
    for number in range(2):
        picture(tmp_path / "few" / "well" / f"a{number}.png", 0, number)
        picture(tmp_path / "few" / "ill" / f"b{number}.png", 1, 100 + number)
    assert main(words(tmp_path / "few", tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert re.search("class '(ill|well)' has 2 images to share out, and 3 are needed", error), error
    for number in range(12):  # or two in every part: no ten folds of them
        part = ("train", "val", "test")[number // 4]
        label = ("well", "ill")[number % 2]
        picture(tmp_path / "parts" / part / label / f"{number}.png", number % 2, 200 + number)
    assert main(words(tmp_path / "parts", tmp_path / "out", "--folds", "10")) == 2
    error = capsys.readouterr().err
    assert re.search("has 2 training images, .*--folds 2 works, or add images", error), error


def test_a_class_that_is_missing_from_validation_is_named(data, tmp_path, capsys):
    paths = sorted(str(path) for path in data.rglob("*.png"))  # ill, then well
    splits = ["train"] * 20 + ["val"] * 5 + ["test"] * 5 + ["train"] * 25 + ["test"] * 5
    table = make_table([f"{n}.png" for n in range(60)], paths=paths, splits=splits)
    targets = np.repeat([0, 1], 30)
    Manifest("made", "binary", ("ill", "well"), table, targets).write(tmp_path / "m" / "made.csv")
    assert main(words(tmp_path / "m" / "made.csv", tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert re.search("the val part has no image of class 'well'.*add images, or let", error), error


def test_augmentation_is_refused_with_the_reason(data, tmp_path, capsys):
    recipe = tmp_path / "r.toml"
    recipe.write_text('[training]\naugment = "natural"\n')
    assert main(words(data, tmp_path / "out", "--recipe", recipe)) == 2
    error = capsys.readouterr().err
    assert re.search(
        "augment = 'natural'.*from the pictures as they are; leave it out", error, re.S
    )


def test_another_commands_folder_is_refused(data, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "plan.json").write_text('{"study": "gain"}')
    assert main(words(data, out)) == 2
    assert "`layerwise study gain`; name another folder with --out" in capsys.readouterr().err
    shutil.rmtree(out)


def test_counts_are_read():
    assert parse_counts("100, 50,50") == (100, 50, 50)
    for text in ("", "1,2", "1,2,3,4", "1,0,1", "a,b,c", "1.5,1,1", "-1,1,1"):
        with pytest.raises(LayerwiseError, match="--per-class"):
            parse_counts(text)


@pytest.mark.slow
def test_cats_and_dogs_in_marcelinos_sizes(shared_data, tmp_path, capsys):
    """All three above 0.93 on validation; his VGG16 gave 0.85, about the same, and 0.86."""
    out = tmp_path / "out"
    weights = shared_data / "weights" / "mobilenetv2_100_imagenet.pth"
    command = [
        *("study", "heads", str(shared_data / "cats-dogs"), "--out", str(out)),
        *("--per-class", "100,50,50", "--model", "timm:mobilenetv2_100"),
        *("--model-arg", "pad_type=same", "--weights", str(weights), "--quiet"),
    ]
    assert main(command) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["study"]["cut"] == "bn2" and results["study"]["shape"] == [1280, 7, 7]
    assert [row["val_accuracy"]["value"] > 0.93 for row in results["curves"]["heads"]] == [True] * 3
    assert "118 breeds of dogs" in (out / "report.html").read_text()

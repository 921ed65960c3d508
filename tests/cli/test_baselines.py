"""`layerwise study baselines` as a user meets it: a tiny study, the same again, and bad input."""

import csv
import json
import re

import numpy as np
import pytest
from safetensors.torch import save_file

from layerwise.cli.main import main
from layerwise.models.registry import create
from layerwise.models.tuned import KernelSVM, TunedForest
from layerwise.studies.baselines import budget, classic, runs

COUNTS = {"train": 48, "val": 24, "test": 40}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A MedMNIST archive: one in four has a bright bar."""
    path = tmp_path_factory.mktemp("baselines") / "bars.npz"
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in COUNTS.items():
        has = (np.arange(count) % 4 == 0).astype(np.int64)
        images = generator.normal(90, 45, (count, 16, 16))
        images[:, 2:8, 3:12] += 80 * has[:, None, None]
        arrays[f"{part}_images"] = np.clip(images, 0, 255).astype(np.uint8)
        arrays[f"{part}_labels"] = has[:, None]
    np.savez(path, **arrays)
    return path


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Grids of a test's size."""
    forest = {"folds": 2, "trees": (5,), "max_features": ("sqrt",)}
    svm = {"folds": 2, "penalties": (1.0, 10.0), "widths": (1.0,)}
    makers = {
        "random-forest": lambda task, k, seed, n, b: TunedForest(
            task, k, seed=seed, threads=n, balanced=b, **forest
        ),
        "svm": lambda task, k, seed, n, b: KernelSVM(
            task, k, seed=seed, threads=n, balanced=b, **svm
        ),
    }
    for key, make in makers.items():
        monkeypatch.setitem(classic.MAKERS, key, make)


def words(data, out, *more):
    small = "--image-size 32 --threads 1 --workers 1 --quiet --augment natural"
    return ["study", "baselines", str(data), "--out", str(out), *small.split(), *map(str, more)]


def without_seconds(value):
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if not k.endswith("seconds")}
    return [without_seconds(each) for each in value] if isinstance(value, list) else value


def test_a_study_and_the_same_again(data, tmp_path, capsys, draw_no_more):
    out, weights = tmp_path / "out", tmp_path / "digits.safetensors"
    network = create("lenet5", outputs=10, image_size=32, seed=3)
    save_file(network.module.state_dict(), weights)
    command = words(
        *(data, out, "--models", "classic,lenet5", "--epochs", 2, "--repeats", 2),
        *("--transfer", "lenet5", "--weights", weights, "--json"),
    )
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    results = json.loads((out / "results.json").read_text())
    assert printed == results
    found = [(r["task"], r["treatment"], r["kind"], r["seed"]) for r in results["runs"]]
    both = ("base", "augmented")
    assert found == [
        ("dummy", "base", "floor", 0),
        *[(m, form, "floor", 0) for m in ("random forest", "SVM") for form in both],
        *[
            (m, form, "trained", seed)
            for m in ("LeNet-5", "LeNet-5, transfer")
            for form in both
            for seed in (0, 1)
        ],
    ]
    assert {r["state"] for r in results["runs"]} == {"done"}
    recipes = {}
    for run in results["runs"]:
        if run["kind"] == "trained":
            kept = json.loads((out / "runs" / run["id"] / "run.json").read_text())
            recipes[run["treatment"]] = kept["recipe"]
            start = "none" if run["task"] == "LeNet-5" else "digits.safetensors"
            assert run["transfer"]["source"] == start
    assert (recipes["base"]["augment"], recipes["base"]["balance"]) == ("none", "none")
    # One in four is ill, so the augmented form is that of the thesis: copies of the smaller class.
    assert (recipes["augmented"]["augment"], recipes["augmented"]["balance"]) == (
        "natural",
        "augment",
    )
    svm = next(r for r in results["runs"] if (r["task"], r["treatment"]) == ("SVM", "augmented"))
    assert svm["learnt_from"]["images"] == 48 and svm["learnt_from"]["rows"] == 72

    curves = results["curves"]
    cells = {cell["name"]: cell for cell in curves["cells"]}
    assert len(cells) == 9 and curves["best"] in cells
    assert cells["dummy, base"]["test"]["accuracy"]["value"] == 0.75
    for cell in cells.values():
        own = [r for r in results["runs"] if r["id"] in cell["runs"]]
        for metric, value in cell["test"].items():
            mean = np.mean([r["test"][metric]["value"] for r in own])
            assert value["value"] == pytest.approx(mean), (cell["name"], metric)
        assert np.sum(cell["confusion"]["counts"]) == 40
        assert [r["threshold"] for r in own] == cell["thresholds"]
    assert len(curves["changes"]) == 4 * 6 and len(curves["behind"]) == 8 * 6
    for name in ("sheet", "scores", "changes"):
        assert (out / f"{name}.svg").read_text().startswith("<?xml")
    for name in ("sheet", "scores", "changes", "table", "changes-table", "behind"):
        assert list(csv.DictReader((out / f"{name}.csv").read_text().splitlines()))
    page = (out / "report.html").read_text()
    assert "What a network has to beat is" in page and "36 pictures of each class" in page

    finished = {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("result.json")}
    assert len(finished) == 13
    draw_no_more()
    assert main(command) == 0
    assert {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("result.json")} == finished
    again = json.loads((out / "results.json").read_text())
    assert without_seconds(again) == without_seconds(results)
    capsys.readouterr()
    assert main([*command, "--balance", "weights"]) == 2
    assert "balance" in capsys.readouterr().err


def test_the_time_decides_once(data, tmp_path, capsys, monkeypatch, draw_no_more):
    """VGG16 is the dearest by far and left out; a second sitting does not measure again."""
    cost = {"lenet5": 0.001, "cbr-small": 0.001, "vgg16": 10.0}
    for module in (budget, runs):
        monkeypatch.setattr(module, "image_seconds", lambda model, *_: cost[model])
    monkeypatch.setattr(runs, "most_epochs", lambda _images: 1)
    out = tmp_path / "out"
    command = words(data, out, "--quick", "--time", "60s", "--json")
    assert main(command) == 0
    results = json.loads(capsys.readouterr().out)
    assert [e["key"] for e in results["study"]["models"]] == (
        "dummy random-forest svm lenet5 vgg16 cbr-small".split()
    )
    left = {one["name"]: one["reason"] for one in results["study"]["left_out"]}
    assert "no pictures of 32 pixels" in left["AlexNet"]
    assert "--models vgg16" in left["VGG16"]
    assert (results["study"]["epochs"], results["study"]["repeats"]) == (1, 1)
    assert {c["model"] for c in results["curves"]["cells"]} == {
        *("dummy", "random forest", "SVM", "LeNet-5", "CBR-Small")
    }
    page = (out / "report.html").read_text()
    assert "VGG16 is left out" in page and "This is the quick form" in page

    for module in (budget, runs):
        monkeypatch.setattr(module, "image_seconds", None)
    draw_no_more()
    assert main(command) == 0
    again = json.loads(capsys.readouterr().out)
    assert without_seconds(again) == without_seconds(results)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--models", "svn"], "--models: 'svn' is unknown.*svm"),
        (["--models", "alexnet", "--epochs", "1"], "alexnet.*at least 67 pixels"),
        (["--weights", "x.pth"], "--weights.*--transfer"),
        (["--transfer", "lenet5", "--weights", "gone.pth"], "gone.pth: no such file"),
        (["--transfer", "lenet5"], "lenet5: there are no published weights"),
        (["--transfer", "timm:nope"], "no such network"),
        (["--time", "soon"], "--time 'soon' is not a time"),
        (["--models", "svm", "--augment", "none", "--balance", "augment"], "equal pictures"),
    ],
)
def test_bad_input_is_named_with_the_next_step(data, tmp_path, capsys, more, message):
    assert main(words(data, tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err
    assert re.search(message, error, re.S), error
    assert "Traceback" not in error
    assert not (tmp_path / "out" / "plan.json").exists()


def test_a_time_too_short_for_what_was_named(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runs, "image_seconds", lambda *_: 10.0)
    command = words(data, tmp_path / "out", "--models", "lenet5", "--time", "30s")
    assert main(command) == 2
    assert "--time is too short: 2 epochs of LeNet-5" in capsys.readouterr().err

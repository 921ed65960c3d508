"""`layerwise study search` as a user meets it: a small search, the best trial again, bad input."""

import csv
import json
import re
import tomllib

import numpy as np
import pytest
from safetensors.numpy import load_file

from layerwise.cli.main import main

COUNTS = {"train": 48, "val": 24, "test": 24}
SPACE = """
[model]
units = [2, 4]
kernel = [3, 5]

[training]
lr = { low = 1e-3, high = 0.5, log = true }
momentum = [0.5, 0.9]
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """DATA: a bright bar above or below, in noise."""
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in COUNTS.items():
        labels = np.arange(count) % 2
        images = generator.normal(90, 40, (count, 16, 16))
        images[labels == 1, 2:7, 3:12] += 50
        images[labels == 0, 9:14, 3:12] += 50
        arrays[f"{part}_images"] = np.clip(images, 0, 255).astype(np.uint8)
        arrays[f"{part}_labels"] = labels[:, None]
    path = tmp_path_factory.mktemp("search") / "bars.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(SPACE, encoding="utf-8")
    return path


def words(data, out, *more):
    small = "--image-size 16 --threads 1 --epochs 2 --model-arg layers=2 --augment flip --quiet"
    return ["study", "search", str(data), "--out", str(out), *small.split(), *map(str, more)]


def without_seconds(value):
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if not k.endswith("seconds")}
    return [without_seconds(each) for each in value] if isinstance(value, list) else value


def test_a_search_and_its_best_trial_again(data, space, tmp_path, capsys, draw_no_more):
    out = tmp_path / "out"
    command = words(data, out, "--space", space, "--trials", 6, "--json")
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    results = json.loads((out / "results.json").read_text())
    assert printed == results
    trials, best = results["curves"]["trials"], results["best"]
    assert [t["number"] for t in trials] == [r["name"] and i for i, r in enumerate(results["runs"])]
    assert len(trials) == 6 and results["study"]["ended"] == "trials"
    scores = {t["number"]: t["score"]["value"] for t in trials if t["score"]}
    assert scores[best["number"]] == max(scores.values()) == best["auroc"]["value"]
    highest = -1.0
    for trial in trials:
        highest = max(highest, scores.get(trial["number"], -1.0))
        assert trial["best_so_far"] == highest
        behind = trial["behind_best"]
        if behind is not None:
            gap = max(scores.values()) - scores[trial["number"]]
            assert behind["value"] == pytest.approx(gap)
    assert set(results["test"]) >= {"auroc", "auprc", "per_label"}
    tested = [run for run in results["runs"] if run["test"]]
    assert [run["id"] for run in tested] == [best["id"]]
    assert tested[0]["test"]["auroc"]["value"] == results["test"]["auroc"]["value"]
    assert best["arguments"] == {"layers": "2"} | {
        k: str(v) for k, v in best["values"].items() if k in ("units", "kernel")
    }
    for name in ("parallel", "history"):
        assert (out / f"{name}.svg").read_text().startswith("<?xml")
        rows = list(csv.DictReader((out / f"{name}.csv").read_text().splitlines()))
        assert len(rows) == 6
    assert (out / "search.db").read_bytes().startswith(b"SQLite format 3")
    assert "Which settings of the custom network are best on" in (out / "report.html").read_text()

    # The same again makes nothing anew.
    draw_no_more()
    finished = {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("result.json")}
    assert main(command) == 0
    capsys.readouterr()
    assert {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("result.json")} == finished
    again = json.loads((out / "results.json").read_text())
    assert without_seconds(again) == without_seconds(results)

    # The best trial from its recipe, with an empty cache: the same run, the same bits.
    recipe = tomllib.loads((out / "best.toml").read_text())
    assert recipe["trials"] == 1 and recipe["training"]["lr"] == best["values"]["lr"]
    alone = tmp_path / "alone"
    fresh = ["--recipe", out / "best.toml", "--out", alone, "--cache", tmp_path / "fresh", "--json"]
    assert main(["study", "search", *map(str, fresh), "--quiet"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert [run["id"] for run in one["runs"]] == [best["id"]]
    ours, theirs = (
        load_file(folder / "runs" / best["id"] / "weights.safetensors") for folder in (out, alone)
    )
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])
    assert one["test"]["auroc"] == results["test"]["auroc"]
    assert one["study"]["combinations"] == 1 and not one["saved"]["taken"]

    assert main(words(data, out, "--space", space, "--trials", 6, "--metric", "f1")) == 2
    assert "metric = 'auroc', and this one has 'f1'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--metric", "aucroc"], "--metric 'aucroc' is unknown; it is one of auroc"),
        (["--pruner", "mean"], "--pruner 'mean' is unknown; it is one of median, none"),
        (["--space", "gone.toml"], "--space gone.toml: no such file"),
        (["--time", "1s", "--epochs", "900"], "too short for one trial: 900 epochs.*give --time"),
        (["--time", "soon"], "--time 'soon' is not a time"),
        (["--model-arg", "kernel=4"], "kernel=4: it must be an odd whole number"),
        (["--freeze", "conv1"], r"\[transfer\] freeze.*without weights there is nothing to freeze"),
        (["--weights", "pretrained"], "custom"),
    ],
)
def test_bad_input_is_named_with_the_next_step(data, tmp_path, capsys, more, message):
    assert main(words(data, tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err
    assert re.search(message, error, re.S), error
    assert "Traceback" not in error
    assert not (tmp_path / "out" / "plan.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nbatch = [8, 500]", "batch = 500 is more than the 48 training images.*is 48"),
        ("[training]\nlearning_rate = [0.1]", r"learning_rate: unknown field; the nearest one is"),
        ("[training]\nlr = {low = 0.1, high = 0.01}", "low is 0.1 and high is 0.01"),
        ("[model]\nunit = [2, 4]", "custom has no such argument; the nearest one is 'units'"),
    ],
)
def test_a_space_that_can_not_be_searched_is_named(data, space, tmp_path, capsys, text, message):
    space.write_text(text, encoding="utf-8")
    assert main(words(data, tmp_path / "out", "--space", space)) == 2
    error = capsys.readouterr().err
    assert re.search(f"--space .*space.toml: .*{message}", error, re.S), error
    assert not (tmp_path / "out" / "plan.json").exists()

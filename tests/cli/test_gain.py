"""`layerwise study gain` as a user meets it: a tiny study, the same again, and bad input."""

import csv
import json
import re

import numpy as np
import pytest

from layerwise.cli.gain import parse_fractions
from layerwise.cli.main import main
from layerwise.errors import LayerwiseError

COUNTS = {"train": 60, "val": 24, "test": 40}


def pictures(path, seed, labels=2, noise=45.0):
    """A MedMNIST archive of two labels an image: a bright bar for each, in its own place."""
    generator = np.random.default_rng(seed)
    arrays = {}
    for part, count in COUNTS.items():
        has = (generator.random((count, 2)) < [0.5, 0.35]).astype(np.int64)
        images = generator.normal(90, noise, (count, 16, 16))
        images[:, 2:6, 3:12] += 60 * has[:, :1, None]
        images[:, 9:13, 3:12] += 60 * has[:, 1:, None]
        arrays[f"{part}_images"] = np.clip(images, 0, 255).astype(np.uint8)
        arrays[f"{part}_labels"] = has if labels == 2 else has[:, :1]
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """DATA of two labels an image, and DATA2 of one label in other pictures."""
    root = tmp_path_factory.mktemp("gain")
    return pictures(root / "target.npz", 0), pictures(root / "source.npz", 1, labels=1)


def words(data, out, *more):
    small = "--model lenet5 --image-size 32 --threads 1 --workers 1 --epochs 2 --repeats 2 --quiet"
    fractions = () if "--fractions" in more else ("--fractions", "50%,1")
    return [
        "study",
        "gain",
        str(data),
        "--out",
        str(out),
        *small.split(),
        *fractions,
        *map(str, more),
    ]


def without_seconds(value):
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if not k.endswith("seconds")}
    return [without_seconds(each) for each in value] if isinstance(value, list) else value


def test_a_study_and_the_same_again(data, tmp_path, capsys, draw_no_more):
    target, source = data
    out = tmp_path / "out"
    command = words(target, out, "--source", source, "--json")
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    results = json.loads((out / "results.json").read_text())
    assert printed == results
    runs = results["runs"]
    assert [(r["treatment"], r["state"]) for r in runs] == [("source", "done")] + [
        ("RI", "done"),
        ("TL", "done"),
    ] * 4
    assert [r["seed"] for r in runs] == [0, 0, 0, 1, 1, 0, 0, 1, 1]
    first = runs[0]["id"]
    for run in runs[1:]:
        copied = run["treatment"] == "TL"
        assert run["transfer"]["source"] == (f"run {first}" if copied else "none")
        assert set(run["test"]) == set(run["validation"]) == {"auroc", "auprc"}
    bars = results["curves"]["bars"]
    assert {(b["fraction"], b["label"], b["metric"]) for b in bars} == {
        (f, label, metric)
        for f in (0.5, 1.0)
        for label in ("mean", *results["data"]["labels"])
        for metric in ("auroc", "auprc")
    }
    for bar in bars:  # the mean of the runs' own scores on the test part
        for side in ("RI", "TL"):
            own = [
                r["test"][bar["metric"]]["value"]
                for r in runs[1:]
                if (r["treatment"], r["fraction"]) == (side, bar["fraction"])
            ]
            if bar["label"] == "mean":
                assert bar[side]["value"] == pytest.approx(np.mean(own))
    for name in ("figure4", "gain", "figure3", "figure3-50percent"):
        assert (out / f"{name}.svg").read_text().startswith("<?xml")
        assert len(list(csv.DictReader((out / f"{name}.csv").read_text().splitlines()))) >= 4
    page = (out / "report.html").read_text()
    assert "1:" in page and "AUPRC can not be compared across such ratios" in page

    finished = {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("result.json")}
    assert len(finished) == 9
    draw_no_more()
    assert main(command) == 0
    assert {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("result.json")} == finished
    again = json.loads((out / "results.json").read_text())
    assert without_seconds(again) == without_seconds(results)

    capsys.readouterr()
    assert main(words(target, out, "--source", source, "--epochs", "3")) == 2
    assert re.search("epochs = 2, and this one has 3.*--out", capsys.readouterr().err, re.S)
    assert main(words(target, out, "--source", source, "--fractions", "1")) == 2
    assert "fractions = [0.5, 1.0]" in capsys.readouterr().err

    # Another study with the same cache finds these runs, and its quick form is a part of it.
    other = tmp_path / "quick"
    quick = words(target, other, "--source", source, "--quick")
    del quick[quick.index("--repeats") : quick.index("--repeats") + 2]
    assert main(quick) == 0
    found = json.loads((other / "results.json").read_text())
    assert found["saved"]["taken"] == len(found["runs"]) == 5
    assert "This is the quick form" in (other / "report.html").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--weights", "none"], "--weights none.*--source DATA2"),
        ([], "--model lenet5: there are no published weights.*layerwise fit DATA2"),
        (["--fractions", "a"], "--fractions 'a'.*write 0.05"),
        (["--fractions", "0,1", "--weights", "x"], "--fractions 0: .*above 0"),
        (["--weights", "gone.pth"], "--model lenet5: --weights gone.pth: no such file"),
        (["--weights", "a", "--weights", "b"], "2 --weights for 1 --model"),
        (["--source", "gone.npz", "--weights", "b"], "leave one out"),
        (["--source", "gone.npz"], "gone.npz: no such file"),
    ],
)
def test_bad_input_is_named_with_the_next_step(data, tmp_path, capsys, more, message):
    assert main(words(data[0], tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err
    assert re.search(message, error, re.S), error
    assert "Traceback" not in error
    assert not (tmp_path / "out" / "plan.json").exists()


def test_a_fraction_that_empties_a_label_says_what_works(data, tmp_path, capsys):
    target, source = data
    command = words(target, tmp_path / "out", "--source", source, "--fractions", "0.01,1")
    assert main(command) == 2
    error = capsys.readouterr().err
    found = re.search(r"--fractions 0\.01 leaves no training image.*works here is ([\d.]+)", error)
    assert found, error
    assert 1 / 60 <= float(found[1]) <= 0.2


def test_images_of_the_test_part_among_the_source_data_are_refused(data, tmp_path, capsys):
    command = words(data[0], tmp_path / "out", "--source", data[0])
    assert main(command) == 3
    error = capsys.readouterr().err
    assert re.search(r"--source .*40 of the 40 test images.*--allow-leaks", error, re.S), error


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0.05,0.1,1", (0.05, 0.1, 1.0)), ("5%, 10% ,100%", (0.05, 0.1, 1.0)), ("1", (1.0,))],
)
def test_fractions_are_read(text, numbers):
    assert parse_fractions(text) == pytest.approx(numbers)


@pytest.mark.parametrize("text", ["", "x", "0.1;0.2", "5%%,"])
def test_fractions_that_are_no_numbers_are_named(text):
    with pytest.raises(LayerwiseError, match="--fractions"):
        parse_fractions(text)

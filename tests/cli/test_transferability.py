"""`layerwise study transferability`: a small study from its flags to its files; bad input."""

import csv
import json
from collections import Counter

import numpy as np
import pytest

from layerwise.cli.main import main
from layerwise.studies.transferability.study import EPOCHS

SIDE = 32
SMALL = "--model lenet5 --image-size 32 --augment none --threads 1 --workers 1 --quiet".split()


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """Six classes, a to f, 48 training images: a bright square in one of six places."""
    path = tmp_path_factory.mktemp("six") / "six.npz"
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in {"train": 96, "val": 24, "test": 36}.items():
        labels = np.arange(count) % 6
        images = generator.integers(0, 110, (count, SIDE, SIDE), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            top, left = 2 + 16 * (label // 3), 1 + 10 * (label % 3)
            image[top : top + 9, left : left + 9] += 130
        arrays |= {f"{part}_images": images, f"{part}_labels": labels[:, None]}
    np.savez(path, **arrays)
    path.with_name("classes.json").write_text('["a", "b", "c", "d", "e", "f"]', encoding="utf-8")
    path.with_name("groups.toml").write_text(
        '[groups]\nupper = ["a", "b"]\nlower = ["c", "d", "e", "f"]\n', encoding="utf-8"
    )
    return path


def words(data, out, *more):  # type: ignore[no-untyped-def]
    return ["study", "transferability", str(data), "--out", str(out), *SMALL, *map(str, more)]


@pytest.fixture(scope="module")
def study(six, tmp_path_factory):  # type: ignore[no-untyped-def]
    """A finished one: (its command, its folder)."""
    folder = tmp_path_factory.mktemp("study")
    more = ["--splits", 1, "--groups", six.with_name("groups.toml"), "--epochs", 2]
    more += ["--cuts", "conv2", "--cache", folder / "cache"]
    for treatment in ("AnB", "BnB"):
        more += ["--treatments", treatment]
    command = words(six, folder / "out", *more)
    assert main(command) == 0
    return command, folder / "out"


def read(out):  # type: ignore[no-untyped-def]
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def timeless(value):  # type: ignore[no-untyped-def]
    """Results without what may differ between two sittings."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if not k.endswith("seconds")}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def test_a_study_writes_what_it_says(study):
    _, out = study
    found = {path.name for path in out.iterdir()}
    assert found >= {"results.json", "report.html", "figure2.svg", "figure3.svg", "plan.json"}
    assert "table1.csv" not in found  # without AnB+ there is no boost to be shown
    results = read(out)
    counts = Counter(run["treatment"] for run in results["runs"])
    # four tasks, each a target: a base serves as base and as source, in both directions
    assert counts == {"base": 4, "BnB": 4, "AnB": 4}
    assert {run["state"] for run in results["runs"]} == {"done"}
    ids = [run["id"] for run in results["runs"]]
    assert sorted(ids) == sorted(path.name for path in (out / "runs").iterdir())
    assert results["saved"]["bases"] == 4
    assert results["saved"]["bases_alone"] == 8
    curves = results["curves"]
    assert [p["kind"] for p in curves["pairs"]] == ["random", "groups"]
    assert [p["b"]["labels"] for p in curves["pairs"]][1] == ["c", "d", "e", "f"]
    assert len(curves["points"]) == 4 * 3
    for run in results["runs"]:
        if run["treatment"] in ("BnB", "AnB"):
            base = next(
                r
                for r in results["runs"]
                if r["treatment"] == "base" and r["task"] == run["source"]
            )
            assert run["transfer"]["source"] == f"run {base['id']}"
            assert (run["source"] == run["task"]) == (run["treatment"] == "BnB")
    for row in curves["points"]:
        with (out / "runs" / _run(results, row)["id"] / "test.npz").open("rb") as file:
            arrays = np.load(file)
            scores, targets = arrays["scores"], arrays["targets"]
        guess = scores.argmax(1) if scores.shape[1] > 1 else scores[:, 0] >= 0.5
        assert row["accuracy"]["value"] == pytest.approx((guess == targets).mean())


def _run(results, row):  # type: ignore[no-untyped-def]
    (run,) = [
        r
        for r in results["runs"]
        if (r["treatment"], r["task"], r["cut"]) == (row["treatment"], row["target"], row["cut"])
    ]
    return run


def test_the_same_command_again_changes_nothing(study, capsys, draw_no_more):
    command, out = study
    draw_no_more()
    before, plan = read(out), (out / "plan.json").read_bytes()
    made = {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("*.*")}
    assert main([*command, "--json"]) == 0
    assert {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("*.*")} == made
    assert (out / "plan.json").read_bytes() == plan
    after = read(out)
    del after["command"], before["command"]  # the words of this process, which is pytest
    assert timeless(after) == timeless(before)
    assert timeless(json.loads(capsys.readouterr().out))["curves"] == timeless(before)["curves"]


def test_other_flags_need_another_folder(study, capsys):
    command, out = study
    assert main([*command, "--seed", "7"]) == 2
    assert f"{out} holds a study with seed = 0, and this one has 7" in capsys.readouterr().err


def test_an_edited_groups_file_needs_another_folder(study, six, capsys):
    command, _ = study
    path = six.with_name("groups.toml")
    before = path.read_text(encoding="utf-8")
    path.write_text('[groups]\nupper = ["a", "c"]\nlower = ["b", "d", "e", "f"]\n', "utf-8")
    assert main(command) == 2
    path.write_text(before, "utf-8")
    assert "holds a study with pairs" in capsys.readouterr().err


def test_another_study_with_the_cache_takes_the_runs_over(study, tmp_path, draw_no_more):
    command, out = study
    draw_no_more()
    other = [str(tmp_path) if word == str(out) else word for word in command]
    assert main(other) == 0
    mine, theirs = read(tmp_path), read(out)
    assert mine["saved"]["taken"] == len(mine["runs"])
    assert timeless(mine["curves"]) == timeless(theirs["curves"])


def test_quick_keeps_its_decision(six, tmp_path, draw_no_more):
    command = words(six, tmp_path / "out", "--quick", "--cuts", "conv2", "--treatments", "AnB+")
    command += ["--treatments", "base, twice as long"]
    assert main(command) == 0
    results, out = read(tmp_path / "out"), tmp_path / "out"
    plan = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    assert plan["complete"]
    epochs = plan["training"]["epochs"]
    assert 3 <= epochs <= EPOCHS
    by = {run["treatment"]: run for run in results["runs"]}
    assert by["base"]["epochs"] == epochs
    assert by["base, twice as long"]["epochs"] == 2 * epochs
    # one pair in one direction: two bases, of which the one is the source
    assert Counter(r["treatment"] for r in results["runs"]) == {
        "base": 2,
        "base, twice as long": 1,
        "AnB+": 1,
    }
    with (out / "table1.csv").open(encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 2  # a heading, and the one range of one layer
    draw_no_more()
    assert main(command) == 0
    assert timeless(read(out)) == timeless(results)
    assert json.loads((out / "plan.json").read_text(encoding="utf-8")) == plan


BAD = {
    "cut": (["--cuts", "conv9"], "--cuts conv9: lenet5 has no such layer; did you mean"),
    "treatment": (["--treatments", "CnB"], "--treatments 'CnB' is unknown; did you mean"),
    "few classes": (["--only", "a", "--only", "b", "--only", "c"], "need at least 4"),
    "quick pairs": (["--quick", "--splits", "3"], "--splits 3: --quick measures one pair"),
    "no pair": (["--splits", "0"], "there is no pair of tasks"),
    "no groups": (["--groups", "none.toml"], "--groups none.toml: can not be read"),
    "no weights": (["--weights", "none.pth"], "none.pth"),
    "no other": (["--other", "nowhere"], "nowhere: no such file or folder"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(six, tmp_path, capsys, name):
    more, said = BAD[name]
    assert main(words(six, tmp_path / "out", *more)) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "out" / "runs").exists()


def test_the_plan_of_a_fit_is_not_gone_on_with(six, tmp_path, capsys):
    (tmp_path / "plan.json").write_text('{"budget_seconds": 1}', encoding="utf-8")
    assert main(words(six, tmp_path)) == 2
    assert "is the plan of a `layerwise fit`" in capsys.readouterr().err

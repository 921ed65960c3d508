"""`layerwise demo` from end to end; how long it takes is for the reader of the README to see."""

import json

import pytest

from layerwise.cli.main import main

CUTS = ["conv1", "conv2", "conv3", "fc1", "fc2"]  # the ends of LeNet-5's blocks


@pytest.mark.slow
def test_demo(tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--quiet"]) == 0
    assert "report: " in capsys.readouterr().out
    left = {path.name for path in out.iterdir()}
    assert left >= {
        "plan.json",
        "results.json",
        "predictions.csv",
        "report.html",
        "bundle",
        "runs",
        "transferability",
    }
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["data"]["labels"] == ["5", "6", "7", "8", "9"]
    assert set(results["data"]["counts"]["train"].values()) == {30}

    folder = out / "transferability"
    left = {path.name for path in folder.iterdir()}
    assert left >= {"report.html", "figure2.svg", "figure3.svg", "table1.csv", "plan.json", "runs"}
    study = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    means = study["curves"]["means"]
    layered = ("BnB", "BnB+", "AnB", "AnB+", "random filters")
    assert [(row["treatment"], row["cut"]) for row in means[:2]] == [
        ("base", None),
        ("base, twice as long", None),
    ]
    assert sorted((row["treatment"], row["cut"]) for row in means[2:]) == sorted(
        (treatment, cut) for treatment in layered for cut in CUTS
    )
    for row in means:
        accuracy = row["accuracy"]
        assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1
    # Yosinski et al. 2014, Figure 2: frozen and copied, the lowest layer is more general than
    # the highest; and an untrained network would guess one digit in five.
    value = {(row["treatment"], row["cut"]): row["accuracy"]["value"] for row in means}
    assert value["AnB", "conv1"] > value["AnB", "fc2"] > 0.2
    assert {run["state"] for run in study["runs"]} == {"done"}
    # the weights that were fitted to digits 5 to 9 are those of the study's base
    source = next(run for run in study["runs"] if run["task"] == "base")
    assert results["runs"][-1]["transfer"]["source"] in (f"run {source['id']}", "none")

    page = (out / "report.html").read_text(encoding="utf-8")
    assert "transfer-comparison" in page
    assert main(["predict", str(out / "bundle"), "digits", "--quiet"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 1797

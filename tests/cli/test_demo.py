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

    study = json.loads((out / "transferability" / "results.json").read_text(encoding="utf-8"))
    rows = [(row["name"], row["cut"]) for row in study["curves"]]
    assert rows[0] == ("random initialisation", None)
    assert sorted(rows[1:]) == sorted((name, cut) for cut in CUTS for name in ("AnB", "AnB+"))
    for row in study["curves"]:
        accuracy = row["accuracy"]
        assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1
    # Yosinski et al. 2014, Figure 2: frozen and copied, the lowest layer is more general than
    # the highest; and an untrained network would guess one digit in five.
    value = {(row["name"], row["cut"]): row["accuracy"]["value"] for row in study["curves"]}
    assert value["AnB", "conv1"] > value["AnB", "fc2"] > 0.2
    assert {run["state"] for run in study["runs"]} == {"done"}
    assert len(study["runs"]) == 2 * len(rows)  # two repeats of every treatment

    page = (out / "report.html").read_text(encoding="utf-8")
    assert "transfer-comparison" in page
    assert main(["predict", str(out / "bundle"), "digits", "--quiet"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 1797

"""`layerwise fit` under SIGKILL: the results of a run that was never killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

KILLS = 10
TIMES = {"seconds", "command"}


def without_times(value: object) -> object:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def command(data: Path, out: Path, *more: str) -> list[str]:
    words = ["--model", "lenet5", "--weights", "none", "--image-size", "32", "--threads", "1"]
    words += ["--time", "20s", "--augment", "radiograph", *more]
    return [sys.executable, "-m", "layerwise", "fit", str(data), "--out", str(out), *words]


@pytest.mark.slow
def test_killed_ten_times_it_ends_with_the_same_results_and_bundle(data_file, tmp_path):
    data = data_file("multiclass")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    first = {**os.environ, "LAYERWISE_CACHE": str(tmp_path / "cache1")}
    fresh = {**os.environ, "LAYERWISE_CACHE": str(tmp_path / "cache2")}
    generator = np.random.default_rng(0)

    kills = 0
    while True:
        with (tmp_path / "said.txt").open("wb") as said:
            process = subprocess.Popen(command(data, killed), env=first, stdout=said, stderr=said)
            if kills < KILLS:
                # A start takes seconds of imports, so a kill is timed from the first words.
                while process.poll() is None and not os.path.getsize(said.name):
                    time.sleep(0.02)
                time.sleep(generator.uniform(0, 2.5))
                process.kill()  # SIGKILL; nothing if it has ended
            code = process.wait(timeout=300)
        if code == 0:
            break
        assert code == -signal.SIGKILL, (tmp_path / "said.txt").read_text()
        kills += 1
    assert kills >= 5

    plan = ["--plan", str(killed / "plan.json")]
    subprocess.run(
        command(data, whole, *plan), env=fresh, check=True, capture_output=True, timeout=300
    )
    results = [json.loads((out / "results.json").read_text()) for out in (killed, whole)]
    assert without_times(results[0]) == without_times(results[1])
    assert results[0]["runs"] and results[0]["test"]["auroc"]["value"] is not None
    for name in ("bundle/model.onnx", "predictions.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    plans = [json.loads((out / "plan.json").read_text()) for out in (killed, whole)]
    assert plans[0] == plans[1]
    chosen = results[0]["chosen"]
    for run in (killed / "runs").iterdir():
        if (run / "weights.safetensors").exists():
            other = whole / "runs" / run.name / "weights.safetensors"
            assert (run / "weights.safetensors").read_bytes() == other.read_bytes(), run.name
    assert (killed / "runs" / chosen / "test.npz").exists()

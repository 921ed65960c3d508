"""A study under SIGKILL: the results of one that was never killed."""

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


def without_times(value: object) -> object:
    if isinstance(value, dict):
        return {
            key: without_times(inner)
            for key, inner in value.items()
            if not key.endswith("seconds") and key != "command"
        }
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def command(out: Path) -> list[str]:
    words = ["--model", "lenet5", "--image-size", "32", "--threads", "2", "--workers", "2"]
    words += ["--epochs", "3", "--splits", "1", "--cuts", "conv1", "--cuts", "conv2"]
    words += ["--augment", "flip", "--out", str(out)]
    return [sys.executable, "-m", "layerwise", "study", "transferability", "digits", *words]


@pytest.mark.slow
def test_killed_ten_times_it_ends_with_the_same_results(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    first = {**os.environ, "LAYERWISE_CACHE": str(tmp_path / "cache1")}
    fresh = {**os.environ, "LAYERWISE_CACHE": str(tmp_path / "cache2")}
    started = time.monotonic()
    subprocess.run(command(whole), env=fresh, check=True, capture_output=True, timeout=1200)
    seconds = time.monotonic() - started
    generator = np.random.default_rng(0)

    kills = 0
    while True:
        with (tmp_path / "said.txt").open("wb") as said:
            process = subprocess.Popen(command(killed), env=first, stdout=said, stderr=said)
            if kills < KILLS:
                # A start takes seconds of imports, so a kill is timed from the first words.
                while process.poll() is None and not os.path.getsize(said.name):
                    time.sleep(0.02)
                time.sleep(generator.uniform(0, seconds / 3))
                process.kill()  # SIGKILL of the study; its workers end with it
            code = process.wait(timeout=1200)
        if code == 0:
            break
        assert code == -signal.SIGKILL, (tmp_path / "said.txt").read_text()
        kills += 1
    assert kills >= 5

    results = [json.loads((out / "results.json").read_text()) for out in (killed, whole)]
    assert without_times(results[0]) == without_times(results[1])
    assert len(results[0]["runs"]) > 20
    for name in ("table1.csv", "figure2.svg", "figure3.svg", "figure2.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    ids = [sorted(run.name for run in (out / "runs").iterdir()) for out in (killed, whole)]
    assert ids[0] == ids[1]
    for name in ids[0]:
        weights = [out / "runs" / name / "weights.safetensors" for out in (killed, whole)]
        assert weights[0].read_bytes() == weights[1].read_bytes(), name

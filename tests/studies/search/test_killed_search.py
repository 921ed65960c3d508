"""A search under SIGKILL: the trials, results and weights of one that was never killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

KILLS = 8


def without_times(value: object) -> object:
    if isinstance(value, dict):
        return {
            key: without_times(inner)
            for key, inner in value.items()
            if not key.endswith("seconds") and key != "command"
        }
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def command(out: Path) -> list[str]:
    words = ["--image-size", "16", "--threads", "1", "--trials", "14", "--epochs", "4"]
    words += ["--time", "10h", "--augment", "flip", "--out", str(out)]
    return [sys.executable, "-m", "layerwise", "study", "search", "digits", *words]


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_trials(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    first = {**os.environ, "LAYERWISE_CACHE": str(tmp_path / "cache1")}
    fresh = {**os.environ, "LAYERWISE_CACHE": str(tmp_path / "cache2")}
    started = time.monotonic()
    subprocess.run(command(whole), env=fresh, check=True, capture_output=True, timeout=1200)
    seconds = time.monotonic() - started
    generator = np.random.default_rng(0)

    kills = in_a_trial = 0
    while True:
        with (tmp_path / "said.txt").open("wb") as said:
            process = subprocess.Popen(command(killed), env=first, stdout=said, stderr=said)
            if kills < KILLS:
                # Its database is there from the first trial on; before that the start is killed.
                wait = killed / "search.db" if kills else Path(said.name)
                while process.poll() is None and not (wait.exists() and wait.stat().st_size):
                    time.sleep(0.02)
                time.sleep(generator.uniform(0, seconds / 4))
                process.kill()
            code = process.wait(timeout=1200)
        if code == 0:
            break
        assert code == -signal.SIGKILL, (tmp_path / "said.txt").read_text()
        kills += 1
        runs = killed / "runs"
        begun = list(runs.iterdir()) if runs.exists() else []
        in_a_trial += any(not (run / "result.json").exists() for run in begun)
    assert kills >= 4 and in_a_trial >= 1

    results = [json.loads((out / "results.json").read_text()) for out in (killed, whole)]
    assert without_times(results[0]) == without_times(results[1])
    assert len(results[0]["runs"]) == 14
    assert {run["state"] for run in results[0]["runs"]} >= {"done", "pruned"}
    for name in ("importance", "parallel", "history"):
        for kind in ("svg", "csv"):
            one, other = ((out / f"{name}.{kind}").read_bytes() for out in (killed, whole))
            assert one == other, name
    ids = [sorted(run.name for run in (out / "runs").iterdir()) for out in (killed, whole)]
    assert ids[0] == ids[1]
    for name in ids[0]:
        weights = [out / "runs" / name / "weights.safetensors" for out in (killed, whole)]
        assert weights[0].exists() == weights[1].exists(), name
        if weights[0].exists():
            assert weights[0].read_bytes() == weights[1].read_bytes(), name

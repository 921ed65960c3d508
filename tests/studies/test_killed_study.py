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
from safetensors.torch import save_file

from layerwise.models.registry import create

KILLS = 10


def without_times(value: object) -> object:
    if isinstance(value, dict):
        return {
            key: without_times(inner)
            for key, inner in value.items()
            if not key.endswith("seconds") and key != "command"
        }
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


STUDIES = {  # flags, the fewest runs, what must be the same to the byte
    "transferability": (
        ["--splits", "1", "--cuts", "conv1", "--cuts", "conv2", "--epochs", "3"],
        20,
        ["table1.csv", "figure2.svg", "figure3.svg", "figure2.csv"],
    ),
    "gain": (
        ["--weights", "{weights}", "--fractions", "0.1,1", "--repeats", "2", "--epochs", "6"],
        8,
        ["figure4.svg", "figure4.csv", "scores.csv", "ratios.csv"],
    ),
    # Cuts, epochs and repeats are given and the time is ample, so that the clock decides nothing.
    "depth": (
        ["--weights", "{weights}", "--cuts", "conv1", "--cuts", "conv2", "--epochs", "4"]
        + ["--repeats", "2", "--time", "60m"],
        8,
        ["depth.svg", "depth.csv", "similarity.svg", "similarity.csv"],
    ),
}


def command(study: str, weights: Path, out: Path) -> list[str]:
    words = [word.format(weights=weights) for word in STUDIES[study][0]]
    words += ["--model", "lenet5", "--image-size", "32", "--threads", "2", "--workers", "2"]
    words += ["--augment", "flip", "--out", str(out)]
    return [sys.executable, "-m", "layerwise", "study", study, "digits", *words]


@pytest.mark.slow
@pytest.mark.parametrize("study", list(STUDIES))
def test_killed_ten_times_it_ends_with_the_same_results(study, tmp_path):
    weights = tmp_path / "lenet5.safetensors"
    save_file(create("lenet5", outputs=10, seed=7, image_size=32).module.state_dict(), weights)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    first = {**os.environ, "LAYERWISE_CACHE": str(tmp_path / "cache1")}
    fresh = {**os.environ, "LAYERWISE_CACHE": str(tmp_path / "cache2")}
    started = time.monotonic()
    words = command(study, weights, whole)
    subprocess.run(words, env=fresh, check=True, capture_output=True, timeout=1200)
    seconds = time.monotonic() - started
    words = command(study, weights, killed)
    generator = np.random.default_rng(0)

    kills = 0
    while True:
        with (tmp_path / "said.txt").open("wb") as said:
            process = subprocess.Popen(words, env=first, stdout=said, stderr=said)
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
    _, fewest, same = STUDIES[study]
    assert len(results[0]["runs"]) >= fewest
    for name in same:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    ids = [sorted(run.name for run in (out / "runs").iterdir()) for out in (killed, whole)]
    assert ids[0] == ids[1]
    for name in ids[0]:
        learnt = [out / "runs" / name / "weights.safetensors" for out in (killed, whole)]
        assert [file.exists() for file in learnt] in ([True] * 2, [False] * 2), name
        assert not learnt[0].exists() or learnt[0].read_bytes() == learnt[1].read_bytes(), name

"""What Yosinski et al. 2014 found in ImageNet (§4), looked for in a small study of CIFAR-10."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CUTS = ("conv1", "conv4", "fc6")  # low, in the middle, and high
TREATMENTS = ("BnB+", "AnB", "random filters")
GROUPS = """
[groups]
man-made = ["airplane", "automobile", "ship", "truck"]
natural = ["bird", "cat", "deer", "dog", "frog", "horse"]
"""


@pytest.fixture(scope="module")
def lost(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """By kind of pair, treatment and cut: the difference to the base with its interval."""
    folder = tmp_path_factory.mktemp("shape")
    (folder / "groups.toml").write_text(GROUPS)
    words = ["study", "transferability", str(shared_data / "cifar10" / "cifar10_subset.npz")]
    words += ["--groups", str(folder / "groups.toml"), "--splits", "2", "--both-directions"]
    words += ["--augment", "flip", "--epochs", "8", "--out", str(folder / "out")]
    words += [w for name in CUTS for w in ("--cuts", name)]
    words += [w for name in TREATMENTS for w in ("--treatments", name)]
    environment = {**os.environ, "LAYERWISE_CACHE": str(folder / "cache")}
    subprocess.run(
        [sys.executable, "-m", "layerwise", *words], env=environment, check=True, timeout=3000
    )
    curves = json.loads((folder / "out" / "results.json").read_text())["curves"]
    return {
        (row["kind"], row["treatment"], row["cut"]): row["difference_to_base"]
        for row in curves["means"]
    }


@pytest.mark.slow
def test_low_layers_are_general(lost: dict) -> None:
    assert lost["random", "AnB", "conv1"]["high"] > 0  # within noise of the base, or above it


@pytest.mark.slow
def test_high_layers_are_specific(lost: dict) -> None:
    lows, middle, top = (lost["random", "AnB", cut] for cut in CUTS)
    assert top["high"] < 0
    assert top["value"] < middle["value"] < lows["value"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random", "groups"])
def test_training_on_makes_a_copied_network_whole_again(lost: dict, kind: str) -> None:
    for cut in CUTS:
        assert lost[kind, "BnB+", cut]["high"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random", "groups"])
def test_random_filters_fall_fastest(lost: dict, kind: str) -> None:
    for cut in CUTS:
        assert lost[kind, "random filters", cut]["value"] < lost[kind, "AnB", cut]["value"]
        assert lost[kind, "random filters", cut]["high"] < 0


@pytest.mark.slow
def test_unlike_tasks_lose_more_at_the_top(lost: dict) -> None:
    """Pairs differ by more than kinds do, so two random ones are asked, in both directions."""
    assert lost["groups", "AnB", "fc6"]["value"] < lost["random", "AnB", "fc6"]["value"]

"""`layerwise study depth` from end to end on generated pictures, and what it refuses."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from layerwise.cli.main import main
from layerwise.models.registry import create
from layerwise.serving.bundle import Bundle

KINDS = {"full", "truncated", "frozen", "hybrid", "probe"}


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, 32, 32) noise with a bright square, upper left or lower right."""
    generator = np.random.default_rng(seed)
    out = generator.integers(0, 120, (count, 32, 32), dtype=np.uint8)
    labels = np.arange(count) % 2
    out[labels == 0, 3:13, 3:13] += 130
    out[labels == 1, 19:29, 19:29] += 130
    return out, labels[:, None]


def trained_weights() -> dict[str, torch.Tensor]:
    """A LeNet-5 that knows where the square is: deep layers do, means of shallow ones can not."""
    network = create("lenet5", outputs=1, seed=5, image_size=32)
    module, images = network.module, pictures(64, 9)
    x = torch.from_numpy(images[0] / 255.0).float()[:, None]
    x = x.repeat(1, network.contract.channels, 1, 1)
    y = torch.from_numpy(images[1]).float()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        optimizer = torch.optim.Adam(module.parameters(), 1e-3)
        for _ in range(40):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(module(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return module.state_dict()


class Depth:
    """A folder with pictures and weights, and the command on them."""

    def __init__(self, root) -> None:
        self.root = root
        arrays = {}
        for seed, (part, count) in enumerate({"train": 48, "val": 40, "test": 40}.items()):
            arrays[f"{part}_images"], arrays[f"{part}_labels"] = pictures(count, seed)
        np.savez(root / "squares.npz", **arrays)
        save_file(trained_weights(), root / "lenet5.safetensors")

    def words(self, out: str, *more: str, weights: str = "lenet5.safetensors") -> list[str]:
        place = str(self.root / weights) if "." in weights else weights
        return [
            *("study", "depth", str(self.root / "squares.npz"), "--out", str(self.root / out)),
            *("--model", "lenet5", "--weights", place, "--image-size", "32", "--threads", "1"),
            *("--cache", str(self.root / "cache"), "--quiet", *more),
        ]

    def results(self, out: str) -> dict:
        return json.loads((self.root / out / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Depth(tmp_path_factory.mktemp("depth"))


@pytest.fixture(scope="module")
def done(study):
    """A finished study, with time for everything."""
    assert main(study.words("out", "--epochs", "1", "--repeats", "2", "--time", "9h")) == 0
    return study


def timeless(value):
    """Without what is measured in seconds."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if not k.endswith("seconds")}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def test_everything_is_there(done):
    out, results = done.root / "out", done.results("out")
    left = {path.name for path in out.iterdir()}
    files = {
        f"{name}.{kind}" for name in ("depth", "cost", "similarity") for kind in ("svg", "csv")
    }
    assert left >= files | {"plan.json", "report.html", "networks.csv", "latency.json", "runs"}
    curves = results["curves"]
    rows = {row["name"]: row for row in curves["candidates"]}
    assert {row["kind"] for row in rows.values()} == KINDS and len(rows) == len(
        curves["candidates"]
    )
    # The ladder: convolutions and the first linear layer; fc2 is where the full network ends.
    ladder = ["conv1", "conv2", "conv3", "fc1"]
    assert [row["cut"] for row in curves["probes"]] == [*ladder, "fc2"]
    truncated = [row["cut"] for row in rows.values() if row["kind"] == "truncated"]
    assert truncated == [cut for cut in ladder if cut in truncated] and len(truncated) >= 3
    assert rows["the full network"]["repeats"] == 2
    assert rows[results["recommended"]["name"]]["good_enough"]
    for row in rows.values():
        if row["latency"]:
            assert row["latency"]["batch1_seconds"]["value"] > 0
    assert [r["treatment"] for r in results["runs"]].count("truncated") >= 3
    assert all(r["state"] == "done" for r in results["runs"])


def test_counts_agree_with_the_network(done):
    """Parameters and multiply–adds of LeNet-5 for 32 pixels, by hand."""
    rows = {row["name"]: row for row in done.results("out")["curves"]["candidates"]}
    channels = 3 if rows["probe at conv1"]["parameters"] > 200 else 1
    conv1, conv2 = 6 * (25 * channels + 1), 16 * (25 * 6 + 1)
    assert rows["probe at conv1"]["parameters"] == conv1 + 6 + 1
    assert rows["probe at conv2"]["parameters"] == conv1 + conv2 + 16 + 1
    assert rows["probe at conv1"]["macs"] == 28 * 28 * 6 * 25 * channels
    assert rows["probe at conv2"]["macs"] - rows["probe at conv1"]["macs"] == 10 * 10 * 16 * 25 * 6
    assert rows["probe at conv2"]["macs"] < rows["the full network"]["macs"]


def test_the_recommended_one_is_tested_once_and_the_full_one_with_it(done):
    results = done.results("out")
    names = [row["name"] for row in results["test"]["networks"]]
    assert names == list(dict.fromkeys([results["recommended"]["name"], "the full network"]))
    tested = {run["id"] for run in results["runs"] if run["test"]}
    runs = done.root / "out" / "runs"
    expected = {r["id"] for r in results["runs"] if (runs / r["id"] / "test.npz").is_file()}
    assert tested == expected and results["recommended"]["id"] in tested


def test_a_repeated_command_trains_nothing_and_says_the_same(done, monkeypatch, draw_no_more):
    draw_no_more()
    before = done.results("out")
    made = {p: p.stat().st_mtime_ns for p in (done.root / "out" / "runs").rglob("*.json")}
    monkeypatch.setattr("layerwise.studies.trained.fit", None)  # would fail if it were called
    assert main(done.words("out", "--epochs", "1", "--repeats", "2", "--time", "9h")) == 0
    assert {p: p.stat().st_mtime_ns for p in (done.root / "out" / "runs").rglob("*.json")} == made
    assert timeless(done.results("out")) == timeless(before)


@pytest.mark.slow
def test_a_study_that_lost_half_its_work_says_the_same(done):
    """Its runs are trained again as the plan says, stage by stage, to the same bits."""
    before = done.results("out")
    copied = done.root / "killed"
    shutil.copytree(done.root / "out", copied)
    (copied / "results.json").unlink()
    plan = json.loads((copied / "plan.json").read_text(encoding="utf-8"))
    plan["stages"] = plan["stages"][:1]
    (copied / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    for folder in sorted((copied / "runs").iterdir())[::2]:
        shutil.rmtree(folder)
    shutil.rmtree(done.root / "cache" / "runs")
    assert main(done.words("killed", "--epochs", "1", "--repeats", "2", "--time", "9h")) == 0
    after, same = timeless(done.results("killed")), timeless(before)
    assert {**after, "command": ""} == {**same, "command": ""}


def test_the_recommended_run_can_be_exported(done):
    run = done.root / "out" / done.results("out")["recommended"]["run"]
    bundle = done.root / "exported"
    words = ["export", str(run), "--out", str(bundle), "--cache", str(done.root / "cache")]
    assert main([*words, "--quiet"]) == 0
    images, labels = pictures(16, 7)
    said = Bundle.load(bundle / "bundle").predict(images)
    assert np.isfinite(said).all() and len(said) == len(labels)


BAD = {
    "no weights": (["--time", "9h"], "none", "--weights none leaves nothing to transfer"),
    "an unknown cut": (["--cuts", "conv9"], "", "--cuts conv9"),
    "the whole network": (["--cuts", "all"], "", "--cuts all does not lie below"),
    "a cut above keep": (["--keep", "conv2", "--cuts", "conv3"], "", "full network's end (conv2)"),
    "an unknown metric": (["--metric", "f1"], "", "auprc or auroc"),
    "too little time": (["--time", "1s", "--epochs", "50"], "", "too short: 50 epochs"),
    "nothing to cut": (["--keep", "conv1"], "", "can not be cut below conv1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(study, capsys, case):
    more, weights, said = BAD[case]
    words = study.words("bad", *more, weights=weights or "lenet5.safetensors")
    assert main(words) == 2
    message = capsys.readouterr().err
    assert said in message and "Traceback" not in message
    assert not (study.root / "bad" / "results.json").exists()


def test_another_command_needs_another_folder(done, capsys):
    assert main(done.words("out", "--epochs", "2", "--repeats", "2", "--time", "9h")) == 2
    assert "epochs" in capsys.readouterr().err
    fit = ["fit", str(done.root / "squares.npz"), "--out", str(done.root / "out"), "--quiet"]
    assert main([*fit, "--model", "lenet5", "--weights", "none"]) == 2
    assert "another folder" in capsys.readouterr().err

"""`layerwise study ensemble`: runs of a study, of several networks and seeds, put together."""

import json
import re

import numpy as np
import pytest
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score

from layerwise.cli.main import main
from layerwise.evaluation.predictions import Predictions
from layerwise.models.registry import create
from layerwise.serving.bundle import Bundle

COUNTS = {"train": 48, "val": 24, "test": 40}


class Study:
    """A study of two networks, one of them from weights of a file, with two seeds each."""

    def __init__(self, root):
        self.out, self.cache = root / "floor", root / "cache"
        generator = np.random.default_rng(0)
        arrays = {}
        for part, count in COUNTS.items():
            has = (np.arange(count) % 2).astype(np.int64)
            images = generator.normal(90, 45, (count, 32, 32))
            images[:, 4:16, 6:24] += 30 * has[:, None, None]
            arrays[f"{part}_images"] = np.clip(images, 0, 255).astype(np.uint8)
            arrays[f"{part}_labels"] = has[:, None]
        np.savez(root / "bars.npz", **arrays)
        self.pictures = arrays["test_images"]
        weights = root / "resnet.safetensors"
        state = create("timm:test_resnet", outputs=3, image_size=32, seed=5).module.state_dict()
        save_file(state, weights)
        command = "study baselines --models lenet5 --epochs 2 --repeats 2 --image-size 32".split()
        command += ["--transfer", "timm:test_resnet", "--weights", str(weights)]
        command += ["--threads", "1", "--workers", "1", "--quiet", "--cache", str(self.cache)]
        assert main([*command, str(root / "bars.npz"), "--out", str(self.out)]) == 0

    def runs(self):
        return sorted((self.out / "runs").iterdir())

    def words(self, *more):
        return ["study", "ensemble", *map(str, more), "--cache", str(self.cache), "--quiet"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study(tmp_path_factory.mktemp("ensemble"))


def test_a_study_s_runs_become_one_bundle(study, tmp_path, capsys):
    out = tmp_path / "out"
    command = study.words(study.out, "--out", out, "--combine", "mean", "--export", "--json")
    assert main(command) == 0
    results = json.loads(capsys.readouterr().out)
    assert results == json.loads((out / "results.json").read_text())
    runs = study.runs()
    assert sorted(run["id"] for run in results["runs"]) == [run.name for run in runs]
    assert {run["model"] for run in results["runs"]} == {"lenet5", "timm:test_resnet"}
    assert {run["seed"] for run in results["runs"]} == {0, 1}
    assert results["tested_now"] == []
    curves = results["curves"]
    (way,) = curves["ways"]
    assert way["weights"] == pytest.approx({run.name: 1 / len(runs) for run in runs})
    test = [Predictions.load(run / "test.npz") for run in runs]
    together = np.mean([said.scores for said in test], axis=0)
    value = roc_auc_score(test[0].targets, together[:, 0])
    assert way["test"]["auroc"]["value"] == pytest.approx(value)
    said = Bundle.load(out / "bundle", threads=1).predict(list(study.pictures[..., None]))
    np.testing.assert_allclose(said, together, atol=1e-4)
    for name in ("gains", "contributions"):
        assert (out / f"{name}.svg").is_file() and (out / f"{name}.csv").is_file()
    assert "Ensembles of" in (out / "report.html").read_text()


def test_all_ways_and_the_command_for_a_bundle(study, tmp_path, capsys):
    assert main(study.words(*study.runs()[:3], "--out", tmp_path / "out")) == 0
    said = capsys.readouterr().out
    for words in ("best alone: ", "mean", "weighted", "greedy", "layerwise export ", "report: "):
        assert words in said
    assert not (tmp_path / "out" / "bundle").exists()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [way["way"] for way in results["curves"]["ways"]] == ["mean", "weighted", "greedy"]


def test_one_run_of_a_study_is_exported(study, tmp_path, capsys):
    """Of either network: the plan describes the one that starts from weights."""
    for model in ("lenet5", "timm:test_resnet"):
        run = next(
            r for r in study.runs() if json.loads((r / "run.json").read_text())["model"] == model
        )
        out = tmp_path / model.replace(":", "-")
        command = ["export", str(run), "--out", str(out), "--cache", str(study.cache), "--quiet"]
        assert main(command) == 0, capsys.readouterr().err
        said = Bundle.load(out / "bundle", threads=1).predict(list(study.pictures[..., None]))
        np.testing.assert_allclose(said, Predictions.load(run / "test.npz").scores, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s, out: [s.out, "--out", s.out], "holds a fit or another study"),
        (lambda s, out: [s.runs()[0], "--out", out], "one run.*two or more"),
        (lambda s, out: [out / "gone", "--out", out], "gone: no such folder"),
        (lambda s, out: [s.out, "--out", out, "--combine", "vote"], "--combine 'vote'"),
    ],
)
def test_bad_input_is_named_with_the_next_step(study, tmp_path, capsys, make, message):
    capsys.readouterr()
    assert main(study.words(*make(study, tmp_path / "out"))) == 2
    error = capsys.readouterr().err
    assert re.search(message, error, re.S), error
    assert "Traceback" not in error

"""`layerwise advise` as a user meets it: the answer, the files, the same again, and bad input."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from layerwise.cli.main import main
from layerwise.models.registry import create

MODEL = "timm:test_resnet"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights whose batch norms hold statistics of noise."""
    path = tmp_path_factory.mktemp("weights") / "seen.safetensors"
    module = create(MODEL, outputs=3, seed=9, image_size=32).module.train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(30):
            module(torch.randn((16, 3, 32, 32), generator=generator))
    save_file({n: t.contiguous() for n, t in module.state_dict().items()}, path)
    return path


@pytest.fixture
def faint(tmp_path):
    """A MedMNIST archive of two classes that even a good network does not tell apart for sure."""
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in {"train": 60, "val": 40, "test": 20}.items():
        labels = (np.arange(count) % 2)[:, None]
        images = generator.normal(100, 50, (count, 32, 32))
        images[:, 8:20, 8:20] += 16 * labels[:, :, None]
        arrays[f"{part}_images"] = np.clip(images, 0, 255).astype(np.uint8)
        arrays[f"{part}_labels"] = labels
    np.savez(tmp_path / "faint.npz", **arrays)
    return tmp_path / "faint.npz"


@pytest.fixture
def words(weights):
    """(DATA, out, more) → the words of a small advice."""

    def make(data, out, *more):
        small = f"--model {MODEL} --image-size 32 --threads 1 --time 1h --quiet"
        given = () if "--weights" in more else ("--weights", str(weights))
        return ["advise", str(data), "--out", str(out), *small.split(), *given, *map(str, more)]

    return make


def without_seconds(value):
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if not k.endswith("seconds")}
    return [without_seconds(each) for each in value] if isinstance(value, list) else value


def test_an_advice_with_its_files_and_the_same_again(
    faint, words, tmp_path, capsys, monkeypatch, draw_no_more
):
    monkeypatch.setattr("layerwise.studies.advice.quick.most_epochs", lambda _images: 3)
    out = tmp_path / "out"
    assert main(words(faint, out, "--json")) == 0
    printed = json.loads(capsys.readouterr().out)
    results = json.loads((out / "advice.json").read_text())
    assert printed == results
    like = results["similarity"]
    errs = [1 - like[side]["auroc"]["value"] for side in ("probe", "random_filters")]
    left = 0.0 if errs[0] == 0 else min(errs[0] / errs[1], 100) if errs[1] else 100
    assert like["error_left"]["value"] == pytest.approx(left)
    kl = [layer["kl"] for layer in like["batch_norms"]["layers"]]
    assert like["shift"]["value"] == pytest.approx(np.sqrt(2 * np.median(kl)))
    far = max(like["error_left"]["value"] / 0.5, like["shift"]["value"] / 0.5)
    assert like["far"]["value"] == pytest.approx(far) and like["similar"] == (far <= 1)
    assert results["quadrant"] == (4 if far <= 1 else 3)  # few images
    assert results["strategy"] == (3 if far <= 1 else 2)
    (advised,) = [one for one in results["strategies"] if one["advised"]]
    assert advised["strategy"] == results["strategy"]
    assert [one["strategy"] for one in results["test"]["neighbours"]] == sorted(
        {1, 2, 3} - {results["strategy"]}
    )
    runs = {r["treatment"]: r for r in results["runs"] if r["task"] == "quick test"}
    own = runs[advised["name"]]["validation"]["auroc"]["value"]
    names = {one["strategy"]: one["name"] for one in results["strategies"]}
    for one in results["test"]["neighbours"]:
        other = runs[names[one["strategy"]]]["validation"]["auroc"]["value"]
        assert one["difference"]["value"] == pytest.approx(own - other)
    verdict = {"held": "bears the advice out", "did not hold": "did not hold"}
    said = verdict.get(results["test"]["verdict"], "can not be told")
    page = (out / "report.html").read_text()
    assert said in " ".join(results["answer"]) and said in page
    assert results["caveat"] in results["answer"] and "2308.07444" in page
    for name in ("matrix", "profile"):
        assert (out / f"{name}.svg").read_text().startswith("<?xml")
    rows = list(csv.DictReader((out / "profile.csv").read_text().splitlines()))
    assert [row["cut"] for row in rows] == [row["cut"] for row in results["profile"]]
    assert (
        json.loads((out / "advised.json").read_text())["training"][0]["transfer"]["freeze"]
        == (advised["transfer"]["freeze"])
    )

    capsys.readouterr()
    draw_no_more()
    assert main(words(faint, out)) == 0
    text = capsys.readouterr().out
    assert results["answer"][0] in text and results["caveat"] in text and "report: " in text
    again = json.loads((out / "advice.json").read_text())
    assert without_seconds(again) == without_seconds(results)
    assert main(words(faint, out, "--seed", "1")) == 2
    assert re.search("seed = 0, and this one has 1.*--out", capsys.readouterr().err, re.S)


def test_bad_input_is_named_with_the_next_step(classes, words, tmp_path, capsys):
    def refused(*more, data=classes):
        assert main(words(data, tmp_path / "no", *more)) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error

    assert "--weights none: an advice is about" in refused("--weights", "none")
    assert "--time 'soon' is not a time" in refused("--time", "soon")
    assert "no such file" in refused("--weights", "gone.pth")
    two = tmp_path / "two"
    for name in ("well", "ill"):
        for path in sorted((classes / name).iterdir())[: 2 if name == "ill" else None]:
            (two / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, two / name)
    error = refused(data=two)
    assert re.search("class 'ill' has 2 images.*add images", error, re.S), error
    (tmp_path / "no").mkdir(exist_ok=True)
    (tmp_path / "no" / "plan.json").write_text('{"study": "gain"}')
    assert "is that of another command; name another folder with --out" in refused()

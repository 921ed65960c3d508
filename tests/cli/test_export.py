"""`layerwise export`: bundles of finished runs answer as the runs did, or are refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layerwise.cli.export import WAYS
from layerwise.cli.main import main
from layerwise.data.load import DataOptions
from layerwise.evaluation.metrics import measure
from layerwise.evaluation.operating import choose_threshold
from layerwise.evaluation.predictions import Predictions
from layerwise.serving.bundle import Bundle
from layerwise.serving.explanation.write import TOGETHER
from layerwise.serving.statistics import Statistics
from layerwise.studies import ensemble
from layerwise.studies.automatic import run_automatic
from layerwise.studies.prepare import Request
from layerwise.studies.study import Run


class Fits:
    """Two finished fits of the same pictures, with different networks."""

    def __init__(self, root: Path) -> None:
        self.root, self.pictures, self.cache = root, root / "pictures", root / "cache"
        for number in range(72):
            label = ("ill", "well", "other")[number % 3]
            generator = np.random.default_rng(number)
            grey = generator.normal(90, 25, (32, 32))
            grey[8:20, 8:20] += 30 * (label == "ill") * generator.random()
            path = self.pictures / label / f"p{number // 6}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(path)
        self.a, self.b = root / "a", root / "b"
        self.fit(self.a, "lenet5", 5.0)
        self.fit(self.b, "timm:test_resnet", 1.0)

    def fit(self, out: Path, model: str, seconds: float) -> None:
        """As `layerwise fit` does, up to the report."""
        options = DataOptions(positive="ill", only=("ill", "well"), patient_from=r"(p\d+)_")
        request = Request(
            str(self.pictures),
            out,
            self.cache,
            options,
            model=model,
            weights="none",
            image_size=32,
            seconds=seconds,
            threads=1,
        )
        run_automatic(request, lambda _: None, lambda _: lambda *_: None)

    def runs(self, out: Path, kinds: tuple[str, ...] = ("probe", "trained")) -> list[Path]:
        """Folders of finished runs with a network, by id."""
        found = sorted((out / "runs").iterdir())
        return [f for f in found if self.read(f / "run.json")["kind"] in kinds]

    def read(self, path: Path) -> dict:
        return json.loads(path.read_text(encoding="utf-8"))

    def export(self, capsys: pytest.CaptureFixture[str], out: Path, *words: object) -> dict:
        """The summary of an export that must succeed."""
        command = ["export", *map(str, words), "--out", str(out), "--cache", str(self.cache)]
        capsys.readouterr()
        code = main([*command, "--json", "--quiet"])
        said = capsys.readouterr()
        assert (code, said.err) == (0, ""), said.err
        return json.loads(said.out)

    def said(self, bundle: Path, like: Predictions) -> np.ndarray:
        """What a bundle says of the files of some predictions."""
        return Bundle.load(bundle, threads=1).predict([self.pictures / name for name in like.ids])


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("layerwise.studies.planner.most_epochs", lambda _images: 6)
        return Fits(tmp_path_factory.mktemp("fits"))


def test_one_run(fits, tmp_path, capsys):
    # One that the fit has not chosen, and so not tested.
    run = next(f for f in fits.runs(fits.a) if not (f / "test.npz").is_file())
    found = fits.export(capsys, tmp_path, run)
    names = ["README.md", "bundle.json", "model.onnx"]
    assert names == sorted(
        p.name for p in (tmp_path / "bundle").iterdir() if p.name != "explain.onnx"
    )
    assert found["tested_now"] == [run.name] and found["difference"] <= 1e-4
    (member,) = found["members"]
    assert member["id"] == run.name and member["weight"] == 1 and found["combine"] is None

    validation = Predictions.load(run / "validation.npz")
    test = Predictions.load(run / "test.npz")
    np.testing.assert_allclose(
        fits.said(tmp_path / "bundle", validation), validation.scores, atol=1e-4
    )
    np.testing.assert_allclose(fits.said(tmp_path / "bundle", test), test.scores, atol=1e-4)
    assert not set(validation.groups) & set(test.groups)
    wanted = choose_threshold(
        "binary", validation.targets, validation.scores, validation.groups, seed=0
    )
    card = fits.read(tmp_path / "bundle" / "bundle.json")
    assert card["threshold"] == found["threshold"] == wanted
    assert card["labels"] == ["well", "ill"]

    # What drift compares with: every training picture, every answer for validation.
    counted = Statistics.from_json(card["statistics"], "bundle.json")
    assert counted.answers == len(validation.ids)
    assert counted.decided["ill"][1] == (validation.scores[:, 0] >= wanted).sum()
    used = [path for label in card["labels"] for path in (fits.pictures / label).iterdir()]
    assert counted.images == len(used) - len(validation.ids) - len(test.ids)

    again = fits.export(capsys, tmp_path, run)
    assert again["tested_now"] == [] and again["test"] == found["test"]
    assert fits.read(tmp_path / "bundle" / "bundle.json") == card


@pytest.mark.parametrize("way", WAYS)
def test_several_runs_of_one_fit(fits, tmp_path, capsys, way):
    runs = fits.runs(fits.a)
    assert len(runs) >= 4
    found = fits.export(capsys, tmp_path, *runs, "--combine", way)
    assert found["combine"] == way and found["difference"] <= 1e-4
    weights = {m["id"]: m["weight"] for m in found["members"]}
    assert sum(weights.values()) == pytest.approx(1)
    if way == "mean":
        assert weights == pytest.approx({run.name: 1 / len(runs) for run in runs})
    for part in ("validation", "test"):
        each = {r.name: Predictions.load(r / f"{part}.npz") for r in runs if r.name in weights}
        one = next(iter(each.values()))
        wanted = sum(w * each[name].scores.astype(float) for name, w in weights.items())
        np.testing.assert_allclose(fits.said(tmp_path / "bundle", one), wanted, atol=1e-4)
        value = measure("binary", one.targets, wanted)["auroc"]
        assert found[part]["auroc"]["value"] == pytest.approx(value, nan_ok=True)
    alone = {
        run.name: measure("binary", said.targets, said.scores)["auroc"]
        for run in runs
        for said in [Predictions.load(run / "validation.npz")]
    }
    assert found["best_alone"]["auroc"] == pytest.approx(max(alone.values()))
    if way == "greedy":
        assert found["validation"]["auroc"]["value"] >= max(alone.values()) - 1e-9
    card = fits.read(tmp_path / "bundle" / "bundle.json")
    if len(weights) > 1:
        members = {m["run"]: m["weight"] for m in card["provenance"]["members"]}
        assert members == weights and card["provenance"]["combine"] == way


def test_runs_of_two_fits_and_a_prediction(fits, tmp_path, capsys):
    runs = [fits.runs(fits.a)[0], fits.runs(fits.b)[0]]
    found = fits.export(capsys, tmp_path, *runs, "--combine", "mean")
    assert [m["model"] for m in found["members"]] == ["lenet5", "timm:test_resnet"]
    test = [Predictions.load(run / "test.npz") for run in runs]
    wanted = (test[0].scores.astype(float) + test[1].scores) / 2
    np.testing.assert_allclose(fits.said(tmp_path / "bundle", test[0]), wanted, atol=1e-4)
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "bundle"), str(fits.pictures), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["predictions"]
    said = {row["id"]: row["probabilities"]["ill"] for row in rows}
    np.testing.assert_allclose([said[name] for name in test[0].ids], wanted[:, 0], atol=1e-4)

    # It shows the mean of both (tests/serving/explanation has the numbers).
    together = Bundle.load(tmp_path / "bundle", threads=1)
    assert together.info.explanation["way"] == TOGETHER
    assert len(together.info.explanation["cut"].split(", ")) == 2
    pixels = np.stack([together.prepare(fits.pictures / name) for name in test[0].ids[:4]])
    assert together.explain(pixels, np.arange(4) % 2)[1].max() == pytest.approx(1)


def test_what_a_person_is_told(fits, tmp_path, capsys):
    runs = fits.runs(fits.a)[:2]
    words = ["export", *map(str, runs), "--combine", "mean", "--out", str(tmp_path)]
    assert main([*words, "--cache", str(fits.cache)]) == 0
    said = capsys.readouterr()
    assert said.out.count("0.500 of frozen to ") + said.out.count("0.500 of random") == 2
    for line in ("the best alone on validation", "by which it was put together", "cross-fitted"):
        assert line in said.out
    assert str(tmp_path / "bundle") in said.out


def test_data_that_have_moved_are_named(fits, tmp_path, capsys):
    copy = shutil.copytree(fits.a, tmp_path / "a")
    plan = fits.read(copy / "plan.json")
    plan["request"]["data"] = "gone"
    (copy / "plan.json").write_text(json.dumps(plan))
    run = fits.runs(copy)[0]
    words = ["export", str(run), "--out", str(tmp_path / "out"), "--cache", str(fits.cache)]
    assert main(words) == 2
    message = capsys.readouterr().err
    assert "plan.json can not be read again" in message and "--data" in message
    found = fits.export(capsys, tmp_path / "out", run, "--data", fits.pictures)
    assert found["members"][0]["id"] == run.name


def refused(fits, tmp_path, capsys, *words: object) -> str:
    """The one message of an export that must end with 2 and leave nothing."""
    out = tmp_path / "out"
    command = ["export", *map(str, words), "--out", str(out), "--cache", str(fits.cache), "--quiet"]
    capsys.readouterr()
    assert main(command) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and said.err.startswith("layerwise: ")
    assert not (out / "bundle").exists()
    return said.err


def test_words_that_can_not_be(fits, tmp_path, capsys):
    assert WAYS == ensemble.WAYS  # the command knows them without importing anything heavy
    one, two, *_ = fits.runs(fits.a)
    floor = fits.runs(fits.a, ("floor",))[0]
    for words, message in [
        ([one, "--combine", "mean"], "--combine mean needs two runs or more"),
        ([one, two], "say how they become one with --combine mean|weighted|greedy"),
        ([one, two, "--combine", "vote"], "'vote' is unknown; it is one of mean, weighted, greedy"),
        ([one, f"{one}/../{one.name}", "--combine", "mean"], f"run {one.name} is named twice"),
        ([fits.pictures], "no run; `layerwise runs OUT` lists"),
        ([tmp_path / "nowhere"], "no such folder; `layerwise runs OUT` lists"),
        ([floor], "is a baseline without a network"),
    ]:
        assert message in refused(fits, tmp_path, capsys, *words)


def test_runs_that_are_not_what_they_were(fits, tmp_path, capsys):
    copy = shutil.copytree(fits.a, tmp_path / "copy")
    one, two, three, *_ = fits.runs(copy)
    (one / "result.json").unlink()
    assert "has not been finished" in refused(fits, tmp_path, capsys, one)
    settings = fits.read(two / "run.json")
    (two / "run.json").write_text(json.dumps(settings | {"seed": 5}))
    assert "renamed or the file changed" in refused(fits, tmp_path, capsys, two)
    (two / "run.json").write_text("[]")
    assert "is not that of a run" in refused(fits, tmp_path, capsys, two)
    plan = fits.read(copy / "plan.json")
    (copy / "plan.json").write_text(json.dumps(plan | {"seed": 3}))
    assert "its seed is 0, in plan.json 3" in refused(fits, tmp_path, capsys, three)
    (copy / "plan.json").unlink()
    assert "plan.json is missing" in refused(fits, tmp_path, capsys, three)


def test_a_network_that_answers_otherwise_is_refused(fits, tmp_path, capsys):
    copy = shutil.copytree(fits.a, tmp_path / "copy")
    run = fits.runs(copy)[0]
    said = Predictions.load(run / "validation.npz")
    Predictions(said.ids, said.targets, 1 - said.scores, said.groups).save(run / "validation.npz")
    assert "answers otherwise than the run did" in refused(fits, tmp_path, capsys, run)


def test_other_data_are_refused(fits, tmp_path, capsys):
    copy = shutil.copytree(fits.a, tmp_path / "copy")
    pictures = shutil.copytree(fits.pictures, tmp_path / "pictures")
    changed = next((pictures / "ill").iterdir())
    Image.new("L", (32, 32), 7).save(changed)
    run = fits.runs(copy)[0]
    message = refused(fits, tmp_path, capsys, run, "--data", pictures)
    assert "the data are not those it was trained on" in message
    settings = fits.read(run / "run.json")
    for key, other, word in [
        ("data", "other", "data or split differ"),
        ("image_size", [64, 64], "size of pictures differ"),
    ]:
        values = {k: v for k, v in settings.items() if k not in ("name", "kind")} | {key: other}
        moved = Run(settings["name"], settings["kind"], values)
        folder = shutil.copytree(run, run.parent / moved.id)
        (folder / "run.json").write_text(json.dumps({**settings, key: other}))
        assert word in refused(fits, tmp_path, capsys, run, folder, "--combine", "mean")

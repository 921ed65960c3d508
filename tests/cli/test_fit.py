"""`layerwise fit` from end to end, as a user meets it, on three small generated tasks."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics as reference
from sklearn.datasets import load_digits

from layerwise.cli.main import main
from layerwise.data.sources.folder import files_below
from layerwise.serving.bundle import Bundle

TASKS = ("binary", "multiclass", "multilabel")
SCORES = "auroc auprc accuracy balanced_accuracy f1 precision recall specificity brier".split()
SMALL = "--model lenet5 --weights none --image-size 32 --threads 1 --quiet".split()


def disc(x: int, y: int, bright: float, seed: int) -> np.ndarray:
    """uint8 (32, 32): noise, and a disc with its centre at (x, y)."""
    rows, columns = np.mgrid[:32, :32]
    inside = (columns - x) ** 2 + (rows - y) ** 2 < 40
    noise = np.random.default_rng(seed).normal(0, 25, (32, 32))
    return np.clip(90 + bright * inside + noise, 0, 255).astype(np.uint8)


def binary(root: Path) -> list[str]:
    """Two class folders of colour pictures, 30 patients with 3 each, and one damaged file."""
    for number in range(90):
        label = "ill" if number % 2 else "well"
        grey = disc(16, 16, 25.0 * (number % 2), number)
        path = root / "pictures" / label / f"p{number // 2 % 15}{label}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.stack([grey, grey // 2, grey], axis=2)).save(path)
    (root / "pictures" / "ill" / "p3ill_broken.png").write_bytes(b"")
    words = [str(root / "pictures"), "--patient-from", r"(p\d+\w+)_", "--skip-unreadable"]
    return [*words, "--positive", "ill"]


def multiclass(root: Path) -> list[str]:
    """Digits 0 to 2 as an archive with all three parts, one picture in two of them."""
    digits = load_digits()
    rows = np.flatnonzero(digits.target < 3)
    pixels = (digits.images[rows] * 15.9).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    labels = digits.target[rows][:, None]
    cuts = {"train": slice(0, 150), "val": slice(150, 220), "test": slice(220, 320)}
    arrays = {f"{part}_images": pixels[cut].copy() for part, cut in cuts.items()}
    arrays |= {f"{part}_labels": labels[cut] for part, cut in cuts.items()}
    same = int(np.flatnonzero(arrays["test_labels"] == arrays["train_labels"][0])[0])
    arrays["test_images"][same] = arrays["train_images"][0]
    np.savez(root / "digits.npz", **arrays)
    return [str(root / "digits.npz"), "--allow-leaks"]


def multilabel(root: Path) -> list[str]:
    """A table of two findings, one of which is unknown in a few pictures."""
    rows = []
    for number in range(120):
        left, right = number % 2, (number // 2) % 2
        both = np.maximum(disc(9, 16, 45 * left, number), disc(23, 16, 45 * right, number))
        (root / "films").mkdir(exist_ok=True)
        Image.fromarray(both).save(root / "films" / f"{number}.png")
        rows.append([f"films/{number}.png", left, "" if number % 10 == 0 else right])
    pd.DataFrame(rows, columns=["path", "left", "right"]).to_csv(root / "table.csv", index=False)
    return [str(root / "table.csv"), "--label-column", "left", "--label-column", "right"]


MAKERS = {"binary": binary, "multiclass": multiclass, "multilabel": multilabel}


class Fit:
    """A finished fit: its command and what it left."""

    def __init__(self, task: str, root: Path) -> None:
        self.task, self.root, self.out = task, root, root / "out"
        data, *rest = MAKERS[task](root)
        self.words = ["fit", data, *rest, *SMALL, "--cache", str(root / "cache"), "--time", "8s"]
        assert main([*self.words, "--out", str(self.out)]) == 0
        self.results = self.read("results.json")
        with (self.out / "predictions.csv").open(newline="", encoding="utf-8") as file:
            self.rows = list(csv.DictReader(file))

    def read(self, name: str, out: Path | None = None) -> dict:
        return json.loads(((out or self.out) / name).read_text(encoding="utf-8"))

    @property
    def labels(self) -> list[str]:
        return self.results["data"]["labels"]

    def scores(self) -> np.ndarray:
        """(n, K) the probabilities of predictions.csv."""
        return np.array([[float(row[label]) for label in self.labels] for row in self.rows])


@pytest.fixture(autouse=True, scope="module")
def few_epochs():
    """Eight seconds are a hundred epochs of so few pictures; what is asked here needs a few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("layerwise.studies.planner.most_epochs", lambda _images: 6)
        yield


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    """Each task is fitted once, when it is first asked for."""
    done: dict[str, Fit] = {}

    def fit(task: str) -> Fit:
        if task not in done:
            done[task] = Fit(task, tmp_path_factory.mktemp(task))
        return done[task]

    return fit


@pytest.mark.parametrize("task", TASKS)
def test_files_and_keys(fits, task):
    fit = fits(task)
    results = fit.results
    left = {path.name for path in fit.out.iterdir()}
    assert left >= {"plan.json", "results.json", "predictions.csv", "report.html", "bundle", "runs"}
    there = {p.name for p in (fit.out / "bundle").iterdir()} - {"explain.onnx"}
    assert there == {"README.md", "bundle.json", "model.onnx"}
    assert not list(fit.out.rglob("*.part*"))
    assert set(results) >= set(
        "layerwise command seed seconds data runs chosen threshold test".split()
    )
    assert set(results["data"]) >= {"name", "fingerprint", "labels", "counts"}
    assert set(results["data"]["counts"]) == {"train", "val", "test"}
    for run in results["runs"]:
        assert set(run) >= set("id name model transfer state seconds parameters validation".split())
        if run["kind"] != "floor":
            assert set(run["transfer"]) == {"source", "keep", "copy", "freeze"}
        if run["state"] == "done":
            assert (fit.out / "runs" / run["id"] / "result.json").is_file()
            assert set(run["validation"]["auroc"]) == {"value", "low", "high"}
    assert set(results["test"]) >= {*SCORES, "per_label"}
    assert set(results["test"]["per_label"]) <= set(fit.labels)
    kinds = [run["kind"] for run in results["runs"]]
    assert kinds.count("floor") == 2 and kinds.count("probe") == 5 and "trained" in kinds


@pytest.mark.parametrize("task", TASKS)
def test_the_best_on_validation_is_chosen(fits, task):
    runs = [r for r in fits(task).results["runs"] if r["kind"] != "floor" and r["state"] == "done"]
    best = max(run["validation"]["auroc"]["value"] for run in runs)
    chosen = next(run for run in runs if run["id"] == fits(task).results["chosen"])
    assert chosen["validation"]["auroc"]["value"] == best


@pytest.mark.parametrize("task", TASKS)
def test_the_test_scores_are_those_of_the_predictions(fits, task):
    """Recomputed with scikit-learn from predictions.csv alone."""
    fit, scores = fits(task), fits(task).scores()
    found = {name: fit.results["test"][name]["value"] for name in SCORES}
    decided = [row["decision"] for row in fit.rows]
    truth = [row["label"] for row in fit.rows]
    if task == "binary":
        positive = np.array(truth) == "ill"
        said = np.array(decided) == "ill"
        assert ((scores[:, 1] >= fit.results["threshold"]) == said).all()
        expected = {
            "auroc": reference.roc_auc_score(positive, scores[:, 1]),
            "auprc": reference.average_precision_score(positive, scores[:, 1]),
            "accuracy": reference.accuracy_score(positive, said),
            "balanced_accuracy": reference.balanced_accuracy_score(positive, said),
            "f1": reference.f1_score(positive, said, zero_division=0),
            "precision": reference.precision_score(positive, said, zero_division=0),
            "recall": reference.recall_score(positive, said),
            "specificity": reference.recall_score(~positive, ~said),
            "brier": reference.brier_score_loss(positive, scores[:, 1]),
        }
    elif task == "multiclass":
        assert [fit.labels[k] for k in scores.argmax(axis=1)] == decided
        hot = np.array([[t == label for label in fit.labels] for t in truth])
        expected = {
            "auroc": reference.roc_auc_score(hot, scores, average="macro"),
            "auprc": reference.average_precision_score(hot, scores, average="macro"),
            "accuracy": reference.accuracy_score(truth, decided),
            "balanced_accuracy": reference.balanced_accuracy_score(truth, decided),
            "f1": reference.f1_score(truth, decided, average="macro", zero_division=0),
            "brier": ((scores - hot) ** 2).sum(axis=1).mean(),
        }
    else:
        table = pd.read_csv(fit.root / "table.csv").set_index("path")
        known = table.loc[[row["id"] for row in fit.rows], fit.labels].to_numpy()  # (n, K)
        each = []
        for k, label in enumerate(fit.labels):
            there = ~np.isnan(known[:, k])
            yes, p = known[there, k] == 1, scores[there, k]
            said = np.array([label in d.split("|") for d in decided])[there]
            assert ((p >= fit.results["threshold"][k]) == said).all()
            each.append(
                (
                    reference.roc_auc_score(yes, p),
                    reference.average_precision_score(yes, p),
                    reference.accuracy_score(yes, said),
                    reference.f1_score(yes, said, zero_division=0),
                )
            )
        names = ("auroc", "auprc", "accuracy", "f1")
        expected = dict(zip(names, np.mean(each, axis=0), strict=True))
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=2e-5)
    for name in SCORES:
        interval = fit.results["test"][name]
        assert interval["low"] <= interval["value"] <= interval["high"]


@pytest.mark.parametrize("task", TASKS)
def test_the_bundle_says_the_same_of_the_same_files(fits, task, tmp_path, capsys):
    """`layerwise predict` on the pictures themselves, not on what fit had decoded."""
    fit = fits(task)
    data = str(fit.root / "films") if task == "multilabel" else fit.words[1]
    assert main(["predict", str(fit.out / "bundle"), data, "--skip-unreadable"]) == 0
    rows = csv.DictReader(capsys.readouterr().out.splitlines())
    below = "films/" if task == "multilabel" else ""
    said = {below + row["id"]: row for row in rows}
    again = np.array([[float(said[row["id"]][k]) for k in fit.labels] for row in fit.rows])
    assert np.abs(again - fit.scores()).max() <= 1e-4
    assert [said[row["id"]]["decision"] for row in fit.rows] == [r["decision"] for r in fit.rows]
    card = fit.read("bundle.json", fit.out / "bundle")
    assert card["labels"] == fit.labels and card["threshold"] == fit.results["threshold"]
    assert Bundle.load(fit.out / "bundle").info.scores == fit.results["test"]


def ages(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in files_below(folder)}


def timeless(results: dict) -> dict:
    return {key: value for key, value in results.items() if key not in ("seconds", "command")}


@pytest.mark.parametrize("task", TASKS)
def test_the_same_command_again_repeats_no_work(fits, task, draw_no_more):
    fit = fits(task)
    before, plan = ages(fit.out / "runs"), fit.read("plan.json")
    if task != "binary":  # whose report is opened below
        draw_no_more()
    assert main([*fit.words, "--out", str(fit.out)]) == 0
    assert ages(fit.out / "runs") == before
    assert fit.read("plan.json") == plan
    assert timeless(fit.read("results.json")) == timeless(fit.results)


@pytest.fixture(scope="module")
def followed(fits):
    """Two fits by one plan that a person has edited, in folders and caches of their own."""
    fit = fits("binary")
    plan = fit.read("plan.json")
    for run in plan["training"]:
        run["recipe"] |= {"epochs": 3, "lr": 0.005, "label_smoothing": 0.0}
        run["left_out"] = ""
    edited = fit.root / "edited.json"
    edited.write_text(json.dumps(plan), encoding="utf-8")
    places = fit.root / "first", fit.root / "second"
    for place in places:
        words = [*fit.words, "--cache", str(place / "cache"), "--out", str(place)]
        assert main([*words, "--plan", str(edited)]) == 0
    return places


def test_a_plan_gives_the_same_bits_elsewhere(fits, followed):
    """What the edited plan asks for is trained, and comes out with equal bits in both folders."""
    fit = fits("binary")
    first, second = (fit.read("results.json", place) for place in followed)
    assert timeless_runs(first) == timeless_runs(second)
    assert all(first[key] == second[key] for key in ("chosen", "threshold", "test", "data"))
    compared = []
    for run in first["runs"]:
        assert run["state"] == "done"
        weights = [place / "runs" / run["id"] / "weights.safetensors" for place in followed]
        if run["kind"] != "floor":
            assert weights[0].read_bytes() == weights[1].read_bytes()
            compared.append(run["kind"])
        if run["kind"] == "trained":
            assert run["epochs"] == 3
    assert compared.count("probe") == 5 and compared.count("trained") >= 1
    # The probes are those of the first fit: an edit of the training changes only the training.
    probes = [run["id"] for run in first["runs"] if run["kind"] == "probe"]
    assert probes == [run["id"] for run in fit.results["runs"] if run["kind"] == "probe"]


def timeless_runs(results: dict) -> list[dict]:
    return [{k: v for k, v in run.items() if k != "seconds"} for run in results["runs"]]


@pytest.mark.parametrize(
    "change",
    [["--seed", "3"], ["--time", "9s"], ["--image-size", "40"], ["--letterbox"], ["--keep", "fc1"]],
)
def test_another_request_in_the_same_folder_is_refused(fits, capsys, change):
    fit = fits("binary")
    before = ages(fit.out)
    assert main([*fit.words, "--out", str(fit.out), *change]) == 2
    message = capsys.readouterr().err
    assert str(fit.out) in message and "--out" in message and "Traceback" not in message
    assert ages(fit.out) == before


def test_with_keep_the_network_ends_there_in_all_that_is_done(fits, tmp_path, capsys):
    fit = fits("binary")
    words = [*fit.words, "--cache", str(fit.root / "cache"), "--keep", "conv2"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    results, plan = fit.read("results.json", tmp_path), fit.read("plan.json", tmp_path)
    assert plan["keep"] == "conv2" and plan["cuts"] == ["conv1", "conv2"]
    networks = [run for run in results["runs"] if run["kind"] != "floor"]
    assert [run["kind"] for run in networks].count("probe") == 2 and len(networks) >= 3
    assert {run["transfer"]["keep"] for run in networks} <= {"conv1", "conv2"}
    # conv1: 3·6·25 + 6, conv2: 6·16·25 + 16, a linear layer on 16 channels
    assert max(run["parameters"] or 0 for run in networks) == 456 + 2416 + 17
    said = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "As asked with --keep conv2, every network ends at conv2: at most 2,872" in said
    assert "conv3" not in said

    # A probe is a probe, whatever network it was thought for: the same run as of the whole one.
    probes = {run["id"] for run in fit.results["runs"] if run["kind"] == "probe"}
    assert {run["id"] for run in networks if run["kind"] == "probe"} <= probes
    again = ["predict", str(tmp_path / "bundle"), fit.words[1], "--skip-unreadable"]
    capsys.readouterr()
    assert main(again) == 0
    rows = {row["id"]: row for row in csv.DictReader(capsys.readouterr().out.splitlines())}
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert float(rows[row["id"]]["ill"]) == pytest.approx(float(row["ill"]), abs=1e-4)
    assert main([*fit.words, "--keep", "conv1", "--out", str(tmp_path)]) == 2
    assert "keep = 'conv2', and this one has 'conv1'" in capsys.readouterr().err


def test_something_is_said_before_the_slow_imports(tmp_path):
    """In a process of its own, in which torch can not be imported."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from layerwise.cli.main import main\n"
        f"main(['fit', 'digits', '--out', {str(tmp_path)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    said = (
        "layerwise fit digits: loading PyTorch\nlayerwise: this needs torch, which is not installed"
    )
    assert done.stderr.startswith(said) and "Traceback" not in done.stderr


def test_what_was_left_out_or_allowed_is_said(fits):
    said = (fits("binary").out / "report.html").read_text(encoding="utf-8")
    assert "p3ill_broken.png" in said and "--skip-unreadable" in said
    leaky = (fits("multiclass").out / "report.html").read_text(encoding="utf-8")
    assert "allowed by --allow-leaks" in leaky and "1 image is in both train and test" in leaky


def test_no_patient_is_in_two_parts(fits):
    """By the names of the files, as the pattern reads them."""
    fit = fits("binary")
    tested = {row["id"].split("/")[1].split("_")[0] for row in fit.rows}
    for path in (fit.out / "runs").glob("*/validation.npz"):
        with np.load(path) as file:
            seen = {name.split("/")[1].split("_")[0] for name in file["ids"]}
        assert seen and not seen & tested


def test_runs_lists_what_ran(fits, capsys):
    fit = fits("binary")
    assert main(["runs", str(fit.out), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["runs"]
    by_id = {run["id"]: run for run in listed if run["id"]}
    done = [run for run in fit.results["runs"] if run["state"] == "done"]
    assert set(by_id) == {run["id"] for run in done} and len(listed) == len(fit.results["runs"])
    for run in done:
        value = run["validation"]["auroc"]["value"]
        assert by_id[run["id"]]["validation"]["auroc"] == pytest.approx(value, abs=1e-12)
        assert by_id[run["id"]]["seconds"] == run["seconds"]
    assert [run["id"] for run in listed if run["chosen"]] == [fit.results["chosen"]]
    assert main(["runs", str(fit.out)]) == 0
    text = capsys.readouterr().out
    assert "frozen to conv1, linear" in text and f"{len(done)} done" in text


def test_runs_tells_a_stopped_one(followed, capsys, tmp_path):
    trained = next(p.parent for p in (followed[0] / "runs").glob("*/log.jsonl"))
    copy = tmp_path / "runs" / trained.name
    shutil.copytree(trained, copy)
    (copy / "result.json").unlink()
    with (copy / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 99')  # a kill in the middle of a line
    assert main(["runs", str(tmp_path), "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["state"] == "stopped" and run["epochs"] == 3 and run["seconds"] is None
    assert main(["runs", str(tmp_path)]) == 0


def test_runs_of_a_folder_without_any(capsys, tmp_path):
    assert main(["runs", str(tmp_path)]) == 2
    assert "no runs in it" in capsys.readouterr().err
    assert main(["runs", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_the_report_opens(fits, browser):
    """In a real browser: no complaint on the console, no request to anywhere."""
    url = (fits("binary").out / "report.html").as_uri()
    page = browser.new_page()
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    assert page.locator("#roc").is_visible() and page.locator("#runs tbody tr").count() >= 8
    page.close()
    assert [a for a in asked if not a.startswith("data:") and a != url] == []
    assert complaints == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("balance", "sentence"),
    [
        ("none", "Classes are not balanced in training"),
        ("weights", "pictures weigh many 0.667, few 2"),
        ("sampling", "every class as likely as any other"),
        ("augment", "30 pictures of each class; copies changed as by the preset radiograph"),
    ],
    ids=lambda text: text.partition(" ")[0],
)
def test_unequal_classes_are_balanced_as_asked_and_the_report_says_how(tmp_path, balance, sentence):
    """40 pictures of a class and 14 of the other, 30 and 10 in training."""
    data = tmp_path / "pictures"
    for label, bright, counts in (("many", 0, (30, 5, 5)), ("few", 60, (10, 2, 2))):
        for part, count in zip(("train", "val", "test"), counts, strict=True):
            (data / part / label).mkdir(parents=True)
            for number in range(count):
                seed = len(list(data.rglob("*.png")))  # no two pictures are equal
                picture = disc(16, 16, bright, seed)
                Image.fromarray(picture).save(data / part / label / f"{part}{number}.png")
    words = ["fit", str(data), *SMALL, "--cache", str(tmp_path / "cache"), "--time", "60s"]
    words += ["--balance", balance, "--augment", "radiograph", "--positive", "few"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    plan = json.loads((tmp_path / "out" / "plan.json").read_text(encoding="utf-8"))
    assert plan["balance"] == balance and plan["complete"]
    assert {run["recipe"]["balance"] for run in plan["training"]} == {balance}
    assert any(sentence in reason for reason in plan["reasons"])
    assert sentence in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    trained = [
        run
        for run in map(json.loads, map(Path.read_text, (tmp_path / "out").glob("runs/*/run.json")))
        if run["kind"] == "trained"
    ]
    assert trained and {run["recipe"]["balance"] for run in trained} == {balance}

"""`layerwise evaluate`, `promote` and `rollback` as a user meets them.

The bundles weigh the left and the right half of a picture. The left half tells the class with some
noise, the right half with more, and among women it tells nothing: which bundle is better, and for
whom, follows from the pictures.
"""

import csv
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.metrics import brier_score_loss, roc_auc_score

from layerwise.cli.main import main
from layerwise.serving.bundle import BundleInfo, Preprocessing, write_bundle

COUNT = 160
LABELS = ("NORMAL", "PNEUMONIA")


def write(folder, left, right, **changes):
    """probability = sigmoid(left · (left half / 255 − ½) + right · (right half / 255 − ½))."""
    weights = np.zeros((8, 8, 1), np.float32)
    weights[:, :4], weights[:, 4:] = left / 32 / 255, right / 32 / 255
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["product"]),
        helper.make_node("Add", ["product", "shift"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probabilities"]),
    ]
    made = helper.make_graph(
        nodes,
        "halves",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 8, 8, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 1])],
        [
            numpy_helper.from_array(weights.reshape(64, 1), "weights"),
            numpy_helper.from_array(np.float32([-(left + right) / 2]), "shift"),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder.parent / f"{folder.name}.onnx"
    onnx.save(model, path)
    values = {
        "name": folder.name,
        "task": "binary",
        "labels": LABELS,
        "preprocessing": Preprocessing((8, 8), 1, letterbox=False),
        "threshold": 0.45,
        "provenance": {"run": "r1", "seed": 3, "data_fingerprint": "f" * 64},
    }
    return write_bundle(folder, path, BundleInfo(**{**values, **changes}))


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A table of pictures, and what is in them: {column: (N,)}."""
    folder = tmp_path_factory.mktemp("people")
    dice = np.random.default_rng(0)
    truth = np.arange(COUNT) % 2
    sex = np.where(np.arange(COUNT) % 4 < 2, "F", "M")
    left = np.clip(128 + 60 * (truth - 0.5) + dice.normal(0, 30, COUNT), 0, 255).astype(np.uint8)
    signal = np.where(sex == "F", 0, 60) * (truth - 0.5)
    right = np.clip(128 + signal + dice.normal(0, 30, COUNT), 0, 255).astype(np.uint8)
    rows = []
    for k in range(COUNT):
        picture = np.empty((8, 8), np.uint8)
        picture[:, :4], picture[:, 4:] = left[k], right[k]
        Image.fromarray(picture).save(folder / f"{k:03d}.png")
        part = "test" if k >= 40 else "val" if k >= 20 else "train"
        rows.append([f"{k:03d}.png", LABELS[truth[k]], f"p{k // 2}", sex[k], 5 + k % 80, part])
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "patient", "Sex", "Age", "split"])
        writer.writerows(rows)
    return {"table": folder / "table.csv", "truth": truth, "left": left, "right": right, "sex": sex}


def scores(people, left, right, rows=slice(40, None)):
    z = left * (people["left"][rows] / 255 - 0.5) + right * (people["right"][rows] / 255 - 0.5)
    return 1 / (1 + np.exp(-z))


def run(capsys, *words):
    code = main([*map(str, words), "--json", "--quiet"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else None, said.err


def test_every_metric_is_that_of_the_pictures(people, tmp_path, capsys):
    bundle, out = write(tmp_path / "bundle", 8, 0), tmp_path / "out"
    code, said, warned = run(
        capsys, "evaluate", bundle, people["table"], "--out", out,
        "--subgroup", "sex", "--subgroup", "Age", "--draws", "100",
    )  # fmt: skip
    assert code == 0
    assert said == json.loads((out / "results.json").read_text())
    truth, p = people["truth"][40:], scores(people, 8, 0)
    decided = p >= 0.45
    expected = {
        "auroc": roc_auc_score(truth, p),
        "brier": brier_score_loss(truth, p),
        "recall": decided[truth == 1].mean(),
        "specificity": 1 - decided[truth == 0].mean(),
        "accuracy": (decided == truth).mean(),
    }
    for name, value in expected.items():
        assert said["test"][name]["value"] == pytest.approx(value, abs=1e-6)
        assert said["test"][name]["low"] < value < said["test"][name]["high"]
    assert said["test"]["per_label"]["PNEUMONIA"]["auroc"] == said["test"]["auroc"]
    assert (said["part"], said["images"], said["patients"]) == ("test", 120, 60)
    assert said["chosen"] == "r1" == said["runs"][0]["id"] and said["threshold"] == 0.45
    assert said["data"]["counts"]["train"] == {"NORMAL": 10, "PNEUMONIA": 10}
    women = people["sex"][40:] == "F"
    groups = {(g["column"], g["value"]): g for g in said["subgroups"]}
    assert groups["sex", "F"]["auroc"]["value"] == pytest.approx(
        roc_auc_score(truth[women], p[women]), abs=1e-6
    )
    assert groups["sex", "F"]["counts"] == {"NORMAL": 30, "PNEUMONIA": 30}
    assert [v for c, v in groups if c == "Age"] == ["0–17", "18–39", "40–64", "65 and over"]
    small = [key for key, group in groups.items() if group["small"]]
    assert all(f"{column} {value}" in warned for column, value in small)
    with (out / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose([float(row["PNEUMONIA"]) for row in rows], p, atol=1e-6)
    assert [row["decision"] for row in rows] == [LABELS[int(d)] for d in decided]
    bins = said["calibration"]["bins"]
    inside = (p >= 0.5) & (p < 0.6)
    assert bins[5]["count"] == inside.sum()
    assert bins[5]["rate"] == pytest.approx(truth[inside].mean())
    page = (out / "report.html").read_text()
    assert "Layerwise <code>evaluation</code>" in page and "sex: F" in page
    assert "goes on where it stopped" not in page and "All runs" not in page


@pytest.mark.parametrize(
    "words, says",
    [
        (["--part", "tests"], "--part 'tests' is unknown"),
        (["--subgroup", "gender"], "--subgroup gender"),
        (["--rename", "NORMAL"], "--rename 'NORMAL' is not OLD=NEW"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_words_are_refused(people, tmp_path, capsys, words, says):
    bundle = write(tmp_path / "bundle", 8, 0)
    code, _, said = run(
        capsys, "evaluate", bundle, people["table"], "--out", tmp_path / "o", *words
    )
    assert code == 2 and says in said and "Traceback" not in said


def test_promotions_refusals_and_rollback(people, tmp_path, capsys):
    registry, data = tmp_path / "registry", ["--data", people["table"], "--draws", "300"]
    fair, better = write(tmp_path / "fair", 8, 0), write(tmp_path / "better", 8, 1)
    biased = write(tmp_path / "biased", 0, 8)

    def promote(bundle, *more):
        return run(capsys, "promote", bundle, "--registry", registry, *data, *more)

    code, said, _ = promote(fair, "--floor", "auroc=0.99", "--require")
    assert code == 4 and not said["promoted"] and said["champion"] is None
    code, first, _ = promote(fair, "--dry-run")
    assert code == 0 and first["promoted"] and first["champion"] is None
    assert len(json.loads((registry / "registry.json").read_text())["history"]) == 1
    code, first, _ = promote(fair, "--floor", "auroc=0.6")
    assert first["promoted"] and first["champion"] == first["bundle"]
    code, again, _ = promote(fair, "--require")
    assert code == 0 and again["already"] and not again["promoted"]

    code, said, warned = promote(biased, "--subgroup", "sex")
    assert code == 0 and not said["promoted"] and said["champion"] == first["bundle"]
    (test,) = [one for one in said["checks"] if one["rule"] == "not inferior"]
    truth = people["truth"][40:]
    gain = roc_auc_score(truth, scores(people, 0, 8)) - roc_auc_score(truth, scores(people, 8, 0))
    assert test["numbers"]["difference"]["value"] == pytest.approx(gain, abs=1e-6)
    record = json.loads((registry / said["entry"]["decision"]).read_text())
    assert record["reasons"] == said["reasons"] and record["action"] == "refuse"
    assert record["data"]["part"] == "test" and record["data"]["patients"] == 60
    assert record["compared_with"]["id"] == first["bundle"]
    # However wide the margin, women lose everything.
    code, said, _ = promote(biased, "--subgroup", "sex", "--margin", "0.9")
    assert not said["promoted"] and "sex F falls by" in said["reasons"][0]
    code, said, _ = promote(biased, "--margin", "0.9", "--dry-run")
    assert said["promoted"]  # nobody looked

    code, said, _ = promote(better, "--margin", "0.9")
    assert said["promoted"] and said["previous"] == first["bundle"]
    code, listed, _ = run(capsys, "rollback", "--registry", registry, "--list")
    actions = [entry["action"] for entry in listed["history"]]
    assert actions == ["refuse", "promote", "refuse", "refuse", "promote"]
    words = ["rollback", "--registry", registry, "--reason", "false alarms at night"]
    code, back, _ = run(capsys, *words)
    assert code == 0 and back["champion"] == first["bundle"]
    record = json.loads((registry / back["entry"]["decision"]).read_text())
    assert record["reasons"] == ["false alarms at night"] and record["action"] == "rollback"
    code, _, said = run(capsys, "rollback", "--registry", registry)
    assert code == 2 and "nothing to go back to" in said


def test_a_champion_that_changes_meanwhile_is_compared_with(people, tmp_path, capsys, monkeypatch):
    """Another promotion between the measurement and the switch: the decision is made again."""
    from layerwise.serving.registry.registry import PlainRegistry

    registry = tmp_path / "registry"
    first, other, new = (write(tmp_path / n, w, 0) for n, w in (("a", 8), ("b", 7), ("c", 6)))
    words = ["--registry", registry, "--data", people["table"], "--draws", "200"]
    run(capsys, "promote", first, *words)
    whole = PlainRegistry.promote

    def late(self, source, decision, expected):
        monkeypatch.setattr(PlainRegistry, "promote", whole)
        whole(self, other, {}, expected)
        return whole(self, source, decision, expected)

    monkeypatch.setattr(PlainRegistry, "promote", late)
    code, said, _ = run(capsys, "promote", new, *words)
    assert code == 0 and said["promoted"]
    history = json.loads((registry / "registry.json").read_text())["history"]
    assert [entry["champion"] for entry in history][1:] == [said["previous"], said["champion"]]
    assert said["compared_with"]["name"] == "b"


def test_a_registry_that_is_none_is_said(tmp_path, capsys):
    code, _, said = run(capsys, "rollback", "--registry", tmp_path / "none")
    assert code == 2 and "registry.json is missing" in said


def test_other_labels_than_the_champions_are_a_refusal(people, tmp_path, capsys):
    registry = tmp_path / "registry"
    words = ["--registry", registry, "--data", people["table"], "--draws", "200"]
    run(capsys, "promote", write(tmp_path / "a", 8, 0), *words)
    turned = write(tmp_path / "b", -8, 0, labels=LABELS[::-1])
    code, said, _ = run(capsys, "promote", turned, *words)
    assert code == 0 and not said["promoted"] and "The labels differ" in said["reasons"][0]

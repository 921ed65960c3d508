"""`layerwise drift` as a user meets it: a server's statistics, images, labelled data, bad input."""

import json
from datetime import UTC, datetime

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from layerwise.cli.drift import DRIFTED
from layerwise.cli.main import main
from layerwise.serving.bundle import Bundle, BundleInfo, Preprocessing, write_bundle
from layerwise.serving.hourly import Hourly
from layerwise.serving.statistics import Statistics, reference

LABELS = ("NORMAL", "PNEUMONIA")
SCORES = {
    name: {"value": v, "low": v - 0.02, "high": v + 0.02}
    for name, v in (("auroc", 0.9), ("recall", 0.9), ("specificity", 0.8))
}


def pictures(n, seed=0, brighter=0.0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:8j, -1:1:8j]
    base = 150 * np.exp(-2 * (x**2 + y**2)) * rng.uniform(0.7, 1.1, (n, 1, 1))
    noisy = base + rng.normal(40 + brighter, 12, (n, 1, 1)) + rng.normal(0, 8, (n, 8, 8))
    return noisy.clip(0, 255).astype(np.uint8)[..., None]


def graph():
    """probability = sigmoid of 20 * (mean grey / 255 - 0.4)."""
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x"], ["m4"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Flatten", ["m4"], ["m"]),
        helper.make_node("Mul", ["m", "slope"], ["z"]),
        helper.make_node("Sub", ["z", "eight"], ["c"]),
        helper.make_node("Sigmoid", ["c"], ["probabilities"]),
    ]
    made = helper.make_graph(
        nodes,
        "closed form",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 8, 8, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 1])],
        [
            numpy_helper.from_array(np.float32(20 / 255), "slope"),
            numpy_helper.from_array(np.float32(8), "eight"),
        ],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle with the statistics of 800 training pictures and 500 validation answers."""
    folder = tmp_path_factory.mktemp("bundle")
    onnx.save(graph(), folder / "graph.onnx")
    how = Preprocessing((8, 8), 1, letterbox=False)
    plain = BundleInfo("chest", "binary", LABELS, how, 0.5, scores=SCORES)
    model = Bundle.load(write_bundle(folder / "plain", folder / "graph.onnx", plain))
    scores = model.run(pictures(500, seed=1))
    sizes = [(8, 8)] * 800
    made = reference("binary", LABELS, [pictures(800)], sizes, scores, model.decide(scores))
    full = BundleInfo("chest", "binary", LABELS, how, 0.5, scores=SCORES, statistics=made.to_json())
    return write_bundle(folder / "bundle", folder / "graph.onnx", full)


@pytest.fixture(scope="module")
def served(bundle, tmp_path_factory):
    """What a server kept: 400 pictures on the first of March, 200 brighter ones on the second."""
    folder = tmp_path_factory.mktemp("statistics")
    model = Bundle.load(bundle)
    counter = Hourly(folder, model.id, Statistics.from_json(model.info.statistics, "bundle"))
    for day, pixels in ((1, pictures(400, seed=2)), (2, pictures(200, seed=3, brighter=30))):
        scores = model.run(pixels)
        when = datetime(2026, 3, day, 9, tzinfo=UTC)
        counter.add(pixels, scores, model.decide(scores), [(8, 8)] * len(pixels), now=when)
    counter.save()
    return folder


def drift(*words, capsys):
    """(exit code, the summary) of `layerwise drift --json`."""
    code = main(["drift", *map(str, words), "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else said.err


def test_a_servers_statistics_by_hour(bundle, served, tmp_path, capsys):
    code, found = drift(bundle, served, "--until", "2026-03-02", capsys=capsys)
    assert (code, found["drifted"], found["images"]) == (0, False, 400)
    words = (bundle, served, "--since", "2026-03-01T10:00", "--fail-on-drift", "--out", tmp_path)
    code, found = drift(*words, capsys=capsys)
    assert (code, found["drifted"], found["images"]) == (DRIFTED, True, 200)
    by = {(q["kind"], q["name"]): q for q in found["quantities"]}
    bright = by["input", "brightness"]
    assert bright["verdict"] == "drifted" and found["checks"]["window"] is True
    before, after = pictures(800).mean(axis=(1, 2, 3)), pictures(200, 3, 30).mean(axis=(1, 2, 3))
    assert bright["before"]["value"] == pytest.approx(np.median(before), abs=1)
    assert bright["after"]["value"] == pytest.approx(np.median(after), abs=1)
    share = (after / 255 >= 0.4).mean()
    assert by["decided", "PNEUMONIA"]["after"]["value"] == pytest.approx(share)
    truly = (share + 0.8 - 1) / 0.7
    assert found["prevalence"]["value"] == pytest.approx(min(truly, 1))
    assert json.loads((tmp_path / "drift.json").read_text())["quantities"] == found["quantities"]
    assert "can not be known from this" in (tmp_path / "drift.html").read_text()


def test_images_are_run_through_the_bundle(bundle, tmp_path, capsys):
    """The same pictures as files and as a server's counts give the same quantities."""
    pixels = pictures(40, seed=4)
    for k, picture in enumerate(pixels):
        Image.fromarray(picture[..., 0]).save(tmp_path / f"{k:02d}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    code, said = drift(bundle, tmp_path, capsys=capsys)
    assert code == 2 and "broken.png" in said and "--skip-unreadable" in said
    code, found = drift(bundle, tmp_path, "--skip-unreadable", "--batch", "7", capsys=capsys)
    model = Bundle.load(bundle)
    direct = Statistics.from_json(model.info.statistics, "bundle").beside()
    scores = model.run(pixels)
    direct.add(pixels, scores, model.decide(scores), [(8, 8)] * 40)
    assert code == 0 and found["images"] == 40 and found["quality"] is None
    assert "1 images could not be read" in " ".join(found["notes"])
    for one in found["quantities"]:
        part = {"score": direct.scores, "decided": direct.decided}.get(one["kind"], direct.inputs)
        assert one["counts"]["after"] == part[one["name"]].tolist(), one["name"]


def test_labelled_data_say_how_good_the_decisions_are(bundle, tmp_path, capsys):
    """AUROC by brightness, worked out by pairs."""
    values = {"NORMAL": pictures(30, seed=5), "PNEUMONIA": pictures(30, seed=6, brighter=10)}
    for label, pixels in values.items():
        (tmp_path / label).mkdir()
        for k, picture in enumerate(pixels):
            Image.fromarray(picture[..., 0]).save(tmp_path / label / f"{k:02d}.png")
    code, found = drift(bundle, tmp_path, capsys=capsys)
    low, high = (pixels.mean(axis=(1, 2, 3)) for pixels in values.values())
    pairs = (high[:, None] > low).mean() + (high[:, None] == low).mean() / 2
    assert code == 0
    assert found["quality"]["now"]["auroc"]["value"] == pytest.approx(pairs, abs=1e-6)
    assert found["quality"]["test"] == SCORES


def test_the_answer_in_words(bundle, served, capsys):
    assert main(["drift", str(bundle), str(served), "--until", "2026-03-02"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("No drift: each of 16 quantities of 400 pictures is as in training")
    assert "no labels are compared" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["BUNDLE", "STATISTICS", "--measure", "mmd"], "psi, js, ks"),
        (["BUNDLE", "STATISTICS", "--since", "March"], "2026-03-01"),
        (["BUNDLE", "STATISTICS", "--since", "2027-01-01"], "--since or --until"),
        (["BUNDLE", "IMAGES", "--since", "2026-03-01"], "images have none"),
        (["PLAIN", "STATISTICS"], "carries no statistics"),
        (["BUNDLE", "nowhere"], "nowhere: no such file or folder"),
        (["BUNDLE", "OTHER"], "no statistics of this bundle"),
        (["nowhere", "STATISTICS"], "no bundle"),
    ],
    ids=[str(k) for k in range(8)],
)
def test_bad_input_is_named(bundle, served, tmp_path, capsys, words, message):
    other = tmp_path / "other"
    other.mkdir()
    for path in served.glob("*.json"):
        text = path.read_text().replace(Bundle.load(bundle).id, "f" * 12)
        (other / f"{'f' * 12}-{path.name[13:]}").write_text(text)
    picture = tmp_path / "picture.png"
    Image.fromarray(pictures(1)[0, ..., 0]).save(picture)
    places = {"BUNDLE": bundle, "STATISTICS": served, "PLAIN": bundle.parent / "plain"}
    places |= {"OTHER": other, "IMAGES": picture}
    code = main(["drift", *(str(places.get(word, word)) for word in words)])
    said = capsys.readouterr().err
    assert code == 2 and message in said and "Traceback" not in said

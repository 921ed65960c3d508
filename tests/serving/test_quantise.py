"""Bundles in 8-bit integers: the numbers of the graph, and what is measured of it."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.metrics import roc_auc_score

from layerwise.cli.main import main
from layerwise.cli.quantise import text
from layerwise.data.load import DataOptions
from layerwise.errors import BundleError, DataError
from layerwise.evaluation.operating import choose_threshold
from layerwise.serving import quantise as quantising
from layerwise.serving.bundle import Bundle, BundleInfo, Preprocessing, write_bundle
from layerwise.serving.labelled import labelled
from layerwise.serving.quantise import most_sensitive, quantise
from layerwise.serving.statistics import Statistics

SIZE, CHANNELS, COUNT = 12, 4, 80
HOW = Preprocessing((SIZE, SIZE), 1, letterbox=False)
INFO = BundleInfo("net", "binary", ("a", "b"), HOW, 0.5, provenance={"run": "r"})


def weights():
    """Of very different channels: one scale for all would lose the small ones."""
    made = np.random.default_rng(0).normal(size=(CHANNELS, 1, 3, 3)).astype(np.float32)
    return made * np.float32([0.01, 0.1, 1, 3]).reshape(-1, 1, 1, 1)


def network():
    """Pixels / 255 → Conv → ReLU (the activation) → mean → linear → sigmoid."""

    def const(name, value):
        return numpy_helper.from_array(np.asarray(value, np.float32), name)

    def node(kind, given, made, **attributes):
        return helper.make_node(kind, given.split(), [made], **attributes)

    nodes = [
        node("Cast", "pixels", "x", to=TensorProto.FLOAT),
        node("Div", "x scale", "u"),
        node("Transpose", "u", "t", perm=[0, 3, 1, 2]),
        node("Conv", "t w b", "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", "c", "activation"),
        node("GlobalAveragePool", "activation", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f head bias", "z", transB=1),
        node("Sigmoid", "z", "probabilities"),
    ]
    given = [
        *(const("scale", 255), const("w", weights()), const("b", np.zeros(CHANNELS))),
        *(const("head", [[0.5, 0.4, 1, -0.5]]), const("bias", [-0.2])),
    ]
    shape = {"probabilities": ["n", 1], "activation": ["n", CHANNELS, SIZE, SIZE]}
    outputs = [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in shape.items()]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", SIZE, SIZE, 1])
    made = helper.make_graph(nodes, "net", [pixels], outputs, given)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def pictures(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    root = tmp_path_factory.mktemp("before")
    onnx.save(network(), root / "net.onnx")
    counted = Statistics("binary", ("a", "b"))
    counted.add(pictures(10, 3), np.full((10, 1), 0.9, np.float32), np.ones(10, np.int64))
    info = replace(INFO, statistics=counted.to_json())
    return write_bundle(root / "bundle", root / "net.onnx", info)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Random pictures of a and b, brighter ones more often b; with and without parts."""
    root = tmp_path_factory.mktemp("data")
    lines = {"parts.csv": ["path,label,split"], "plain.csv": ["path,label"]}
    for k, picture in enumerate(pictures(COUNT, 1)[..., 0]):
        label = "ab"[k % 2]
        shown = np.clip(picture * (0.5 + 0.2 * (k % 2)) + k % 7, 0, 255).astype(np.uint8)
        Image.fromarray(shown).save(root / f"{k:02d}.png")
        part = "train" if k < 20 else "val" if k < 60 else "test"
        lines["parts.csv"].append(f"{k:02d}.png,{label},{part}")
        lines["plain.csv"].append(f"{k:02d}.png,{label}")
    for name, rows in lines.items():
        (root / name).write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def made(before, table, tmp_path_factory):
    """The new bundle's folder, what was said of it, and the images."""
    root = tmp_path_factory.mktemp("after")
    images = labelled(
        INFO,
        table / "parts.csv",
        DataOptions(),
        part="validation",
        cache=root / "cache",
        say=lambda _: None,
    )
    folder = root / "bundle"
    said = quantise(
        before, images, folder, pictures=16, seconds=0, even_if_slower=True, say=lambda _: None
    )
    return folder, said, images


def test_the_new_bundle_answers_nearly_as_the_old_one(before, made):
    folder, said, images = made
    new, old = Bundle.load(folder, threads=1), Bundle.load(before, threads=1)
    rows = images.manifest.indices("val")
    assert rows.tolist() == list(range(20, 60))
    one, other = (b.run(images.store.read(rows)) for b in (old, new))
    assert 0 < abs(one - other).max() < 0.02
    assert said["largest_difference"] == pytest.approx(abs(one - other).max(), abs=1e-7)
    targets = images.manifest.targets[rows]
    gain = roc_auc_score(targets, other) - roc_auc_score(targets, one)
    assert said["auroc_difference"]["value"] == pytest.approx(gain, abs=1e-9)
    assert said["tried"] == [{"left": 0, "auroc_difference": said["auroc_difference"]["value"]}]
    assert said["rounded"] == "everything" and said["left"] == []
    assert said["auroc_difference"]["low"] <= gain <= said["auroc_difference"]["high"]
    groups = images.manifest.groups()[rows]
    threshold = choose_threshold("binary", targets, other, groups, seed=0)
    assert new.info.threshold == said["threshold"] == threshold
    assert said["threshold_before"] == 0.5
    differ = int(((one >= 0.5) != (other >= threshold)).sum())
    assert said["disagree"] == differ and said["agreement"] == 1 - differ / 40


def test_the_new_bundle_says_what_it_is(before, made):
    folder, said, images = made
    new = Bundle.load(folder, threads=1)
    about = new.info.quantised
    assert new.id == said["id"] and about["made_from"] == Bundle.load(before).id
    assert about["calibration"] == {"part": "validation", "images": 16, "seed": 0}
    sizes = [(f / "model.onnx").stat().st_size for f in (before, folder)]
    assert about["bytes"] == {"before": sizes[0], "after": sizes[1]}
    assert about["latency"]["rounds"] == 3 and about["latency"]["threads"] == 1
    times = [about["latency"][name]["median_ms"] for name in ("before", "after")]
    assert 0 < min(times) and about["speedup"]["low"] <= about["speedup"]["high"]
    # The scores are the new network's own, on the part that chose nothing.
    rows = images.manifest.indices("test")
    scores = new.run(images.store.read(rows))
    expected = roc_auc_score(images.manifest.targets[rows], scores)
    assert new.info.scores["auroc"]["value"] == pytest.approx(expected, abs=1e-9)
    old = roc_auc_score(
        images.manifest.targets[rows], Bundle.load(before, threads=1).run(images.store.read(rows))
    )
    assert about["test_auroc_difference"]["value"] == pytest.approx(expected - old, abs=1e-9)
    # So are the scores that drift is measured against; the pictures' statistics stay.
    kept = Statistics.from_json(new.info.statistics, "x")
    decided = new.decide(new.run(images.store.read(images.manifest.indices("val"))))
    assert (kept.images, kept.answers) == (10, 40)
    assert kept.decided["b"].tolist() == np.bincount(decided, minlength=2).tolist()
    assert "## 8-bit integers" in (folder / "README.md").read_text()
    with pytest.raises(BundleError, match="8-bit integers already"):
        quantise(folder, images, folder.parent / "again", say=lambda _: None)


OUTLYING = """
<ir_version: 8, opset_import: ["": 17]>
net (uint8[n, 12, 12, 1] pixels) => (float[n, 1] probabilities)
<float scale = {255.0}, float[2, 1, 1, 1] first = {0.001, 1000.0},
 float[2, 2, 1, 1] second = {1000.0, 0.0, 0.0, 0.001}, float[1, 2] head = {40.0, 0.0},
 float[1] last = {-12.0}> {
    x = Cast<to = 1>(pixels)
    u = Div(x, scale)
    t = Transpose<perm = [0, 3, 1, 2]>(u)
    c = Conv<kernel_shape = [1, 1]>(t, first)
    d = Conv<kernel_shape = [1, 1]>(c, second)
    p = GlobalAveragePool(d)
    f = Flatten(p)
    z = Gemm<transB = 1>(f, head, last)
    probabilities = Sigmoid(z)
}
"""


@pytest.fixture(scope="module")
def outlying(tmp_path_factory):
    """Brightness decides, by a channel a million times smaller than its neighbour: no room for it
    among 256 levels between the first convolution and the second."""
    root = tmp_path_factory.mktemp("outlying")
    onnx.save(onnx.parser.parse_model(OUTLYING), root / "net.onnx")
    return write_bundle(root / "bundle", root / "net.onnx", INFO)


def test_what_loses_most_is_left_as_it_is(outlying, made, tmp_path):
    images, folder = made[2], tmp_path / "bundle"
    found = quantise(
        outlying, images, folder, pictures=16, seconds=0, even_if_slower=True, say=lambda _: None
    )
    targets = images.manifest.targets[images.rows]
    pixels = images.store.read(images.rows)
    old, new = (roc_auc_score(targets, Bundle.load(f, 1).run(pixels)) for f in (outlying, folder))
    assert old > 0.95 and found["auroc_difference"]["value"] == pytest.approx(new - old)
    # All rounded, every picture has the same answer. One left alone, the other still rounds.
    losses = [(one["left"], one["auroc_difference"]) for one in found["tried"]]
    assert losses[:2] == [(0, pytest.approx(0.5 - old)), (1, pytest.approx(0.5 - old))]
    assert losses[2] == (2, pytest.approx(new - old)) and new - old >= -0.005
    assert found["rounded"] == "everything but 2 of 5 operators"
    model = onnx.load(folder / "model.onnx")
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    assert {n.name for n in convolutions} == set(found["left"])
    assert all(values[n.input[1]].dtype == np.float32 for n in convolutions)
    assert "QuantizeLinear" in {n.op_type for n in model.graph.node}


def test_what_costs_too_much_is_refused(outlying, made, tmp_path, monkeypatch):
    """The operators in the wrong order: leaving the first ones does not help."""
    monkeypatch.setattr(quantising, "most_sensitive", lambda *a: most_sensitive(*a)[::-1])
    with pytest.raises(BundleError, match=r"cost more than 0.005 .*-0\.\d+ with 2 left.*--limit"):
        quantise(
            outlying,
            made[2],
            tmp_path / "bundle",
            pictures=16,
            seconds=0,
            even_if_slower=True,
            say=lambda _: None,
        )
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("ratio", [(0.8, 0.7, 0.9), (1.1, 0.9, 1.3)])
def test_what_is_not_faster_is_refused(before, made, tmp_path, monkeypatch, ratio):
    times = {
        "speedup": dict(zip(("value", "low", "high"), ratio, strict=True)),
        "latency": {"processor": "P", "before": {"median_ms": 2}, "after": {"median_ms": 3}},
    }
    monkeypatch.setattr(quantising, "_timed", lambda *_: times)
    with pytest.raises(BundleError, match=r"\(P\): 3.00 ms a picture instead of 2.00.*--even-if"):
        quantise(before, made[2], tmp_path / "bundle", pictures=16, say=lambda _: None)
    assert not (tmp_path / "bundle").exists()


def test_without_an_auroc_nothing_is_written(before, made, tmp_path):
    images = made[2]
    same = images.rows[images.manifest.targets[images.rows] == 0]
    with pytest.raises(DataError, match="has no AUROC"):
        quantise(before, replace(images, rows=same), tmp_path / "bundle", say=lambda _: None)
    assert not (tmp_path / "bundle").exists()


def test_data_without_a_validation_part_are_refused(before, table, tmp_path, capsys):
    images = labelled(
        INFO, table / "plain.csv", DataOptions(), cache=tmp_path / "c", say=lambda _: None
    )
    with pytest.raises(DataError, match="has no validation part"):
        quantise(before, images, tmp_path / "bundle", say=lambda _: None)
    assert not (tmp_path / "bundle").exists()


def test_the_command(before, table, tmp_path, capsys):
    words = ["quantise", str(before), str(table / "parts.csv"), "--out", str(tmp_path / "out")]
    more = [
        "--seconds",
        "0",
        "--pictures",
        "8",
        "--even-if-slower",
        "--cache",
        str(tmp_path / "c"),
        "--json",
    ]
    assert main([*words, *more, "--threads", "1"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["bundle"] == str(tmp_path / "out" / "bundle")
    assert found["id"] == Bundle.load(found["bundle"], threads=1).id
    assert "not the data that the bundle was fitted on" in said.err
    assert main(["verify", found["bundle"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["quantised"] is True
    again = ["quantise", found["bundle"], *words[2:], "--cache", str(tmp_path / "c")]
    assert main(again) == 2
    assert "already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("speedup", "gain", "expected"),
    [
        ((2, 1.8, 2.2), (-0.01, -0.02, -0.005), ["2.00 times as fast", "worse, beyond noise"]),
        ((0.5, 0.4, 0.6), (0.0, -0.01, 0.01), ["SLOWER", "2.00 times as long"]),
        ((1.1, 0.9, 1.3), (0.0, -0.01, 0.01), ["no faster and no slower"]),
    ],
)
def test_bad_news_are_told_as_plainly_as_good(speedup, gain, expected):
    keys = ("value", "low", "high")
    found = {
        "auroc_difference": dict(zip(keys, gain, strict=True)),
        "bytes": {"before": 1000, "after": 270},
        "speedup": dict(zip(keys, speedup, strict=True)),
        "latency": {"before": {"median_ms": 2.0}, "after": {"median_ms": 4.0}},
        **{"rounded": "everything", "ranges": "of least error", "test_auroc_difference": None},
        **{"disagree": 1, "validation_images": 40, "test": {}, "bundle": "out/bundle"},
    }
    said = text(found)
    assert "27% of the size" in said and "another decision for 1 of 40" in said
    assert all(words in said for words in expected)
    assert ("worse" in said) == (gain[2] < 0)

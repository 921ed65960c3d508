"""Bundles in 8-bit integers: the numbers of the graph, and what is measured of it."""

import json
from collections import Counter
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
from layerwise.models.onnx_session import Session
from layerwise.serving import quantise as quantising
from layerwise.serving.bundle import Bundle, BundleInfo, Preprocessing, write_bundle
from layerwise.serving.labelled import labelled
from layerwise.serving.quantise import WAYS, quantise, quantised_graph
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
    said = quantise(before, images, folder, pictures=16, seconds=0, say=lambda _: None)
    return folder, said, images


def test_weights_are_rounded_by_channel():
    graph = onnx.ModelProto.FromString(
        quantised_graph(network().SerializeToString(), [pictures(8, 2)])
    )
    assert {o.domain: o.version for o in graph.opset_import} == {"": 17}
    kinds = Counter(n.op_type for n in graph.graph.node)
    assert kinds["QuantizeLinear"] >= 2 and kinds["Conv"] == kinds["Gemm"] == kinds["Sigmoid"] == 1
    values = {t.name: numpy_helper.to_array(t) for t in graph.graph.initializer}
    makers = {n.output[0]: n for n in graph.graph.node}
    conv = next(n for n in graph.graph.node if n.op_type == "Conv")
    rounded, scale, zero = (values[name] for name in makers[conv.input[1]].input)
    assert rounded.dtype == np.int8 and abs(rounded.astype(int)).max() <= 64 and not zero.any()
    assert scale.shape == (CHANNELS,)
    by_channel = scale.reshape(-1, 1, 1, 1)
    assert (abs(rounded * by_channel - weights()) <= by_channel * 0.501).all()
    # One scale for all channels would be more than 100 times the first one's.
    assert scale[3] / scale[0] > 100
    # Nothing is rounded after the last layer: a probability in 8 bits is one of 256.
    (sigmoid,) = (n for n in graph.graph.node if n.op_type == "Sigmoid")
    assert sigmoid.output[0] == "probabilities"


def test_every_calibration_picture_counts():
    """The brightest pixel is in the first of many batches."""
    dark = [np.full((2, SIZE, SIZE, 1), 50, np.uint8) for _ in range(8)]
    dark[0][0, 0, 0, 0] = 204
    made = onnx.ModelProto.FromString(quantised_graph(network().SerializeToString(), dark))
    values = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    first = next(
        n for n in made.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in ("t", "u")
    )
    assert values[first.input[1]] == pytest.approx(204 / 255 / 255, rel=1e-5)


def test_sizes_are_not_rounded():
    """A padding computed from the picture's size, as TensorFlow's "same" padding is exported."""
    model = network()
    steps = [
        helper.make_node("Shape", ["t"], ["shape"]),
        helper.make_node("Gather", ["shape", "two"], ["height"]),
        helper.make_node("Cast", ["height"], ["h"], to=TensorProto.FLOAT),
        helper.make_node("Clip", ["h", "none", "three"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Concat", ["zeros", "whole", "whole"] * 2, ["pads"], axis=0),
        helper.make_node("Pad", ["t", "pads"], ["padded"]),
    ]
    nodes = [*model.graph.node]
    nodes[3].input[0] = "padded"
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:3], *steps, *nodes[3:]])
    for name, value in {
        "two": np.int64([2]),
        "none": np.float32(0),
        "three": np.float32(3),
        "zeros": np.int64([0, 0]),
    }.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    model.graph.output[1].type.tensor_type.shape.dim[2].dim_value = SIZE + 6
    model.graph.output[1].type.tensor_type.shape.dim[3].dim_value = SIZE + 6
    graph = quantised_graph(model.SerializeToString(), [pictures(8, 2)])
    kinds = {n.output[0]: n for n in onnx.ModelProto.FromString(graph).graph.node}
    assert [kinds[name].op_type for name in ("h", "wide", "pads")] == ["Cast", "Clip", "Concat"]
    assert kinds["wide"].input[0] == "h" and kinds["whole"].input[0] == "wide"
    sessions = Session(model.SerializeToString(), 1), Session(graph, 1)
    one, other = (s.run(pictures(4, 5), ["activation"])[0] for s in sessions)
    assert one.shape == other.shape == (4, CHANNELS, SIZE + 6, SIZE + 6)
    assert abs(one - other).max() < 0.02 * one.max()


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
    # So are the scores that drift is measured against; the pictures' statistics stay.
    kept = Statistics.from_json(new.info.statistics, "x")
    decided = new.decide(new.run(images.store.read(images.manifest.indices("val"))))
    assert (kept.images, kept.answers) == (10, 40)
    assert kept.decided["b"].tolist() == np.bincount(decided, minlength=2).tolist()
    assert "## 8-bit integers" in (folder / "README.md").read_text()
    with pytest.raises(BundleError, match="8-bit integers already"):
        quantise(folder, images, folder.parent / "again", say=lambda _: None)


def test_less_is_rounded_where_all_costs_too_much(before, made, tmp_path, monkeypatch):
    assert made[1]["rounded"] == "everything" and list(made[1]["tried"]) == ["everything"]
    monkeypatch.setattr(quantising, "ENOUGH", -1)  # nothing is good enough
    folder = tmp_path / "bundle"
    said = quantise(before, made[2], folder, pictures=16, seconds=0, say=lambda _: None)
    assert list(said["tried"]) == list(WAYS)
    assert said["tried"][said["rounded"]] == max(said["tried"].values())
    assert said["auroc_difference"]["value"] == pytest.approx(max(said["tried"].values()))
    counts = {}
    for way in WAYS:
        graph = quantised_graph(network().SerializeToString(), [pictures(8, 2)], way)
        nodes = onnx.ModelProto.FromString(graph).graph.node
        counts[way] = sum(n.op_type == "QuantizeLinear" for n in nodes)
    assert counts[WAYS[0]] > counts[WAYS[1]] >= 2


def test_data_without_a_validation_part_are_refused(before, table, tmp_path, capsys):
    images = labelled(
        INFO, table / "plain.csv", DataOptions(), cache=tmp_path / "c", say=lambda _: None
    )
    with pytest.raises(DataError, match="has no validation part"):
        quantise(before, images, tmp_path / "bundle", say=lambda _: None)
    assert not (tmp_path / "bundle").exists()


def test_the_command(before, table, tmp_path, capsys):
    words = ["quantise", str(before), str(table / "parts.csv"), "--out", str(tmp_path / "out")]
    more = ["--seconds", "0", "--pictures", "8", "--cache", str(tmp_path / "c"), "--json"]
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
        **{"disagree": 1, "validation_images": 40, "test": {}, "bundle": "out/bundle"},
    }
    said = text(found)
    assert "27% of the size" in said and "another decision for 1 of 40" in said
    assert all(words in said for words in expected)
    assert ("worse" in said) == (gain[2] < 0)

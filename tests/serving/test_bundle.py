"""Bundles whose network is a closed formula, so that every probability can be worked out."""

import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from layerwise.errors import BundleError, DataError, OutputError
from layerwise.serving.bundle import Bundle, BundleInfo, Preprocessing, write_bundle
from layerwise.serving.card import sealed

SLOPES = {1: [8.0], 2: [8.0, -4.0], 3: [8.0, -4.0, 1.0]}


def graph(outputs, softmax, size=(6, 8), channels=1):
    """probability = sigmoid | softmax of slope * (mean grey / 255 - 0.5)."""

    def const(name, value):
        return numpy_helper.from_array(np.asarray(value, np.float32), name)

    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x"], ["m4"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Flatten", ["m4"], ["m"]),
        helper.make_node("Div", ["m", "scale"], ["u"]),
        helper.make_node("Sub", ["u", "half"], ["c"]),
        helper.make_node("Mul", ["c", "slopes"], ["z"]),
        helper.make_node("Softmax" if softmax else "Sigmoid", ["z"], ["probabilities"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", *size, channels])
    out = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", outputs])
    constants = [const("scale", 255), const("half", 0.5), const("slopes", [SLOPES[outputs]])]
    made = helper.make_graph(nodes, "closed form", [pixels], [out], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def info(task="binary", labels=("NORMAL", "PNEUMONIA"), threshold=0.4, **changes):
    how = Preprocessing((6, 8), 1, letterbox=False)
    scores = {"auroc": {"value": 0.97, "low": 0.9, "high": 0.99}}
    values = {"provenance": {"run": "abc", "seed": 0}, "scores": scores, "preprocessing": how}
    return BundleInfo("test", task, tuple(labels), threshold=threshold, **{**values, **changes})


@pytest.fixture
def make(tmp_path):
    """Write a bundle and give its folder."""

    def write(about=None, model=None, folder="bundle"):
        about = about or info()
        path = tmp_path / "graph.onnx"
        onnx.save(model or graph(about.outputs, about.task == "multiclass"), path)
        return write_bundle(tmp_path / folder, path, about)

    return write


def grey(*values, size=(6, 8)):
    return [np.full(size, value, np.uint8) for value in values]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_binary_probabilities_and_decisions(make):
    bundle = Bundle.load(make())
    values = np.array([0, 90, 127, 255])
    scores = bundle.predict(grey(*values), batch=3)
    assert scores.dtype == np.float32
    expected = sigmoid(8 * (values / 255 - 0.5))[:, None]
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    # 0.4 <-> grey = 255 * (0.5 + ln(0.4 / 0.6) / 8) = 114.6
    assert bundle.decide(scores).tolist() == [0, 0, 1, 1]
    assert bundle.decide(np.array([[0.4], [0.39999]])).tolist() == [1, 0]


def test_multiclass_takes_the_most_probable(make):
    bundle = Bundle.load(make(info("multiclass", ["a", "b", "c"], None)))
    scores = bundle.predict(grey(0, 255))
    z = np.outer([-0.5, 0.5], SLOPES[3])
    expected = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert bundle.decide(scores).tolist() == [1, 0]


def test_multilabel_has_a_threshold_a_label(make):
    bundle = Bundle.load(make(info("multilabel", ["a", "b"], [0.9, 0.1])))
    scores = bundle.predict(grey(0, 255))
    np.testing.assert_allclose(scores, sigmoid(np.outer([-0.5, 0.5], SLOPES[2])), atol=1e-6)
    # a: 0.018, 0.982 against 0.9; b: 0.881, 0.119 against 0.1
    assert bundle.decide(scores).tolist() == [[0, 1], [1, 1]]


def test_without_thresholds_it_is_one_half(make):
    one = Bundle.load(make(info(threshold=None)))
    assert one.decide(np.array([[0.5], [0.49]])).tolist() == [1, 0]


def test_files_bytes_and_arrays_are_prepared_alike(make, tmp_path):
    bundle = Bundle.load(make())
    array = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "x.png")
    path = tmp_path / "x.png"
    scores = bundle.predict([array, path, str(path), path.read_bytes()])
    assert np.ptp(scores) == 0
    assert bundle.prepare(path).shape == (6, 8, 1)
    assert bundle.predict([]).shape == (0, 1)


def test_a_damaged_picture_is_named(make, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(DataError, match="broken.png"):
        Bundle.load(make()).predict([tmp_path / "broken.png"])


def test_what_is_written_is_read_back_and_nothing_else_lies_there(make, tmp_path):
    folder = make()
    names = ["README.md", "bundle.json", "model.onnx"]
    assert sorted(p.name for p in folder.iterdir()) == names
    bundle = Bundle.load(folder)
    assert bundle.info == info()
    card = json.loads((folder / "bundle.json").read_text())
    contents = {name: (folder / name).read_bytes() for name in ("README.md", "model.onnx")}
    assert card["files"] == {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in contents.items()
    }
    assert bundle.sha256 == card["files"]["model.onnx"]["sha256"]
    assert bundle.id == hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()[:12]
    assert card["format"] == 2 and card["layerwise"] == bundle.version
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "graph.onnx"]


def test_equal_info_gives_equal_bytes_and_replaces_the_old_one(make):
    first = {p.name: p.read_bytes() for p in make().iterdir()}
    assert {p.name: p.read_bytes() for p in make().iterdir()} == first
    make(info(threshold=0.6))
    assert Bundle.load(make(info(threshold=0.6))).info.threshold == 0.6


def test_a_folder_that_holds_something_else_is_left_alone(make, tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "thesis.docx").write_text("x")
    with pytest.raises(OutputError, match="something else"):
        make()
    assert (tmp_path / "bundle" / "thesis.docx").read_text() == "x"


def test_a_failed_write_keeps_the_old_bundle(make, tmp_path):
    make()
    with pytest.raises(OutputError, match="bundle"):
        write_bundle(tmp_path / "bundle", tmp_path / "absent.onnx", info(threshold=0.6))
    assert Bundle.load(tmp_path / "bundle").info.threshold == 0.4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "graph.onnx"]


@pytest.mark.parametrize("name", ["bundle.json", "model.onnx"])
def test_a_missing_file_is_named(make, name):
    folder = make()
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing.*layerwise fit"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=3), "format '3' is unknown"),
        (lambda c: c["files"]["model.onnx"].pop("sha256"), "must have 'sha256'"),
        (lambda c: c.pop("files"), "'files' must list"),
        (lambda c: c.pop("labels"), "labels"),
        (lambda c: c.update(surprise=1), "surprise"),
        (lambda c: c.update(labels=["a", "b", "c"]), "binary needs 2 labels"),
        (lambda c: c.update(labels=["a", "a"]), "repeat"),
        (lambda c: c.update(threshold="0.4"), "no number"),
        (lambda c: c.update(threshold=[0.4]), "does not fit binary"),
        (lambda c: c.update(threshold=True), "no number"),
        (lambda c: c.update(task="regression"), "regression"),
        (lambda c: c["preprocessing"].update(decode=0), "Install layerwise 0"),
        (lambda c: c["preprocessing"].update(size=[7, 8]), r"\(n, 7, 8, 1\)"),
        (lambda c: c["preprocessing"].update(channels=2), "impossible"),
        (lambda c: c["files"]["model.onnx"].update(sha256="0" * 64), "model.onnx is damaged"),
        (lambda c: c["files"]["model.onnx"].update(bytes=1), "model.onnx is damaged"),
        (lambda c: c.update(provenance=[]), "provenance"),
    ],
)
def test_a_changed_card_is_refused(make, change, message):
    folder = make()
    card = json.loads((folder / "bundle.json").read_text())
    change(card)
    (folder / "bundle.json").write_text(json.dumps(sealed(card), indent=1) + "\n")
    with pytest.raises(BundleError, match=message):
        Bundle.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff\xfe", "null"])
def test_a_damaged_card_is_refused(make, text):
    folder = make()
    (folder / "bundle.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Bundle.load(folder)


def test_a_truncated_graph_is_refused(make):
    folder = make()
    data = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(data[:-10])
    with pytest.raises(BundleError, match="damaged"):
        Bundle.load(folder)


def test_a_file_that_is_no_graph_is_refused(tmp_path):
    (tmp_path / "graph.onnx").write_bytes(b"\x80\x04 not a graph")
    write_bundle(tmp_path / "bundle", tmp_path / "graph.onnx", info())
    with pytest.raises(BundleError, match="no ONNX graph"):
        Bundle.load(tmp_path / "bundle")


def test_weights_in_other_files_are_refused(make, tmp_path):
    model = graph(1, False)
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    (tmp_path / "graph.onnx").write_bytes(model.SerializeToString())
    folder = write_bundle(tmp_path / "bundle", tmp_path / "graph.onnx", info())
    with pytest.raises(BundleError, match="other files"):
        Bundle.load(folder)


def test_operators_that_are_not_standard_are_refused(make):
    model = graph(1, False)
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    folder = make(model=model)
    with pytest.raises(BundleError, match="not standard"):
        Bundle.load(folder)


def test_a_network_with_other_outputs_is_refused(make):
    with pytest.raises(BundleError, match=r"'probabilities' is \(1, 2\)"):
        Bundle.load(make(model=graph(2, False)))


@pytest.mark.parametrize("threshold", [float("nan"), [0.5, 0.5]])
def test_an_impossible_info_is_not_written(make, tmp_path, threshold):
    with pytest.raises(BundleError, match="threshold"):
        make(info(threshold=threshold))
    assert not (tmp_path / "bundle").exists()


def test_loading_and_predicting_need_no_torch(make, tmp_path):
    Image.fromarray(grey(255)[0]).save(tmp_path / "white.png")
    shutil.move(make(), tmp_path / "elsewhere")
    code = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'timm', 'onnxscript'): sys.modules[name] = None\n"
        "from layerwise.serving.bundle import Bundle\n"
        "print(Bundle.load(sys.argv[1]).predict([sys.argv[2]])[0, 0])\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "elsewhere", tmp_path / "white.png"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(sigmoid(4.0), abs=1e-5)

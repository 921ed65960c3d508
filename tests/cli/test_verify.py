"""`layerwise verify` as a user meets it."""

import hashlib
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from layerwise.cli.main import main
from layerwise.serving.bundle import BundleInfo, Preprocessing, write_bundle


@pytest.fixture
def bundle(tmp_path):
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Div", ["f", "scale"], ["probabilities"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 4, 4, 1])
    out = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 1])
    given = [numpy_helper.from_array(np.float32(255), "scale")]
    made = helper.make_graph(nodes, "grey", [pixels], [out], given)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(made, opset_imports=opset, ir_version=8), tmp_path / "g.onnx")
    how = Preprocessing((4, 4), 1, letterbox=False)
    info = BundleInfo("grey", "binary", ("a", "b"), how, provenance={"licence": "mit"})
    return write_bundle(tmp_path / "bundle", tmp_path / "g.onnx", info)


def test_a_whole_bundle(bundle, capsys):
    assert main(["verify", str(bundle)]) == 0
    said = capsys.readouterr().out
    digest = hashlib.sha256((bundle / "model.onnx").read_bytes()).hexdigest()
    name = hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()[:12]
    assert f"model.onnx: sha256 {digest[:16]}" in said and f"id {name}" in said
    assert "licence of the weights: mit" in said
    assert main(["verify", str(bundle), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True and found["id"] == name and found["format"] == 2
    assert found["files"]["model.onnx"]["sha256"] == digest
    assert sorted(found["files"]) == ["README.md", "model.onnx"]


@pytest.mark.parametrize("name", ["README.md", "bundle.json", "model.onnx"])
def test_an_altered_one_is_refused_by_name(bundle, capsys, name):
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content.replace(b"e", b"f", 1))
    assert main(["verify", str(bundle), "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and name in said.err and "Copy the whole folder again" in said.err
    (bundle / name).unlink()
    assert main(["verify", str(bundle)]) == 2
    assert f"{name} is missing" in capsys.readouterr().err


def test_a_folder_that_is_none(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 2
    assert "bundle.json is missing" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "nowhere")]) == 2
    assert "is no bundle" in capsys.readouterr().err

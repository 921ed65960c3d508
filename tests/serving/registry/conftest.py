"""Bundles that weigh the two halves of an 8 × 8 picture: which is better can be worked out."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from layerwise.serving.bundle import BundleInfo, Preprocessing, write_bundle

LABELS = ("NORMAL", "PNEUMONIA")


def graph(left, right):
    """probability = sigmoid(left · (mean of the left half) + right · (mean of the right half)).

    Means are of grey / 255 − ½.
    """
    weights = np.zeros((8, 8, 1), np.float32)
    weights[:, :4], weights[:, 4:] = left / 32 / 255, right / 32 / 255
    constants = {"weights": weights.reshape(64, 1), "shift": np.float32([-(left + right) / 2])}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["product"]),
        helper.make_node("Add", ["product", "shift"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probabilities"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 8, 8, 1])
    out = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 1])
    given = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "halves", [pixels], [out], given)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def make_bundle(tmp_path):
    """Write a bundle and give its folder."""

    def write(name="bundle", left=8.0, right=0.0, **changes):
        path = tmp_path / f"{name}.onnx"
        onnx.save(graph(left, right), path)
        values = {
            "name": name,
            "task": "binary",
            "labels": LABELS,
            "threshold": 0.5,
            "preprocessing": Preprocessing((8, 8), 1, letterbox=False),
            "provenance": {"run": name, "data_fingerprint": "f" * 64},
        }
        return write_bundle(tmp_path / name, path, BundleInfo(**{**values, **changes}))

    return write

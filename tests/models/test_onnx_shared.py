"""Graphs in which the same is computed twice, and what looks the same and is not."""

import numpy as np
import onnx
import torch
from torch import nn

from layerwise.models.onnx_graph import export_graph
from layerwise.models.onnx_session import Session
from layerwise.models.onnx_shared import compute_once


class Both(nn.Module):
    """Two branches of equal weights, a third of others, a fourth of the same with a stride."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.twin, self.other, self.wide = (nn.Conv2d(1, 4, 3) for _ in range(4))
        self.twin.load_state_dict(self.one.state_dict())
        self.wide.load_state_dict(self.one.state_dict())
        self.wide.stride = (2, 2)

    def forward(self, pixels):
        x = pixels.permute(0, 3, 1, 2).float() / 255
        a, b, c = self.one(x).relu(), self.twin(x).relu(), self.other(x).relu()
        return a.mean((2, 3)) + 2 * b.mean((2, 3)) - c.mean((2, 3)), self.wide(x), a


def test_equal_branches_become_one_and_say_the_same(tmp_path):
    path = tmp_path / "g.onnx"
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    names = ["mean", "wide", "maps"]
    export_graph(Both(), (torch.from_numpy(pixels),), path, names)
    before = Session(path).run(pixels)
    compute_once(path)
    after, graph = Session(path), onnx.load(path).graph
    onnx.checker.check_model(str(path))
    for got, wanted in zip(after.run(pixels), before, strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert list(after.outputs) == names
    assert sum(node.op_type == "Conv" for node in graph.node) == 3
    shapes = [tuple(w.dims) for w in graph.initializer]
    assert shapes.count((4, 1, 3, 3)) == 2  # the twin's and the strided one's are the first one's
    whole = path.read_bytes()
    compute_once(path)
    assert path.read_bytes() == whole  # nothing is left to be done

"""A session fixed to a batch: the same bits as a free one, and paddings folded away."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from timm.layers import create_conv2d
from torch import nn

from layerwise.models.onnx_graph import export_graph
from layerwise.models.onnx_session import Session, open_graph
from layerwise.models.pixels import InputContract, Pixels

SIDE = 17  # odd: TensorFlow's "same" padding is then not the same on both sides


class Net(nn.Module):
    """Two strided convolutions padded by what the input's size asks for; two outputs."""

    def __init__(self):
        super().__init__()
        self.pixels = Pixels(InputContract(SIDE, SIDE, 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
        self.first = create_conv2d(3, 8, 4, stride=2, padding="same")
        self.second = create_conv2d(8, 8, 3, stride=2, padding="same", depthwise=True)

    def forward(self, images):
        maps = self.second(torch.relu(self.first(self.pixels(images))))
        return maps, maps.mean(dim=(2, 3))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(3)
    net = Net().eval()
    path = tmp_path_factory.mktemp("graph") / "m.onnx"
    export_graph(net, (pictures(2),), path, ["maps", "means"])
    return net, path


def pictures(n):
    generator = torch.Generator().manual_seed(n)
    return torch.randint(0, 256, (n, SIDE, SIDE, 1), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("n", [1, 3, 4])
def test_a_fixed_batch_has_the_bits_of_a_free_one(exported, n):
    net, path = exported
    images = pictures(n)
    fixed = Session(path, threads=1, batch=4).run(images.numpy())
    free = Session(path, threads=1).run(images.numpy())
    with torch.no_grad():
        wanted = net(images)
    for one, other, want in zip(fixed, free, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.shape == want.shape
        np.testing.assert_allclose(one, want.numpy(), rtol=0, atol=1e-5)


def test_more_than_the_fixed_batch_is_refused(exported):
    with pytest.raises(ValueError, match="5 pictures for a graph fixed to 4"):
        Session(exported[1], threads=1, batch=4).run(pictures(5).numpy())


def test_paddings_are_folded_into_their_convolutions(exported, tmp_path, monkeypatch):
    """What the fixed batch is for; if ONNX Runtime stops doing it, this says so."""
    made = onnxruntime.SessionOptions

    def operators(batch):
        target = tmp_path / f"{batch}.onnx"

        def options():
            out = made()
            out.optimized_model_filepath = str(target)
            return out

        monkeypatch.setattr(onnxruntime, "SessionOptions", options)
        Session(exported[1], threads=1, batch=batch)
        return [node.op_type for node in onnx.load(target).graph.node]

    assert operators(None).count("Pad") == 2
    found = operators(4)
    assert "Pad" not in found and "Shape" not in found
    assert sum(kind in ("Conv", "FusedConv") for kind in found) == 2


def test_a_session_that_shares_has_the_same_bits(exported):
    _, path = exported
    images = pictures(3).numpy()
    pairs = zip(
        Session(path, threads=2, shares=True).run(images),
        Session(path, threads=2).run(images),
        strict=True,
    )
    for one, other in pairs:
        np.testing.assert_array_equal(one, other)
    options = open_graph(path, shares=True).get_session_options()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"

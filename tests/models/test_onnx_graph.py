"""Exported graphs against the network itself, on pictures and batches the tracer never saw."""

import os

import numpy as np
import pytest
import torch
from torch import nn

from layerwise.errors import ModelError
from layerwise.models.onnx_graph import export_graph
from layerwise.models.onnx_session import Session


class Net(nn.Module):
    """uint8 NHWC in; the pooled features and the scores out."""

    def __init__(self, pool: int | tuple[int, int], size: tuple[int, int]):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.pool = nn.AdaptiveAvgPool2d(pool)
        with torch.no_grad():
            features = self.pool(torch.zeros(1, 6, *size)).numel()
        self.fc = nn.Linear(features, 4)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, pixels):
        x = pixels.permute(0, 3, 1, 2).float() / 255
        x = self.pool(torch.relu(self.norm(self.conv(x)))).flatten(1)
        return x, self.fc(self.drop(x)).softmax(1)


def pictures(n, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8, generator=generator)


# 1: one mean; 4: a factor of 16; 7: no factor, larger than some inputs; (3, 5): not square
@pytest.mark.parametrize("pool", [1, 4, 7, (3, 5)])
@pytest.mark.parametrize("size", [(32, 32), (9, 22)])
def test_outputs_equal_for_every_batch(tmp_path, pool, size):
    torch.manual_seed(1)
    net = Net(pool, ((size[0] + 1) // 2, (size[1] + 1) // 2)).eval()
    export_graph(net, (pictures(2, *size),), tmp_path / "m.onnx", ["features", "scores"])
    session = Session(tmp_path / "m.onnx", threads=1)
    assert session.outputs == ("features", "scores")
    assert session.pixel_shape == (*size, 3)
    for n in (1, 2, 7):
        x = pictures(n, *size, seed=n)
        with torch.no_grad():
            wanted = net(x)
        for got, want in zip(session.run(x.numpy()), wanted, strict=True):
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, want.numpy(), atol=1e-5)


def test_training_mode_and_weights_are_left_alone(tmp_path):
    net = Net(1, (16, 16)).train()
    net.norm.eval()  # a frozen part inside a network that learns
    before = {k: v.clone() for k, v in net.state_dict().items()}
    export_graph(net, (pictures(2, 32, 32),), tmp_path / "m.onnx", ["f", "s"])
    assert net.training and net.drop.training and not net.norm.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_same_network_same_bytes_one_file_and_no_path_inside(tmp_path):
    net = Net(1, (16, 16))
    for name in ("a.onnx", "b.onnx"):
        export_graph(net, (pictures(2, 32, 32),), tmp_path / name, ["f", "s"])
    data = (tmp_path / "a.onnx").read_bytes()
    assert data == (tmp_path / "b.onnx").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.onnx", "b.onnx"]
    assert os.path.dirname(__file__).encode() not in data


class Unknown(nn.Module):
    def forward(self, pixels):
        return torch.linalg.svdvals(pixels[..., 0].float())


def test_an_operation_without_onnx_form_is_refused_in_silence(tmp_path, capfd):
    with pytest.raises(ModelError, match="--model"):
        export_graph(Unknown(), (pictures(2, 8, 8),), tmp_path / "m.onnx", ["s"])
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_a_batch_of_one_does_not_fix_the_batch(tmp_path):
    export_graph(Net(1, (4, 4)), (pictures(1, 8, 8),), tmp_path / "m.onnx", ["f", "s"])
    features, _ = Session(tmp_path / "m.onnx").run(pictures(5, 8, 8).numpy())
    assert features.shape == (5, 6)


def test_an_example_of_another_type_is_refused(tmp_path):
    with pytest.raises(ValueError, match="uint8"):
        export_graph(Net(1, (4, 4)), (torch.zeros(2, 8, 8, 3),), tmp_path / "m.onnx", ["f", "s"])


def test_session_refuses_what_is_no_graph_and_wrong_pixels(tmp_path):
    with pytest.raises(FileNotFoundError):
        Session(tmp_path / "absent.onnx")
    with pytest.raises(ValueError, match="not a usable ONNX graph"):
        Session(b"not a graph")
    export_graph(Net(1, (4, 4)), (pictures(2, 8, 8),), tmp_path / "m.onnx", ["f", "s"])
    session = Session((tmp_path / "m.onnx").read_bytes())
    with pytest.raises(ValueError, match="uint8"):
        session.run(np.zeros((1, 8, 8, 3), np.float32))
    with pytest.raises(ValueError, match=r"\(N, 8, 8, 3\)"):
        session.run(np.zeros((1, 9, 8, 3), np.uint8))

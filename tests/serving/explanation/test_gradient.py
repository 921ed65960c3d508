"""Gradients as graphs, against autograd: in torch and in ONNX Runtime, with any batch."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from layerwise.errors import ModelError
from layerwise.models.onnx_graph import write_graph
from layerwise.models.onnx_session import open_graph
from layerwise.serving.explanation.gradient import gradient_graph

K = 3


def convolutional() -> nn.Module:
    """Strides that leave a rest, groups, overlapping windows, work in place."""
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.Hardswish(inplace=True),
        nn.AvgPool2d(2, 1, 1, count_include_pad=False),
        nn.ReLU6(),
        nn.ConvTranspose2d(6, 4, 2, stride=2),
        nn.AdaptiveAvgPool2d((3, 2)),
        nn.Flatten(),
        nn.Linear(24, 8),
        nn.LeakyReLU(),
        nn.Linear(8, K),
    )


class Squeezing(nn.Module):
    """What efficient and mobile networks do, and padding of one side as TensorFlow has it."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)
        self.body, self.norm = nn.Conv2d(4, 8, 3, stride=2), nn.GroupNorm(2, 8)
        self.head = nn.Linear(8, K)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.wide(F.silu(self.narrow(x.mean((2, 3), keepdim=True)))).sigmoid()
        x = F.gelu(self.norm(self.body(F.pad(x * gate, (0, 1, 1, 0)))))
        return self.head(F.hardsigmoid(x).mean((2, 3)))


class Attending(nn.Module):
    """Tokens: a class token from nowhere, two kinds of attention, the class token's answer."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.bias = nn.Parameter(torch.randn(1, 1, 4)), nn.Parameter(torch.randn(5, 2))
        self.norm, self.qkv = nn.LayerNorm(4), nn.Linear(4, 12)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, K)
        self.register_buffer("index", torch.arange(7 * 9 + 1).reshape(8, 8) % 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)[:, 1:8]  # (N, 7, 4)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        q, k, v = self.qkv(self.norm(x)).reshape(len(x), 8, 3, 2, 2).permute(2, 0, 3, 1, 4)
        bias = self.bias[self.index].permute(2, 0, 1)[None]
        x = x + F.scaled_dot_product_attention(q, k, v, bias).transpose(1, 2).flatten(2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(F.softmax(x, dim=-1)[:, 0] + x[:, 1])


class Rolling(nn.Module):
    """Windows that are shifted, every second column, tokens channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.head = nn.Linear(8, 4), nn.Linear(4, K)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.roll(x.permute(0, 2, 3, 1), (-2, 1), (1, 2))  # (N, 7, 6, 4)
        x = self.reduce(torch.cat([x[:, 0::2, 1::2], x[:, 0:4, 0:3]], -1))
        left, right = x.chunk(2, dim=-1)
        x = torch.stack([left.tanh(), right.exp()], dim=1).amax(-1, keepdim=True)
        x = (x * left[:, None].square()).flatten(1, 2).permute(0, 3, 1, 2)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1).repeat(1, 2))


TOPS = {"convolutional": convolutional} | {
    kind.__name__.lower(): kind for kind in (Squeezing, Attending, Rolling)
}


@pytest.fixture(params=TOPS)
def top(request):
    torch.manual_seed(0)
    made = TOPS[request.param]().eval()
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.normal_(part.weight)
    return made


def activation(count: int) -> Tensor:
    """With zeros in it, so that windows have several highest values."""
    return torch.randn(count, 4, 7, 6, generator=torch.manual_seed(count)).relu()


def wanted(top: nn.Module, x: Tensor, seed: Tensor) -> np.ndarray:
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(top(x), x, seed)
    return gradient.numpy()


def test_equals_autograd_for_any_number_of_pictures(top, tmp_path):
    graph = gradient_graph(top, activation(2), K)
    inputs = {"x": activation(2), "seed": torch.eye(K)[:2]}
    write_graph(graph, inputs, tmp_path / "g.onnx", ["gradient"], fold=False)
    session = open_graph(tmp_path / "g.onnx")
    for count in (1, 2, 5):
        x, seed = activation(count), torch.randn(count, K, generator=torch.manual_seed(9))
        expected = wanted(top, x, seed)
        size = np.abs(expected).max()
        assert size > 1e-5
        np.testing.assert_allclose(graph(x, seed).detach(), expected, atol=1e-5 * size)
        (got,) = session.run(None, {"x": x.numpy(), "seed": seed.numpy()})
        np.testing.assert_allclose(got, expected, atol=1e-4 * size)


def test_of_a_linear_top_only_its_weights_are_left():
    torch.manual_seed(0)
    top = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(4, K))
    graph = gradient_graph(top.eval(), activation(1), K)
    x, seed = graph.graph.find_nodes(op="placeholder")
    assert not x.users and seed.users
    got = graph(activation(2), torch.eye(K)[:2]).detach()
    by_hand = top[3].weight[:2, :, None, None].expand(2, 4, 7, 6) / 42
    np.testing.assert_allclose(got, by_hand.detach(), rtol=1e-6)


def test_what_has_no_graph_is_refused():
    class Sorting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :K] * len(x)

    with pytest.raises(ModelError, match="number of pictures"):
        gradient_graph(Sorting(), activation(2), K)
    with pytest.raises(ModelError, match="can not be followed"):
        gradient_graph(nn.Sequential(nn.Flatten(), nn.Linear(7, K)), activation(2), K)

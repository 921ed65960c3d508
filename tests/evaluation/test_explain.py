"""Grad-CAM against its closed form and against finite differences."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from layerwise.errors import ModelError
from layerwise.evaluation.explain import grad_cam


class Toy(nn.Module):
    """Pixels → three maps → global average → linear; the ReLU works in place on purpose."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.maps = nn.Conv2d(1, 3, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(3, outputs)

    def bottom(self, images: torch.Tensor) -> torch.Tensor:
        return self.relu(self.maps(images.permute(0, 3, 1, 2).float() / 255))

    def top(self, activation: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(activation.mean((2, 3))))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.top(self.bottom(images))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (4, 8, 6, 1), generator=torch.manual_seed(1)).to(torch.uint8)


def expected(network: Toy, images: torch.Tensor, weights: torch.Tensor) -> np.ndarray:
    """Zhou et al.'s CAM, to which Grad-CAM reduces here: ReLU(Σ w_k A_k), scaled."""
    with torch.no_grad():
        heat = F.relu(torch.einsum("nchw,nc->nhw", network.bottom(images), weights))
        heat = F.interpolate(heat[:, None], images.shape[1:3], mode="bilinear")[:, 0]
    top = heat.amax((1, 2), keepdim=True)
    return torch.where(top > 0, heat / top, heat).numpy()


def test_is_cam_on_a_pooled_linear_network(images: torch.Tensor) -> None:
    network = Toy(4)
    for output in range(4):
        cam = expected(network, images, network.head.weight[output].detach().expand(4, 3))
        for layer in ("relu", (network.bottom, network.top)):
            heat = grad_cam(network, images, layer, output)
            assert heat.shape == (4, 8, 6) and heat.dtype == np.float32
            np.testing.assert_allclose(heat, cam, atol=1e-5)


def test_the_decided_class_of_one_logit(images: torch.Tensor) -> None:
    network = Toy(1)
    classes = torch.tensor([1, 0, 0, 1])
    sign = torch.where(classes == 1, 1.0, -1.0)[:, None]
    cam = expected(network, images, sign * network.head.weight.detach())
    np.testing.assert_allclose(grad_cam(network, images, "relu", classes), cam, atol=1e-5)
    positive, negative = (grad_cam(network, images, "relu", c) for c in (1, 0))
    assert not np.allclose(positive, negative)


def test_weights_are_the_gradient_by_finite_differences(images: torch.Tensor) -> None:
    torch.manual_seed(3)
    top = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2)).double()
    network = Toy(2)

    def bottom(x: torch.Tensor) -> torch.Tensor:
        return network.bottom(x).double()

    activation = bottom(images).detach()
    top(activation)  # makes the lazy layer
    weights = torch.zeros(4, 3, dtype=torch.float64)
    with torch.no_grad():
        for k in range(3):  # a shift of the whole map moves the logit by the sum of its gradient
            shift = torch.zeros(1, 3, 1, 1, dtype=torch.float64)
            shift[0, k] = 1e-5
            weights[:, k] = (top(activation + shift) - top(activation - shift))[:, 1] / 2e-5
    weights /= activation[0, 0].numel()
    heat = F.relu((weights[:, :, None, None] * activation).sum(1, keepdim=True)).float()
    heat = F.interpolate(heat, (8, 6), mode="bilinear")[:, 0]
    peak = heat.amax((1, 2), keepdim=True)
    expected_heat = torch.where(peak > 0, heat / peak, heat).numpy()
    got = grad_cam(nn.ModuleList([network, top]), images, (bottom, top), 1)
    np.testing.assert_allclose(got, expected_heat, atol=1e-4)


class Tokens(nn.Module):
    """A small ViT: 2×2 patches, a class token in front, attention, the class token's answer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(1, 6, 2, stride=2)
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, 3)

    def bottom(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patch(images.permute(0, 3, 1, 2).float() / 255).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)  # (N, 1 + 16, 6)

    def top(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0][:, 0])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.top(self.bottom(images))


def test_tokens_and_channels_last_by_hand() -> None:
    network = Tokens()
    images = torch.randint(0, 256, (3, 8, 8, 1), generator=torch.manual_seed(1)).to(torch.uint8)
    tokens = network.bottom(images).detach().requires_grad_()
    (slope,) = torch.autograd.grad(network.top(tokens)[:, 2].sum(), tokens)
    raw = np.zeros((3, 1, 4, 4), np.float32)
    for n in range(3):
        weights = slope[n, 1:].mean(0)  # eq. 1, over the 16 places and not the class token
        for place in range(16):
            heat = float(weights @ tokens[n, 1 + place].detach())
            raw[n, 0, place // 4, place % 4] = max(heat, 0.0)  # eq. 2, row by row
    wanted = F.interpolate(torch.from_numpy(raw), (8, 8), mode="bilinear")[:, 0]
    wanted = wanted / wanted.amax((1, 2), keepdim=True)
    got = grad_cam(network, images, (network.bottom, network.top), 2, layout="tokens", prefix=1)
    np.testing.assert_allclose(got, wanted.numpy(), atol=1e-5)

    def bottom(x: torch.Tensor) -> torch.Tensor:  # the same places as (N, 4, 4, 6)
        return network.bottom(x)[:, 1:].unflatten(1, (4, 4))

    def top(x: torch.Tensor) -> torch.Tensor:
        return network.top(torch.cat([network.token.expand(len(x), -1, -1), x.flatten(1, 2)], 1))

    got = grad_cam(network, images, (bottom, top), 2, layout="channels last")
    np.testing.assert_allclose(got, wanted.numpy(), atol=1e-5)
    with pytest.raises(ModelError, match="no maps"):  # 17 tokens are no grid
        grad_cam(network, images, (network.bottom, network.top), 2, layout="tokens")


def test_leaves_nothing_behind(images: torch.Tensor) -> None:
    network = Toy(2).train()
    network.maps.eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)  # frozen networks are explained too
    modes = [m.training for m in network.modules()]
    grad_cam(network, images, "relu", 0)
    assert [m.training for m in network.modules()] == modes
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())
    assert not any(m._forward_hooks for m in network.modules())
    with pytest.raises(ModelError, match="no maps"):
        grad_cam(network, images, "head", 0)
    assert [m.training for m in network.modules()] == modes
    assert not any(m._forward_hooks for m in network.modules())
    with pytest.raises(ModelError, match="no module 'nowhere'"):
        grad_cam(network, images, "nowhere", 0)


def test_works_inside_no_grad_and_on_nothing(images: torch.Tensor) -> None:
    network = Toy(2)
    with torch.no_grad():
        heat = grad_cam(network, images, "relu", 1)
    np.testing.assert_array_equal(heat, grad_cam(network, images, "relu", 1))
    assert grad_cam(network, images[:0], "relu", 1).shape == (0, 8, 6)

"""Layers of our own against torch's."""

import pytest
import torch
from torch import nn

from layerwise.models.networks.layers import RectifiedPool, ResponseNorm


@pytest.mark.parametrize("shape", [(2, 24, 7, 5), (1, 1, 3, 3), (2, 3, 4, 4), (1, 256, 2, 2)])
@pytest.mark.parametrize("scale", [0.1, 300.0])
def test_response_norm_and_its_gradient_are_torchs(shape: tuple[int, ...], scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
    weights = torch.randn(shape, generator=generator, dtype=torch.float64)
    results = []
    for layer in (ResponseNorm(), nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)):
        x = values.clone().requires_grad_()
        out = layer(x)
        (out * weights).sum().backward()
        results.append((out.detach(), x.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("settings", [(2,), (3, 2, 0, 1, False, True)])
def test_a_rectified_pool_is_a_relu_and_a_pool_to_the_bit(settings: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn((4, 8, 15, 16), generator=generator)
    values[0] = -values[0].abs()  # a picture of which nothing is above 0
    results = []
    for layer in (RectifiedPool(*settings), nn.Sequential(nn.ReLU(), nn.MaxPool2d(*settings))):
        x = values.clone().requires_grad_()
        out = layer(x)
        (out**2).sum().backward()
        results.append((out.detach(), x.grad))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)

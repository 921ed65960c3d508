import numpy as np
import pytest
import torch
from PIL import Image

from layerwise.models.heads import PooledLinear, pool
from layerwise.models.pixels import InputContract, Pixels

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("stored", [1, 3])
def test_pixels_are_what_numpy_makes_of_them(stored: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, stored), dtype=np.uint8)
    out = Pixels(InputContract(5, 7, 3, MEAN, STD))(torch.from_numpy(images))
    expected = (np.broadcast_to(images, (2, 5, 7, 3)) / 255.0 - MEAN) / STD
    assert out.dtype == torch.float32
    assert out.shape == (2, 3, 5, 7)
    np.testing.assert_allclose(out.numpy(), expected.transpose(0, 3, 1, 2), atol=2e-6)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_colour_becomes_grey_as_pillow_makes_it() -> None:
    images = np.random.default_rng(1).integers(0, 256, (1, 6, 6, 3), dtype=np.uint8)
    out = Pixels(InputContract(6, 6, 1, (0.0,), (1 / 255,)))(torch.from_numpy(images))
    grey = np.asarray(Image.fromarray(images[0]).convert("L"))
    assert out.shape == (1, 1, 6, 6)
    assert np.abs(out[0, 0].numpy() - grey).max() <= 1  # Pillow rounds


def test_the_contract_is_in_its_words_and_not_in_the_state_dict() -> None:
    pixels = Pixels(InputContract(5, 7, 3, MEAN, STD))
    assert "0.485" in str(pixels) and not pixels.state_dict()


def test_pooling_and_head() -> None:
    maps = torch.randn(2, 3, 4, 5)
    np.testing.assert_allclose(pool(maps), maps.numpy().mean((2, 3)), atol=1e-6)
    tokens = torch.randn(2, 6, 3)
    np.testing.assert_allclose(pool(tokens), tokens.numpy().mean(1), atol=1e-6)
    state = torch.get_rng_state()
    head = PooledLinear(3, 2, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(head.linear.weight, PooledLinear(3, 2, seed=4).linear.weight)
    expected = maps.numpy().mean((2, 3)) @ head.linear.weight.detach().numpy().T
    np.testing.assert_allclose(
        head(maps).detach().numpy(), expected + head.linear.bias.detach().numpy(), atol=1e-6
    )

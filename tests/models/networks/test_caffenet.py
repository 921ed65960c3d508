"""Yosinski's network against Caffe's reference, layer by layer."""

import pytest
import torch

from layerwise.errors import ModelError
from layerwise.models.cuts import cut_points
from layerwise.models.registry import blank, create

LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
# What stands above each layer, pooled and normalised; bvlc_reference_caffenet at 227 pixels.
TOPS = [(96, 27, 27), (256, 13, 13), (384, 13, 13), (384, 13, 13), (256, 6, 6), (4096,), (4096,)]
TOPS_32 = [(16, 16, 16), (32, 8, 8), (64, 8, 8), (64, 8, 8), (32, 4, 4), (256,), (256,)]


@pytest.mark.parametrize(
    ("name", "size", "tops"), [("caffenet", 227, TOPS), ("caffenet-32", 32, TOPS_32)]
)
def test_its_seven_layers_are_its_main_cuts(name: str, size: int, tops: list) -> None:
    network = blank(name, outputs=1000)
    assert network.contract.height == network.contract.width == size
    main = [c for c in cut_points(network.module, (3, size, size)) if c.block]
    assert [cut.name for cut in main] == LAYERS
    assert [cut.shape for cut in main] == tops


def test_parameters_are_those_of_caffe() -> None:
    module = blank("caffenet", outputs=1000).module
    # (weights, biases) of bvlc_reference_caffenet.caffemodel
    expected = {
        **{"conv1": (34848, 96), "conv2": (307200, 256), "conv3": (884736, 384)},
        **{"conv4": (663552, 384), "conv5": (442368, 256), "fc6": (37748736, 4096)},
        **{"fc7": (16777216, 4096), "fc8": (4096000, 1000)},
    }
    found = {name: (0, 0) for name in expected}
    for name in expected:
        layer = module.get_submodule(name)
        found[name] = (layer.weight.numel(), layer.bias.numel())
    assert found == expected
    assert sum(p.numel() for p in module.parameters()) == 60_965_224


# 39 → 8 → 4 → 2 → 1; 224 → 54 → 27 → 13 → 6; 256 → 62 → 31 → 15 → 7
@pytest.mark.parametrize(("size", "side"), [(39, 1), (224, 6), (256, 7)])
def test_other_sizes_and_labels_follow_the_closed_form(size: int, side: int) -> None:
    module = blank("caffenet", outputs=3, channels=1, image_size=size).module
    below = (121 + 1) * 96 + (25 * 48 + 1) * 256 + (9 * 256 + 1) * 384
    below += (9 * 192 + 1) * 384 + (9 * 192 + 1) * 256
    expected = below + (256 * side**2 + 1) * 4096 + 4097 * 4096 + 4097 * 3
    assert sum(p.numel() for p in module.parameters()) == expected


@pytest.mark.parametrize(("size", "side"), [(8, 1), (32, 4), (48, 6)])
def test_the_small_one_follows_the_closed_form_too(size: int, side: int) -> None:
    module = blank("caffenet-32", outputs=10, image_size=size).module
    below = (25 * 3 + 1) * 16 + (25 * 8 + 1) * 32 + (9 * 32 + 1) * 64
    below += (9 * 32 + 1) * 64 + (9 * 32 + 1) * 32
    below += 2 * (16 + 32 + 64 + 64 + 32)  # scales and shifts of the batch normalisations
    expected = below + (32 * side**2 + 1) * 256 + 257 * 256 + 257 * 10
    assert sum(p.numel() for p in module.parameters()) == expected


@pytest.mark.parametrize(("name", "smallest"), [("caffenet", 39), ("caffenet-32", 8)])
def test_smaller_pictures_are_refused(name: str, smallest: int) -> None:
    with pytest.raises(ModelError, match=f"{name} needs pictures of at least {smallest} pixels"):
        blank(name, outputs=1, image_size=smallest - 1)


@pytest.mark.parametrize("name", ["caffenet", "caffenet-32"])
def test_the_answer_is_that_of_the_layers_written_out(name: str) -> None:
    size = {"caffenet": 67, "caffenet-32": 32}[name]
    network = create(name, outputs=5, image_size=size, seed=2)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        x = torch.randn(2, 3, size, size) * 100
        for part in network.module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2)
                torch.nn.init.normal_(part.weight)
                torch.nn.init.normal_(part.bias)
    state = network.module.eval().state_dict()
    f = torch.nn.functional

    def conv(x: torch.Tensor, layer: str, groups: int, **how: int) -> torch.Tensor:
        weight, bias = state[f"{layer}.weight"], state[f"{layer}.bias"]
        parts = zip(x.chunk(groups, 1), weight.chunk(groups), bias.chunk(groups), strict=True)
        return torch.cat([f.conv2d(a, w, b, **how) for a, w, b in parts], 1).relu()

    def pool(x: torch.Tensor) -> torch.Tensor:
        """Windows of 3 in steps of 2 over what is padded with minus infinity at the far edges."""
        padded = f.pad(x, (0, 1, 0, 1), value=float("-inf")) if x.shape[-1] % 2 == 0 else x
        return f.max_pool2d(padded, 3, 2)

    def norm(x: torch.Tensor, layer: str) -> torch.Tensor:
        """Krizhevsky's for the two lowest of the large network; the small one's of each batch."""
        if name == "caffenet":
            low = layer in {"conv1", "conv2"}
            return f.local_response_norm(x, 5, 1e-4, 0.75, 1.0) if low else x
        mean, var, scale, shift = (
            state[f"{layer}.norm.{k}"][:, None, None]
            for k in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    first = {"stride": 4} if name == "caffenet" else {"padding": 2}
    with torch.no_grad():
        y = norm(pool(conv(x, "conv1", 1, **first)), "conv1")
        y = norm(pool(conv(y, "conv2", 2, padding=2)), "conv2")
        y = norm(conv(y, "conv3", 1, padding=1), "conv3")
        y = norm(conv(y, "conv4", 2, padding=1), "conv4")
        y = norm(pool(conv(y, "conv5", 2, padding=1)), "conv5").flatten(1)
        for layer in ("fc6", "fc7"):
            y = f.linear(y, state[f"{layer}.weight"], state[f"{layer}.bias"]).relu()
        expected = f.linear(y, state["fc8.weight"], state["fc8.bias"])
        torch.testing.assert_close(network.module(x), expected)

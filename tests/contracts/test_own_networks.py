"""What every network of our own must give, beside the cuts that test_cuts asserts of others."""

from pathlib import Path

import numpy as np
import pytest
import torch

from layerwise.models.cuts import cut_points, split
from layerwise.models.onnx_graph import export_graph
from layerwise.models.onnx_session import Session
from layerwise.models.pixels import Pixels
from layerwise.models.registry import available, create

# The large ones at their smallest size and for colour only, so that the suite stays quick.
LARGE = {"alexnet": 67, "vgg16": 32, "caffenet": 39}
SMALL = ["lenet5", "caffenet-32", "cbr-larget", "cbr-largew", "cbr-small", "cbr-tiny", "custom"]
CASES = [(name, size, 3) for name, size in LARGE.items()]
CASES += [(name, 32, channels) for name in SMALL for channels in (1, 3)]


def test_all_of_them_are_here() -> None:
    assert {name for name in available() if ":" not in name} == {*LARGE, *SMALL}


@pytest.mark.parametrize(("name", "size", "channels"), CASES)
def test_split_gradient_seed_and_onnx(name: str, size: int, channels: int, tmp_path: Path) -> None:
    network = create(name, outputs=2, channels=channels, image_size=size, seed=7)
    module = network.module
    if channels == 1:
        again = create(name, outputs=2, channels=1, image_size=size, seed=7).module.state_dict()
        assert all(torch.equal(v, again[k]) for k, v in module.state_dict().items())
    pictures = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    pixels = Pixels(network.contract)
    x = pixels(torch.from_numpy(pictures))
    module.train()(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    module.eval()
    with torch.no_grad():
        whole = module(x)
        for cut in cut_points(module, (channels, size, size)):
            if cut.block:
                bottom, top = split(module, cut.name)
                below = bottom(x)
                assert tuple(below.shape[1:]) == cut.shape
                assert torch.equal(top(below), whole)
    path = tmp_path / "m.onnx"
    export_graph(torch.nn.Sequential(pixels, module), (torch.from_numpy(pictures),), path, ["y"])
    (answers,) = Session(path, threads=1).run(pictures)
    np.testing.assert_allclose(answers, whole.numpy(), atol=1e-4, rtol=1e-4)

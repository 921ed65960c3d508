"""VGG16 against the table of Buluttekin 2020 §4.1.5, and against torchvision's own."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import Tensor
from torchvision.models.vgg import cfgs, make_layers

from layerwise.errors import ModelError
from layerwise.models.networks.foreign import IMAGENET_MEAN, IMAGENET_STD
from layerwise.models.registry import blank, create
from layerwise.models.weights import fit_weights, read_weights


def torchvision_state() -> tuple[dict[str, Tensor], torch.nn.Module]:
    """A whole state dict of torchvision's vgg16, and the real layers that make its features."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        features = make_layers(cfgs["D"])
    state = {f"features.{name}": value for name, value in features.state_dict().items()}
    shapes = blank("torchvision:vgg16", outputs=1000).module.state_dict()
    for name, empty in shapes.items():
        if name not in state:  # its classifier of 124 million parameters: one zero seen often
            state[name] = torch.zeros(1).expand(empty.shape)
    assert state.keys() == shapes.keys()
    assert all(state[name].shape == shapes[name].shape for name in shapes)
    return state, features


def test_shapes_and_parameters_are_those_of_the_thesis(layer_shapes) -> None:
    network = blank("vgg16", outputs=1)
    found = layer_shapes(network)
    pools = [f"features.{i}" for i in (4, 9, 16, 23, 30)]
    assert [found[name][1] for name in pools] == [
        *((64, 112, 112), (128, 56, 56), (256, 28, 28)),
        *((512, 14, 14), (512, 7, 7)),
    ]
    assert found["pool"][1] == (512, 1, 1)
    classifier = network.module.get_submodule("classifier")
    counts = [sum(p.numel() for p in layer.parameters()) for layer in classifier]
    assert counts == [2101248, 0, 0, 16781312, 0, 0, 4097]
    assert [found[f"classifier.{i}"][1] for i in range(7)] == [(4096,)] * 6 + [(1,)]
    below = sum(p.numel() for p in network.module.get_submodule("features").parameters())
    assert below == 14_714_688
    assert sum(p.numel() for p in network.module.parameters()) == 33_601_345


def test_other_sizes_channels_and_labels_follow_the_closed_form() -> None:
    for size, channels, outputs in ((32, 1, 7), (100, 3, 1000)):
        module = blank("vgg16", outputs=outputs, channels=channels, image_size=size).module
        below = 14_714_688 - (3 - channels) * 9 * 64
        expected = below + 513 * 4096 + 4097 * 4096 + 4097 * outputs
        assert sum(p.numel() for p in module.parameters()) == expected
    with pytest.raises(ModelError, match="vgg16 needs pictures of at least 32 pixels, not 31"):
        blank("vgg16", outputs=1, image_size=31)


@pytest.mark.parametrize("outputs", [1, 1000])
def test_weights_of_torchvision_fit_without_their_classifier(outputs: int, tmp_path: Path) -> None:
    state, features = torchvision_state()
    torch.save(state, tmp_path / "vgg16.pth")
    network = blank("vgg16", outputs=outputs)
    found = read_weights(str(tmp_path / "vgg16.pth"), network)
    fitted, (note,) = fit_weights(found, network, "vgg16.pth")
    assert "classifier of vgg16.pth" in note and "dropped" in note
    assert set(fitted) == {name for name in state if name.startswith("features.")}
    ours = network.module.get_submodule("features").to_empty(device="cpu")
    ours.load_state_dict({name.removeprefix("features."): v for name, v in fitted.items()})
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(ours(x), features(x))


def test_pretrained_means_torchvisions_weights_and_their_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state, _ = torchvision_state()
    asked: list[str] = []

    def offered(name: str) -> list[SimpleNamespace]:
        asked.append(name)
        return [SimpleNamespace(get_state_dict=lambda progress: state)]

    network = blank("vgg16", outputs=2)
    monkeypatch.setattr(torchvision.models, "get_model_weights", offered)
    fitted, _ = fit_weights(read_weights("pretrained", network), network, "pretrained")
    assert asked == ["vgg16"]
    assert torch.equal(fitted["features.28.weight"], state["features.28.weight"])
    assert network.contract.mean == IMAGENET_MEAN
    assert network.contract.std == IMAGENET_STD


def test_what_tells_two_pictures_apart_reaches_the_top_of_an_untrained_network() -> None:
    features = create("vgg16", outputs=1, image_size=32).module.get_submodule("features")
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        pictures = torch.randn(2, 3, 64, 64)

        def difference() -> float:
            one, two = features(pictures)
            return float((one - two).std())

        ours = difference()
        for layer in features:
            if isinstance(layer, torch.nn.Conv2d):
                layer.reset_parameters()
        assert ours > 0.01
        assert difference() < ours / 1000  # from PyTorch's own start

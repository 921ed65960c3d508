from collections.abc import Iterator
from functools import partial

import pytest
import timm
import torch
from torch import nn

from layerwise.errors import ModelError
from layerwise.models import registry
from layerwise.models.cuts import cut_points
from layerwise.models.pixels import InputContract
from layerwise.models.registry import available, blank, create, cuts_of, register


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small pictures: threads only wait for each other
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 1), (32, 3), (64, 3)])
def test_lenet_takes_other_sizes(size: int, channels: int) -> None:
    network = create("lenet5", outputs=10, channels=channels, image_size=size)
    assert network.module(torch.zeros(2, channels, size, size)).shape == (2, 10)
    assert network.classifier == "fc3"


def test_a_seed_fixes_the_weights_and_leaves_the_global_state() -> None:
    state = torch.get_rng_state()
    one, two, other = (create("lenet5", outputs=2, image_size=32, seed=s).module for s in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.state_dict()["fc3.weight"], other.state_dict()["fc3.weight"])


@pytest.mark.parametrize(
    ("name", "classifier"),
    [
        ("timm:mobilenetv3_small_050", "classifier"),
        ("timm:convnext_atto", "head.fc"),
        ("torchvision:squeezenet1_1", "classifier.1"),
        ("torchvision:mobilenet_v3_small", "classifier.3"),
    ],
)
def test_foreign_networks_tell_their_classifier_and_input(name: str, classifier: str) -> None:
    network = create(name, outputs=3, channels=1, image_size=64)
    assert network.classifier == classifier
    mean, std = (0.485 + 0.456 + 0.406) / 3, (0.229 + 0.224 + 0.225) / 3
    assert network.contract == InputContract(
        64, 64, 1, (pytest.approx(mean),), (pytest.approx(std),)
    )
    assert network.module.eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 3)


def test_the_default_size_is_the_networks_own() -> None:
    assert create("timm:mobilenetv3_small_050", outputs=1).contract.height == 224


def test_arguments_reach_the_constructor() -> None:
    arguments = {"pad_type": "same", "drop_rate": "0.25"}
    module = create("timm:mobilenetv2_050", outputs=2, image_size=32, arguments=arguments).module
    assert type(module.conv_stem).__name__ == "Conv2dSame"
    assert module.drop_rate == 0.25


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("timm:resnet19", {}, "no such network.*timm:resnet18"),
        ("lenet", {}, "lenet5"),
        ("torchvision:resnet17", {}, "torchvision:resnet18"),
        ("lenet5", {"image_size": 16}, "--image-size"),
        (
            "torchvision:squeezenet1_1",
            {"image_size": 8},
            "smallest that it takes are 17×17.*--image-size",
        ),
        ("timm:resnet18", {"arguments": {"colour": "red"}}, "--model-arg colour=red.*colour"),
        ("timm:resnet18", {"arguments": {"num_classes": "3"}}, "--model-arg num_classes.*leave"),
    ],
)
def test_what_can_not_be_made_is_refused_with_the_next_step(
    name: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        create(name, outputs=2, **options)


def test_the_registry_lists_all_and_refuses_duplicates() -> None:
    names = available()
    assert len(set(names)) == len(names) > 1000
    assert {"lenet5", "timm:resnet18", "torchvision:squeezenet1_1"} <= set(names)
    assert len([n for n in names if n.startswith("timm:")]) == len(timm.list_models())
    with pytest.raises(ValueError, match="lenet5"):
        register("lenet5", nn.Identity)


@pytest.mark.parametrize(
    "name", ["lenet5", "timm:test_vit", "timm:test_convnext", "torchvision:squeezenet1_1"]
)
def test_a_blank_network_is_the_same_one_without_weights(name: str) -> None:
    state = torch.get_rng_state()
    empty, full = blank(name, outputs=3), create(name, outputs=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.is_meta for parameter in empty.module.parameters())
    assert (empty.classifier, empty.contract) == (full.classifier, full.contract)
    shapes = [{k: v.shape for k, v in n.module.state_dict().items()} for n in (empty, full)]
    assert shapes[0] == shapes[1]
    size = (3, full.contract.height, full.contract.width)
    assert cut_points(empty.module, size) == cut_points(full.module, size)


def test_equal_networks_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[tuple[int, int, int]] = []
    real = registry.output_shape

    def shape(module: nn.Module, size: tuple[int, int, int]) -> tuple[int, ...]:
        looked.append(size)
        return real(module, size)

    monkeypatch.setattr(registry, "output_shape", shape)
    monkeypatch.setattr(registry, "_SOUND", set())
    monkeypatch.setattr(registry, "_CUTS", {})
    make = partial(create, "timm:test_resnet", outputs=2)
    one, other = make(image_size=32), make(image_size=32, seed=1)
    small = cuts_of(one)
    with monkeypatch.context() as patch:
        patch.setattr(registry, "cut_points", None)  # these are known
        assert cuts_of(other) == small == cut_points(other.module, (3, 32, 32))
    larger, grey = make(image_size=64), make(image_size=32, channels=1)
    assert cuts_of(larger) == cut_points(larger.module, (3, 64, 64)) != small
    assert cuts_of(grey) == cut_points(grey.module, (1, 32, 32)) != small
    wide = make(image_size=32, arguments={"layers": "(1, 2, 1, 1)"})
    assert cuts_of(wide) == cut_points(wide.module, (3, 32, 32)) != small
    assert looked == [(3, 32, 32), (3, 64, 64), (1, 32, 32), (3, 32, 32)]
    for _ in range(2):  # what is wrong is wrong every time
        with pytest.raises(ModelError, match="20×20"):
            blank("torchvision:alexnet", outputs=2, image_size=20)


def test_parameters_that_are_shared_stay_shared_without_memory() -> None:
    class Tied(nn.Module):
        def __init__(self, outputs: int, channels: int, image_size: int) -> None:
            super().__init__()
            self.one = nn.Conv2d(channels, channels, 1)
            self.two = nn.Conv2d(channels, channels, 1)
            self.two.weight = self.one.weight = nn.Parameter(torch.ones(channels, channels, 1, 1))
            self.last = nn.Linear(channels, outputs)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.last(self.two(self.one(x)).mean(dim=(2, 3)))
            return logits

    register("tied", Tied)
    try:
        counts = [
            sum(p.numel() for p in make("tied", outputs=2).module.parameters())
            for make in (blank, create)
        ]
    finally:
        del registry._OURS["tied"]
    assert counts == [9 + 3 + 3 + 8, 9 + 3 + 3 + 8]

from collections.abc import Iterator

import pytest
import timm
import torch
import torchvision
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional

from layerwise.errors import ModelError
from layerwise.models.cuts import canonical, cut_points, homes, section, split, tap, truncate


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small pictures: threads only wait for each other
    yield
    torch.set_num_threads(threads)


class Residual(nn.Module):
    """conv1 (8 channels, half the size) → body with a shortcut → pool → fc."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 4, 1, bias=False)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        x = x + self.bn2(self.conv2(x))
        x = self.last(x).mean((2, 3))
        return self.fc(functional.dropout(x, 0.5, self.training))


def test_a_network_by_hand() -> None:
    found = cut_points(Residual(), (3, 10, 12))
    conv1 = 3 * 8 * 9 + 8
    everything = conv1 + (8 * 8 * 9 + 8) + 16 + 8 * 4
    area = 5 * 6
    assert [(c.name, c.channels, c.stride, c.parameters, c.macs, c.block) for c in found] == [
        ("conv1", 8, 2, conv1, 3 * 8 * 9 * area, False),  # only its activation reads it
        ("relu", 8, 2, conv1, 3 * 8 * 9 * area, True),
        ("last", 4, 2, everything, (3 * 8 * 9 + 8 * 8 * 9 + 8 * 4) * area, True),
    ]


@pytest.mark.parametrize(
    "name", ["timm:resnet10t", "timm:mobilenetv3_small_050", "torchvision:squeezenet1_1"]
)
def test_legal_cuts_are_exactly_those_that_brute_force_finds(name: str) -> None:
    """A module is a cut if, with its output held, nothing else of the input reaches the answer."""
    torch.manual_seed(0)
    source, _, kind = name.partition(":")
    model = timm.create_model(kind) if source == "timm" else torchvision.models.get_model(kind)
    for parameter in model.eval().parameters():  # some branches start with a scale of 0
        parameter.data += 0.05 * torch.randn_like(parameter)
    pictures, other = torch.randn(2, 1, 3, 48, 48)
    calls: dict[str, int] = {}
    outputs: dict[str, Tensor] = {}
    handles = []
    for path, module in model.named_modules():

        def note(_m: nn.Module, _i: object, out: Tensor, path: str = path) -> None:
            calls[path] = calls.get(path, 0) + 1
            outputs[path] = out.clone()

        handles.append(module.register_forward_hook(note))
    with torch.no_grad():
        answer = model(pictures)
    for handle in handles:
        handle.remove()
    cuts = {cut.name for cut in cut_points(model, (3, 48, 48))}
    legal = []
    for path in (path for path, times in calls.items() if times == 1 and path):
        inside = any(isinstance(model.get_submodule(p), BatchNormAct2d) for p in parents(path))
        if torch.equal(outputs[path], answer) or inside:  # normalisation and activation are one
            continue
        held = outputs[path]
        handle = model.get_submodule(path).register_forward_hook(lambda *_, h=held: h.clone())
        with torch.no_grad():
            if torch.equal(model(pictures), model(other)):
                legal.append(path)
        handle.remove()
    assert len(legal) > 15
    assert cuts <= set(legal)
    for path in legal:  # every one is a cut, or ends where one does
        assert any(torch.equal(outputs[path], outputs[cut]) for cut in cuts), path


def parents(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def test_unknown_and_illegal_cuts_say_what_is_near() -> None:
    model = timm.create_model("resnet18")
    with pytest.raises(ModelError, match="no layer 'layer3.7'; near.*layer3"):
        truncate(model, "layer3.7")
    with pytest.raises(
        ModelError,
        match=r"can not be cut at 'layer2.1.conv1'.*below is 'layer2.0'.*above is 'layer2'",
    ):
        truncate(model, "layer2.1.conv1")
    with pytest.raises(ModelError, match="network's output"):
        truncate(model, "fc")
    with pytest.raises(ModelError, match="exchange"):
        section(model, "layer3", "layer2")
    with pytest.raises(ModelError, match="no cut"):
        tap(model, [])


def test_any_module_that_ends_at_a_cut_names_it() -> None:
    model = timm.create_model("mobilenetv2_100")
    assert canonical(model, "blocks.0.0") == canonical(model, "blocks.0.0.bn2") == "blocks.0"


def test_mobilenet_has_nineteen_main_cuts() -> None:
    cuts = [
        c.name for c in cut_points(timm.create_model("mobilenetv2_100", pad_type="same")) if c.block
    ]
    assert len(cuts) == 19
    assert (cuts[0], cuts[1], cuts[4], cuts[-1]) == ("bn1", "blocks.0", "blocks.2.0", "bn2")


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.third = nn.Linear(4, 4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.third(self.second(self.first(x.mean((2, 3))))))


def test_no_cut_between_layers_that_share_weights() -> None:
    assert [cut.name for cut in cut_points(Tied(), (4, 2, 2))] == ["second", "third"]


class Scaled(nn.Module):
    """Parameters of its own, a buffer that is not saved, a constant, a size taken at the input."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.second = nn.Conv2d(4, 4, 1)
        self.gamma = nn.Parameter(torch.full((4, 1, 1), 2.0))
        self.register_buffer("offset", torch.ones(1), persistent=False)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        x = self.second(self.first(x) * self.gamma + self.offset)
        x = x * torch.tensor([0.5])
        return self.fc(x.mean((2, 3)).view(batch, 4))


class LocalSize(Scaled):
    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x) * self.gamma + self.offset)
        return self.fc(x.mean((2, 3)).view(x.shape[0], 4))


def test_a_size_from_below_forbids_a_cut_and_one_from_the_cut_does_not() -> None:
    assert [cut.name for cut in cut_points(Scaled(), (3, 4, 4))] == []
    assert [cut.name for cut in cut_points(LocalSize(), (3, 4, 4))] == ["first", "second"]


def test_parameters_buffers_and_constants_outside_of_modules() -> None:
    model = LocalSize()
    before = set(vars(model))
    bottom, top = split(model, "first")
    assert set(top.state_dict()) == {
        "gamma",
        "second.weight",
        "second.bias",
        "fc.weight",
        "fc.bias",
    }
    x = torch.randn(3, 3, 4, 4)
    assert torch.equal(top(bottom(x)), model(x))
    assert homes(model)["gamma"] == "second" and homes(model)["fc.bias"] is None
    cut_points(Scaled(), (3, 4, 4))
    assert set(vars(model)) == before


class Forgetful(nn.Module):
    """Works in place and does not use the result."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        self.relu(x)
        return self.second(x)


def test_an_unused_operation_in_place_is_not_lost() -> None:
    model = Forgetful()
    x = torch.randn(5, 3)
    bottom, top = split(model, "first")
    assert torch.equal(top(bottom(x)), model(x))
    assert bottom(x).min() < 0 <= tap(model, ["first", "relu"])(x)[1].min()
    assert tap(model, ["first", "relu"])(x)[0].min() < 0  # not overwritten by what follows


class Undecided(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Auxiliary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.aux = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) + self.aux(x) if self.training else self.fc(x)


def test_networks_that_can_not_be_cut_are_refused_with_a_reason() -> None:
    with pytest.raises(ModelError, match="can not be traced"):
        cut_points(Undecided(), (3, 4, 4))
    with pytest.raises(ModelError, match="something else in training"):
        cut_points(nn.Sequential(Auxiliary(), nn.Linear(2, 2)), (3, 4, 4))
    with torch.device("meta"):  # so that its hundred million weights are not drawn
        large = timm.create_model("vgg11")
    with pytest.raises(ModelError, match="--image-size"):
        cut_points(large, (3, 16, 16))

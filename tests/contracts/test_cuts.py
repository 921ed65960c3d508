"""What every network must give: honest cuts. One test a network, on random weights.

The values at the cuts are compared with what forward hooks of the network itself see; parameters
below a cut with those that a backward pass from it reaches.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import timm
import torch
import torchvision
from timm.layers import ClassifierHead
from timm.models.vgg import ConvMlp
from torch import Tensor, nn

from layerwise.models.cuts import Cut, cut_points, split, tap, truncate
from layerwise.models.pixels import InputContract
from layerwise.models.registry import Network
from layerwise.training.network import TransferNetwork
from layerwise.training.transfer import Transfer

# network, arguments, side of the picture
NETWORKS = [
    ("timm:resnet18", {}, 64),
    ("timm:resnet50", {}, 32),
    ("timm:densenet121", {}, 32),
    ("timm:vgg11_bn", {}, 32),
    ("timm:mobilenetv2_100", {}, 64),
    ("timm:mobilenetv2_100", {"pad_type": "same", "drop_rate": 0.2, "drop_path_rate": 0.2}, 64),
    ("timm:mobilenetv3_small_100", {}, 64),
    ("timm:efficientnet_b0", {"drop_path_rate": 0.1}, 32),
    ("timm:convnext_atto", {"drop_path_rate": 0.1}, 64),
    ("timm:convnext_tiny", {}, 32),
    ("timm:regnety_002", {}, 32),
    ("timm:regnetx_002", {}, 32),
    ("timm:ghostnet_100", {}, 32),
    ("timm:dla34", {}, 32),
    ("timm:dla46_c", {}, 32),
    ("timm:xception41", {}, 64),
    ("timm:legacy_xception", {}, 64),
    ("timm:inception_v3", {}, 96),
    ("timm:hrnet_w18_small", {}, 32),
    ("timm:res2net50_26w_4s", {}, 32),
    ("torchvision:squeezenet1_1", {}, 64),
    ("torchvision:mobilenet_v3_small", {}, 64),
    ("torchvision:resnet18", {}, 64),
]
SIBLINGS = {"resnet50", "convnext_tiny", "dla34", "regnetx_002", "legacy_xception"}  # of others
IDS = [f"{name}-{'-'.join(arguments)}".rstrip("-") for name, arguments, _ in NETWORKS]


def make(name: str, arguments: dict[str, object]) -> nn.Module:
    """The network with few classes, and batch-norm statistics and scales that are not neutral."""
    source, _, kind = name.partition(":")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if source == "timm":
            model = timm.create_model(kind, num_classes=5, **arguments)
        else:
            model = torchvision.models.get_model(kind, num_classes=5, **arguments)
        if kind == "vgg11_bn":  # 120 of its 130 million weights, which only cost time here
            model.pre_logits = ConvMlp(512, 32, 7, act_layer=nn.ReLU)
            model.head = ClassifierHead(32, 5)
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
    return model


@dataclass
class Case:
    model: nn.Module
    side: int
    cuts: list[Cut]
    pictures: Tensor  # (4, 3, side, side)

    @property
    def middle(self) -> Cut:
        return self.cuts[len(self.cuts) // 2]


def marks(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if name.split(":")[1] in SIBLINGS else []


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=marks(n[0]), id=i) for n, i in zip(NETWORKS, IDS, strict=True)],
)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small pictures: threads only wait for each other
    name, arguments, side = request.param
    model = make(name, arguments)
    pictures = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(1))
    yield Case(model, side, cut_points(model, (3, side, side)), pictures)
    torch.set_num_threads(threads)


def seen_by_hooks(
    model: nn.Module, names: list[str], x: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """The outputs of modules in a plain forward pass, before anything overwrites them."""
    seen: dict[str, Tensor] = {}

    def hook(name: str) -> object:
        return lambda _module, _inputs, output: seen.__setitem__(name, output.clone())

    handles = [model.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    out = model(x)
    for handle in handles:
        handle.remove()
    return seen, out


def test_cuts_are_many_named_once_and_ordered(case: Case) -> None:
    cuts = case.cuts
    assert 13 <= len(cuts) <= 70
    assert len({cut.name for cut in cuts}) == len(cuts)
    assert sum(cut.block for cut in cuts) >= 4
    for lower, upper in zip(cuts, cuts[1:], strict=False):
        assert lower.parameters <= upper.parameters
        assert lower.macs <= upper.macs


def test_a_network_is_not_changed_by_being_looked_at(case: Case) -> None:
    model = case.model
    modes = [module.training for module in model.modules()]
    names = [set(vars(module)) for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    cut_points(model, (3, case.side, case.side))
    split(model, case.middle.name)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert [module.training for module in model.modules()] == modes
    assert [set(vars(module)) for module in model.modules()] == names
    assert torch.equal(torch.get_rng_state(), random)


def test_one_pass_gives_what_hooks_see_at_every_cut(case: Case) -> None:
    model, x = case.model.eval(), case.pictures[:2]
    names = [cut.name for cut in case.cuts]
    with torch.no_grad():
        seen, _ = seen_by_hooks(model, names, x)
        tapped = tap(model, names[::-1])(x)
    for cut, value in zip(case.cuts[::-1], tapped, strict=True):
        assert torch.equal(value, seen[cut.name]), cut.name
        assert cut.channels == value.shape[1]
        assert cut.stride == (round(case.side / value.shape[2]) if value.ndim == 4 else 0)


@pytest.mark.parametrize("height", [0.3, 1.0])
def test_the_parts_together_are_the_network(case: Case, height: float) -> None:
    model, x = case.model.eval(), case.pictures[:2]
    cut = case.cuts[round(height * (len(case.cuts) - 1))]
    bottom, top = split(model, cut.name)
    with torch.no_grad():
        crossing = bottom(x)
        kept = crossing.clone()
        assert torch.equal(top(crossing), model(x))
        assert torch.equal(crossing, kept), "the upper part wrote into its input"
        assert torch.equal(top(bottom(x[:1])), model(x[:1])), "another batch size"
    lower, upper = set(bottom.state_dict()), set(top.state_dict())
    assert not lower & upper
    assert lower | upper <= set(model.state_dict())
    assert sum(p.numel() for p in bottom.parameters()) == cut.parameters
    mine = dict(model.named_parameters())
    for name, parameter in [*bottom.named_parameters(), *top.named_parameters()]:
        assert parameter is mine[name]  # shared, not copied


def test_parameters_below_are_those_that_a_backward_pass_reaches(case: Case) -> None:
    model = case.model.eval()
    seen, _ = seen_by_hooks(model, [case.middle.name], case.pictures)
    seen[case.middle.name].square().mean().backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    assert {name for name, _ in truncate(model, case.middle.name).named_parameters()} == reached


def test_parts_follow_train_and_eval(case: Case) -> None:
    model, x = case.model, case.pictures
    state = {name: value.clone() for name, value in model.state_dict().items()}
    bottom, top = split(model.eval(), case.middle.name)
    with torch.no_grad():
        torch.manual_seed(3)
        whole = model.train()(x)
        statistics = {n: b.clone() for n, b in model.named_buffers()}
        model.load_state_dict(state)
        torch.manual_seed(3)
        bottom.train(), top.train()
        assert torch.equal(top(bottom(x)), whole)  # dropout, stochastic depth, batch statistics
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, statistics[name]), name
    model.load_state_dict(state)


def test_frozen_means_frozen_and_the_rest_learns(case: Case) -> None:
    model, cut = case.model, case.middle
    contract = InputContract(case.side, case.side, 3, (0.5,) * 3, (0.25,) * 3)
    bottom, top = split(model, cut.name)
    network = TransferNetwork(
        Network("contract", model, "", contract),
        Transfer(freeze=cut.name),
        [],
        bottom,
        top,
        set(),
        {},
    )
    before = {name: value.clone() for name, value in network.weights().items()}
    frozen = set(bottom.state_dict())
    learning = {name: p for name, p in top.named_parameters()}
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.1)
    images = torch.randint(0, 256, (4, case.side, case.side, 3), dtype=torch.uint8)
    for _ in range(2):
        optimizer.zero_grad()
        network.train()(images).square().mean().backward()
        assert [name for name, p in learning.items() if p.grad is None] == []
        assert all(p.grad is None for p in bottom.parameters())
        optimizer.step()
    after = network.weights()
    assert frozen
    assert all(torch.equal(after[name], before[name]) for name in frozen)
    moved = [name for name in learning if not torch.equal(after[name], before[name])]
    assert moved
    statistics = [n for n in after if n.endswith("running_mean") and n not in frozen]
    assert all(not torch.equal(after[name], before[name]) for name in statistics)
    model.requires_grad_(True)

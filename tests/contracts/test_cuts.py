"""What every network must give: honest cuts. One test a network, on random weights.

The values at the cuts are compared with what forward hooks of the network itself see; parameters
below a cut with those that a backward pass from it reaches.
"""

from collections.abc import Iterator

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from layerwise.models.cuts import cut_points, split, tap, truncate

# network, arguments, side of the picture, how many cuts the prototype led to expect
NETWORKS = [
    ("timm:resnet18", {}, 64),
    ("timm:resnet50", {}, 64),
    ("timm:densenet121", {}, 64),
    ("timm:vgg11_bn", {}, 64),
    ("timm:mobilenetv2_100", {}, 64),
    ("timm:mobilenetv2_100", {"pad_type": "same", "drop_rate": 0.2, "drop_path_rate": 0.2}, 64),
    ("timm:mobilenetv3_small_100", {}, 64),
    ("timm:efficientnet_b0", {"drop_path_rate": 0.1}, 64),
    ("timm:convnext_atto", {"drop_path_rate": 0.1}, 64),
    ("timm:convnext_tiny", {}, 64),
    ("timm:regnety_002", {}, 64),
    ("timm:regnetx_002", {}, 64),
    ("timm:ghostnet_100", {}, 64),
    ("timm:dla34", {}, 64),
    ("timm:dla46_c", {}, 64),
    ("timm:xception41", {}, 64),
    ("timm:legacy_xception", {}, 64),
    ("timm:inception_v3", {}, 96),
    ("timm:hrnet_w18_small", {}, 64),
    ("timm:res2net50_26w_4s", {}, 64),
    ("torchvision:squeezenet1_1", {}, 64),
    ("torchvision:mobilenet_v3_small", {}, 64),
    ("torchvision:resnet18", {}, 64),
]
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
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
    return model


@pytest.fixture(params=NETWORKS, ids=IDS)
def network(request: pytest.FixtureRequest) -> Iterator[tuple[nn.Module, int]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small pictures: threads only wait for each other
    name, arguments, side = request.param
    yield make(name, arguments), side
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


def test_cuts_hold_what_they_promise(network: tuple[nn.Module, int]) -> None:
    model, side = network
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cuts = cut_points(model, (3, side, side))
    names = [cut.name for cut in cuts]
    assert 13 <= len(cuts) <= 70
    assert len(set(names)) == len(names)
    assert sum(cut.block for cut in cuts) >= 4
    assert all(a.parameters <= b.parameters for a, b in zip(cuts, cuts[1:], strict=False))
    assert all(a.macs <= b.macs for a, b in zip(cuts, cuts[1:], strict=False))

    # Not changed: weights, statistics, mode, attributes.
    assert model.training and all(module.training for module in model.modules())
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)

    # One pass gives what hooks see at every cut, in the order asked for.
    model.eval()
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        seen, out = seen_by_hooks(model, names, x)
        tapped = tap(model, names[::-1])(x)
    for cut, value in zip(cuts[::-1], tapped, strict=True):
        assert torch.equal(value, seen[cut.name]), cut.name
        assert cut.channels == value.shape[1]
        assert cut.stride == (round(side / value.shape[2]) if value.ndim == 4 else 0)

    # Four cuts in full.
    for cut in {cuts[i * (len(cuts) - 1) // 3] for i in range(4)}:
        bottom, top = split(model, cut.name)
        with torch.no_grad():
            crossing = bottom(x)
            kept = crossing.clone()
            assert torch.equal(top(crossing), out), cut.name
            assert torch.equal(crossing, kept), f"the part above {cut.name} wrote into its input"
            assert torch.equal(top(bottom(x[:1])), model(x[:1])), "another batch size"
        lower, upper = set(bottom.state_dict()), set(top.state_dict())
        assert not lower & upper
        assert lower | upper <= set(before)
        assert sum(p.numel() for p in bottom.parameters()) == cut.parameters
        mine = dict(model.named_parameters())
        for name, parameter in [*bottom.named_parameters(), *top.named_parameters()]:
            assert parameter is mine[name]


def test_parameters_below_are_those_that_a_backward_pass_reaches(
    network: tuple[nn.Module, int],
) -> None:
    model, side = network
    cuts = cut_points(model, (3, side, side))
    model.eval()
    cut = cuts[len(cuts) // 2]
    seen, _ = seen_by_hooks(model, [cut.name], torch.randn(2, 3, side, side))
    seen[cut.name].square().mean().backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None}
    assert {name for name, _ in truncate(model, cut.name).named_parameters()} == reached


def test_parts_follow_train_and_eval(network: tuple[nn.Module, int]) -> None:
    model, side = network
    cuts = cut_points(model, (3, side, side))
    bottom, top = split(model, cuts[len(cuts) // 2].name)
    x = torch.randn(4, 3, side, side)
    state = {name: value.clone() for name, value in model.state_dict().items()}
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

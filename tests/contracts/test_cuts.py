"""What every network must give: honest cuts. One test a family, on random weights.

The values at the cuts are compared with what forward hooks of the network itself see; parameters
below a cut with those that a backward pass from it reaches; ONNX graphs with torch, on batches of
another size than the exporter saw.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layerwise.errors import ModelError
from layerwise.models.cuts import Cut, cut_points, split, tap, truncate
from layerwise.models.onnx_graph import export_graph
from layerwise.models.onnx_session import Session
from layerwise.models.pixels import InputContract, Pixels
from layerwise.models.registry import Network, available, blank, create
from layerwise.training.network import TransferNetwork
from layerwise.training.resolve import keepable
from layerwise.training.transfer import Transfer


@dataclass(frozen=True)
class Family:
    """A network that stands for its family: as small as the family has, or made smaller."""

    name: str
    side: int = 64
    slow: bool = False
    arguments: dict[str, str] = field(default_factory=dict)
    """As ``--model-arg`` takes them."""
    fewest: int = 3
    """Blocks that it has at the least."""


# Arguments that take the depth off a network: what is cut is one block like the other.
SHORT = {"depth": "2"}
SWIN = {"embed_dim": "24", "depths": "(2,2)", "num_heads": "(1,2)"}
FAMILIES = [
    Family("timm:test_resnet"),
    Family("timm:densenet121", 32, slow=True),
    Family("timm:mobilenetv2_100", arguments={"drop_rate": "0.2", "drop_path_rate": "0.2"}),
    Family("timm:mobilenetv3_small_050"),
    Family("timm:test_efficientnet", arguments={"drop_path_rate": "0.1"}),
    Family("timm:lcnet_035"),
    Family("timm:test_convnext", arguments={"drop_path_rate": "0.1"}),
    Family("timm:regnetx_002", 32),
    Family("timm:ghostnet_050", 32, slow=True),
    Family("timm:dla46_c", 32),
    Family("timm:test_byobnet"),
    Family("timm:test_nfnet"),
    Family("timm:starnet_s050"),
    Family("timm:fasternet_t0", slow=True),
    Family("timm:cs3darknet_focus_s"),
    Family("timm:ese_vovnet19b_slim_dw"),
    Family("timm:resnest14d", slow=True),
    Family("timm:inception_next_atto", arguments={"depths": "(1,1,1,1)"}),
    Family("timm:efficientvit_b0"),
    Family("timm:mobilevit_xxs"),
    Family("timm:edgenext_xx_small", arguments={"depths": "(2,2,2,2)"}),
    Family("timm:efficientformerv2_s0", slow=True),
    Family("timm:pvt_v2_b0", slow=True),
    Family("timm:tiny_vit_5m_224", slow=True),
    Family("timm:levit_128s", arguments={"depth": "(1,1,1)"}),
    Family("timm:test_coatnet", arguments={"drop_path_rate": "0.1"}),
    Family("timm:test_maxvit", 128, slow=True),
    Family("timm:test_mambaout"),
    Family("timm:test_vit"),
    Family("timm:test_vit_relpos", arguments=SHORT),
    Family("timm:vit_tiny_patch16_224", arguments=SHORT | {"drop_path_rate": "0.2"}),
    Family("timm:deit_tiny_distilled_patch16_224", 32, arguments=SHORT),
    Family("timm:eva02_tiny_patch14_224", 56, arguments=SHORT),
    Family("timm:vit_tiny_patch16_dinov3_qkvb", arguments=SHORT),
    Family("timm:beit_base_patch16_224", arguments=SHORT | {"embed_dim": "48", "num_heads": "3"}),
    Family("timm:cait_xxs24_224", arguments=SHORT),
    Family("timm:convit_tiny", arguments=SHORT),
    Family("timm:gmlp_ti16_224", slow=True),
    Family("timm:mixer_s32_224"),
    Family("timm:convmixer_768_32", slow=True),
    Family("timm:swin_tiny_patch4_window7_224", 56, arguments=SWIN | {"drop_path_rate": "0.2"}),
    Family("timm:swinv2_tiny_window8_256", arguments=SWIN),
    Family("timm:swinv2_cr_tiny_224", arguments=SWIN, slow=True),
    Family("torchvision:squeezenet1_1"),
    Family("torchvision:vit_b_16", 32, slow=True),
    Family("torchvision:swin_t", 32, slow=True),
    Family("torchvision:mobilenet_v3_small", slow=True),
    Family("timm:xcit_nano_12_p8_224", 32, slow=True),
    Family("timm:twins_svt_small", slow=True),
    Family("timm:mvitv2_tiny", 32, slow=True, fewest=2),  # sizes cross, too, between its blocks
    Family("timm:hiera_tiny_224", slow=True),
    Family("timm:pit_ti_224", slow=True),
    Family("timm:gcvit_xxtiny", 224, slow=True),
    Family("timm:davit_tiny", slow=True),
    Family("timm:focalnet_tiny_srf", slow=True),
    Family("timm:poolformerv2_s12", slow=True),
    Family("timm:efficientformer_l1", 224, slow=True),
    Family("timm:fastvit_t8", slow=True),
    Family("timm:visformer_tiny", slow=True),
    Family("timm:repvit_m1", slow=True),
    Family("timm:swiftformer_xs", slow=True),
    Family("timm:shvit_s1", slow=True),
    Family("timm:nextvit_small", slow=True),
    Family("timm:hgnetv2_b0", slow=True),
    Family("timm:rexnet_100", slow=True),
    Family("timm:repghostnet_050", slow=True),
    Family("timm:hrnet_w18_small", 32, slow=True),
    Family("timm:res2net50_26w_4s", 32, slow=True),
    Family("timm:inception_v3", 96, slow=True),
    Family("timm:xception41", slow=True),
    Family("timm:resnetv2_18", slow=True),
    Family("timm:legacy_seresnet18", slow=True),
    Family("timm:skresnet18", slow=True),
    Family("timm:dpn48b", 32, slow=True),
    Family("timm:selecsls42", slow=True),
    Family("timm:tresnet_m", slow=True),
    Family("timm:mobilenetv2_100", arguments={"pad_type": "same"}, slow=True),
    Family("lenet5", 32),
    Family("alexnet", 67, slow=True),
    Family("vgg16", 32, slow=True),
    Family("caffenet", 67, slow=True),
    Family("caffenet-32", 32),
    Family("cbr-larget", slow=True),
    Family("cbr-largew", slow=True),
    Family("cbr-small", slow=True),
    Family("cbr-tiny"),
    Family("custom", 32),
]


def params(all_slow: bool = False) -> list[object]:
    return [
        pytest.param(
            one,
            id=f"{one.name}-{'-'.join(one.arguments)}".rstrip("-"),
            marks=[pytest.mark.slow] if one.slow or all_slow else [],
        )
        for one in FAMILIES
    ]


@dataclass
class Case:
    network: Network
    cuts: list[Cut]
    blocks: list[Cut]
    pictures: Tensor  # (4, 3, side, side)
    fewest: int

    @property
    def model(self) -> nn.Module:
        return self.network.module

    @property
    def middle(self) -> Cut:
        return self.blocks[len(self.blocks) // 2]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small pictures: threads only wait for each other
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def case() -> Callable[[Family], Case]:
    def made(family: Family) -> Case:
        side = family.side
        network = create(family.name, outputs=5, image_size=side, arguments=family.arguments)
        generator = torch.Generator().manual_seed(1)
        for name, value in network.module.state_dict().items():
            if name.endswith("running_mean"):
                value.normal_(0, 0.1, generator=generator)
            elif value.is_floating_point() and not name.endswith("running_var"):
                # Some branches start with a scale of 0 or nearly so, and would say nothing.
                value.add_(torch.randn(value.shape, generator=generator), alpha=0.02)
        cuts = cut_points(network.module, (3, side, side))
        pictures = torch.randn(4, 3, side, side, generator=generator)
        return Case(network, cuts, [cut for cut in cuts if cut.block], pictures, family.fewest)

    return made


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


def check_order(case: Case) -> None:
    cuts = case.cuts
    assert len({cut.name for cut in cuts}) == len(cuts)
    assert len(case.blocks) >= case.fewest
    for lower, upper in zip(cuts, cuts[1:], strict=False):
        assert lower.parameters <= upper.parameters
        assert lower.macs <= upper.macs


def check_values(case: Case) -> None:
    """One pass gives what hooks see at every cut, and a cut says how that lies."""
    model, x = case.model.eval(), case.pictures[:2]
    names = [cut.name for cut in case.cuts]
    with torch.no_grad():
        seen, _ = seen_by_hooks(model, names, x)
        tapped = tap(model, names[::-1]).eval()(x)
    axis = {"map": 1, "channels last": -1, "tokens": -1, "vector": -1}
    for cut, value in zip(case.cuts[::-1], tapped, strict=True):
        assert torch.equal(value, seen[cut.name]), cut.name
        assert (cut.channels, cut.shape) == (value.shape[axis[cut.layout]], value.shape[1:])
        assert cut.stride == (round(x.shape[2] / cut.rows) if cut.rows else 0)
        places = cut.rows**2 + cut.prefix
        assert not cut.rows or value[0].numel() == places * cut.channels, cut.name


def check_parts(case: Case, cut: Cut) -> None:
    """The parts together are the network, to the bit."""
    model, x = case.model.eval(), case.pictures[:2]
    bottom, top = (part.eval() for part in split(model, cut.name))
    with torch.no_grad():
        crossing = bottom(x)
        kept = crossing.clone()
        assert torch.equal(top(crossing), model(x)), cut.name
        assert torch.equal(crossing, kept), "the upper part wrote into its input"
        assert torch.equal(top(bottom(x[:1])), model(x[:1])), "another batch size"
    lower, upper = set(bottom.state_dict()), set(top.state_dict())
    assert not {name for name, _ in bottom.named_parameters()} & upper
    assert lower | upper <= set(model.state_dict())
    assert sum(p.numel() for p in bottom.parameters()) == cut.parameters
    mine = dict(model.named_parameters(remove_duplicate=False))
    for name, parameter in [*bottom.named_parameters(), *top.named_parameters()]:
        assert parameter is mine[name]  # shared, not copied


def check_truncation(case: Case) -> None:
    """Parameters below a cut are those that a backward pass from it reaches."""
    model = case.model.eval()
    seen, _ = seen_by_hooks(model, [case.middle.name], case.pictures)
    seen[case.middle.name].square().mean().backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    assert {name for name, _ in truncate(model, case.middle.name).named_parameters()} == reached


def check_modes(case: Case) -> None:
    """Dropout, stochastic depth and batch statistics follow train() and eval()."""
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
        assert torch.equal(top(bottom(x)), whole)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, statistics[name]), name
    model.load_state_dict(state)


def check_freezing(case: Case) -> None:
    """Frozen weights and statistics stay, the rest learns."""
    model, cut = case.model, case.middle
    bottom, top = split(model, cut.name)
    network = TransferNetwork(case.network, Transfer(freeze=cut.name), [], bottom, top, set(), {})
    before = {name: value.clone() for name, value in network.weights().items()}
    frozen = {name for name, _ in bottom.named_parameters()}
    frozen |= {n for n in bottom.state_dict() if n.endswith(("running_mean", "running_var"))}
    learning = dict(top.named_parameters())
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.1)
    side = case.pictures.shape[2]
    images = torch.randint(0, 256, (4, side, side, 3), dtype=torch.uint8)
    network.train()(images).square().mean().backward()
    assert [name for name, p in learning.items() if p.grad is None] == []
    assert all(p.grad is None for p in bottom.parameters())
    optimizer.step()
    after = network.weights()
    assert frozen
    assert all(torch.equal(after[name], before[name]) for name in frozen)
    assert any(not torch.equal(after[name], before[name]) for name in learning)
    statistics = [n for n in after if n.endswith("running_mean") and n not in frozen]
    assert all(not torch.equal(after[name], before[name]) for name in statistics)
    model.requires_grad_(True).zero_grad(set_to_none=True)


class Both(nn.Module):
    """uint8 pictures → what crosses a cut, and the answers."""

    def __init__(self, case: Case, cut: Cut) -> None:
        super().__init__()
        self.pixels = Pixels(case.network.contract)
        self.bottom, self.top = split(case.model, cut.name)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        crossing = self.bottom(self.pixels(images))
        return crossing, self.top(crossing)


class One(nn.Module):
    """A network's answer as a tuple, as `check_onnx` reads it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.network(images),)


def check_onnx(network: nn.Module, side: int, folder: Path, names: list[str]) -> None:
    """The graph equals the network to 1e-4 of its size, with other batch sizes than traced."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (5, side, side, 3), dtype=torch.uint8, generator=generator)
    export_graph(network, (images[:2],), folder / "m.onnx", names)
    session = Session(folder / "m.onnx", threads=1)
    with torch.no_grad():
        wanted = network.eval()(images)
    for batch in (images, images[3:4]):
        rows = slice(0, 5) if len(batch) == 5 else slice(3, 4)
        for name, got, want in zip(names, session.run(batch.numpy()), wanted, strict=True):
            scale = max(1.0, float(want.abs().max()))
            np.testing.assert_allclose(
                got, want[rows].numpy(), rtol=0, atol=1e-4 * scale, err_msg=name
            )


@pytest.mark.parametrize("family", params())
def test_a_family(family: Family, case: Callable[[Family], Case], tmp_path: Path) -> None:
    made = case(family)
    check_order(made)
    check_values(made)
    for cut in {made.blocks[0].name: made.blocks[0], made.middle.name: made.middle}.values():
        check_parts(made, cut)
    check_truncation(made)
    check_modes(made)
    check_freezing(made)
    check_onnx(Both(made, made.middle), family.side, tmp_path, ["activation", "logits"])


@pytest.mark.parametrize("family", params(all_slow=True))
def test_every_block_of_a_family(
    family: Family, case: Callable[[Family], Case], tmp_path: Path
) -> None:
    """The same at every block, and at every fourth of the other cuts; the parts as ONNX alone."""
    made = case(family)
    for cut in made.blocks + [cut for cut in made.cuts if not cut.block][::4]:
        check_parts(made, cut)
    bottom = nn.Sequential(Pixels(made.network.contract), truncate(made.model, made.middle.name))
    check_onnx(One(bottom), family.side, tmp_path, ["activation"])
    whole = nn.Sequential(Pixels(made.network.contract), made.model)
    check_onnx(One(whole), family.side, tmp_path, ["logits"])


def test_a_network_is_not_changed_by_being_looked_at() -> None:
    for name in ("timm:test_vit", "timm:levit_128s", "timm:test_efficientnet"):
        model = create(name, outputs=5, image_size=64).module
        model.get_submodule(model.pretrained_cfg["first_conv"]).eval()
        modes = [part.training for part in model.modules()]
        names = [set(vars(part)) for part in model.modules()]
        before = {key: value.clone() for key, value in model.state_dict().items()}
        random = torch.get_rng_state()
        cut = cut_points(model, (3, 64, 64))[3]
        split(model, cut.name)
        after = model.state_dict()
        assert list(after) == list(before)
        assert all(torch.equal(after[key], before[key]) for key in before)
        assert [part.training for part in model.modules()] == modes
        assert [set(vars(part)) for part in model.modules()] == names
        assert torch.equal(torch.get_rng_state(), random)


def test_enough_families_and_all_of_our_own() -> None:
    quick = {one.name for one in FAMILIES if not one.slow}
    assert len(quick) >= 30
    assert {name for name in available() if ":" not in name} <= {one.name for one in FAMILIES}


@pytest.mark.slow
def test_what_can_not_be_traced_is_refused_with_the_reason() -> None:
    with pytest.raises(ModelError, match="can not be traced"):
        blank("timm:gemma4_vit_167m_enc", outputs=5)


@pytest.mark.slow
def test_what_has_no_onnx_form_is_refused_with_the_operator(tmp_path: Path) -> None:
    """VOLO's outlook attention folds overlapping patches together."""
    network = create("timm:volo_d1_224", outputs=5, image_size=32).module
    pictures = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    whole = nn.Sequential(Pixels(InputContract(32, 32, 3, (0.5,) * 3, (0.5,) * 3)), network)
    with pytest.raises(ModelError, match="col2im"):
        export_graph(whole, (pictures,), tmp_path / "volo.onnx", ["logits"])


@pytest.mark.slow
def test_branches_that_never_meet_leave_no_cut() -> None:
    """CrossViT: two sizes of tokens run side by side from the picture to the two classifiers."""
    network = blank("timm:crossvit_tiny_240", outputs=5)
    assert cut_points(network.module, (3, 240, 240)) == []
    with pytest.raises(ModelError, match="crossvit_tiny_240 can not be cut anywhere"):
        keepable(network, "all")


@pytest.mark.parametrize(
    ("name", "inside", "below", "above"),
    [
        ("timm:test_vit", "blocks.1.attn", "blocks.0", "blocks.1"),
        (
            "timm:swin_tiny_patch4_window7_224",
            "layers.0.blocks.1.mlp",
            "layers.0.blocks.0",
            "layers.0",
        ),
    ],
)
def test_a_cut_inside_a_block_says_what_is_around(
    name: str, inside: str, below: str, above: str
) -> None:
    arguments = SWIN if "swin" in name else {}
    model = create(name, outputs=5, image_size=56 if arguments else 64, arguments=arguments).module
    with pytest.raises(ModelError, match=rf"below is '{below}'.*above is '{above}'"):
        truncate(model, inside)
    with pytest.raises(ModelError, match=f"no layer '{below}1'.*near.*{below}"):
        truncate(model, f"{below}1")

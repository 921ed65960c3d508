"""What every transfer must do to every network: one class of tests a network and transfer.

What learns and what is frozen is compared with what `cut_points` counts, which test_cuts.py holds
against backward passes; everything else with the network itself before and after.
"""

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from layerwise.models.cuts import Cut, cut_points, truncate
from layerwise.models.onnx_graph import export_graph
from layerwise.models.onnx_session import Session
from layerwise.models.registry import Network, available, create
from layerwise.training.network import TransferNetwork, build
from layerwise.training.resolve import start_small
from layerwise.training.transfer import Transfer

OUTPUTS = 3
OURS = [name for name in available() if ":" not in name]
SIDES = {"alexnet": 67, "caffenet": 39}  # of our own, where 32 pixels are too few
# Of others: name, arguments, side of the picture.
OTHERS: list[tuple[str, dict[str, str], int]] = [
    ("timm:test_resnet", {}, 32),
    ("timm:test_efficientnet", {}, 32),
    ("timm:test_convnext", {}, 32),
    ("timm:test_vit", {"depth": "3"}, 64),
    ("torchvision:squeezenet1_1", {}, 32),
    ("timm:resnet50", {}, 32),
    ("timm:densenet121", {}, 32),
    ("timm:mobilenetv2_100", {"drop_rate": "0.2", "drop_path_rate": "0.2"}, 96),
    ("timm:regnety_002", {}, 32),
    ("timm:ghostnet_100", {}, 32),
    ("timm:hrnet_w18_small", {}, 32),
    ("timm:inception_v3", {}, 96),
    ("torchvision:resnet18", {}, 32),
]
NETWORKS = [*((name, {}, SIDES.get(name, 32)) for name in OURS), *OTHERS]
# What the fast tests look at: everything small, and of what takes long one transfer.
SMALL = {"lenet5", "cbr-tiny", "caffenet-32", "timm:test_resnet"}
ONE_OF = {"timm:test_vit": "connected", "timm:test_efficientnet": "truncated"}


def transfers(middle: str) -> dict[str, Transfer]:
    """By a short name; the cut stands in the middle of the network's blocks."""
    return {
        "random": Transfer(copy="none"),
        "copied": Transfer("w"),
        "frozen": Transfer("w", freeze="all"),
        "AnB": Transfer("w", copy=middle, freeze=middle),
        "truncated": Transfer("w", keep=middle, copy=middle),
        "connected": Transfer("w", keep=middle, freeze=middle, head="connected"),
        "filters": Transfer("untrained", keep=middle, copy=middle, freeze=middle),
    }


@dataclass
class Case:
    """A network, and weights for it that are not neutral anywhere."""

    name: str
    arguments: dict[str, str]
    side: int

    @cached_property
    def blank(self) -> Network:
        return create(
            self.name, outputs=OUTPUTS, seed=7, image_size=self.side, arguments=self.arguments
        )

    @cached_property
    def source(self) -> dict[str, Tensor]:
        """Everything but the classifier, as `fit_weights` leaves it for another task."""
        generator = torch.Generator().manual_seed(5)
        state = self.blank.module.state_dict()
        for name, value in state.items():
            if name.endswith(("running_mean", "running_var")):
                value += 0.1 * torch.rand(value.shape, generator=generator)
        return {n: v for n, v in state.items() if not n.startswith(self.blank.classifier + ".")}

    @cached_property
    def cuts(self) -> list[Cut]:
        return cut_points(self.blank.module, (3, self.side, self.side))

    @cached_property
    def middle(self) -> Cut:
        blocks = [cut for cut in self.cuts if cut.block]
        return blocks[len(blocks) // 2]

    def build(self, transfer: Transfer, seed: int) -> TransferNetwork:
        return build(
            transfer,
            model=self.name,
            outputs=OUTPUTS,
            seed=seed,
            image_size=self.side,
            arguments=self.arguments,
            source_weights=self.source,
        )

    @cached_property
    def pictures(self) -> Tensor:
        """uint8 (4, side, side, 3)."""
        generator = torch.Generator().manual_seed(1)
        shape = (4, self.side, self.side, 3)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@dataclass
class Made:
    """A transfer applied, what it was at first, and what two steps did to it."""

    case: Case
    transfer: Transfer
    network: TransferNetwork
    before: dict[str, Tensor]
    reached: set[str]  # parameters with a gradient that is not 0 everywhere, in any step

    @property
    def after(self) -> dict[str, Tensor]:
        return self.network.weights()

    def answers(self, network: TransferNetwork) -> np.ndarray:
        with torch.no_grad():
            return network.eval()(self.case.pictures).numpy()


def copied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in weights.items()}


def learn(network: TransferNetwork, pictures: Tensor) -> set[str]:
    """Two steps; two, since a branch that is scaled by 0 at first learns only then."""
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9, weight_decay=0.01)
    reached = set()
    for step in range(2):
        torch.manual_seed(step)
        optimizer.zero_grad()
        (network.train()(pictures) - 1).square().mean().backward()
        for part in (network.bottom, network.top):
            for name, parameter in part.named_parameters() if part is not None else ():
                if parameter.grad is not None and parameter.grad.any():
                    reached.add(name)
        optimizer.step()
    return reached


def pairs() -> Iterator[object]:
    """Every network with every transfer."""
    for network in NETWORKS:
        case = Case(*network)
        for kind in transfers(""):
            fast = case.name in SMALL or ONE_OF.get(case.name) == kind
            marks = [] if fast else [pytest.mark.slow]
            yield pytest.param((case, kind), id=f"{case.name}-{kind}", marks=marks)


@pytest.fixture(scope="module", params=pairs())
def made(request: pytest.FixtureRequest) -> Iterator[Made]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small pictures: threads only wait for each other
    case, kind = request.param
    transfer = transfers(case.middle.name)[kind]
    network = case.build(transfer, seed=3)
    before = copied(network.weights())
    yield Made(case, transfer, network, before, learn(network, case.pictures))
    torch.set_num_threads(threads)


def frozen_names(made: Made) -> set[str]:
    """State-dict keys of what must not learn, from the transfer alone."""
    case, freeze = made.case, made.transfer.freeze
    if freeze == "none":
        return set()
    if freeze == "all":
        return {n for n in made.before if not n.startswith(case.blank.classifier + ".")}
    return set(truncate(case.blank.module, freeze).state_dict())


def test_every_learning_parameter_is_reached_and_no_frozen_one(made: Made) -> None:
    frozen = frozen_names(made)
    learning = {name for name, _ in made.network.top.named_parameters()}
    assert learning and not learning & frozen
    assert made.reached == learning
    own = {id(p) for group in made.network.learning_layers() for p in group.parameters}
    assert own == {id(p) for p in made.network.parameters() if p.requires_grad}
    still = {n for n, value in made.before.items() if torch.equal(value, made.after[n])}
    assert learning.isdisjoint(still), "what is reached moves"
    assert frozen <= still, "weights and statistics keep their bits"
    statistics = {n for n in made.before if n.endswith(("running_mean", "running_var"))}
    assert (statistics - frozen).isdisjoint(still)


def test_copied_is_what_the_source_has(made: Made) -> None:
    case, transfer = made.case, made.transfer
    if transfer.source == "w":
        names = set(case.source)
        if transfer.copy != "all":
            names = set(truncate(case.blank.module, transfer.copy).state_dict())
        names &= set(made.before)
        assert names
        assert all(torch.equal(made.before[n], case.source[n]) for n in names)
    else:
        same = [n for n, v in made.before.items() if n in case.source and v.ndim > 1]
        assert same
        assert not any(torch.equal(made.before[n], case.source[n]) for n in same)


def test_parameters_are_those_below_the_cut_and_the_head(made: Made) -> None:
    case, keep = made.case, made.transfer.keep
    found = sum(p.numel() for p in made.network.parameters())
    if keep == "all":
        assert found == sum(p.numel() for p in case.blank.module.parameters())
        return
    cut = case.middle
    if made.transfer.head == "connected":
        head = (int(np.prod(cut.shape)) + 1) * 256 + (256 + 1) * OUTPUTS
    else:
        head = (cut.channels + 1) * OUTPUTS
    assert found == cut.parameters + head
    layer = made.network.top.get_submodule(made.network.classifier)
    assert layer.out_features == OUTPUTS


def test_saved_and_loaded_it_is_the_same_network(made: Made, tmp_path: Path) -> None:
    """Through the file format of a run's folder, into a network of another seed."""
    answers = made.answers(made.network)
    arrays = {n: v.numpy() for n, v in made.after.items()}
    save_file({n: np.asarray(v, order="C") for n, v in arrays.items()}, tmp_path / "w.safetensors")
    other = made.case.build(made.transfer, seed=4)
    head = made.network.classifier + ".weight"
    assert not torch.equal(other.weights()[head], made.before[head])
    assert not np.array_equal(made.answers(other), answers)
    other.load({n: torch.from_numpy(v) for n, v in load_file(tmp_path / "w.safetensors").items()})
    again = other.weights()
    assert again.keys() == made.before.keys()
    assert all(np.array_equal(again[n].numpy(), v) for n, v in arrays.items())
    np.testing.assert_array_equal(made.answers(other), answers)


def test_a_seed_fixes_it(made: Made) -> None:
    again = made.case.build(made.transfer, seed=3)
    weights = copied(again.weights())
    assert all(torch.equal(weights[n], v) for n, v in made.before.items())
    learn(again, made.case.pictures)
    assert all(torch.equal(again.weights()[n], v) for n, v in made.after.items())


def test_onnx_answers_alike(made: Made) -> None:
    network = copy.deepcopy(made.network)
    pictures = coarse_pictures(made.case.side)
    normalise(network, pictures)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_graph(network.eval(), (pictures[:2],), path, ["logits"])
        said = Session(path, threads=1).run(pictures.numpy())[0]
    with torch.no_grad():
        wanted = network(pictures).numpy()
    np.testing.assert_allclose(said, wanted, rtol=0, atol=1e-4)


def coarse_pictures(side: int) -> Tensor:
    """uint8 (32, side, side, 3): a few patches each, dark to bright.

    Unlike noise, which is all alike once it is pooled, such pictures differ in every channel.
    """
    generator = torch.Generator().manual_seed(2)
    patches = torch.rand(32, 3, 3, 3, generator=generator)
    patches *= torch.rand(32, 1, 1, 1, generator=generator)
    fine = torch.nn.functional.interpolate(patches, size=(side, side), mode="bilinear")
    return (255 * fine).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def normalise(network: TransferNetwork, pictures: Tensor) -> None:
    """Give batch norms the statistics of these pictures, as training does; logits of about 1.

    With others, random weights blow activations up from layer to layer, and rounding with them:
    MobileNetV2's logits in float32 were then ½ away from those in float64.
    """
    for part in network.modules():
        part.training = True
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.reset_running_stats()
            part.momentum = None  # a plain mean over all batches
    with torch.no_grad():
        network(pictures)
        start_small(network.top.get_submodule(network.classifier), seed=0)

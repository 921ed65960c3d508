"""`explain.onnx`: Grad-CAM at one cut as a graph, compared with torch's on real pictures.

Of networks that answer together it is the mean of their heat maps, each at its own cut, weighted as
their probabilities are. The gradient of their common probability would not do: it vanishes where
they are sure, and slopes at different layers are in different units.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from layerwise.errors import ModelError
from layerwise.evaluation.explain import evaluating, grad_cam, grad_cam_above, heat_of
from layerwise.models.cuts import Cut
from layerwise.models.graph.layout import as_maps
from layerwise.models.onnx_graph import write_graph
from layerwise.models.onnx_session import Session, open_graph
from layerwise.serving.bundle import ACTIVATION, HEAT, LABEL, BundleInfo
from layerwise.serving.explanation.gradient import gradient_graph
from layerwise.training.network import TransferNetwork

TOLERANCE = 1e-3
"""The largest difference of heat between torch and the graph."""
CHECKED = 16  # pictures
NUDGES, ROUNDING, SAME, FAR = 32, 2.0**-20, 1e-5, 0.05
"""Grad-CAM jumps where a unit lies within rounding of a ReLU's kink, or two within rounding of each
other under a max pooling: there torch in 32 and in 64 bits do not agree either. So a picture whose
maps differ must have torch's map, to `TOLERANCE`, of one of so many activations that are the same
but for so much of each value (a few roundings of 32 bits), the graph's own if it is torch's to
`SAME` of its largest value; and it may differ by `FAR` at most."""
NO_PLACES = "no cut of this network keeps the places of a picture"
TOGETHER = "the mean of the networks' heat maps, weighted as their probabilities are"


@dataclass(frozen=True)
class Explained:
    """A network split at the cut that is looked at.

    Attributes:
        cut: Where.
        below: uint8 (N, H, W, C) → the activation.
        above: The activation → logits.
    """

    cut: Cut
    below: nn.Module
    above: nn.Module


@dataclass(frozen=True)
class Together:
    """Networks that answer together, each split at a cut of its own.

    Attributes:
        members: The networks.
        weights: One each, above 0: how much its probabilities count, by their sum.
    """

    members: Sequence[Explained]
    weights: Sequence[float]


def members_of(explained: Explained | Together) -> tuple[Sequence[Explained], Sequence[float]]:
    """The networks, one or several, and the share of each."""
    if isinstance(explained, Explained):
        return [explained], [1.0]
    return explained.members, [weight / sum(explained.weights) for weight in explained.weights]


def side_by_side(activations: Sequence[Tensor]) -> Tensor:
    """Activations (N, ...) as the bundle's one: several in a row, (N, D)."""
    if len(activations) == 1:
        return activations[0]
    return torch.cat([activation.flatten(1) for activation in activations], dim=1)


def apart(activations: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """The opposite of `side_by_side`; shapes without the batch."""
    if len(shapes) == 1:
        return [activations]
    parts = torch.split(activations, [math.prod(shape) for shape in shapes], dim=1)
    return [part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]


def explained_at(network: TransferNetwork, cut: str) -> Explained:
    """Split a network at one of its cuts, by the cut's name; the parts share its parameters."""
    below, above = network.parts(cut)
    found = next(one for one in network.cuts if one.name == cut)
    return Explained(found, nn.Sequential(network.pixels, below), above)


class HeatMaps(nn.Module):
    """Grad-CAM of an activation: equations 1 and 2, at the picture's size."""

    def __init__(
        self, gradient: fx.GraphModule, cut: Cut, labels: int, outputs: int, size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.gradient, self.cut, self.size = gradient, cut, size
        self.outputs = outputs
        self.negative = labels > outputs  # one logit for two labels

    def forward(self, activation: Tensor, label: Tensor) -> Tensor:
        """Activation float32 (N, ...), label int64 (N,) → heat float32 (N, H, W), 0 to 1."""
        if self.outputs > 1:
            seed = (label[:, None] == torch.arange(self.outputs)).float()  # (N, outputs)
        elif self.negative:
            seed = 2 * (label != 0).float()[:, None] - 1
        else:
            seed = (label == label).float()[:, None]
        slope = self.gradient(activation, seed)
        maps, slope = (as_maps(x, self.cut.layout, self.cut.prefix) for x in (activation, slope))
        return heat_of(maps, slope, self.size)


class HeatTogether(nn.Module):
    """The mean of several networks' heat maps, scaled like one."""

    def __init__(
        self, maps: Sequence[HeatMaps], weights: Sequence[float], shapes: Sequence[Sequence[int]]
    ) -> None:
        super().__init__()
        self.maps, self.weights = nn.ModuleList(maps), list(weights)
        self.shapes = shapes

    def forward(self, activations: Tensor, label: Tensor) -> Tensor:
        """As of `HeatMaps`; the activations are `side_by_side`."""
        parts = zip(self.maps, apart(activations, self.shapes), strict=True)
        return mean_heat([maps(part, label) for maps, part in parts], self.weights)


def mean_heat(heat: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted mean of heat maps (N, H, W), its highest value 1 again, or 0 everywhere."""
    mean = torch.stack([w * one for w, one in zip(weights, heat, strict=True)]).sum(0)
    highest = mean.amax((1, 2), keepdim=True)
    return torch.where(highest > 0, mean / highest.clamp_min(1e-30), 0.0)


def write_explanation(
    path: Path,
    explained: Explained | Together,
    info: BundleInfo,
    images: NDArray[np.uint8],
    session: Session,
) -> dict[str, Any]:
    """Write `explain.onnx`, and say what `bundle.json` says of it.

    Args:
        path: The file. It stays only if its maps equal torch's to 1e-3 (but see `ROUNDING`).
        explained: The network, and the cut that is looked at; or several.
        info: Its labels.
        images: Real pictures, uint8 (n, H, W, C).
        session: The bundle's graph, which gives the activation.

    Returns:
        "cut", its name (of several, each name once), or None where there is no explanation;
        "exact", whether the map follows from activations and weights alone; "why" there is none,
        or None. Of several networks also "way", how their maps become one.
    """
    labels, outputs = len(info.labels), info.outputs
    members, weights = members_of(explained)
    named = ", ".join(dict.fromkeys(member.cut.name for member in members))
    some = images[:CHECKED]
    (activation,) = session.run(some, [ACTIVATION])
    try:
        shapes = [_shape(member, some) for member in members]
        parts = apart(torch.from_numpy(activation), shapes)
        gradients = [
            _gradient(member.above, part, outputs)
            for member, part in zip(members, parts, strict=True)
        ]
        size = info.preprocessing.size
        single = [
            HeatMaps(gradient, member.cut, labels, outputs, size)
            for gradient, member in zip(gradients, members, strict=True)
        ]
        maps = single[0] if len(single) == 1 else HeatTogether(single, weights, shapes)
        inputs = {ACTIVATION: torch.from_numpy(activation[[0, -1]]), LABEL: torch.tensor([0, 0])}
        write_graph(maps, inputs, path, [HEAT], fold=False)
        gaps, left = _differences(path, members, weights, labels, some, activation)  # (n,) both
    except ModelError as error:
        path.unlink(missing_ok=True)
        reason = str(error).splitlines()[0]
        return no_explanation(f"Grad-CAM at {named} has no graph: {reason}")
    if not (left.max() <= TOLERANCE and gaps.max() <= FAR):  # NaN is neither
        path.unlink()
        return no_explanation(
            f"the heat maps of the graph differ from torch's by {gaps.max():.2g} at "
            f"{named}, in {(~(left <= TOLERANCE)).sum()} of {len(gaps)} pictures by more "
            f"than {TOLERANCE:g} and than rounding explains"
        )
    exact = all(_is_linear(gradient) for gradient in gradients)
    said = {"cut": named, "exact": exact, "why": None}
    return said if len(members) == 1 else {**said, "way": TOGETHER}


def no_explanation(why: str) -> dict[str, Any]:
    """What `bundle.json` says where there is none."""
    return {"cut": None, "exact": False, "why": why}


def _shape(member: Explained, images: NDArray[np.uint8]) -> tuple[int, ...]:
    """The shape of a network's activation, without the batch."""
    device = next((p.device for p in member.below.parameters()), torch.device("cpu"))
    with evaluating(member.below), torch.inference_mode():
        return tuple(member.below(torch.from_numpy(images[:1]).to(device)).shape[1:])


def _gradient(above: nn.Module, activation: Tensor, outputs: int) -> fx.GraphModule:
    """`gradient_graph` of a network wherever it is."""
    with evaluating(above):
        if any(p.device.type != "cpu" for p in (*above.parameters(), *above.buffers())):
            above = copy.deepcopy(above).cpu()
        return gradient_graph(above, activation, outputs)


def _is_linear(gradient: fx.GraphModule) -> bool:
    """Whether a gradient is the same wherever it is taken: the activation is not read."""
    return not next(node for node in gradient.graph.nodes if node.op == "placeholder").users


def _differences(
    path: Path,
    members: Sequence[Explained],
    weights: Sequence[float],
    labels: int,
    images: NDArray[np.uint8],
    activation: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The largest difference of heat in each picture, (n,), and what of it rounding leaves.

    Every label is asked for in turn. The first picture is run alone too.
    """
    try:
        graph = open_graph(path)
    except ValueError as error:
        raise ModelError(str(error)) from error
    numbers = np.arange(len(images), dtype=np.int64) % labels
    wanted = mean_heat(
        [torch.from_numpy(_torchs(one, images, numbers + (labels == 1))) for one in members],
        weights,
    ).numpy()  # a single label is its own logit
    gaps, left = np.zeros((2, len(images)), np.float32)
    parts = apart(torch.from_numpy(activation), [_shape(member, images) for member in members])
    for part in (slice(0, 1), slice(None)):
        try:
            (got,) = graph.run([HEAT], {ACTIVATION: activation[part], LABEL: numbers[part]})
        except Exception as error:  # the runtime's own classes share no public root
            raise ModelError(f"ONNX Runtime can not run it ({error})") from error
        for k, heat in enumerate(got):
            gap = near = np.abs(heat - wanted[k]).max()
            if TOLERANCE < gap <= FAR:
                label = int(numbers[k]) + (labels == 1)
                nudged = [
                    _nudged(one, images[k], values[k], label, heat.shape)
                    for one, values in zip(members, parts, strict=True)
                ]
                near = np.abs(mean_heat(nudged, weights).numpy() - heat).max(axis=(1, 2)).min()
            gaps[k], left[k] = np.maximum(gaps[k], gap), np.maximum(left[k], near)
    return gaps, left


def _nudged(
    member: Explained,
    image: NDArray[np.uint8],
    activation: Tensor,
    label: int,
    size: tuple[int, int],
) -> Tensor:
    """Maps by torch of one activation (...), each value moved within rounding: (NUDGES, H, W).

    It is the bundle's own activation if that is torch's but for rounding, else torch's.
    """
    device = next((p.device for p in member.below.parameters()), torch.device("cpu"))
    with evaluating(member.below), torch.inference_mode():
        own = member.below(torch.from_numpy(image[None]).to(device))[0].cpu()
    if (activation - own).abs().max() <= SAME * own.abs().max():
        own = activation
    moved = 2 * torch.rand((NUDGES, *own.shape), generator=torch.Generator().manual_seed(0)) - 1
    return grad_cam_above(
        member.above,
        (own * (1 + ROUNDING * moved)).to(device),
        torch.full((NUDGES,), label, device=device),
        size,
        layout=member.cut.layout,
        prefix=member.cut.prefix,
    ).cpu()


def _torchs(
    member: Explained, images: NDArray[np.uint8], numbers: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Grad-CAM of one network as torch computes it, (n, H, W)."""
    device = next((p.device for p in member.below.parameters()), torch.device("cpu"))
    return grad_cam(
        nn.ModuleList([member.below, member.above]),
        torch.from_numpy(images).to(device),
        (member.below, member.above),
        torch.from_numpy(numbers).to(device),
        layout=member.cut.layout,
        prefix=member.cut.prefix,
    )

"""`explain.onnx`: Grad-CAM at one cut as a graph, compared with torch's on real pictures."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from layerwise.errors import ModelError
from layerwise.evaluation.explain import evaluating, grad_cam, heat_of
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
MOSTLY, FAR = 0.75, 0.05
"""The share of pictures that must agree so closely, and what no picture may exceed. Grad-CAM
jumps where a unit lies within rounding of a ReLU's kink, or two within rounding of each other
under a max pooling: there torch in 32 and in 64 bits do not agree either."""
NO_PLACES = "no cut of this network keeps the places of a picture"


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


def write_explanation(
    path: Path,
    explained: Explained,
    info: BundleInfo,
    images: NDArray[np.uint8],
    session: Session,
) -> dict[str, Any]:
    """Write `explain.onnx`, and say what `bundle.json` says of it.

    Args:
        path: The file. It stays only if its maps equal torch's to 1e-3 (but see `MOSTLY`).
        explained: The network, and the cut that is looked at.
        info: Its labels.
        images: Real pictures, uint8 (n, H, W, C).
        session: The bundle's graph, which gives the activation.

    Returns:
        "cut", its name, or None where there is no explanation; "exact", whether the map follows
        from activations and weights alone; "why" there is none, or None.
    """
    labels, outputs = len(info.labels), info.outputs
    some = images[:CHECKED]
    (activation,) = session.run(some, [ACTIVATION])
    try:
        with evaluating(explained.above):
            above = explained.above
            if any(p.device.type != "cpu" for p in (*above.parameters(), *above.buffers())):
                above = copy.deepcopy(above).cpu()
            gradient = gradient_graph(above, torch.from_numpy(activation), outputs)
        inputs = {ACTIVATION: torch.from_numpy(activation[[0, -1]]), LABEL: torch.tensor([0, 0])}
        maps = HeatMaps(gradient, explained.cut, labels, outputs, info.preprocessing.size)
        write_graph(maps, inputs, path, [HEAT], fold=False)
        gaps = _differences(path, explained, labels, some, activation)  # (n,)
    except ModelError as error:
        path.unlink(missing_ok=True)
        reason = str(error).splitlines()[0]
        return no_explanation(f"Grad-CAM at {explained.cut.name} has no graph: {reason}")
    close = gaps <= TOLERANCE
    if not (close.mean() >= MOSTLY and gaps.max() <= FAR):  # NaN is neither
        path.unlink()
        return no_explanation(
            f"the heat maps of the graph differ from torch's by {gaps.max():.2g} at "
            f"{explained.cut.name}, in {(~close).sum()} of {len(gaps)} pictures by more than "
            f"{TOLERANCE:g}"
        )
    reads = next(node for node in gradient.graph.nodes if node.op == "placeholder").users
    return {"cut": explained.cut.name, "exact": not reads, "why": None}


def no_explanation(why: str) -> dict[str, Any]:
    """What `bundle.json` says where there is none."""
    return {"cut": None, "exact": False, "why": why}


def _differences(
    path: Path,
    explained: Explained,
    labels: int,
    images: NDArray[np.uint8],
    activation: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The largest difference of heat in each picture, (n,); every label in turn.

    The first picture is run alone too.
    """
    try:
        graph = open_graph(path)
    except ValueError as error:
        raise ModelError(str(error)) from error
    numbers = np.arange(len(images), dtype=np.int64) % labels
    device = next((p.device for p in explained.below.parameters()), torch.device("cpu"))
    wanted = grad_cam(
        nn.ModuleList([explained.below, explained.above]),
        torch.from_numpy(images).to(device),
        (explained.below, explained.above),
        torch.from_numpy(numbers + (labels == 1)).to(device),  # alone, it is its own logit
        layout=explained.cut.layout,
        prefix=explained.cut.prefix,
    )
    gaps = []
    for part in (slice(0, 1), slice(None)):
        try:
            (got,) = graph.run([HEAT], {ACTIVATION: activation[part], LABEL: numbers[part]})
        except Exception as error:  # the runtime's own classes share no public root
            raise ModelError(f"ONNX Runtime can not run it ({error})") from error
        gaps.append(np.abs(got - wanted[part]).max(axis=(1, 2)))
    alone, together = gaps
    together[0] = np.maximum(together[0], alone[0])
    return np.asarray(together)

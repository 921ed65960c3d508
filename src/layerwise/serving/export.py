"""From a trained network to a bundle, refused where the two do not answer alike."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerwise.errors import BundleError
from layerwise.models.onnx_graph import export_graph
from layerwise.models.onnx_session import Session
from layerwise.models.onnx_shared import compute_once
from layerwise.serving.bundle import ACTIVATION, EXPLAIN, MODEL, OUTPUT, BundleInfo, write_bundle
from layerwise.serving.explanation.write import (
    Explained,
    Together,
    members_of,
    no_explanation,
    side_by_side,
    write_explanation,
)
from layerwise.serving.origin import versions
from layerwise.serving.verify import check_graphs

TOLERANCE = 1e-4
"""The largest difference of a probability between torch and the bundle."""


class Probabilities(nn.Module):
    """A network and what turns its outputs into probabilities."""

    def __init__(self, network: nn.Module, task: str) -> None:
        super().__init__()
        self.network = network
        self.softmax = task == "multiclass"

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels uint8 (N, H, W, C) → float32 (N, 1) for binary, else (N, K), in [0, 1]."""
        logits: Tensor = self.network(pixels)
        return logits.softmax(dim=1) if self.softmax else logits.sigmoid()


class Looking(nn.Module):
    """Its parts, one network or several, which also tell the activation that explains them."""

    def __init__(self, explained: Explained | Together, task: str) -> None:
        super().__init__()
        members, self.weights = members_of(explained)
        self.below = nn.ModuleList(member.below for member in members)
        self.above = nn.ModuleList(Probabilities(member.above, task) for member in members)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels uint8 (N, H, W, C) → probabilities, and the activation at the cut."""
        activations = [below(pixels) for below in self.below]
        said = [above(x) for above, x in zip(self.above, activations, strict=True)]
        if len(said) == 1:
            return said[0], activations[0]
        mean = torch.stack([w * one for w, one in zip(self.weights, said, strict=True)]).sum(0)
        return mean, side_by_side(activations)


def export_bundle(
    folder: str | Path,
    network: nn.Module,
    info: BundleInfo,
    check_images: NDArray[np.uint8],
    batch: int = 32,
    files: Mapping[str, bytes | Path] | None = None,
    explained: Explained | Together | str = "it was exported without one",
) -> float:
    """Write a bundle whose probabilities equal the network's on real pictures.

    Args:
        folder: The bundle's folder; a bundle that stands there is replaced.
        network: Takes uint8 (N, H, W, C), returns logits (N, 1) for binary, else (N, K).
        info: Task, labels, preprocessing, threshold, provenance, scores.
        check_images: Real pictures as `data.images.prepare` gives them, uint8 (n, H, W, C).
        batch: Pictures at a time in the comparison.
        files: As of `write_bundle`.
        explained: The same network at the cut that is looked at (of an ensemble, its networks, each
            at its own), or why there is no explanation. If its heat maps differ from torch's, the
            bundle has none and says so.

    Returns:
        The largest difference found.

    Raises:
        BundleError: A probability differs by more than 1e-4, or the info does not fit the
            network; nothing is left behind, and a bundle that was there stays.
        ModelError: The network has no ONNX form.
        OutputError: The folder can not be written.
    """
    how = info.preprocessing
    if check_images.shape[1:] != (*how.size, how.channels) or not len(check_images):
        raise BundleError(
            f"check_images are {check_images.shape}; the bundle needs at least one picture of "
            f"{(*how.size, how.channels)}"
        )
    origin = {**info.provenance, "versions": versions()}
    device = next(network.parameters(), torch.empty(0)).device
    module = Probabilities(network, info.task)
    training = [part for part in module.modules() if part.training]
    module.eval()
    example = (torch.from_numpy(check_images[:2]).to(device),)
    try:
        with tempfile.TemporaryDirectory() as workplace:
            graph, heat = Path(workplace) / "model.onnx", Path(workplace) / EXPLAIN
            about = no_explanation(explained) if isinstance(explained, str) else None
            if not isinstance(explained, str):
                looking = Looking(explained, info.task)
                export_graph(looking, example, graph, [OUTPUT, ACTIVATION])
                if isinstance(explained, Together):  # they may share a frozen bottom
                    compute_once(graph)
                about = write_explanation(heat, explained, info, check_images, Session(graph))
                refused = _refused(info, graph, heat, Path(folder)) if heat.exists() else None
                if refused:
                    heat.unlink()
                    about = no_explanation(refused)
            if not heat.exists():
                export_graph(module, example, graph, [OUTPUT])
            difference = _difference(module, device, Session(graph), info, check_images, batch)
            check_graphs(info, {MODEL: graph.read_bytes()}, Path(folder))
            more = {**(files or {}), **({EXPLAIN: heat} if heat.exists() else {})}
            info = replace(info, provenance=origin, explanation=about)
            write_bundle(folder, graph, info, more)
    finally:
        for part in training:
            part.training = True
    return difference


def _refused(info: BundleInfo, graph: Path, heat: Path, folder: Path) -> str | None:
    """Why the explaining graph would not be loaded; None if it would be."""
    try:
        check_graphs(info, {MODEL: graph.read_bytes(), EXPLAIN: heat.read_bytes()}, folder)
    except BundleError as error:
        return f"its graph is not one that a bundle may have: {error}"
    return None


def _difference(
    module: nn.Module,
    device: torch.device,
    session: Session,
    info: BundleInfo,
    images: NDArray[np.uint8],
    batch: int,
) -> float:
    """The largest difference of a probability; BundleError where it is too large."""
    worst = 0.0
    for start in range(0, len(images), batch):
        some = np.ascontiguousarray(images[start : start + batch])  # (n, H, W, C)
        with torch.inference_mode():
            wanted = module(torch.from_numpy(some).to(device)).float().cpu().numpy()
        (got,) = session.run(some, [OUTPUT])
        if not got.shape == wanted.shape == (len(some), info.outputs):
            raise BundleError(
                f"the network has outputs {wanted.shape[1:]}, {info.task} with "
                f"{len(info.labels)} labels needs ({info.outputs},)"
            )
        # Written so that NaN, which compares false with everything, is refused as well.
        gap = np.abs(got.astype(np.float64) - wanted).max()
        if not gap <= TOLERANCE:
            raise BundleError(
                f"the bundle's probabilities differ from the trained network's by {gap:.2g} on "
                f"images {start} to {start + len(some) - 1}; more than {TOLERANCE:g} is refused. "
                "Train another network (--model), and report this one."
            )
        worst = max(worst, float(gap))
    return worst

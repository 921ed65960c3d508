"""Grad-CAM: which parts of a picture a decision rests on (Selvaraju et al. 2017).

`serving/explanation` writes the same as a graph that needs no torch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from layerwise.errors import ModelError
from layerwise.models.cuts import Cut
from layerwise.models.graph.layout import Layout, as_maps
from layerwise.training.network import TransferNetwork

Part = Callable[[Tensor], Tensor]

BATCH = 32  # pictures at a time: activations and their gradients are held together
FEWEST_ROWS = 4  # of the maps that are looked at: fewer do not show a place


def grad_cam(
    network: nn.Module,
    images: Tensor,
    layer: str | tuple[Part, Part],
    output: int | Tensor,
    *,
    layout: Layout = "map",
    prefix: int = 0,
) -> npt.NDArray[np.float32]:
    """A heat map a picture (Selvaraju et al. 2017, section 3, eq. 1 and 2).

    The weight of each feature map is the mean of the gradient of the class's logit over the map
    (eq. 1); the heat is the positive part of the weighted sum of the maps (eq. 2), brought to the
    picture's size and scaled so that its highest value is 1. A picture in which nothing speaks
    for the class has a heat of 0 everywhere.

    The network is run in evaluation mode and left as it was: modes, gradients, hooks.

    Args:
        network: Pixels → logits (N, K), or (N, 1) for a binary network.
        images: uint8 (N, H, W, C), or whatever the network takes.
        layer: The name of the module to look at, or the pair (pixels → activation,
            activation → logits) where the network is already split at a cut.
        output: The class to explain, one for all or (N,) one for each. A network with a single
            logit has two classes: 1 is explained by the logit, 0 by its negative.
        layout: How the activation lies; a `Cut` says. Of tokens, each feature over the square
            grid of places is a map.
        prefix: Tokens without a place, which come first; a `Cut` says.

    Returns:
        (N, H, W), from 0 to 1.

    Raises:
        ModelError: There is no such module, or what it puts out is not a set of maps.
    """
    classes = torch.as_tensor(output).expand(len(images)).to(images.device)
    maps = []
    with evaluating(network), torch.enable_grad():
        for first in range(0, len(images), BATCH):
            part = images[first : first + BATCH]
            activation, logits = _run(network, part, layer)
            size = (int(images.shape[1]), int(images.shape[2]))
            some = classes[first : first + BATCH]
            maps.append(_heat(activation, logits, some, size, layout, prefix))
    if not maps:
        return np.zeros(tuple(images.shape[:3]), np.float32)
    return torch.cat(maps).cpu().numpy()


def grad_cam_above(
    top: nn.Module,
    activation: Tensor,
    output: Tensor,
    size: tuple[int, int],
    *,
    layout: Layout = "map",
    prefix: int = 0,
) -> Tensor:
    """As `grad_cam`, of activations that are known.

    Args:
        top: Activation → logits.
        activation: (N, ...) at the layer that is looked at.
        output: As of `grad_cam`, (N,).
        size: (height, width) of the pictures.
        layout: As of `grad_cam`.
        prefix: As of `grad_cam`.

    Returns:
        (N, *size), from 0 to 1.
    """
    with evaluating(top), torch.enable_grad():
        leaf = activation.detach().requires_grad_()
        return _heat(leaf, top(leaf.clone()), output, size, layout, prefix)


def heat_maps(
    network: TransferNetwork, images: Tensor, decided: npt.NDArray[np.int64]
) -> tuple[str, npt.NDArray[np.float32]]:
    """Grad-CAM at the highest cut whose maps still show places, and the name of that cut.

    Args:
        network: In evaluation mode.
        images: uint8 (n, H, W, C), where the network is.
        decided: (n,) the label that is explained for each.

    Returns:
        The cut and float32 (n, H, W) from 0 to 1; "" and zeros where no cut has places.
    """
    cut = _seen(network)
    if cut is None:
        return "", np.zeros(tuple(images.shape[:3]), np.float32)
    heat = _at(network, images, decided, cut)
    for lower in reversed([c for c in network.cuts[: network.cuts.index(cut)] if c.rows]):
        if heat.any():
            break
        # Above the last attention a ViT answers by its class token alone: no place has a say.
        cut, heat = lower, _at(network, images, decided, lower)
    return cut.name, heat


def _seen(network: TransferNetwork) -> Cut | None:
    """The highest cut whose maps still have a few rows and columns; None where none has places."""
    places = [cut for cut in network.cuts if cut.rows]
    fine = [cut for cut in places if cut.rows >= FEWEST_ROWS]
    return (fine or places)[-1] if places else None


def _at(
    network: TransferNetwork, images: Tensor, decided: npt.NDArray[np.int64], cut: Cut
) -> npt.NDArray[np.float32]:
    """Grad-CAM at a cut."""
    below, above = network.parts(cut.name)
    outputs = torch.from_numpy(decided).to(images.device)
    layer = (lambda x: below(network.pixels(x)), above)
    return grad_cam(network, images, layer, outputs, layout=cut.layout, prefix=cut.prefix)


def _run(
    network: nn.Module, images: Tensor, layer: str | tuple[Part, Part]
) -> tuple[Tensor, Tensor]:
    """The activation, a leaf, and the logits that follow from it."""
    if isinstance(layer, str):
        return _watched(network, images, layer)
    bottom, top = layer
    with torch.no_grad():
        activation = bottom(images)
    activation = activation.detach().requires_grad_()
    return activation, top(activation.clone())  # cloned: what follows may work in place


def _heat(
    activation: Tensor,
    logits: Tensor,
    classes: Tensor,
    size: tuple[int, int],
    layout: Layout,
    prefix: int,
) -> Tensor:
    """Both equations, of an activation and the logits that follow from it."""
    (gradient,) = torch.autograd.grad(_score(logits, classes).sum(), activation)
    seen, slope = (as_maps(v, layout, prefix) for v in (activation.detach(), gradient))
    return heat_of(seen, slope, size)


def _score(logits: Tensor, classes: Tensor) -> Tensor:
    """The logit of the class that is explained, (N,)."""
    if logits.shape[1] == 1:
        return logits[:, 0] * torch.where(classes == 0, -1.0, 1.0)
    return logits.gather(1, classes[:, None].long())[:, 0]


def heat_of(maps: Tensor, gradient: Tensor, size: tuple[int, int]) -> Tensor:
    """Equations 1 and 2, of maps and gradients (N, C, h, w), as (N, *size) from 0 to 1."""
    weights = gradient.mean((2, 3), keepdim=True)  # (N, C, 1, 1), eq. 1
    heat = F.relu((weights * maps).sum(1, keepdim=True))  # (N, 1, h, w), eq. 2
    heat = F.interpolate(heat.float(), size, mode="bilinear", align_corners=False)[:, 0]
    highest = heat.amax((1, 2), keepdim=True)
    return torch.where(highest > 0, heat / highest.clamp_min(1e-30), 0.0)  # (N, H, W)


def _watched(network: nn.Module, images: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """The activation of a named module, made a leaf, and the logits that follow from it."""
    try:
        module = network.get_submodule(name)
    except AttributeError as error:
        raise ModelError(f"the network has no module {name!r}; see `layerwise models`") from error
    seen: list[Tensor] = []

    def watch(_module: nn.Module, _inputs: object, result: object) -> Tensor:
        if not isinstance(result, Tensor):
            raise ModelError(f"{name} puts out more than one tensor; choose another layer")
        seen.append(result.detach().requires_grad_())
        return seen[-1].clone()

    hook = module.register_forward_hook(watch)
    try:
        logits = network(images)
    finally:
        hook.remove()
    if len(seen) != 1:
        raise ModelError(f"{name} runs {len(seen)} times a picture; choose a layer that runs once")
    return seen[0], logits


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards every module's own mode again."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode

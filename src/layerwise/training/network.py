"""A transfer applied to a network: a frozen bottom, a top that learns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from layerwise.errors import ModelError, WeightsError
from layerwise.models.cuts import Cut, homes, section
from layerwise.models.heads import FlattenedLinear, FullyConnected, PooledLinear, append_pool
from layerwise.models.pixels import Pixels
from layerwise.models.registry import Network, create, cuts_of
from layerwise.training.resolve import (
    below_classifier,
    copy_weights,
    depths,
    highest_frozen,
    settle,
    start_small,
)
from layerwise.training.transfer import Transfer


@dataclass(frozen=True)
class LayerGroup:
    """Learning layers between two main cuts.

    Attributes:
        name: The main cut that they end at; "head" above the last.
        parameters: Theirs.
        copied: Whether they started from the source.
        depth: 0 for the classifier or head, then one more for every main cut below it.
    """

    name: str
    parameters: list[nn.Parameter]
    copied: bool
    depth: int


class TransferNetwork(nn.Module):
    """A transfer applied: uint8 pictures (N, H, W, C) → logits (N, outputs).

    Attributes:
        pixels: The input contract.
        bottom: The frozen part, or None. It is in evaluation mode always, and its weights and
            statistics do not change.
        top: What learns.
        transfer: What was applied.
        original: The whole network it was made of; it shares the parameters of the parts that
            were kept, and its layers above `keep` are of no use.
        cuts: The legal main cuts up to `keep`, bottom to top.
        classifier: The layer that makes the logits, by its name in `weights`.
        place: What `frozen_part` puts out, in words: a cut by its own name, and whether its
            activation is pooled already; "" where nothing is frozen.
    """

    bottom: nn.Module | None

    def __init__(
        self,
        network: Network,
        transfer: Transfer,
        cuts: list[Cut],
        bottom: nn.Module | None,
        top: nn.Module,
        copied: set[str],
        depth: Mapping[str, int],
        place: str = "",
    ) -> None:
        """Use `build`; `depth` has an entry for every weight of the network, see `LayerGroup`."""
        super().__init__()
        self.pixels = Pixels(network.contract)
        self.bottom = bottom
        self.top = top
        self.transfer = transfer
        self.cuts = cuts
        self.place = place
        self.classifier = network.classifier if transfer.keep == "all" else "head.linear"
        self._copied = copied
        self._depth = depth
        self._whole = (network.module,)  # in a tuple, so that it is not a part of this module
        if bottom is not None:
            bottom.requires_grad_(False)
        self.train()

    @property
    def original(self) -> nn.Module:
        """See the class."""
        return self._whole[0]

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, C) → logits (N, outputs)."""
        x = self.pixels(images)
        if self.bottom is not None:
            with torch.no_grad():
                x = self.bottom(x)
        out: Tensor = self.top(x)
        return out

    def train(self, mode: bool = True) -> "TransferNetwork":
        """As any module's; what is frozen stays in evaluation mode."""
        super().train(mode)
        if self.bottom is not None:
            self.bottom.eval()
        return self

    def frozen_part(self) -> nn.Module | None:
        """Pictures → what the frozen layers put out, as one module; None if nothing is frozen."""
        if self.bottom is None:
            return None
        return nn.Sequential(self.pixels, self.bottom).eval()

    def weights(self) -> dict[str, Tensor]:
        """All weights and statistics under the network's own names (a new head's under `head.`)."""
        below = {} if self.bottom is None else self.bottom.state_dict()
        unused = self.original.state_dict() if self.transfer.keep == "all" else {}
        return {**unused, **below, **self.top.state_dict()}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take what `weights` of an equal network gave; WeightsError where the names differ."""
        own = self.weights()
        odd = set(own) ^ set(weights)
        odd |= {name for name in own if name in weights and own[name].shape != weights[name].shape}
        if odd:
            raise WeightsError(
                f"these weights are of another network: {min(odd)} and {len(odd) - 1} more differ; "
                "remove the run's folder and repeat the command"
            )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(weights[name])

    def load_head(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of the layers above the frozen part alone."""
        with torch.no_grad():
            for name, value in self.top.state_dict().items():
                value.copy_(weights[name])

    def learning_layers(self) -> list[LayerGroup]:
        """What learns, from the head down, in groups between the main cuts."""
        new_head = set() if self.transfer.keep == "all" else {"head"}
        groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for name, parameter in self.top.named_parameters():
            if name in self._depth or name.partition(".")[0] in new_head:  # else it is never used
                key = (self._depth.get(name, 0), name in self._copied)
                groups.setdefault(key, []).append(parameter)
        names = ["head", *(cut.name for cut in self.cuts[::-1])]
        return [
            LayerGroup(names[depth], groups[depth, copied], copied, depth)
            for depth, copied in sorted(groups)
        ]

    def parts(self, cut: str) -> tuple[nn.Module, nn.Module]:
        """What lies below a cut (taking what `pixels` gives) and above it, sharing parameters."""
        keep = None if self.transfer.keep == "all" else self.transfer.keep
        below = section(self.original, None, cut)
        if keep is None:
            return below, section(self.original, cut, None)
        above = _identity() if cut == keep else section(self.original, cut, keep)
        return below, _with_head(above, self.top.get_submodule("head"))

    def _apply(self, fn: Any, recurse: bool = True) -> "TransferNetwork":  # noqa: ANN401
        """Move or convert; the whole network too, since parts are taken from it later."""
        self.original._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def build(
    transfer: Transfer,
    *,
    model: str,
    outputs: int,
    seed: int,
    image_size: int,
    channels: int = 3,
    arguments: Mapping[str, str] | None = None,
    source_weights: Mapping[str, Tensor] | None = None,
) -> TransferNetwork:
    """Apply a transfer: make the network at random, copy, cut off, freeze.

    Args:
        transfer: What is kept, copied and frozen.
        model: A name of the registry.
        outputs: Logits an image.
        seed: Of every weight that starts at random; "untrained" filters use the next one.
        image_size: Side of the square pictures, pixels.
        channels: Of the network's input.
        arguments: For its constructor.
        source_weights: As `fit_weights` gives them; needed unless nothing is copied, or the
            source is "untrained".

    Raises:
        ModelError: A cut is unknown or not legal, or the cuts contradict each other.
    """
    network = create(
        model,
        outputs=outputs,
        seed=seed,
        channels=channels,
        image_size=image_size,
        arguments=arguments,
    )
    module = network.module
    every = cuts_of(network)
    home = homes(module)
    cuts = below_classifier(network, every, home)
    transfer = settle(transfer, module, cuts)
    if transfer.source == "untrained":
        other = create(
            model,
            outputs=outputs,
            seed=seed + 1,
            channels=channels,
            image_size=image_size,
            arguments=arguments,
        )
        source_weights = other.module.state_dict()
    copied = copy_weights(transfer, network, every, home, source_weights)
    if transfer.classifier == "small" or (transfer.classifier == "auto" and copied):
        start_small(module.get_submodule(network.classifier), seed)
    frozen = highest_frozen(transfer, network, cuts, home, copied)
    bottom = section(module, None, frozen) if frozen else None
    place = frozen or ""
    if transfer.keep == "all":
        top: nn.Module = section(module, frozen, None) if frozen else module
        cuts = [cut for cut in every if cut.block]
    else:
        last = next(cut for cut in every if cut.name == transfer.keep)
        if bottom is not None and frozen == last.name and transfer.head == "linear":
            append_pool(bottom, last.channels_last)  # what is kept on disk stays small
            place = f"{frozen}, pooled"
        body = _identity() if frozen == last.name else section(module, frozen, last.name)
        top = _with_head(body, _head(transfer, last, outputs, seed))
        upto = every[: every.index(last) + 1]
        cuts = [cut for cut in upto if cut.block or cut is last]
    if transfer.source == "untrained":
        copied = set()  # from here on: what has learnt before
    depth = depths(cuts, every, home)
    return TransferNetwork(network, transfer, cuts, bottom, top, copied, depth, place)


def _head(transfer: Transfer, last: Cut, outputs: int, seed: int) -> nn.Module:
    """What answers on top of a truncated network."""
    if transfer.head == "connected":
        return FullyConnected(last.shape, outputs, seed=seed)
    if transfer.head == "flattened":
        return FlattenedLinear(last.shape, outputs, seed=seed)
    return PooledLinear(last.channels, outputs, seed=seed, channels_last=last.channels_last)


def _identity() -> fx.GraphModule:
    """A network without layers."""
    graph = fx.Graph()
    graph.output(graph.placeholder("x"))
    return fx.GraphModule(nn.Module(), graph)


def _with_head(body: fx.GraphModule, head: nn.Module) -> fx.GraphModule:
    """The body with a head on top, called `head`."""
    if hasattr(body, "head"):
        raise ModelError("the layers below this cut include one called 'head'; choose a lower cut")
    body.add_submodule("head", head)
    (result,) = (node for node in body.graph.nodes if node.op == "output")
    with body.graph.inserting_before(result):
        node = body.graph.call_module("head", (result.args[0],))
    result.args = (node,)
    body.recompile()
    return body

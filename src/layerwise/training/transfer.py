"""The one idea: for every layer, is it kept, where do its weights come from, does it learn?"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.dropout import _DropoutNd

from layerwise.config import from_mapping
from layerwise.errors import ModelError, WeightsError
from layerwise.models.cuts import Cut, canonical, cut_points, homes, section
from layerwise.models.heads import PooledLinear, append_pool
from layerwise.models.pixels import Pixels
from layerwise.models.registry import Network, create


@dataclass(frozen=True)
class Transfer:
    """What is kept, copied and frozen: each up to a cut, or "all", or "none".

    "all" of copy and freeze means everything but the classifier: a new task always gets a new
    one. Every experiment of the papers is one such value (see docs/architecture.md).
    """

    source: str = "none"  # where copied weights come from; "untrained": random filters
    keep: str = "all"  # layers above this cut are dropped
    copy: str = "all"  # layers up to this cut start from the source, the rest at random
    freeze: str = "none"  # layers up to this cut do not learn, batch-norm statistics included

    def to_dict(self) -> dict[str, str]:
        """As in `results.json`."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Transfer":
        """What `to_dict` gave; unknown keys are refused."""
        return from_mapping(Transfer, values, "transfer")

    @property
    def name(self) -> str:
        """The transfer in words."""
        cut_off = "" if self.keep == "all" else f"truncated at {self.keep}, "
        if self.source == "none" or self.copy == "none":
            return f"{cut_off}random initialisation"
        kind = "random filters, " if self.source == "untrained" else ""
        if self.freeze == "none":
            part = "" if self.copy in ("all", self.keep) else f", copied to {self.copy}"
            return f"{kind}{cut_off}fine-tuned{part}"
        frozen = "frozen" if self.freeze in ("all", self.keep) else f"frozen to {self.freeze}"
        if self.copy in ("all", self.keep):
            return f"{kind}{cut_off}{frozen}"
        if self.copy == self.freeze:
            return f"{kind}{cut_off}copied and {frozen}"
        return f"{kind}{cut_off}{frozen}, copied to {self.copy}"


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
    ) -> None:
        """Use `build`; `depth` has an entry for every weight of the network, see `LayerGroup`."""
        super().__init__()
        self.pixels = Pixels(network.contract)
        self.bottom = bottom
        self.top = top
        self.transfer = transfer
        self.cuts = cuts
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
    every = cut_points(module, (channels, image_size, image_size))
    home = homes(module)
    classifier = _names_of(network.classifier, home)
    below_classifier = [c for c in every if not _names_below(c, every, home) & classifier]
    transfer = _canonical(transfer, module, below_classifier)
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
    copied = _copy(transfer, network, every, home, source_weights)
    if copied:
        _start_small(module.get_submodule(network.classifier), seed)
    frozen = _highest_frozen(transfer, network, below_classifier, home, copied)
    bottom = section(module, None, frozen) if frozen else None
    if transfer.keep == "all":
        top: nn.Module = section(module, frozen, None) if frozen else module
        cuts = [cut for cut in every if cut.block]
    else:
        last = next(cut for cut in every if cut.name == transfer.keep)
        if bottom is not None and frozen == last.name:
            append_pool(bottom)  # the head would do it first: what is kept on disk stays small
        body = _identity() if frozen == last.name else section(module, frozen, last.name)
        top = _with_head(body, PooledLinear(last.channels, outputs, seed=seed))
        upto = every[: every.index(last) + 1]
        cuts = [cut for cut in upto if cut.block or cut is last]
    if transfer.source == "untrained":
        copied = set()  # from here on: what has learnt before
    depth = _depths(cuts, every, home)
    return TransferNetwork(network, transfer, cuts, bottom, top, copied, depth)


def _depths(cuts: list[Cut], every: list[Cut], home: Mapping[str, str | None]) -> dict[str, int]:
    """For every weight, how many of the main cuts lie above it."""
    above: dict[str | None, int] = {None: 0}
    seen = 0
    for cut in reversed(every):
        seen += cut in cuts
        above[cut.name] = seen
    return {name: above[lowest] for name, lowest in home.items()}


def _names_of(module: str, home: Mapping[str, str | None]) -> set[str]:
    """The state-dict keys of one module."""
    return {name for name in home if name.startswith(f"{module}.")}


def _names_below(cut: Cut, every: list[Cut], home: Mapping[str, str | None]) -> set[str]:
    """The state-dict keys of what lies below a cut."""
    cuts = {one.name for one in every[: every.index(cut) + 1]}
    return {name for name, lowest in home.items() if lowest in cuts}


def _canonical(transfer: Transfer, module: nn.Module, cuts: list[Cut]) -> Transfer:
    """The transfer with each cut by its own name, and without contradictions."""
    names = [cut.name for cut in cuts]
    for field in ("keep", "copy", "freeze"):
        cut = getattr(transfer, field)
        if cut not in ("all", "none"):
            name = canonical(module, cut)  # raises where it is no cut, with the nearest ones
            if name not in names:
                raise ModelError(
                    f"{field} = {cut!r} takes in the classifier, which every task learns anew; "
                    f"choose {field} = 'all' or a cut up to {names[-1]!r}"
                )
            transfer = replace(transfer, **{field: name})
    if transfer.keep == "none":
        raise ModelError("keep = 'none' leaves no network; name a cut, or 'all'")
    height = {"none": -1, "all": len(names)} | {name: i for i, name in enumerate(names)}
    keep, copy, freeze = (height[c] for c in (transfer.keep, transfer.copy, transfer.freeze))
    for what, value, cut in (("copy", copy, transfer.copy), ("freeze", freeze, transfer.freeze)):
        if value > keep and cut != "all":
            raise ModelError(
                f"{what} = {cut!r} lies above keep = {transfer.keep!r}, where nothing is left; "
                f"choose a lower cut, or {what} = 'all'"
            )
    if min(freeze, keep) > min(copy, keep) and transfer.source != "untrained":
        raise ModelError(
            f"freeze = {transfer.freeze!r} lies above copy = {transfer.copy!r}: layers at random "
            "would never learn; copy more, freeze less, or use source = 'untrained' for random "
            "filters on purpose"
        )
    return transfer


def _copy(
    transfer: Transfer,
    network: Network,
    every: list[Cut],
    home: Mapping[str, str | None],
    source: Mapping[str, Tensor] | None,
) -> set[str]:
    """Copy the layers up to the cut; the names of what was copied.

    The classifier never is, and of the other layers all must be there, except where `fit_weights`
    has dropped a head of several layers.
    """
    if transfer.copy == "none" or transfer.source == "none":
        return set()
    if source is None:
        raise ModelError(
            f"source = {transfer.source!r}, but no weights were given; name them with --weights"
        )
    state = network.module.state_dict()
    if transfer.copy == "all":
        names = set(state) - _names_of(network.classifier, home)
    else:
        names = _names_below(next(c for c in every if c.name == transfer.copy), every, home)
    names &= set(state)
    absent = {n for n in names - set(source) if not n.endswith("num_batches_tracked")}
    if absent and transfer.copy != "all":
        raise ModelError(
            f"copy = {transfer.copy!r} takes in {min(absent)}, which {transfer.source} does not "
            "have; choose a lower cut, or copy = 'all' for whatever it has"
        )
    with torch.no_grad():
        for name in names & set(source):
            state[name].copy_(source[name])
    return names - absent


def _start_small(classifier: nn.Module, seed: int) -> None:
    """Let a new classifier on copied layers start near 0.

    Some constructors start it so large for a few outputs (timm's MobileNetV2 with logits of ±20
    for one) that its first gradients destroy what was copied.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in classifier.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.01 * noise if parameter.ndim > 1 else torch.zeros_like(parameter))


def _highest_frozen(
    transfer: Transfer,
    network: Network,
    cuts: list[Cut],
    home: Mapping[str, str | None],
    copied: set[str],
) -> str | None:
    """The cut up to which layers are frozen; None: nothing is.

    "all" is the highest one below which everything was copied, so that no layer is frozen that
    holds random weights. A dropout on top of it stays with the layers that learn.
    """
    if transfer.freeze == "none":
        return None
    if transfer.source == "none":
        raise ModelError(
            f"freeze = {transfer.freeze!r} without a source: layers at random would never learn; "
            "name weights with --weights, or use source = 'untrained' for random filters on purpose"
        )
    weights = {name for name, _ in network.module.named_parameters()} & set(home)
    whole = [c for c in cuts if not (_names_below(c, cuts, home) & weights) - copied]
    if transfer.keep != "all":
        upto = [c.name for c in cuts].index(transfer.keep)
        whole = [c for c in whole if c in cuts[: upto + 1]]
    if transfer.freeze != "all":
        if transfer.source != "untrained" and transfer.freeze not in {c.name for c in whole}:
            raise ModelError(
                f"freeze = {transfer.freeze!r} takes in layers that {transfer.source} does not "
                "have; choose a lower cut, or freeze = 'all' for whatever it has"
            )
        return transfer.freeze
    while whole and isinstance(network.module.get_submodule(whole[-1].name), _DropoutNd):
        whole.pop()
    if not whole:
        raise ModelError(
            f"{network.name} has no cut below which all layers are copied, so freeze = 'all' is "
            "not possible; name a cut"
        )
    return whole[-1].name


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

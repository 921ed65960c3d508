"""What the cuts of a transfer mean for one network: which layers are copied, which are frozen."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from layerwise.errors import ModelError
from layerwise.models.cuts import Cut, canonical, homes
from layerwise.models.registry import Network, cuts_of
from layerwise.training.transfer import Transfer


def depths(cuts: list[Cut], every: list[Cut], home: Mapping[str, str | None]) -> dict[str, int]:
    """For every weight, how many of the main cuts lie above it."""
    above: dict[str | None, int] = {None: 0}
    seen = 0
    for cut in reversed(every):
        seen += cut in cuts
        above[cut.name] = seen
    return {name: above[lowest] for name, lowest in home.items()}


def names_of(module: str, home: Mapping[str, str | None]) -> set[str]:
    """The state-dict keys of one module."""
    return {name for name in home if name.startswith(f"{module}.")}


def names_below(cut: Cut, every: list[Cut], home: Mapping[str, str | None]) -> set[str]:
    """The state-dict keys of what lies below a cut."""
    cuts = {one.name for one in every[: every.index(cut) + 1]}
    return {name for name, lowest in home.items() if lowest in cuts}


def below_classifier(
    network: Network, every: list[Cut], home: Mapping[str, str | None]
) -> list[Cut]:
    """The cuts with the whole classifier above them."""
    classifier = names_of(network.classifier, home)
    return [cut for cut in every if not names_below(cut, every, home) & classifier]


def keepable(network: Network, keep: str) -> str:
    """The own name of the cut that a network is to end at, or "all".

    Raises:
        ModelError: It is no legal cut, or one above the classifier, and legal ones are named; or
            there are none.
    """
    cuts = below_classifier(network, cuts_of(network), homes(network.module))
    if not cuts:
        raise ModelError(
            f"{network.name} can not be cut anywhere: no single tensor crosses below its "
            "classifier; choose another network with --model (`layerwise models` lists their cuts)"
        )
    return settle(Transfer(keep=keep), network.module, cuts).keep


def settle(transfer: Transfer, module: nn.Module, cuts: list[Cut]) -> Transfer:
    """The transfer with each cut by its own name, and without contradictions."""
    names = [cut.name for cut in cuts]
    for field in ("keep", "copy", "freeze"):
        cut = getattr(transfer, field)
        if cut not in ("all", "none", *names):
            name = canonical(module, cut)  # raises where it is no cut, with the nearest ones
            if name not in names:
                raise ModelError(
                    f"{field} = {cut!r} takes in the classifier, which every task learns anew; "
                    f"choose {field} = 'all' or a cut up to {names[-1]!r}"
                )
            transfer = Transfer.from_dict(transfer.to_dict() | {field: name})
    if transfer.keep == "none":
        raise ModelError("keep = 'none' leaves no network; name a cut, or 'all'")
    if transfer.keep == "all" and transfer.head != "linear":
        raise ModelError(
            f"head = {transfer.head!r} stands on a truncated network, and with keep = 'all' the "
            "network has its own classifier; name a cut with keep, or leave head out"
        )
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


def copy_weights(
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
        names = set(state) - names_of(network.classifier, home)
    else:
        names = names_below(next(c for c in every if c.name == transfer.copy), every, home)
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


def start_small(classifier: nn.Module, seed: int) -> None:
    """Let a new classifier on copied layers start near 0.

    Some constructors start it so large for a few outputs (timm's MobileNetV2 with logits of ±20
    for one) that its first gradients destroy what was copied.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in classifier.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.01 * noise if parameter.ndim > 1 else torch.zeros_like(parameter))


def highest_frozen(
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
    whole = [c for c in cuts if not (names_below(c, cuts, home) & weights) - copied]
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

"""Where a network may be cut, and what is left of it.

A *cut* is a place where exactly one tensor crosses the network's graph: everything above it is
computed from that tensor alone. Sizes and other plain numbers do not count, unless one is taken
from another tensor below. A cut has the name of the module whose output it is (the shortest one
where several modules end at one place). The network's own output is not a cut.

The parts hold the very parameters of the network they are taken from, not copies: training a part
trains the network. Their state-dict keys are those of the original.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import fx, nn

from layerwise.errors import ModelError
from layerwise.models.graph.blocks import block_cuts
from layerwise.models.graph.layout import Layout, Lie, lies
from layerwise.models.graph.measure import is_activation, propagate
from layerwise.models.graph.places import Places
from layerwise.models.graph.sections import build_section
from layerwise.models.graph.traced import traced


@dataclass(frozen=True)
class Cut:
    """A place where a network may be cut.

    Attributes:
        name: The module whose output crosses.
        channels: Of the crossing tensor.
        stride: Input height over rows of places at the cut, rounded; 0 where there are none.
        parameters: How many parameters everything below and including the cut has.
        macs: Multiply–adds of convolutions and matrix products below, for one image.
        block: Whether it is the end of one of the network's blocks, the places that a profile of
            depth looks at (see `graph/blocks.py`).
        shape: Of the crossing tensor, without the batch: (C, H, W), (H, W, C), (T, C) or (C,).
        layout: Which of these it is (see `graph/layout.py`).
        rows: Of the grid of places that the tensor is about; 0 where there is none.
        prefix: Tokens without a place, which stand before the others.
    """

    name: str
    channels: int
    stride: int
    parameters: int
    macs: int
    block: bool
    shape: tuple[int, ...]
    layout: Layout = "map"
    rows: int = 0
    prefix: int = 0

    @property
    def channels_last(self) -> bool:
        """Whether a tensor of four dimensions has its channels last."""
        return self.layout == "channels last"


def cut_points(model: nn.Module, input_size: tuple[int, int, int] = (3, 224, 224)) -> list[Cut]:
    """Every place where a network may be cut, from bottom to top.

    Takes a fraction of a second: shapes are propagated, nothing is computed.

    Args:
        model: Takes (N, C, H, W), returns one tensor. It is not changed.
        input_size: (C, H, W).

    Raises:
        ModelError: The network can not be traced, or does not accept pictures of this size.
    """
    return survey(model, input_size)[0]


def survey(
    model: nn.Module, input_size: tuple[int, int, int] = (3, 224, 224)
) -> tuple[list[Cut], int]:
    """As `cut_points`, and the multiply–adds of the whole network for one image."""
    found = Places(model)
    values, macs = propagate(found.trace, input_size)
    legal = {node: name for node, name in found.legal.items() if is_activation(values[node])}
    blocks = block_cuts(model, found.trace, legal)
    shapes = {node: tuple(values[node].shape[1:]) for node in found.order if node in legal}
    lie = dict(zip(shapes, _lies(model, list(shapes.values()), input_size), strict=True))
    every = {id(v) for state in found.state for v in state if isinstance(v, nn.Parameter)}
    below: dict[int, int] = {}  # sizes of the parameters met so far
    cuts, total = [], 0
    for node, state in zip(found.order, found.state, strict=True):
        below |= {id(v): v.numel() for v in state if isinstance(v, nn.Parameter)}
        total += macs.get(node, 0)
        if node not in legal:
            continue
        one = lie[node]
        cuts.append(
            Cut(
                name=legal[node],
                channels=one.channels,
                stride=round(input_size[1] / one.rows) if one.rows else 0,
                parameters=sum(below.values()),
                macs=total,
                # Above the last layer with parameters stand the answers, no features.
                block=node in blocks and len(below) < len(every),
                shape=shapes[node],
                layout=one.layout,
                rows=one.rows,
                prefix=one.prefix,
            )
        )
    return cuts, total


def _lies(
    model: nn.Module, shapes: list[tuple[int, ...]], input_size: tuple[int, int, int]
) -> list[Lie]:
    """How the tensors at the cuts lie; what timm's networks say of themselves is heard."""
    found = lies(
        shapes,
        input_size[1:],
        prefix=getattr(model, "num_prefix_tokens", 1),
        channels_last=getattr(model, "output_fmt", "") == "NHWC",
    )
    if any(type(part).__name__ == "Unroll" for part in model.modules()):
        # Hiera keeps its tokens window by window, not row by row.
        return [replace(one, rows=0) if one.layout == "tokens" else one for one in found]
    return found


def truncate(model: nn.Module, cut: str) -> fx.GraphModule:
    """The part of a network below a cut; it returns what crosses there.

    Args:
        model: The network; the part shares its parameters.
        cut: A name that `cut_points` gives.

    Raises:
        ModelError: The network has no such cut.
    """
    return section(model, None, cut)


def split(model: nn.Module, cut: str) -> tuple[fx.GraphModule, fx.GraphModule]:
    """The parts below and above a cut: ``top(bottom(x))`` is ``model(x)``, to the bit.

    Args:
        model: The network; the parts share its parameters.
        cut: A name that `cut_points` gives.

    Raises:
        ModelError: The network has no such cut.
    """
    found = Places(model)
    node = found.find(cut)
    bottom = build_section(found.trace, found.trace.source, [node], as_tuple=False)
    return bottom, build_section(found.trace, node, [found.trace.result], as_tuple=False)


def section(model: nn.Module, lower: str | None, upper: str | None) -> fx.GraphModule:
    """The part of a network between two cuts.

    Args:
        model: The network; the part shares its parameters.
        lower: It takes what crosses here; None: the network's input.
        upper: It returns what crosses here; None: the network's output.

    Raises:
        ModelError: The network has no such cut, or the lower one is not below the upper one.
    """
    found = Places(model)
    start = found.find(lower) if lower is not None else found.trace.source
    end = found.find(upper) if upper is not None else found.trace.result
    if found.order.index(start) >= found.order.index(end):
        raise ModelError(f"cut {lower!r} does not lie below cut {upper!r}; exchange them")
    return build_section(found.trace, start, [end], as_tuple=False)


def tap(model: nn.Module, cuts: Sequence[str]) -> fx.GraphModule:
    """A network that returns what crosses at each of several cuts, from one forward pass.

    Args:
        model: The network; the result shares its parameters. Nothing above the last cut is kept.
        cuts: Names that `cut_points` gives, in any order; the tuple returned has theirs.

    Raises:
        ModelError: The network has no such cut, or none was asked for.
    """
    if not cuts:
        raise ModelError("no cut was named; name at least one (`layerwise models NAME --cuts`)")
    found = Places(model)
    ends = [found.find(cut) for cut in cuts]
    return build_section(found.trace, found.trace.source, ends, as_tuple=True)


def canonical(model: nn.Module, cut: str) -> str:
    """The name that `cut_points` gives to a cut, by the name of any module that ends there.

    Raises:
        ModelError: The network has no such cut.
    """
    found = Places(model)
    return found.legal[found.find(cut)]


def homes(model: nn.Module) -> dict[str, str | None]:
    """For every parameter and buffer that the network uses, the lowest cut that it lies below.

    Returns:
        Names as in the state dict, in the order of the graph; None: it lies above all cuts.

    Raises:
        ModelError: The network can not be traced.
    """
    found = Places(model)
    names: dict[int, list[str]] = {}
    for kind in (model.named_parameters, model.named_buffers):
        for name, value in kind(remove_duplicate=False):
            names.setdefault(id(value), []).append(name)
    out: dict[str, str | None] = {}
    waiting: list[str] = []  # for the next cut
    for node, state in zip(found.order, found.state, strict=True):
        for name in (name for value in state for name in names.get(id(value), [])):
            if name not in out:
                out[name] = None
                waiting.append(name)
        if node in found.legal:
            out |= dict.fromkeys(waiting, found.legal[node])
            waiting = []
    return out


def output_shape(model: nn.Module, input_size: tuple[int, int, int]) -> tuple[int, ...]:
    """The shape of what a network returns for two pictures of a size (C, H, W).

    Raises:
        ModelError: The network can not be traced, or does not accept pictures of this size.
    """
    found = traced(model)
    values, _ = propagate(found, input_size)
    return tuple(values[found.result].shape)

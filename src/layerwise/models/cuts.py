"""Where a network may be cut, and what is left of it.

A *cut* is a place where exactly one tensor crosses the network's graph: everything above it is
computed from that tensor alone. Sizes and other plain numbers do not count, unless one is taken
from another tensor below. A cut has the name of the module whose output it is (the shortest one
where several modules end at one place). The network's own output is not a cut.

The parts hold the very parameters of the network they are taken from, not copies: training a part
trains the network. Their state-dict keys are those of the original.
"""

import difflib
from collections.abc import Container, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.stateless import _reparametrize_module
from torch.utils.flop_counter import FlopCounterMode

from layerwise.errors import ModelError
from layerwise.models.blocks import block_cuts
from layerwise.models.trace import Trace, changes_input, copy_modes, depends_on_mode, trace


@dataclass(frozen=True)
class Cut:
    """A place where a network may be cut.

    Attributes:
        name: The module whose output crosses.
        channels: Of the crossing tensor.
        stride: Input height over height at the cut, rounded; 0 where there is no height, that is
            a tensor (N, C) or (N, T, C).
        parameters: How many parameters everything below and including the cut has.
        macs: Multiply–adds of convolutions and matrix products below, for one image.
        block: Whether it is the end of one of the network's blocks, the places that a profile of
            depth looks at (see `blocks.py`).
    """

    name: str
    channels: int
    stride: int
    parameters: int
    macs: int
    block: bool


def cut_points(model: nn.Module, input_size: tuple[int, int, int] = (3, 224, 224)) -> list[Cut]:
    """Every place where a network may be cut, from bottom to top.

    Takes a fraction of a second: shapes are propagated, nothing is computed.

    Args:
        model: Takes (N, C, H, W), returns one tensor. It is not changed.
        input_size: (C, H, W).

    Raises:
        ModelError: The network can not be traced, or does not accept pictures of this size.
    """
    found = _Places(model)
    values, macs = _propagate(found.trace, input_size)
    legal = {node: name for node, name in found.legal.items() if _is_activation(values[node])}
    blocks = block_cuts(model, found.trace, legal)
    every = {id(v) for state in found.state for v in state if isinstance(v, nn.Parameter)}
    below: dict[int, int] = {}  # sizes of the parameters met so far
    cuts, total = [], 0
    for node, state in zip(found.order, found.state, strict=True):
        below |= {id(v): v.numel() for v in state if isinstance(v, nn.Parameter)}
        total += macs.get(node, 0)
        if node not in legal:
            continue
        value = values[node]
        cuts.append(
            Cut(
                name=legal[node],
                channels=value.shape[-1] if value.ndim == 3 else value.shape[1],
                stride=round(input_size[1] / value.shape[2]) if value.ndim == 4 else 0,
                parameters=sum(below.values()),
                macs=total,
                # Above the last layer with parameters stand the answers, no features.
                block=node in blocks and len(below) < len(every),
            )
        )
    return cuts


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
    found = _Places(model)
    node = found.find(cut)
    bottom = _build(found.trace, found.trace.source, [node], as_tuple=False)
    return bottom, _build(found.trace, node, [found.trace.result], as_tuple=False)


def section(model: nn.Module, lower: str | None, upper: str | None) -> fx.GraphModule:
    """The part of a network between two cuts.

    Args:
        model: The network; the part shares its parameters.
        lower: It takes what crosses here; None: the network's input.
        upper: It returns what crosses here; None: the network's output.

    Raises:
        ModelError: The network has no such cut, or the lower one is not below the upper one.
    """
    found = _Places(model)
    start = found.find(lower) if lower is not None else found.trace.source
    end = found.find(upper) if upper is not None else found.trace.result
    if found.order.index(start) >= found.order.index(end):
        raise ModelError(f"cut {lower!r} does not lie below cut {upper!r}; exchange them")
    return _build(found.trace, start, [end], as_tuple=False)


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
    found = _Places(model)
    ends = [found.find(cut) for cut in cuts]
    return _build(found.trace, found.trace.source, ends, as_tuple=True)


def canonical(model: nn.Module, cut: str) -> str:
    """The name that `cut_points` gives to a cut, by the name of any module that ends there.

    Raises:
        ModelError: The network has no such cut.
    """
    found = _Places(model)
    return found.legal[found.find(cut)]


def homes(model: nn.Module) -> dict[str, str | None]:
    """For every parameter and buffer that the network uses, the lowest cut that it lies below.

    Returns:
        Names as in the state dict, in the order of the graph; None: it lies above all cuts.

    Raises:
        ModelError: The network can not be traced.
    """
    found = _Places(model)
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
    found = trace(model)
    values, _ = _propagate(found, input_size)
    return tuple(values[found.result].shape)


class _Places:
    """The graph of a network and the nodes where it may be cut."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.trace = trace(model)
        self.order = _dependent(self.trace)
        index = {node: i for i, node in enumerate(self.order)}
        self.state = [_state_of(self.trace, node, index) for node in self.order]
        # How far up anything from below is still needed, and weights are still used.
        reach = [max((index.get(u, 0) for u in node.users), default=0) for node in self.order]
        last_use = {id(v): i for i, values in enumerate(self.state) for v in values}
        self.legal: dict[fx.Node, str] = {}  # bottom to top
        needed = 0  # by nodes below the present one
        for i, node in enumerate(self.order):
            used = max((last_use[id(v)] for v in self.state[i]), default=0)
            if max(needed, used) <= i and self._has_name(node):
                names = self.trace.names[node]
                self.legal[node] = min(names, key=lambda name: (name.count("."), len(name)))
            needed = max(needed, used, reach[i])

    def _has_name(self, node: fx.Node) -> bool:
        unfit = node is self.trace.result or node is self.trace.source or _is_tuple(node)
        return node in self.trace.names and not unfit

    def find(self, cut: str) -> fx.Node:
        """The node of a cut, by its name or by that of another module that ends there."""
        node = self.trace.aliases.get(cut)
        if node in self.legal:
            return node
        names = list(self.legal.values())
        kind = type(self.model).__name__
        if cut not in dict(self.model.named_modules()) or not cut:
            near = difflib.get_close_matches(cut, names, n=3, cutoff=0.4) or names[:3]
            raise ModelError(
                f"{kind} has no layer {cut!r}; near to it are the cuts {', '.join(near)} "
                "(`layerwise models NAME --cuts` lists all)"
            )
        if node is self.trace.result:
            why = "is the network's output"
        elif node is None:
            why = "runs more than once, or not at all, or does not return one tensor"
        else:
            why = "is not the only tensor that crosses there (a shortcut or a branch passes by)"
        raise ModelError(f"{kind} can not be cut at {cut!r}, which {why}; {self._around(cut)}")

    def _around(self, cut: str) -> str:
        """The legal cuts just below and just above a module."""
        order = {node: index for index, node in enumerate(self.trace.module.graph.nodes)}
        inside = [
            order[node]
            for name, node in self.trace.aliases.items()
            if (name == cut or name.startswith(cut + ".")) and node in order
        ]
        position = max(inside, default=-1)
        lower = [name for node, name in self.legal.items() if order[node] < position]
        upper = [name for node, name in self.legal.items() if order[node] > position]
        parts = [f"the next one below is {lower[-1]!r}"] if lower else []
        parts += [f"the next one above is {upper[0]!r}"] if upper else []
        return ", ".join(parts)


def _build(found: Trace, start: fx.Node, ends: list[fx.Node], *, as_tuple: bool) -> fx.GraphModule:
    """The graph from a node to others, as a network of its own."""
    seen, todo = {start, *ends}, [end for end in ends if end is not start]
    while todo:
        node = todo.pop()
        fresh = [needed for needed in node.all_input_nodes if needed not in seen]
        seen.update(fresh)
        todo.extend(fresh)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    results: dict[fx.Node, fx.Node] = {}
    for node in found.module.graph.nodes:
        if node not in seen:
            continue
        if node is start:
            copies[node] = graph.placeholder("x")
        else:
            copies[node] = graph.node_copy(node, lambda needed: copies[needed])
        if (node is start or node in ends) and _is_overwritten(found.module, node, seen):
            # What is handed in, and what is handed out, stays as it is when the next layer
            # works in place.
            if node in ends:
                results[node] = graph.call_method("clone", (copies[node],))
            if node is start and start is not found.source:
                copies[node] = graph.call_method("clone", (copies[node],))
    outputs = tuple(results.get(end, copies[end]) for end in ends)
    graph.output(outputs if as_tuple else outputs[0])
    module = fx.GraphModule(found.module, graph, class_name="Section")
    module._non_persistent_buffers_set |= {
        name for name in module._buffers if name in found.module._non_persistent_buffers_set
    }
    copy_modes(found.module, module)
    return module


def _is_overwritten(module: fx.GraphModule, node: fx.Node, among: set[fx.Node]) -> bool:
    """Whether a later node may write into this one's tensor; in doubt yes.

    Follows views of the tensor (and what may return its input as it is, such as dropout); stops
    at layers with parameters, activations and arithmetic, which make a tensor of their own.
    """
    todo, seen = [node], {node}
    while todo:
        for user in todo.pop().users:
            if user not in among or user in seen:
                continue
            if changes_input(module, user):
                return True
            seen.add(user)
            if not _makes_own_tensor(module, user):
                todo.append(user)
    return False


def _makes_own_tensor(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node's output surely shares no memory with its inputs."""
    if node.op == "call_module":
        layer = module.get_submodule(str(node.target))
        return any(True for _ in layer.parameters()) or type(layer).__module__.startswith(
            ("torch.nn.modules.activation", "torch.nn.modules.pooling")
        )
    name = getattr(node.target, "__name__", str(node.target))
    return name in {"add", "sub", "mul", "truediv", "cat", "mean", "relu", "sigmoid", "linear"}


def _is_tuple(node: fx.Node) -> bool:
    """Whether a node's value is a tuple, as its readers show: all take the n-th of it."""
    readers = list(node.users)
    return bool(readers) and all(
        getattr(reader.target, "__name__", "") == "getitem" and isinstance(reader.args[1], int)
        for reader in readers
    )


def _dependent(found: Trace) -> list[fx.Node]:
    """The nodes that depend on the input and that the output needs, in the graph's order."""
    needed, todo = {found.result}, [found.result]
    while todo:
        for node in todo.pop().all_input_nodes:
            if node not in needed:
                needed.add(node)
                todo.append(node)
    dependent = {found.source}
    for node in found.module.graph.nodes:
        if any(one in dependent for one in node.all_input_nodes):
            dependent.add(node)
    return [node for node in found.module.graph.nodes if node in dependent and node in needed]


def _state_of(
    found: Trace, node: fx.Node, dependent: Container[fx.Node]
) -> list[Tensor | nn.Module]:
    """What a node must not share with the other side of a cut, weights above all.

    Parameters and buffers that it uses, itself or through what is made of them alone, and modules
    that behave by their mode, since one side may be frozen while the other is in training.
    """
    out: list[Tensor | nn.Module] = []
    if node.op == "call_module":
        layer = found.module.get_submodule(str(node.target))
        out = [*layer.parameters(), *layer.buffers()]
        out += [part for part in layer.modules() if depends_on_mode(part)]
    elif node.op == "get_attr":
        path, _, name = str(node.target).rpartition(".")
        value = getattr(found.module.get_submodule(path), name)
        out = [value] if isinstance(value, Tensor) else []
    for needed in node.all_input_nodes:
        if needed not in dependent:
            out += _state_of(found, needed, dependent)
    return out


def _is_activation(value: object) -> bool:
    """Whether a value is a tensor that holds something of each image: first the batch."""
    if not isinstance(value, Tensor):
        return False
    return value.is_floating_point() and value.ndim in (2, 3, 4) and value.shape[0] == _BATCH


_BATCH = 2  # of the propagated shapes; not 1, so that a batch can be told from other dimensions


class _Counter(fx.Interpreter):
    """Runs a graph on tensors without content; keeps every value and counts operations."""

    def __init__(self, module: fx.GraphModule, flops: FlopCounterMode) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.flops = flops
        self.macs: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> object:
        """Run one node and note its multiply–adds for one image."""
        before = self.flops.get_total_flops()
        out = super().run_node(n)
        self.macs[n] = (self.flops.get_total_flops() - before) // (2 * _BATCH)
        return out


def _propagate(
    found: Trace, input_size: tuple[int, int, int]
) -> tuple[dict[fx.Node, Tensor], dict[fx.Node, int]]:
    """The value (without content) and the multiply–adds of every node."""
    module = found.module
    state = {
        name: torch.empty_like(value, device="meta")
        for kind in (module.named_parameters, module.named_buffers)
        for name, value in kind(remove_duplicate=False)
    }
    modes = [(part, part.training) for part in module.modules()]
    flops = FlopCounterMode(display=False)
    runner = _Counter(module, flops)
    try:
        for part, _ in modes:
            part.training = False
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            flops,
            _reparametrize_module(module, state),
        ):
            runner.run(torch.empty(_BATCH, *input_size, device="meta"))
    except Exception as error:  # whatever the network's own code raises
        first = str(error).strip().splitlines()
        raise ModelError(
            f"the network does not accept pictures of {input_size[1]}×{input_size[2]} with "
            f"{input_size[0]} channels ({first[0] if first else type(error).__name__}); choose "
            "another --image-size"
        ) from error
    finally:
        for part, training in modes:
            part.training = training
    return runner.env, runner.macs

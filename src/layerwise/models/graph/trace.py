"""A network as a graph: traced once, good for training and evaluation, changed in nothing.

`torch.fx` follows one symbolic tensor through the Python code of a network. Four things would go
wrong without care, and are handled here:

* Functions and modules that can not be followed stay whole; timm lists its own
  (``timm.models._features_fx``), and modules that look at ``self.training`` are added, since a
  trace would fix them in one mode for ever.
* ``functional.dropout(x, p, self.training)`` inside a larger module has its mode written into the
  graph as a constant. The network is traced in both modes; where only that constant differs it
  becomes a module that follows ``train()`` and ``eval()``. Any other difference refuses the
  network.
* LeViT and its kin keep what they make of their weights in evaluation mode, and use that later on;
  ``torch.jit.is_tracing`` tells them not to, and is made to say yes.
* Operations in place whose result is not used vanish from a graph; their input's later readers
  are made to read the result.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast
from unittest import mock

import torch
from timm.models._features_fx import get_notrace_functions, get_notrace_modules
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from layerwise.errors import ModelError

Measured = tuple[dict[fx.Node, Tensor], dict[fx.Node, int]]


@dataclass(frozen=True)
class Trace:
    """A traced network.

    Attributes:
        module: The whole network as a graph; it holds the very parameters of the original.
        source: Where values enter the graph.
        result: The node whose value the network returns.
        names: For a node, the modules whose output it is (those called once), in call order.
        aliases: Every module called once → the node of its output; `nn.Identity` included.
        measured: What `propagate` found for each size of pictures that it was asked for.
    """

    module: fx.GraphModule
    source: fx.Node
    result: fx.Node
    names: dict[fx.Node, list[str]]
    aliases: dict[str, fx.Node]
    measured: dict[tuple[int, int, int], Measured] = field(default_factory=dict, compare=False)


class ByMode(nn.Module):
    """A function with a ``training`` argument, which follows the mode of the network."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, **arguments: Any) -> Tensor:  # noqa: ANN401 - whatever the function takes
        """The function of these arguments in the present mode."""
        return self.function(**arguments, training=self.training)


class _Tracer(fx.Tracer):
    """Records the output node of every module, leaf or not."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))  # type: ignore[no-untyped-call]
        self.leaves = tuple(get_notrace_modules())  # type: ignore[no-untyped-call]
        self.outputs: list[tuple[str, fx.Node, bool]] = []  # module, its node, is it an identity
        self.calls: Counter[str] = Counter()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether the module stays whole."""
        if isinstance(m, self.leaves) or super().is_leaf_module(m, module_qualified_name):
            return True
        return not any(m.children()) and depends_on_mode(m)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:  # noqa: ANN401 - what the module returns
        """As `fx.Tracer`, but an `nn.Identity` makes no node: it is the place it stands at."""
        name = self.path_of_module(m)
        self.calls[name] += 1
        identity = type(m) is nn.Identity
        out = args[0] if identity and args else super().call_module(m, forward, args, kwargs)
        if isinstance(out, fx.Proxy):
            self.outputs.append((name, out.node, identity))
        return out


def trace(model: nn.Module) -> Trace:
    """Trace a network.

    Args:
        model: Takes one tensor, returns one. Not changed; its parameters are shared, not copied.

    Returns:
        The graph, with the module names that belong to its nodes.

    Raises:
        ModelError: The network can not be traced, behaves differently in training, or returns
            something else than one tensor.
    """
    kind = type(model).__name__
    before = set(vars(model))
    try:
        with _mode(model, training=True):
            twin = _follow(model)[1]
        _remove_constants(model, before)  # or the second trace would give them other names
        with _mode(model, training=False):
            tracer, graph = _follow(model)
            module = fx.GraphModule(model, graph)
    except ModelError:
        raise
    except Exception as error:  # whatever the network's own code raises when given a proxy
        raise ModelError(
            f"{kind} can not be traced by torch.fx, so Layerwise can not find its cuts "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}). "
            "Choose another network with --model; `layerwise models` lists those that are tested."
        ) from error
    finally:
        _remove_constants(model, before)
    for name in module._buffers:
        if name.startswith("_tensor_constant"):
            module._non_persistent_buffers_set.add(name)  # never part of a state dict
    moved = _follow_mode(module, twin, kind)
    _keep_in_place(module)
    copy_modes(model, module)
    names: dict[fx.Node, list[str]] = {}
    aliases: dict[str, fx.Node] = {}
    for name, made, identity in tracer.outputs:
        if tracer.calls[name] == 1 and name:
            node = moved.get(made, made)
            aliases[name] = node
            if not identity:
                names.setdefault(node, []).append(name)
    results = [node for node in module.graph.nodes if node.op == "output"][0].args[0]
    if not isinstance(results, fx.Node):
        raise ModelError(
            f"{kind} returns more than one tensor; choose another network with --model"
        )
    source = next(node for node in module.graph.nodes if node.op == "placeholder")
    return Trace(module, source, results, names, aliases)


def copy_modes(origin: nn.Module, section: nn.Module) -> None:
    """Put the containers of a graph module into the modes that the network's own are in.

    Modules that hold weights are the same objects on both sides and need nothing.
    """
    modes = {name: module.training for name, module in origin.named_modules()}
    for name, module in section.named_modules():
        module.training = modes.get(name, origin.training)


@contextmanager
def _mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Every module in one mode; afterwards each in the mode it had."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = training
        yield
    finally:
        for module, before in modes:
            module.training = before


def _follow(model: nn.Module) -> tuple[_Tracer, fx.Graph]:
    """One trace; optional arguments of ``forward`` keep their defaults."""
    tracer = _Tracer()
    _, *others = inspect.signature(model.forward).parameters.values()
    defaults = {p.name: p.default for p in others if p.default is not inspect.Parameter.empty}
    with mock.patch.object(torch.jit, "is_tracing", return_value=True):
        return tracer, tracer.trace(model, concrete_args=defaults or None)


def _remove_constants(model: nn.Module, before: set[str]) -> None:
    """Take away what the tracer attached to the network."""
    for name in set(vars(model)) - before:
        if name.startswith("_tensor_constant"):
            delattr(model, name)


def _call(node: fx.Node) -> tuple[object, bool | None]:
    """What a node does, comparable between two traces, and its ``training`` argument if any."""
    arguments: dict[str, Any] = {str(i): a for i, a in enumerate(node.args)} | node.kwargs
    training = None
    if node.op == "call_function":
        bound = _bind(node)
        if isinstance(bound.get("training"), bool):
            training = bound.pop("training")
            arguments = bound
    return (node.op, node.target, map_arg(arguments, lambda n: f"%{n.name}")), training


def _follow_mode(module: fx.GraphModule, twin: fx.Graph, kind: str) -> dict[fx.Node, fx.Node]:
    """Let constants that stand for the mode follow it; the replaced nodes and their successors."""
    graph = module.graph
    moved: dict[fx.Node, fx.Node] = {}
    nodes, twins = list(graph.nodes), list(twin.nodes)
    calls = [(_call(a), _call(b)) for a, b in zip(nodes, twins, strict=False)]
    if len(nodes) != len(twins) or any(a[0] != b[0] for a, b in calls):
        raise ModelError(
            f"{kind} computes something else in training than in evaluation (an auxiliary output, "
            "or stochastic layers inside a block), which a cut can not keep apart. Switch that "
            "off with --model-arg, or choose another network with --model."
        )
    for node, ((_, evaluating), (_, training)) in zip(nodes, calls, strict=True):
        if evaluating == training:
            continue
        name = f"by_mode_{len(moved)}"
        module.add_submodule(name, ByMode(cast("Callable[..., Tensor]", node.target)))
        arguments = _bind(node)
        del arguments["training"]
        with graph.inserting_before(node):
            moved[node] = graph.call_module(name, kwargs=arguments)
        node.replace_all_uses_with(moved[node])
        graph.erase_node(node)
    return moved


def _keep_in_place(module: fx.GraphModule) -> None:
    """Let readers after an unused operation in place read its result, or it would be lost."""
    order = {node: index for index, node in enumerate(module.graph.nodes)}
    for node in order:
        if not node.users and changes_input(module, node):
            (changed, *_) = node.all_input_nodes
            for user in [u for u in changed.users if order[u] > order[node]]:
                user.replace_input_with(changed, node)


def depends_on_mode(module: nn.Module) -> bool:
    """Whether a module's own forward looks at ``self.training``."""
    code = getattr(type(module).forward, "__code__", None)
    return code is not None and "training" in code.co_names


def changes_input(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node may write into the tensor that it is given."""
    if node.op == "call_module":
        return bool(getattr(module.get_submodule(str(node.target)), "inplace", False))
    name = str(getattr(node.target, "__name__", node.target))
    if node.op == "call_method":
        return name.endswith("_") and not name.endswith("__")
    if node.op == "call_function":
        in_place = name.endswith("_") or name in ("iadd", "isub", "imul", "itruediv")
        return in_place or _bind(node).get("inplace") is True
    return False


def _bind(node: fx.Node) -> dict[str, Any]:
    """The arguments of a called function by name; {} for builtins that do not tell."""
    signature = _signature(cast("Callable[..., Any]", node.target))
    try:
        return (
            {} if signature is None else dict(signature.bind(*node.args, **node.kwargs).arguments)
        )
    except TypeError:  # a builtin that takes more than its signature says
        return {}


@cache
def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None

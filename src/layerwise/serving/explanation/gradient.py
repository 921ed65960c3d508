"""The gradient of a network's answer with respect to an activation, as a graph.

Autograd is run once and what it does is written down (`make_fx`): forward and backward pass as one
chain of operations, taken apart by `backward.py`. That chain is fixed to the number of pictures it
was run with. So it is run with two and with three: a size that differs is one of the batch, and is
written in a way that leaves it free. What follows from weights alone is computed here, so of a
network that ends in global average pooling and a linear layer nothing is left but its weights: the
activation is not even read.
"""

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from layerwise.errors import ModelError
from layerwise.models.onnx_graph import attention_in_steps
from layerwise.serving.explanation.backward import decompositions

aten = torch.ops.aten

_SAME = {aten.alias, aten.detach, aten.clone, aten.lift_fresh_copy, aten.contiguous}
_SHAPED = {aten.view, aten._unsafe_view, aten.reshape, aten.squeeze, aten._reshape_alias}
_FILLED: dict[Any, float | None] = {aten.zeros: 0.0, aten.new_zeros: 0.0}
_FILLED |= {aten.ones: 1.0, aten.new_ones: 1.0}
_FILLED |= {aten.full: None, aten.new_full: None}  # by their last argument
_RENAMED = {
    aten._softmax.default: aten.softmax.int,
    aten._log_softmax.default: aten.log_softmax.int,
    aten.bitwise_or.Tensor: aten.logical_or.default,
    aten.bitwise_and.Tensor: aten.logical_and.default,
    aten.bitwise_not.default: aten.logical_not.default,
}


@dataclass(frozen=True)
class _Batch:
    """A size that grows with the batch: so many for each picture."""

    each: int


def gradient_graph(above: nn.Module, activation: Tensor, outputs: int) -> fx.GraphModule:
    """The network above a cut, run backwards.

    Args:
        above: Activation → logits (N, outputs), in evaluation mode, on the CPU.
        activation: float32 (N, ...), real ones, where they are 0 too.
        outputs: Logits an image.

    Returns:
        (activation (N, ...), seed (N, outputs)) → the gradient of Σ seed · logits with respect to
        the activation; any N. An input that does not count has no users in the graph.

    Raises:
        ModelError: Something in it has no gradient that a graph can have; the message says what.
    """
    enough = activation.detach().repeat(3, *[1] * (activation.ndim - 1))[:3].contiguous()

    def backwards(x: Tensor, seed: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(above(x), x, seed)
        return gradient

    traces = []
    try:
        with attention_in_steps(), sdpa_kernel(SDPBackend.MATH), _InOrder():
            for count in (2, 3):
                seed = torch.ones(count, outputs)
                follow = make_fx(backwards, decomposition_table=decompositions())
                traces.append(follow(enough[:count], seed))
    except Exception as error:  # whatever an operation raises when it is followed
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"its gradient can not be followed ({reason})") from error
    return _Freed(*traces).graph_module()


class _InOrder(TorchFunctionMode):
    """Global pooling of channels-last memory sets strides by hand, which no graph has."""

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 - any function of torch
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """As the function, pooling a copy whose memory is in the order of its sizes."""
        if func in (F.adaptive_avg_pool2d, torch._C._nn.adaptive_avg_pool2d):
            args = (args[0].contiguous(), *args[1:])
        return func(*args, **(kwargs or {}))


class _Freed:
    """Two traces of one function become a graph for any number of pictures."""

    def __init__(self, two: fx.GraphModule, three: fx.GraphModule) -> None:
        self.two, self.three = two, three
        self.graph = fx.Graph()
        self.made: dict[fx.Node, Any] = {}  # node of `two` → node of `graph`
        self.known: dict[fx.Node, Any] = {}  # node of `two` → its value, of weights alone
        self.twin: dict[fx.Node, fx.Node] = {}
        weights = [*two.parameters(), *two.buffers()]
        self.stored = {weight.untyped_storage().data_ptr() for weight in weights}

    def graph_module(self) -> fx.GraphModule:
        """The graph, with the weights that it uses."""
        nodes, others = list(self.two.graph.nodes), list(self.three.graph.nodes)
        if [(n.op, n.target) for n in nodes] != [(n.op, n.target) for n in others]:
            raise ModelError("its gradient is another one for another number of pictures")
        self.twin = dict(zip(nodes, others, strict=True))
        inputs = [node for node in nodes if node.op == "placeholder"]
        for node in inputs:
            self.made[node] = self.graph.placeholder(node.name)
        self.nothing = self._nothing(self.made[inputs[1]])
        with torch.no_grad():
            for node in nodes:
                if node.op == "get_attr":
                    self.known[node] = getattr(self.two, str(node.target)).detach()
                elif node.op == "call_function":
                    self._call(node)
                elif node.op == "output":
                    self.graph.output(self._as_node(node.args[0]))
        self.graph.eliminate_dead_code()
        self.graph.lint()
        return fx.GraphModule(self.two, self.graph)

    def _nothing(self, seed: fx.Node) -> fx.Node:
        """(N, 1) zeros: how what has no batch gets one."""
        one = self.graph.call_function(aten.slice.Tensor, (seed, 1, 0, 1))
        return self.graph.call_function(aten.sub.Tensor, (one, one))

    def _call(self, node: fx.Node) -> None:
        """Compute a node that follows from weights alone, or write it with a free batch."""
        twin = self.twin[node]
        args, kwargs = _merged(node.args, twin.args), _merged(node.kwargs, twin.kwargs)
        grows = _has_batch([args, kwargs])
        target, args = _plain(node.target, args)
        if not grows and all(n in self.known for n in node.all_input_nodes):
            values, named = (_mapped(given, self.known.__getitem__) for given in (args, kwargs))
            self.known[node] = target(*values, **named)
            return
        packet = getattr(node.target, "overloadpacket", None)
        if packet in _SAME:
            self.made[node] = self._as_node(node.args[0])
        elif packet in _SHAPED:
            self.made[node] = self._reshape(self._as_node(node.args[0]), self._shape(node))
        elif packet is aten.expand and grows:
            self.made[node] = self._expand(node)
        elif packet in _FILLED and grows:
            value = _FILLED[packet]
            self.made[node] = self._filled(args[-1] if value is None else value, self._shape(node))
        elif grows:
            raise ModelError(f"{target} depends on the number of pictures")
        else:
            args, kwargs = _mapped(args, self._as_node), _mapped(kwargs, self._as_node)
            self.made[node] = self.graph.call_function(target, tuple(args), kwargs)

    def _as_node(self, node: Any) -> Any:  # noqa: ANN401 - a node, or what stands for none
        """A node of the new graph; of a known value, the weight or buffer that holds it."""
        if not isinstance(node, fx.Node) or node in self.made:
            return self.made.get(node, node)
        value = self.known[node]
        if node.op == "get_attr":
            made = self.graph.get_attr(str(node.target))
        elif not isinstance(value, Tensor):
            made = value
        elif value.untyped_storage().data_ptr() in self.stored:  # a view: not written twice
            target, args = _plain(node.target, _mapped(node.args, self._as_node))
            made = self.graph.call_function(target, tuple(args), node.kwargs)
        else:
            name = f"known_{node.name}"
            self.two.register_buffer(name, value)
            made = self.graph.get_attr(name)
        self.made[node] = made
        return made

    def _shape(self, node: fx.Node) -> list[int | _Batch]:
        """The shape of a node's value."""
        both = (n.meta["tensor_meta"].shape for n in (node, self.twin[node]))
        return [_merged(a, b) for a, b in zip(*both, strict=True)]

    def _reshape(self, x: fx.Node, shape: list[int | _Batch]) -> fx.Node:
        sizes = [-1 if isinstance(size, _Batch) else size for size in shape]
        if sizes.count(-1) > 1:
            raise ModelError(f"a shape {sizes} has the number of pictures in it twice")
        return self.graph.call_function(aten.reshape.default, (x, sizes))

    def _expand(self, node: fx.Node) -> fx.Node:
        """Sizes of the batch stay where the source has them; else zeros of the batch are added."""
        (source, *_), shape = node.args, self._shape(node)
        assert isinstance(source, fx.Node)
        x = self._as_node(source)
        if source in self.known or not any(isinstance(s, _Batch) for s in self._shape(source)):
            flat = self._filled(0.0, [shape[0], *[1] * (len(shape) - 1)])
            x = self.graph.call_function(aten.add.Tensor, (x, flat))
        sizes = [-1 if isinstance(size, _Batch) else size for size in shape]
        return self.graph.call_function(aten.expand.default, (x, sizes))

    def _filled(self, value: float, shape: list[int | _Batch]) -> fx.Node:
        """One value everywhere, in a shape that begins with the batch."""
        if not isinstance(shape[0], _Batch) or _has_batch(shape[1:]):
            raise ModelError(f"a shape {shape} has the number of pictures in a place of its own")
        call = self.graph.call_function
        column = call(aten.add.Scalar, (self.nothing, value))  # (N, 1)
        if shape[0].each != 1:
            column = call(aten.expand.default, (column, [-1, shape[0].each]))
        rest = [int(size) for size in shape[1:] if not isinstance(size, _Batch)]
        column = call(aten.reshape.default, (column, [-1, *[1] * len(rest)]))
        return call(aten.expand.default, (column, [-1, *rest])) if set(rest) - {1} else column


def _merged(two: Any, three: Any) -> Any:  # noqa: ANN401 - any argument of an operation
    """An argument of both traces; a size that differs is one of the batch."""
    if isinstance(two, (list, tuple)):
        return [_merged(a, b) for a, b in zip(two, three, strict=True)]
    if isinstance(two, dict):
        return {key: _merged(value, three[key]) for key, value in two.items()}
    if isinstance(two, (int, float)) and two != three:
        if not isinstance(two, int) or two * 3 != three * 2:
            raise ModelError(f"a number ({two}, {three}) depends on the number of pictures")
        return _Batch(two // 2)
    return two


def _has_batch(argument: Any) -> bool:  # noqa: ANN401
    """Whether any size of the batch is inside."""
    if isinstance(argument, dict):
        argument = list(argument.values())
    if isinstance(argument, (list, tuple)):
        return any(_has_batch(inner) for inner in argument)
    return isinstance(argument, _Batch)


def _mapped(argument: Any, change: Any) -> Any:  # noqa: ANN401
    """The argument with every node in it changed; lists stay lists."""
    if isinstance(argument, dict):
        return {key: _mapped(value, change) for key, value in argument.items()}
    if isinstance(argument, (list, tuple)):
        return [_mapped(a, change) for a in argument]
    return change(argument) if isinstance(argument, fx.Node) else argument


def _plain(target: Any, args: list[Any]) -> tuple[Any, list[Any]]:  # noqa: ANN401
    """An operation, with its arguments, that works in place on nothing and that export knows."""
    if target is operator.getitem:
        return target, args
    if target._schema.is_mutable:
        packet = getattr(aten, target.overloadpacket.__name__.removesuffix("_"), None)
        if packet is None or target._overloadname not in packet.overloads():
            raise ModelError(f"{target} works in place")
        target = getattr(packet, target._overloadname)
    if target in (aten._softmax.default, aten._log_softmax.default):
        args = args[:2]  # the third asks for a precision of GPUs
    return _RENAMED.get(target, target), args

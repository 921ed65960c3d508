"""The graph of a network and the places where exactly one tensor crosses it."""

import difflib
from collections.abc import Container

from torch import Tensor, fx, nn

from layerwise.errors import ModelError
from layerwise.models.graph.trace import Trace, changes_input, depends_on_mode
from layerwise.models.graph.traced import traced


class Places:
    """The graph of a network and the nodes where it may be cut."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.trace = traced(model)
        self.order = _dependent(self.trace)
        index = {node: i for i, node in enumerate(self.order)}
        self.state = [_state_of(self.trace, node, index) for node in self.order]
        # How far up anything from below is still needed, and weights are still used.
        reach = [max((index.get(u, 0) for u in node.users), default=0) for node in self.order]
        tables = _tables(self.trace)
        last_use = {
            id(v): i for i, values in enumerate(self.state) for v in values if id(v) not in tables
        }
        self.legal: dict[fx.Node, str] = {}  # bottom to top
        needed = 0  # by nodes below the present one
        for i, node in enumerate(self.order):
            used = max((last_use.get(id(v), 0) for v in self.state[i]), default=0)
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


def _tables(found: Trace) -> set[int]:
    """Buffers that nothing writes to, by id: positions, rotary embeddings. Both sides may read."""
    read, layers = set(), set()
    for node in found.module.graph.nodes:
        if node.op == "call_module":
            layers |= {id(b) for b in found.module.get_submodule(str(node.target)).buffers()}
        elif node.op == "get_attr" and not any(changes_input(found.module, u) for u in node.users):
            value = _attribute(found, node)
            read |= set() if isinstance(value, nn.Parameter) else {id(value)}
    return read - layers


def _attribute(found: Trace, node: fx.Node) -> object:
    """What a node takes from the network: a parameter or a buffer."""
    path, _, name = str(node.target).rpartition(".")
    value: object = getattr(found.module.get_submodule(path), name)
    return value


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
        value = _attribute(found, node)
        out = [value] if isinstance(value, Tensor) else []
    for needed in node.all_input_nodes:
        if needed not in dependent:
            out += _state_of(found, needed, dependent)
    return out

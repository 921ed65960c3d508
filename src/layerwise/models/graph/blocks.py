"""Which cuts are the ends of a network's blocks: the places that a profile of depth looks at.

Blocks are found by walking from the network's root through plain containers
(`nn.Sequential`, `nn.ModuleList`, `nn.ModuleDict`) and through stages, that is modules in which
blocks of one kind follow each other. What is found there and may be cut off is a block, except
where nothing new stands: a layer just before its normalisation or activation, and dropout,
flattening and average pooling, after which pooled features are what they were before.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from torch import fx, nn
from torch.nn.modules import activation, dropout

from layerwise.models.graph.trace import Trace

_PLAIN = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_NORMS = ("BatchNorm", "GroupNorm", "LayerNorm", "RmsNorm", "RMSNorm", "InstanceNorm")
_ACTIVATIONS = {
    "relu",
    "relu6",
    "gelu",
    "silu",
    "hardswish",
    "leaky_relu",
    "elu",
    "tanh",
    "sigmoid",
}
_NOTHING_NEW = (dropout._DropoutNd, nn.Flatten, nn.Identity, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_SAME_FEATURES = {
    *("dropout", "flatten", "view", "reshape", "mean", "contiguous", "squeeze"),
    *("avg_pool2d", "adaptive_avg_pool2d"),
}


def block_cuts(model: nn.Module, found: Trace, legal: dict[fx.Node, str]) -> set[fx.Node]:
    """The nodes at which a block ends.

    Args:
        model: The network as it was before tracing.
        found: Its trace.
        legal: Where it may be cut, bottom to top.
    """
    ends: dict[fx.Node, int] = {}  # where units end, and how many layers with weights they have
    for name in _units(model, found, legal, ""):
        node = found.aliases.get(name)
        if node in legal:
            ends[node] = max(ends.get(node, 0), _weighted(model.get_submodule(name)))
    blocks: set[fx.Node] = set()
    before: fx.Node | None = None
    for node in legal:
        if node not in ends or (ends[node] < 2 and _is_read_only_by(node, _is_finish)):
            continue
        if before is not None:
            between = _between(before, node)
            if all(_adds_nothing(one) for one in between):
                continue
            if all(_is_finish(one) for one in between) and _is_read_only_by(node, _is_layer):
                continue  # the normalisation that a layer of the next block begins with
        blocks.add(node)
        before = node
    return blocks


def _units(
    module: nn.Module, found: Trace, legal: dict[fx.Node, str], prefix: str
) -> Iterator[str]:
    """Names of the modules that a walk through containers and stages meets."""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if type(child) in _PLAIN or _is_stage(child, found, legal, path):
            yield from _units(child, found, legal, f"{path}.")
        else:
            yield path


def _is_stage(module: nn.Module, found: Trace, legal: dict[fx.Node, str], path: str) -> bool:
    """Whether blocks of one kind follow each other in a module, each the end of a legal cut."""
    members = list(_members(module, f"{path}."))
    kinds = Counter(type(member) for _, member in members if _weighted(member) > 1)
    repeated = {kind for kind, count in kinds.items() if count > 1}
    inner = [name for name, member in members if type(member) in repeated]
    return bool(inner) and all(found.aliases.get(name) in legal for name in inner)


def _members(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """The children of a module, those of plain containers included."""
    for name, child in module.named_children():
        if type(child) in _PLAIN:
            yield from _members(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _weighted(module: nn.Module) -> int:
    """How many convolutions and matrices a module holds."""
    return sum(parameter.ndim > 1 for parameter in module.parameters())


def _between(lower: fx.Node, upper: fx.Node) -> set[fx.Node]:
    """The nodes above the lower and up to the upper one, the graph's input included if reached."""
    todo, seen = [upper], {upper}
    while todo:
        for needed in todo.pop().all_input_nodes:
            if needed is not lower and needed not in seen:
                seen.add(needed)
                todo.append(needed)
    return seen


def _is_read_only_by(node: fx.Node, what: Callable[[fx.Node], bool]) -> bool:
    return bool(node.users) and all(what(user) for user in node.users)


def _kinds(node: fx.Node) -> list[type]:
    """The types of the modules in whose forward a node was traced."""
    return [kind for _, kind in node.meta.get("nn_module_stack", {}).values()]


def _function(node: fx.Node) -> str:
    """The name of the function or method that a node calls."""
    if node.op not in ("call_function", "call_method"):
        return ""
    return str(getattr(node.target, "__name__", node.target)).rstrip("_")


def _is_finish(node: fx.Node) -> bool:
    """Whether a node belongs to a normalisation or an activation."""
    return _function(node) in _ACTIVATIONS or any(
        kind.__module__ == activation.__name__ or any(word in kind.__name__ for word in _NORMS)
        for kind in _kinds(node)
    )


def _is_layer(node: fx.Node) -> bool:
    """Whether a node belongs to a convolution or a matrix product."""
    return any(word in kind.__name__ for kind in _kinds(node) for word in ("Conv2d", "Linear"))


def _adds_nothing(node: fx.Node) -> bool:
    """Whether features pooled over the picture are the same after a node as before it."""
    return _function(node) in _SAME_FEATURES or any(
        issubclass(kind, _NOTHING_NEW) or "AdaptiveAvgPool" in kind.__name__
        for kind in _kinds(node)
    )

"""Parts of a traced network as networks of their own."""

from torch import fx

from layerwise.models.graph.trace import ByMode, Trace, changes_input, copy_modes


def build_section(
    found: Trace, start: fx.Node, ends: list[fx.Node], *, as_tuple: bool
) -> fx.GraphModule:
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
    for name, part in list(module.named_children()):
        if isinstance(part, ByMode):  # the trace is shared, the mode of a section is its own
            module.add_module(name, ByMode(part.function))
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

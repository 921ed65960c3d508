"""What a graph computes twice is computed once: networks in one graph that share a bottom."""

from pathlib import Path
from typing import Any


def compute_once(path: Path) -> None:
    """Rewrite an ONNX file: equal weights stand there once, equal operations on them run once.

    What the graph says stays the same to the bit. No operation that Layerwise exports is random.

    Args:
        path: The file; graphs inside of operations are left as they are.
    """
    import onnx

    model = onnx.load(path)
    graph = model.graph
    first: dict[Any, list[str]] = {}  # what makes values → their names
    same: dict[str, str] = {}  # a name → the one that stands for it

    def known(key: Any, names: list[str]) -> bool:  # noqa: ANN401 - whatever can be compared
        stand_in = first.setdefault(key, names)
        if stand_in is names:
            return False
        same.update(zip(names, stand_in, strict=True))
        return True

    weights, nodes = [], []
    for weight in graph.initializer:
        array = onnx.numpy_helper.to_array(weight)
        if not known((weight.data_type, array.shape, array.tobytes()), [weight.name]):
            weights.append(weight)
    results = {output.name for output in graph.output}
    for node in graph.node:
        inputs = [same.get(name, name) for name in node.input]
        del node.input[:]
        node.input.extend(inputs)
        if results & set(node.output):
            nodes.append(node)
            continue
        if node.op_type == "Identity":  # how the exporter writes a weight that is there already
            same[node.output[0]] = inputs[0]
            continue
        how = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
        key = (node.op_type, node.domain, tuple(inputs), tuple(how), len(node.output))
        if not known(key, list(node.output)):
            nodes.append(node)
    values = [value for value in graph.value_info if value.name not in same]
    for field, kept in (("initializer", weights), ("node", nodes), ("value_info", values)):
        del getattr(graph, field)[:]
        getattr(graph, field).extend(kept)
    onnx.save(model, path)

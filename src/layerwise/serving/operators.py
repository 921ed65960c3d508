"""What a bundle's graph is made of: standard operators and whole tensors, nothing else.

ONNX Runtime would follow a graph to other files, load libraries for other operators, and loop as
often as it is told. A network that answers for a picture needs none of it.
"""

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

from layerwise.errors import BundleError

OPSET = 17
"""Of every graph that Layerwise writes."""
MOST_NODES = 20_000
UNTRUSTED = "Do not use this bundle; get it again from where it was made."

REFUSED = {
    *("If", "Loop", "Scan", "SequenceMap"),  # graphs in a graph; as often as they like
    *("SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert"),
    *("SequenceLength", "SplitToSequence", "ConcatFromSequence", "ReverseSequence"),
    *("Optional", "OptionalGetElement", "OptionalHasElement"),
    *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike"),  # another answer each time
    *("RandomUniform", "RandomUniformLike"),
    *("Compress", "NonMaxSuppression", "NonZero", "Unique"),  # sizes that no one knows before
    *("StringNormalizer", "TfIdfVectorizer"),
}
BYTES = {"FLOAT": 4, "DOUBLE": 8, "FLOAT16": 2, "BOOL": 1, "INT8": 1, "UINT8": 1, "INT16": 2}
BYTES |= {"UINT16": 2, "INT32": 4, "UINT32": 4, "INT64": 8, "UINT64": 8}
"""Of one element of the types that a tensor may have."""


@cache
def allowed_operators() -> frozenset[str]:
    """The names of the operators of the standard opset that a bundle may have."""
    import onnx

    every = {s.name for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""}
    return frozenset(name for name in every - REFUSED if onnx.defs.has(name, OPSET))


def parse_graph(content: bytes, where: str) -> Any:  # noqa: ANN401 - a protobuf message
    """An ONNX model whose every part is one that a bundle may have.

    Args:
        content: Of the file.
        where: The file, for the error.

    Raises:
        BundleError: It is no ONNX, or has what it may not have.
    """
    import onnx

    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:  # protobuf's own classes
        raise BundleError(f"{where} is no ONNX graph ({error}). {UNTRUSTED}") from error
    if not model.graph.node:
        raise BundleError(f"{where} is no ONNX graph (it has no operator). {UNTRUSTED}")
    if model.functions or model.training_info:
        raise BundleError(f"{where} defines functions, which is not allowed. {UNTRUSTED}")
    opsets = [(o.domain, o.version) for o in model.opset_import]
    if opsets != [("", OPSET)]:
        raise BundleError(
            f"{where} uses operators that are not standard ONNX, opset {OPSET}: {opsets[:4]}. "
            f"{UNTRUSTED}"
        )
    if len(model.graph.node) > MOST_NODES:
        raise BundleError(
            f"{where} has {len(model.graph.node)} operators, more than {MOST_NODES}. {UNTRUSTED}"
        )
    _check_nodes(model.graph, where)
    for tensor in _tensors(model.graph, where):
        _check_tensor(tensor, where)
    return model


def _check_nodes(graph: Any, where: str) -> None:  # noqa: ANN401 - a protobuf message
    """Every operator is a standard one."""
    allowed = allowed_operators()
    for node in graph.node:
        if node.domain or node.op_type not in allowed:
            name = f"{node.domain}.{node.op_type}".removeprefix(".")[:60]
            what = "not allowed in a bundle" if node.op_type in REFUSED else "not standard ONNX"
            raise BundleError(f"{where} uses the operator {name!r}, {what}. {UNTRUSTED}")


def _tensors(graph: Any, where: str) -> Iterator[Any]:  # noqa: ANN401 - protobuf messages
    """Every constant of a graph."""
    if graph.sparse_initializer:
        raise BundleError(f"{where} has sparse tensors, which is not allowed. {UNTRUSTED}")
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if (
                attribute.HasField("g")
                or attribute.graphs
                or attribute.HasField("sparse_tensor")
                or attribute.sparse_tensors
                or attribute.ref_attr_name
            ):
                raise BundleError(
                    f"{where}: {node.op_type} has an inner graph, a sparse tensor or a reference, "
                    f"which is not allowed. {UNTRUSTED}"
                )
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _check_tensor(tensor: Any, where: str) -> None:  # noqa: ANN401 - a protobuf message
    """All its numbers are in the file, as many as it says."""
    from onnx import TensorProto

    name = f"{where}: the tensor {tensor.name[:60]!r}"
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise BundleError(f"{name} is kept in other files, which is not allowed. {UNTRUSTED}")
    kinds = dict((number, kind) for kind, number in TensorProto.DataType.items())
    kind = kinds.get(tensor.data_type, "UNDEFINED")
    if kind not in BYTES or tensor.HasField("segment"):
        raise BundleError(f"{name} is of the type {kind}, which is not allowed. {UNTRUSTED}")
    if any(size < 0 for size in tensor.dims):
        raise BundleError(f"{name} says it is {list(tensor.dims)[:8]}. {UNTRUSTED}")
    wanted = math.prod(tensor.dims)
    fields = (tensor.float_data, tensor.int32_data, tensor.int64_data)
    listed = sum(map(len, (*fields, tensor.double_data, tensor.uint64_data, tensor.string_data)))
    held = len(tensor.raw_data)
    if (held and (listed or held != wanted * BYTES[kind])) or (not held and listed != wanted):
        raise BundleError(
            f"{name} says it is {list(tensor.dims)[:8]} and holds something else. {UNTRUSTED}"
        )

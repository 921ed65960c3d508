"""How large everything gets that a graph computes: worked out, before anything is computed.

A few bytes of ONNX can ask for terabytes: a constant of any shape, a picture repeated a million
times, a product of two long vectors. So the shape of every value must follow from the graph alone,
for one picture, and be of a size that an honest network has.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.errors import BundleError
from layerwise.serving.operators import OPSET, UNTRUSTED

MOST = 1 << 27
"""Numbers in one value for one picture, twice those of VGG16's first layer at 1024×1024; and in
all constants together, which ONNX Runtime computes when it loads a graph, and keeps."""
MOST_TOGETHER = 1 << 31
"""Of all values, four times those of VGG16 at 1024×1024."""
SMALL = 64
"""Of what is computed here: shapes, and what shapes are computed from."""
READ = 4096
"""What of them one operator may take."""
FOLDS = frozenset(
    "Abs Add And Cast Ceil Clip Concat ConstantOfShape Div Equal Expand Floor Gather Greater "
    "Identity Less Max Min Mod Mul Neg Not Or Pow ReduceMax ReduceMin ReduceProd ReduceSum Reshape "
    "Round Slice Sqrt Squeeze Sub Transpose Unsqueeze Where".split()
)
GROWS = {"ConstantOfShape": 0, "Expand": 1}
"""The input that says how large the output is."""

Shape = tuple[int, ...]
Known = dict[str, NDArray[Any]]


def check_sizes(
    model: Any,  # noqa: ANN401 - a protobuf message
    inputs: Mapping[str, tuple[str, Shape]],
    outputs: Mapping[str, tuple[str, Shape | None]],
    where: str,
) -> dict[str, Shape]:
    """Refuse a graph whose values are too large, or whose inputs and outputs are not as they must.

    Args:
        model: As `parse_graph` gives it.
        inputs: Type ("UINT8") and shape of each input by name, for one picture.
        outputs: Those of each output, in their order; a shape of None may be any.
        where: The file, for the error.

    Returns:
        The shapes of the outputs by name, for one picture.

    Raises:
        BundleError: Saying what is wrong with which value.
    """
    import onnx

    _check_ends(model.graph.input, {k: kind for k, (kind, _) in inputs.items()}, "input", where)
    _check_ends(model.graph.output, {k: kind for k, (kind, _) in outputs.items()}, "output", where)
    for value in model.graph.input:
        wanted = inputs[value.name][1]
        said = _said(value.type)
        if said is None or said[:1] not in ([None], [1]) or tuple(said[1:]) != wanted[1:]:
            sizes = ", ".join(map(str, wanted[1:]))
            raise BundleError(
                f"{where}: the input {value.name!r} should be (n, {sizes}), it is {said}. "
                f"{UNTRUSTED}"
            )
    types = _types(inputs)
    _walk(model, types, where)
    found = {}
    for name, (kind, shape) in outputs.items():
        made = types.get(name)
        if made is None or onnx.TensorProto.DataType.Name(made.tensor_type.elem_type) != kind:
            raise BundleError(f"{where}: nothing makes the output {name!r} as {kind}. {UNTRUSTED}")
        found[name] = tuple(d.dim_value for d in made.tensor_type.shape.dim)
        if shape is not None and found[name] != shape:
            raise BundleError(
                f"{where}: the output {name!r} is {found[name]} for one picture, and should be "
                f"{shape}. {UNTRUSTED}"
            )
    return found


def known_values(
    model: Any,  # noqa: ANN401 - a protobuf message
    inputs: Mapping[str, tuple[str, Shape]],
    where: str,
) -> Known:
    """The small values that no pixel changes: constants, shapes and what is computed from them.

    Args:
        model: As `parse_graph` gives it.
        inputs: As of `check_sizes`.
        where: As of `check_sizes`.
    """
    return _walk(model, _types(inputs), where)


def _types(inputs: Mapping[str, tuple[str, Shape]]) -> dict[str, Any]:
    """The types of the inputs, as protobuf messages."""
    from onnx import TensorProto, helper

    return {
        name: helper.make_tensor_type_proto(TensorProto.DataType.Value(kind), shape)
        for name, (kind, shape) in inputs.items()
    }


def _check_ends(values: Any, wanted: dict[str, str], what: str, where: str) -> None:  # noqa: ANN401
    """The inputs or outputs are these, of these types."""
    import onnx

    found = {
        v.name: onnx.TensorProto.DataType.Name(v.type.tensor_type.elem_type)
        if v.type.HasField("tensor_type")
        else "no tensor"
        for v in values
    }
    if list(found.items()) != list(wanted.items()) or len(values) != len(found):
        raise BundleError(f"{where} has the {what}s {found}, and should have {wanted}. {UNTRUSTED}")


def _walk(model: Any, types: dict[str, Any], where: str) -> Known:  # noqa: ANN401
    """Find the type of every value, from the inputs on; and the small ones that are known.

    Not onnx's inference of a whole graph: that carries constants along, and so computes what is
    to be found here.
    """
    from onnx import helper, numpy_helper

    known: Known = {}
    for tensor in model.graph.initializer:
        _make(
            tensor.name, helper.make_tensor_type_proto(tensor.data_type, tensor.dims), types, where
        )
        if math.prod(tensor.dims) <= SMALL:
            known[tensor.name] = numpy_helper.to_array(tensor)
    fixed, together, constant = set(types) - {v.name for v in model.graph.input}, 0, 0
    for node in model.graph.node:
        for name in filter(None, node.input):
            if name not in types:
                raise BundleError(f"{where}: {name[:60]!r} is used before it is made. {UNTRUSTED}")
        value = _value(node, known, types, where)
        if value is not None and value.size <= SMALL and len(node.output) == 1:
            known[node.output[0]] = value
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            made = {node.output[0]: helper.make_tensor_type_proto(kind, value.shape)}
        else:
            made = _inferred(node, known, types, where)
        same = all(name in fixed for name in node.input if name)
        for name in filter(None, node.output):
            size = _size(node, name, made.get(name), where)
            together, constant = together + size, constant + size * same
            fixed |= {name} if same else set()
            if together > MOST_TOGETHER or constant > MOST:
                raise BundleError(
                    f"{where} computes more than {MOST_TOGETHER:,} numbers in all for one picture, "
                    f"or more than {MOST:,} without one, which is not allowed. {UNTRUSTED}"
                )
            _make(name, made[name], types, where)
    return known


def _make(name: str, kind: Any, types: dict[str, Any], where: str) -> None:  # noqa: ANN401
    """Note the type of a value that is made, once."""
    if name in types:
        raise BundleError(f"{where}: {name[:60]!r} is made twice. {UNTRUSTED}")
    types[name] = kind


def _size(node: Any, name: str, made: Any, where: str) -> int:  # noqa: ANN401
    """How many numbers an output of a node has."""
    said = None if made is None else _said(made)
    if said is None or None in said:
        raise BundleError(
            f"{where}: how large the output {name[:60]!r} of {node.op_type} is does not follow "
            f"from the graph, which is not allowed. {UNTRUSTED}"
        )
    count = math.prod(size or 0 for size in said)
    if count > MOST or min(size or 0 for size in [*said, 0]) < 0:
        raise BundleError(
            f"{where}: {node.op_type} makes {name[:60]!r} of {said[:8]}; more than {MOST:,} "
            f"numbers in one value are not allowed for one picture. {UNTRUSTED}"
        )
    return count


def _said(kind: Any) -> list[int | None] | None:  # noqa: ANN401 - a protobuf message
    """The dimensions of a type, None for one that is not known; None without any."""
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    return [d.dim_value if d.HasField("dim_value") else None for d in dims]


def _inferred(node: Any, known: Known, types: dict[str, Any], where: str) -> dict[str, Any]:  # noqa: ANN401
    """The types of a node's outputs, from those of its inputs and from constants among them."""
    import onnx
    from onnx import numpy_helper

    data = {
        name: numpy_helper.from_array(known[name], name) for name in node.input if name in known
    }
    try:
        return dict(
            onnx.shape_inference.infer_node_outputs(
                onnx.defs.get_schema(node.op_type, OPSET),
                node,
                {name: types[name] for name in node.input if name},
                data,
                opset_imports=[onnx.helper.make_opsetid("", OPSET)],
            )
        )
    except Exception as error:  # of C++, without a class of their own
        first = (str(error).strip().splitlines() or ["?"])[0][:200]
        raise BundleError(
            f"{where}: {node.op_type} does not fit its inputs ({first}). {UNTRUSTED}"
        ) from error


def _value(
    node: Any,  # noqa: ANN401 - a protobuf message
    known: Known,
    types: dict[str, Any],
    where: str,
) -> NDArray[Any] | None:
    """What an operator gives, if that is small and can be said now; None if not."""
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator

    if node.op_type == "Constant":
        given = node.attribute[0].t if len(node.attribute) == 1 else None
        if given is None or not node.attribute[0].HasField("t") or math.prod(given.dims) > SMALL:
            return None
        return numpy_helper.to_array(given)
    if node.op_type == "Shape" and not node.attribute:
        said = _said(types[node.input[0]])
        return np.array(said, np.int64)
    if node.op_type not in FOLDS or any(name and name not in known for name in node.input):
        return None
    if sum(known[name].size for name in node.input if name) > READ:
        return None
    feeds = {name: known[name] for name in node.input if name}
    if node.op_type in GROWS:
        wanted = known[node.input[GROWS[node.op_type]]]
        if math.prod(int(size) for size in wanted.ravel()) > SMALL:
            return None
    try:
        with np.errstate(all="ignore"):
            (value,) = ReferenceEvaluator(node, opsets={"": OPSET}).run(None, feeds)
    except Exception as error:  # whatever the evaluator makes of nonsense
        raise BundleError(
            f"{where}: {node.op_type} does not fit its inputs. {UNTRUSTED}"
        ) from error
    return np.asarray(value)

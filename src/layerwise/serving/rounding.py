"""A graph in 8-bit integers: made simple, its activations' ranges found, then rounded. No torch.

Static quantisation by ONNX Runtime (Jacob et al., CVPR 2018; Nagel et al., arXiv 2106.08295): every
weight and activation becomes an 8-bit integer with a scale, weights one scale a channel. The graph
keeps standard operators, QuantizeLinear and DequantizeLinear around the old ones, and ONNX Runtime
puts its integer kernels in their place when it loads it.
"""

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.errors import BundleError
from layerwise.models.onnx_session import INPUT, Session, open_graph
from layerwise.serving.card import MODEL, OUTPUT
from layerwise.serving.sizes import known_values

HEAVY = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
BINS = 2048
"""Of a histogram of an activation: eight for each of 256 levels."""
SHRUNK = 64
"""How many ranges are tried for an activation, from all of it down to a 64th."""
EDGE = 1e-6
"""Where log-odds end: a probability of 0 or 1 has none."""

Pictures = NDArray[np.uint8]
Range = tuple[float, float]


def simplified(graph: bytes) -> bytes:
    """The same graph with what follows from constants computed.

    Sizes of pictures become constants, batch normalisation becomes part of its convolution, and so
    do paddings: rounded apart from it they would cost twice.

    Args:
        graph: `model.onnx` of a bundle.

    Returns:
        A graph of standard operators, every one with a name.

    Raises:
        BundleError: ONNX Runtime can not load it.
    """
    import onnx
    import onnxruntime

    model = onnx.ModelProto.FromString(graph)
    _fold_sizes(model)
    with tempfile.TemporaryDirectory() as workplace:
        target = Path(workplace) / "simple.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        try:
            onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # of ONNX Runtime, whose classes share no public root
            raise _refused(error) from error
        simple = onnx.ModelProto.FromString(target.read_bytes())
    if not any(node.domain for node in simple.graph.node):  # else with operators of its own
        model = simple
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"
    return _clean(model)


def _fold_sizes(model: Any) -> None:  # noqa: ANN401 - a protobuf message
    """Sizes that do not depend on how many pictures there are become constants."""
    from onnx import numpy_helper

    graph = model.graph
    size = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim[1:]]
    one, two = (known_values(model, {INPUT: ("UINT8", (n, *size))}, MODEL) for n in (1, 2))
    given = {tensor.name for tensor in graph.initializer} | {v.name for v in graph.output}
    fixed = {
        name: value
        for name, value in one.items()
        if name not in given and name in two and np.array_equal(value, two[name])
    }
    kept = [node for node in graph.node if not set(node.output) <= set(fixed)]
    used = {v.name for v in graph.output}
    living = []
    for node in reversed(kept):  # in the order of a graph no one is used before it is made
        if used & set(node.output):
            living.append(node)
            used |= set(node.input)
    del graph.node[:]
    graph.node.extend(reversed(living))
    graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in fixed.items() if name in used
    )


class Ranges:
    """How the activations of a graph are spread over calibration pictures.

    Attributes:
        whole: The smallest and largest value of each activation, by its name.
        closest: The range of each that changes it least when it is rounded.
    """

    def __init__(self, graph: bytes, pictures: Pictures) -> None:
        """Run a graph twice.

        Args:
            graph: As `simplified` gives it.
            pictures: uint8 (n, H, W, C).

        Raises:
            BundleError: An activation is not a number.
        """
        self.whole: dict[str, Range] = {}
        for name, values in _activations(graph, pictures):
            low, high = self.whole.get(name, (0.0, 0.0))
            self.whole[name] = min(low, float(values.min())), max(high, float(values.max()))
        if not np.isfinite(list(self.whole.values())).all():
            raise BundleError("this network's activations overflow; serve it as it is")
        counts = {name: np.zeros(BINS, np.int64) for name in self.whole}
        for name, values in _activations(graph, pictures):
            low, high = self.whole[name]
            bins = ((values - low) * (BINS / max(high - low, 1e-30))).astype(np.int32)
            counts[name] += np.bincount(bins.clip(0, BINS - 1), minlength=BINS)
        self.closest = {name: closest_range(n, *self.whole[name]) for name, n in counts.items()}


def closest_range(counts: NDArray[np.int64], low: float, high: float) -> Range:
    """The part of a range whose 256 levels lie closest to the values, in squares.

    A few far values would else leave few levels to the many. Both ends are drawn in together,
    then the upper and the lower one each.

    Args:
        counts: int64 (BINS,), how many values lie in each of equal bins from `low` to `high`.
        low: The smallest value, at most 0.
        high: The largest value, at least 0.
    """
    if high <= low:
        return low, high
    values = low + (np.arange(BINS) + 0.5) * (high - low) / BINS  # (BINS,)
    weights = counts.astype(np.float64)
    shares = np.arange(SHRUNK, 0, -1) / SHRUNK

    def best(ranges: Sequence[Range]) -> Range:
        lows, highs = np.array(ranges).T[..., None]  # (tried, 1)
        error = (np.square(rounded_values(values, lows, highs) - values) * weights).sum(axis=1)
        return ranges[int(error.argmin())]

    low, high = best([(low * share, high * share) for share in shares])
    low, high = best([(low, high * share) for share in shares])
    return best([(low * share, high) for share in shares])


def rounded_values(
    values: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What is left of values that are written with 256 levels from low to high, 0 being one."""
    step = (high - low) / 255
    zero = np.round(-low / step)
    return (np.clip(np.round(values / step) + zero, 0, 255) - zero) * step


def _activations(graph: bytes, pictures: Pictures) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Every float value of a graph, flat, picture by picture."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.ModelProto.FromString(graph))
    kinds = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    ends = {v.name for v in model.graph.output}
    names = [name for node in model.graph.node for name in node.output]
    wanted = [n for n in names if kinds.get(n) == onnx.TensorProto.FLOAT or n in ends]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in wanted
        if name not in ends
    )
    session = open_graph(model.SerializeToString())
    for picture in pictures:
        for name, values in zip(wanted, session.run(wanted, {INPUT: picture[None]}), strict=True):
            yield name, values.ravel()


def rounded(
    graph: bytes,
    ranges: Mapping[str, Range],
    *,
    only: Collection[str] = (),
    left: Collection[str] = (),
) -> bytes:
    """A graph in 8-bit integers.

    The last layers with weights and what follows them (the sigmoid or softmax) stay as they are: a
    probability in 8 bits would be one of 256.

    Args:
        graph: As `simplified` gives it.
        ranges: Of every activation by name, as in `Ranges`.
        only: The operators that are rounded, by name; none for all.
        left: Those that are not.

    Raises:
        BundleError: ONNX Runtime can not quantise it.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data

    model = onnx.ModelProto.FromString(graph)
    # Else ONNX Runtime logs that the graph should be prepared first. It was, by `simplified`.
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    limits = {
        name: (np.array(low, np.float32), np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
    with tempfile.TemporaryDirectory() as workplace:
        source, target, table = (Path(workplace) / n for n in ("s.onnx", "t.onnx", "ranges.json"))
        source.write_bytes(model.SerializeToString())
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, limits), table)
        try:
            quantize_static(
                source,
                target,
                None,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                # Processors without VNNI add two products of 8 bits in 16: full weights overflow.
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=list(only),
                nodes_to_exclude=sorted(set(left) | untouched(model)),
                calibration_cache_path=table,
            )
        except Exception as error:  # of ONNX Runtime, whose classes share no public root
            raise _refused(error) from error
        return _clean(onnx.ModelProto.FromString(target.read_bytes()))


def untouched(model: Any) -> set[str]:  # noqa: ANN401 - a protobuf message
    """The operators that are never rounded, by name.

    The last layers with weights and those between them and the outputs; and those that compute with
    sizes: a padding of 3 pixels in 8 bits may become one of 2.
    """
    graph = model.graph
    size = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim[1:]]
    shapes = set(known_values(model, {INPUT: ("UINT8", (1, *size))}, MODEL))
    makers = {name: node for node in graph.node for name in node.output}
    alone = {node.name for node in graph.node if shapes & set(node.output)}
    waiting, seen = [OUTPUT], set()
    while waiting:
        name = waiting.pop()
        node = makers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        alone.add(node.name)
        if node.op_type not in HEAVY:
            waiting.extend(node.input)
    return alone


def steps(graph: bytes) -> list[str]:
    """The operators whose results a rounded graph writes in 8 bits, by name, in their order."""
    import onnx

    model = onnx.ModelProto.FromString(graph)
    makers = {name: node for node in model.graph.node for name in node.output}
    rounds = [n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    return [makers[name].name for name in rounds if name in makers]


def log_odds(graph: bytes, pictures: Pictures, threads: int) -> NDArray[np.float64]:
    """What a graph says of pictures, as log-odds (n, outputs)."""
    session = Session(graph, threads)
    said = [session.run(picture[None], [OUTPUT])[0] for picture in pictures]
    p = np.concatenate(said).astype(np.float64).clip(EDGE, 1 - EDGE)
    return np.asarray(np.log(p / (1 - p)))


def _clean(model: Any) -> bytes:  # noqa: ANN401 - a protobuf message
    """As a bundle wants it: standard operators alone, nothing that says how it was made."""
    used = {node.domain for node in model.graph.node}
    opsets = [o for o in model.opset_import if o.domain == "" or o.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    del model.metadata_props[:]
    del model.graph.value_info[:]
    content: bytes = model.SerializeToString()
    return content


def _refused(error: Exception) -> BundleError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return BundleError(
        f"this network can not be written in 8-bit integers ({first}); serve it as it is"
    )

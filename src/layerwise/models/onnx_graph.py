"""A torch network as an ONNX file that takes uint8 pictures in batches of any size."""

import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.errors import ModelError
from layerwise.models.onnx_session import BATCH_NAME, INPUT

OPSET = 17
"""Fixed, so that the same network gives the same file with every later torch."""


def export_graph(
    module: nn.Module,
    example: tuple[Tensor, ...],
    path: str | Path,
    output_names: Sequence[str],
) -> None:
    """Write a network as one self-contained ONNX file; the batch size stays free.

    The module is exported in evaluation mode and left in the mode it had. The file appears whole
    or not at all, and the same network gives the same bytes. Equal outputs are the caller's to
    check, on real pictures.

    Args:
        module: Takes uint8 (N, H, W, C), returns one tensor (N, ...) or a tuple of them.
        example: One input, ``(pixels,)``, with at least one picture.
        path: Where to write; an existing file is replaced.
        output_names: One name an output, in order.

    Raises:
        ModelError: An operation of the network has no ONNX form.
    """
    (pixels,) = example
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or len(pixels) < 1:
        raise ValueError(f"example should be uint8 (N, H, W, C), not {tuple(pixels.shape)}")
    # Two pictures: a batch of one would let the tracer take the batch for a constant.
    pixels = torch.cat([pixels[:1], pixels[-1:]])  # (2, H, W, C)
    write_graph(module, {INPUT: pixels}, path, output_names)


def write_graph(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    path: str | Path,
    output_names: Sequence[str],
    *,
    fold: bool = True,
) -> None:
    """As `export_graph`, for any inputs.

    Args:
        module: Takes the inputs in their order.
        inputs: By name, each with a batch of two or more.
        path: Where to write; an existing file is replaced.
        output_names: One name an output, in order.
        fold: Whether what follows from weights alone is computed now. Else ONNX Runtime does it
            when it loads the graph, and a weight that is used in two ways is written once.

    Raises:
        ModelError: An operation of the network has no ONNX form.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad(), _silence(), attention_in_steps():
            torch.onnx.register_custom_op_symbolic(  # type: ignore[attr-defined]
                "aten::adaptive_avg_pool2d", _adaptive_average, OPSET
            )
            # The tracing exporter, not dynamo=True. Measured on two cores, outputs equal to 3e-7
            # with both: mobilenetv2 0.6 s against 10.3 s (8.0 without optimising), resnet18
            # 0.8 s against 3.4 s, densenet121 1.2 s against 14.2 s; a `fit` exports many
            # bottoms, and the other one also writes this machine's paths into the file. It is
            # deprecated, but torch is pinned by the lock, and only this file would change.
            torch.onnx.export(
                module,
                tuple(inputs.values()),
                str(partial),
                input_names=list(inputs),
                output_names=list(output_names),
                dynamic_axes={name: {0: BATCH_NAME} for name in (*inputs, *output_names)},
                opset_version=OPSET,
                do_constant_folding=fold,
                dynamo=False,
            )
        os.replace(partial, target)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"the network can not be written as an ONNX graph: {reason}\n"
            "Choose another one with --model; `layerwise models` lists those that are tested."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
        for part, training in modes.items():
            part.training = training


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing of the exporter reaches the user but the exception it may raise.

    It warns of every Python value it fixes (the picture's size, on purpose) and of its own
    deprecation, and on failure prints the whole graph from C++, past `sys.stdout`.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def attention_in_steps() -> Iterator[None]:
    """`nn.MultiheadAttention` computes step by step; its fused form has no ONNX operator."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _adaptive_average(graph: Any, input: Any, output_size: Any) -> Any:  # noqa: ANN401 - graph nodes
    """AdaptiveAvgPool2d for any fixed size; the exporter itself wants a factor of the input's.

    Each output row is a mean of input rows, so the pooling is A_h X A_w' with constant matrices.
    """
    from torch.onnx import symbolic_helper

    wanted = symbolic_helper._maybe_get_const(output_size, "is")
    if wanted == [1, 1]:
        return graph.op("GlobalAveragePool", input)
    sizes = symbolic_helper._get_tensor_sizes(input)
    if sizes is None or None in sizes[-2:] or not isinstance(wanted, list):
        return symbolic_helper._onnx_unsupported("adaptive pooling of a size not fixed", input)
    (height, width), (h, w) = sizes[-2:], wanted
    if (height, width) == (h, w):
        return input
    if height % h == 0 and width % w == 0:
        step = [height // h, width // w]
        return graph.op("AveragePool", input, kernel_shape_i=step, strides_i=step)
    left = graph.op("Constant", value_t=_averaging(height, h))  # (h, H)
    right = graph.op("Constant", value_t=_averaging(width, w).T.contiguous())  # (W, w)
    return graph.op("MatMul", graph.op("MatMul", left, input), right)  # (N, C, h, w)


def _averaging(size: int, wanted: int) -> Tensor:
    """The matrix (wanted, size) whose row i means over floor(i n/m) <= j < ceil((i+1) n/m)."""
    matrix = torch.zeros(wanted, size)
    for i in range(wanted):
        start, stop = i * size // wanted, -(-(i + 1) * size // wanted)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix

"""A network as an ONNX graph, run by ONNX Runtime on the CPU; torch is never imported here.

Measured on this design: two to four times torch eager at batch 8, up to seven at batch 1. Frozen
bottoms and served bundles both run through this one class.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

INPUT = "pixels"
"""The name of the only input of every graph Layerwise writes."""
BATCH_NAME = "n"
"""The name of the first dimension of its input and outputs."""
SPIN = 50
"""Microseconds that a thread of a session that shares waits for the next piece before it sleeps."""


def open_graph(
    model: str | Path | bytes,
    threads: int | None = None,
    batch: int | None = None,
    shares: bool = False,
) -> Any:  # noqa: ANN401 - onnxruntime has no types
    """ONNX Runtime's own session of a graph on the CPU; `Session` says what the arguments mean.

    Raises:
        ValueError: It is no ONNX graph that the runtime takes.
        FileNotFoundError: There is no such file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; they arrive as exceptions
    # One operator at a time: the graphs are chains, so a second pool would only idle.
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    if threads is not None:
        options.intra_op_num_threads = threads
    if batch is not None:
        options.add_free_dimension_override_by_name(BATCH_NAME, batch)
    if shares:
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN))
    if not isinstance(model, bytes) and not Path(model).is_file():
        raise FileNotFoundError(f"no such ONNX file: {model}")
    try:
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            sess_options=options,
            providers=["CPUExecutionProvider"],
        )
    except Exception as error:  # the runtime's own classes share no public root
        raise ValueError(f"not a usable ONNX graph: {error}") from error


class Session:
    """An ONNX graph ready to run: uint8 pixels in, a list of arrays out.

    Attributes:
        outputs: The names of the outputs, in the order `run` returns them.
        pixel_shape: ``(H, W, C)`` that the graph accepts.
    """

    def __init__(
        self,
        model: str | Path | bytes,
        threads: int | None = None,
        batch: int | None = None,
        shares: bool = False,
    ) -> None:
        """Load a graph.

        Args:
            model: The path of an ``.onnx`` file, or the file's bytes.
            threads: Threads inside one operator; None leaves the number to ONNX Runtime.
            batch: The most pictures that `run` will be given. Every shape is then a constant, and
                paddings that follow from shapes become part of their convolutions: a quarter
                less time for MobileNetV2 with TensorFlow's "same" padding, to the same bits.
            shares: Whether other work needs the processors too: its threads then sleep between two
                runs, and soon while they wait for each other, where the runtime lets them spin.

        Raises:
            ValueError: The bytes are no ONNX graph, or its input is not uint8 NHWC "pixels".
            FileNotFoundError: There is no such file.
        """
        self._session = open_graph(model, threads, batch, shares)
        inputs = self._session.get_inputs()
        if [(i.name, i.type, len(i.shape)) for i in inputs] != [(INPUT, "tensor(uint8)", 4)]:
            found = ", ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs)
            raise ValueError(f"the graph's input should be uint8 NHWC {INPUT!r}, not {found}")
        height, width, channels = inputs[0].shape[1:]
        self.pixel_shape: tuple[int, int, int] = (height, width, channels)
        self._batch = batch
        self.outputs: tuple[str, ...] = tuple(o.name for o in self._session.get_outputs())

    def run(
        self, pixels: NDArray[np.uint8], outputs: Sequence[str] | None = None
    ) -> list[NDArray[np.float32]]:
        """Run the graph on one batch.

        Args:
            pixels: uint8 (N, H, W, C), N at least 1, and not above the batch the graph is fixed to.
            outputs: Which of its outputs are wanted, in which order; None for all.

        Returns:
            One array an output, the batch first.

        Raises:
            ValueError: The pixels are not uint8 of the graph's shape, or too many.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != self.pixel_shape:
            raise ValueError(
                f"the graph takes uint8 pixels (N, {', '.join(map(str, self.pixel_shape))}), "
                f"not {pixels.dtype} {pixels.shape}"
            )
        count = len(pixels)
        if self._batch is not None and count != self._batch:
            if count > self._batch:
                raise ValueError(f"{count} pictures for a graph fixed to {self._batch}")
            rest = np.zeros((self._batch - count, *self.pixel_shape), np.uint8)
            pixels = np.concatenate([pixels, rest])
        found = self._session.run(outputs, {INPUT: np.ascontiguousarray(pixels)})
        return [values[:count] for values in found]

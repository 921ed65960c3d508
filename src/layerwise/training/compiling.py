"""`torch.compile` of the training step: whether it can be had here, and what it would bring.

Batch norms and activations, a third of the time of a small network, are joined into fewer passes
over memory; whether these are faster than torch's own depends on the machine and the network, so
it is measured (`try_compiling`). The sums come in another order, so that the last bits differ from
those without: whether a run is compiled is a part of its recipe, and never decided on the way.
Nothing is computed in fewer bits, and dropout draws the same numbers.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from layerwise.errors import TrainingError

WORTH_TRYING = 1800.0  # seconds of planned steps; trying takes two minutes, and may bring nothing
LEAST_GAIN = 1.05  # times faster, compiling included, that the measured steps must promise
_ROUNDS = 3

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Trial:
    """What compiling brought here, in seconds."""

    first: float  # until the first compiled step was made
    step: float  # of a compiled step
    eager: float  # of the same step without

    def seconds(self, steps: int) -> float:
        """Of so many compiled steps, compiling included."""
        return self.first + steps * self.step

    def repays(self, steps: int) -> bool:
        """Whether so many steps end clearly earlier, compiling included."""
        return self.seconds(steps) * LEAST_GAIN < steps * self.eager


def no_compiler(device: torch.device) -> str:
    """Why nothing can be compiled for a device, in a sentence; empty where it seems possible."""
    if device.type != "cpu":
        return ""
    from torch._inductor.cpp_builder import get_cpp_compiler  # takes seconds to import
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "there is no C++ compiler; install g++ or clang++, or name one in CXX"
    return ""


def compiled(module: nn.Module, device: torch.device) -> Forward:
    """The module as a function that is compiled when it is first called.

    It shares weights, statistics and modes with the module. Another shape of the inputs, mode or
    set of learning weights is compiled anew.

    Raises:
        TrainingError: It can not be compiled here (some of it is noticed at the first call only).
    """
    why = no_compiler(device)
    if why:
        raise _refusal(why)
    run = torch.compile(module, dynamic=False, options={"fallback_random": True})

    def forward(inputs: Tensor) -> Tensor:
        try:
            out: Tensor = run(inputs)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise _refusal(f"that failed ({_first_line(error)})") from error
        return out

    return forward


def try_compiling(
    module: nn.Module,
    step: Callable[[Forward], object],
    device: torch.device,
) -> Trial | str:
    """Measure steps with and without compiling, by turns.

    Args:
        module: In training mode.
        step: Makes a whole training step, calling what it is given on its inputs.
        device: Where.

    Returns:
        What it brought, or why it can not be had, in a sentence.
    """
    why = no_compiler(device)
    if why:
        return why
    started = time.perf_counter()
    try:
        forward = compiled(module, device)
        step(forward)
    except TrainingError as error:
        return f"it failed here ({_first_line(error.__cause__ or error)})"
    first = time.perf_counter() - started
    taken: dict[Forward, list[float]] = {forward: [], module: []}
    for _ in range(_ROUNDS):
        for one, seconds in taken.items():
            started = time.perf_counter()
            step(one)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
    return Trial(first, statistics.median(taken[forward]), statistics.median(taken[module]))


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _refusal(why: str) -> TrainingError:
    return TrainingError(f"recipe: compile is true, but {why}; or set compile to false")

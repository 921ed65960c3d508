"""Shapes and operations of a traced network, found without computing anything."""

import torch
from torch import Tensor, fx
from torch.nn.utils.stateless import _reparametrize_module
from torch.utils.flop_counter import FlopCounterMode

from layerwise.errors import ModelError
from layerwise.models.graph.trace import Measured, Trace

_BATCH = 2  # of the propagated shapes; not 1, so that a batch can be told from other dimensions


class _Counter(fx.Interpreter):
    """Runs a graph on tensors without content; keeps every value and counts operations."""

    def __init__(self, module: fx.GraphModule, flops: FlopCounterMode) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.flops = flops
        self.macs: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> object:
        """Run one node and note its multiply–adds for one image."""
        before = self.flops.get_total_flops()
        out = super().run_node(n)
        self.macs[n] = (self.flops.get_total_flops() - before) // (2 * _BATCH)
        return out


def propagate(found: Trace, input_size: tuple[int, int, int]) -> Measured:
    """The value (without content) and the multiply–adds of every node; computed once a size."""
    if input_size not in found.measured:
        found.measured[input_size] = _propagated(found.module, input_size)
    return found.measured[input_size]


def _propagated(module: fx.GraphModule, input_size: tuple[int, int, int]) -> Measured:
    state = {
        name: torch.empty_like(value, device="meta")
        for kind in (module.named_parameters, module.named_buffers)
        for name, value in kind(remove_duplicate=False)
    }
    modes = [(part, part.training) for part in module.modules()]
    flops = FlopCounterMode(display=False)
    runner = _Counter(module, flops)
    try:
        for part, _ in modes:
            part.training = False
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            flops,
            _reparametrize_module(module, state),
        ):
            runner.run(torch.empty(_BATCH, *input_size, device="meta"))
    except Exception as error:  # whatever the network's own code raises
        first = str(error).strip().splitlines()
        raise ModelError(
            f"the network does not accept pictures of {input_size[1]}×{input_size[2]} with "
            f"{input_size[0]} channels ({first[0] if first else type(error).__name__}); choose "
            "another --image-size"
        ) from error
    finally:
        for part, training in modes:
            part.training = training
    return runner.env, runner.macs


def is_activation(value: object) -> bool:
    """Whether a value is a tensor that holds something of each image: first the batch."""
    if not isinstance(value, Tensor):
        return False
    return value.is_floating_point() and value.ndim in (2, 3, 4) and value.shape[0] == _BATCH

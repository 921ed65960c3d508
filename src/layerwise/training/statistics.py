"""Where the statistics of batch normalisation come from: `Recipe.batch_norm`.

* "running": as usual, an average over the last steps (momentum 0.1), of augmented pictures and of
  weights that have changed since.
* "frozen": copied layers keep those of the source, and normalise by them in training too; their
  scales and shifts learn. What pictures share a batch then matters no more.
* "reestimated": before every scoring they are computed anew with the present weights (PreciseBN,
  Wu & Johnson 2021, §3). The pictures are training pictures as they are, not augmented, since
  such are scored and predicted (ibid., §5: statistics of what the network will see).
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from layerwise.training.inputs import Inputs
from layerwise.training.unfreezing import parts_of

BATCHES = 64  # of 32 pictures: 2,048, of the order that Wu & Johnson 2021, §3, find enough
_PURPOSE = 0x57A7  # keeps the draw of these rows apart from the others of a seed


def keep_statistics(module: nn.Module, copied: set[nn.Parameter]) -> None:
    """Let the batch norms of copied layers normalise by the source's statistics from here on.

    Args:
        module: In training mode.
        copied: Parameters of the copied layers.
    """
    for part in parts_of(module, copied):
        for norm in _batch_norms(part):
            norm.training = False


def rows_to_measure(train: NDArray[np.int64], batch: int, seed: int) -> NDArray[np.int64]:
    """Fixed training rows (whole batches, at most BATCHES) that statistics are computed over."""
    order = np.random.default_rng([seed, _PURPOSE]).permutation(train)
    return order[: min(BATCHES, max(1, len(order) // batch)) * batch]


def reestimate(
    module: nn.Module,
    inputs: Inputs,
    rows: NDArray[np.int64],
    batch: int,
    device: torch.device,
) -> None:
    """Compute the statistics anew of every batch norm that is in training mode.

    Every batch is normalised by its own statistics, as in training; from these follow mean and
    (unbiased) variance over all batches. Dropout is off. Afterwards the modes are as before.

    Args:
        module: In training mode where layers learn; other batch norms keep their statistics.
        inputs: Where the rows are read, not augmented.
        rows: Whole batches, or one smaller one; at least two rows.
        batch: Rows at a time.
        device: Where the module is.
    """
    modes = {part: part.training for part in module.modules()}
    norms = {norm: _Moments() for norm in _batch_norms(module) if norm.training}
    norms = {norm: moments for norm, moments in norms.items() if norm.track_running_stats}
    if not norms:
        return
    momenta = {norm: norm.momentum for norm in norms}
    hooks = [norm.register_forward_hook(moments.add) for norm, moments in norms.items()]
    try:
        module.eval()
        for norm in norms:
            norm.training, norm.momentum = True, 1.0  # what it holds is of the last batch alone
        with torch.no_grad():
            for start in range(0, len(rows), batch):
                module(inputs.read(rows[start : start + batch], None).to(device))
            for norm, moments in norms.items():
                moments.store(norm)
    finally:
        for hook in hooks:
            hook.remove()
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for part, mode in modes.items():
            part.training = mode


class _Moments:
    """Mean and sum of squares about it of all values of a channel, batch by batch."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | float = 0.0  # (C,) float64
        self.squares: Tensor | float = 0.0  # (C,) float64

    def add(self, norm: _BatchNorm, given: tuple[Tensor, ...], _out: object) -> None:
        """Take in a batch: a hook, called when the norm holds mean and unbiased variance of it.

        The sums are joined by Chan et al. 1979, which does not cancel as Σx² − n·mean² does.
        """
        assert norm.running_mean is not None and norm.running_var is not None
        new = given[0].numel() // norm.num_features
        mean, variance = norm.running_mean.double(), norm.running_var.double()
        total = self.count + new
        apart = mean - self.mean
        self.mean = self.mean + apart * (new / total)
        self.squares = self.squares + variance * (new - 1) + apart**2 * (self.count * new / total)
        self.count = total

    def store(self, norm: _BatchNorm) -> None:
        """Put mean and unbiased variance of everything into the norm."""
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(torch.as_tensor(self.mean))
        norm.running_var.copy_(torch.as_tensor(self.squares) / (self.count - 1))


def _batch_norms(module: nn.Module) -> Iterable[_BatchNorm]:
    return (part for part in module.modules() if isinstance(part, _BatchNorm))

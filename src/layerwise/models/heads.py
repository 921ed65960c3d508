"""What answers on top of a truncated network."""

import torch
from torch import Tensor, fx, nn


def pool(features: Tensor) -> Tensor:
    """Global average pooling (Marcelino §5.2): features of any kind as one vector an image.

    Args:
        features: (N, C, H, W) maps, (N, T, C) tokens or (N, C).

    Returns:
        (N, C).
    """
    if features.ndim == 4:
        return features.mean(dim=(2, 3))
    return features.mean(dim=1) if features.ndim == 3 else features


class PooledLinear(nn.Module):
    """Global average pooling and one linear layer: the head of a truncated network."""

    def __init__(self, channels: int, outputs: int, *, seed: int) -> None:
        """A head at random, the same one for the same seed; the global random state stays."""
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.linear = nn.Linear(channels, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W), (N, T, C) or (N, C) → logits (N, outputs)."""
        logits: Tensor = self.linear(pool(features))
        return logits


def append_pool(section: fx.GraphModule) -> None:
    """Let a part of a network end in global average pooling; its names stay."""
    (output,) = section.graph.find_nodes(op="output")
    with section.graph.inserting_before(output):
        output.args = (section.graph.call_function(pool, (output.args[0],)),)
    section.recompile()

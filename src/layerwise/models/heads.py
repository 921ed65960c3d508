"""What answers on top of a truncated network."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

HIDDEN = 256  # units of the fully connected head's hidden layer


def pool(features: Tensor, channels_last: bool = False) -> Tensor:
    """Global average pooling (Marcelino §5.2): features of any kind as one vector an image.

    Args:
        features: (N, C, H, W) maps, (N, T, C) tokens or (N, C).
        channels_last: What has four dimensions is (N, H, W, C); a `Cut` knows.

    Returns:
        (N, C).
    """
    if features.ndim == 4:
        return features.mean(dim=(1, 2) if channels_last else (2, 3))
    return features.mean(dim=1) if features.ndim == 3 else features


class PooledLinear(nn.Module):
    """Global average pooling and one linear layer: the head of a truncated network."""

    def __init__(
        self, channels: int, outputs: int, *, seed: int, channels_last: bool = False
    ) -> None:
        """A head at random, the same one for the same seed; the global random state stays."""
        super().__init__()
        self.channels_last = channels_last
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.linear = nn.Linear(channels, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) or (N, H, W, C), (N, T, C) or (N, C) → logits (N, outputs)."""
        logits: Tensor = self.linear(pool(features, self.channels_last))
        return logits


class FlattenedLinear(nn.Module):
    """One linear layer on the flattened activation: where a linear SVM goes (Marcelino §6.3.3)."""

    def __init__(self, shape: Sequence[int], outputs: int, *, seed: int) -> None:
        """A head at random, see `FullyConnected`."""
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.linear = nn.Linear(math.prod(shape), outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(N, *shape) → logits (N, outputs)."""
        logits: Tensor = self.linear(features.flatten(1))
        return logits


class FullyConnected(nn.Module):
    """A hidden layer on the flattened activation: 256 units, ReLU, dropout ½, linear.

    Marcelino 2018, §5.1 and §6.3.1, Code 3 (there with one output and a sigmoid, which here is
    the loss's).
    """

    def __init__(self, shape: Sequence[int], outputs: int, *, seed: int) -> None:
        """A head at random, the same one for the same seed; the global random state stays.

        Args:
            shape: Of what it takes, without the batch: (C, H, W), (T, C) or (C,).
            outputs: Logits an image.
            seed: Of its weights.
        """
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.hidden = nn.Linear(math.prod(shape), HIDDEN)
            self.dropout = nn.Dropout(0.5)
            self.linear = nn.Linear(HIDDEN, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(N, *shape) → logits (N, outputs)."""
        x = torch.relu(self.hidden(features.flatten(1)))  # (N, 256)
        logits: Tensor = self.linear(self.dropout(x))
        return logits


def append_pool(section: fx.GraphModule, channels_last: bool = False) -> None:
    """Let a part of a network end in global average pooling (`pool`); its names stay."""
    (output,) = section.graph.find_nodes(op="output")
    with section.graph.inserting_before(output):
        output.args = (section.graph.call_function(pool, (output.args[0], channels_last)),)
    section.recompile()

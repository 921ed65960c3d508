"""The layers that our own networks are made of."""

from torch import Tensor, nn
from torch.nn import functional


class Convolution(nn.Conv2d):
    """A convolution with its ReLU, so that one name stands for both."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C', H', W'), not negative."""
        return functional.relu(super().forward(input))


class RectifiedPool(nn.MaxPool2d):
    """A ReLU and the pooling after it, worked out the other way round.

    The largest of what is not below 0 is what is not below 0 of the largest: the same bits,
    forward and backward, and the ReLU has a quarter of the values to look at.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H', W'), not negative."""
        return functional.relu(super().forward(input))


class PooledConvolution(nn.Conv2d):
    """A convolution with its ReLU and, where it has them, its pooling and its normalisation.

    One name stands for the layer, and its weights are called ``weight`` and ``bias``, as those of
    a bare convolution are.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        pool: RectifiedPool | None = None,
        norm: nn.Module | None = None,
    ) -> None:
        """A convolution; `pool` comes after it with its ReLU, or that alone, and `norm` last."""
        super().__init__(channels, filters, kernel, stride=stride, padding=padding, groups=groups)
        self.pool = nn.ReLU() if pool is None else pool
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C', H', W') as the pooling leaves it."""
        out: Tensor = self.norm(self.pool(super().forward(input)))
        return out


class Connected(nn.Linear):
    """A fully connected layer with its ReLU."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C) → (N, C'), not negative."""
        return functional.relu(super().forward(input))


class ResponseNorm(nn.Module):
    """Local response normalisation (Krizhevsky et al. 2012 §3.3) over five channels.

    Each value is divided by ``(1 + α/5 · Σ x²) ** β``, the sum over the value's own and two
    channels on either side, α = 1e-4 and β = 0.75: what `nn.LocalResponseNorm(5)` gives, up to
    rounding. That one goes through a three-dimensional pooling; these sums of shifted slices
    take a third of its time on a CPU, forward and backward together.
    """

    alpha = 1e-4

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → the same."""
        squares = functional.pad(x * x, (0, 0, 0, 0, 2, 2))  # (N, C + 4, H, W)
        pairs = squares[:, :-1] + squares[:, 1:]  # (N, C + 3, H, W)
        five = pairs[:, :-3] + pairs[:, 2:-1] + squares[:, 4:]  # (N, C, H, W)
        root = (five * (self.alpha / 5) + 1).rsqrt()
        return x * (root * root.sqrt())  # y^-½ · y^-¼ = y^-¾

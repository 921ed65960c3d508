"""The CBR family of Raghu et al. 2019, "Transfusion", appendix A, as Peng et al. 2021 use it."""

from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Convolution, batch norm, ReLU and, but for one, max pooling: one name for the four."""

    def __init__(self, channels: int, filters: int, kernel: int, *, pooled: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(filters)
        self.pool = nn.MaxPool2d(3, 2, padding=1) if pooled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, filters, ⌈H/2⌉, ⌈W/2⌉), or (N, filters, H, W) without pooling."""
        out: Tensor = self.pool(functional.relu(self.norm(self.conv(x))))
        return out


class CBR(nn.Module):
    """Blocks of convolution, batch norm and ReLU, global average pooling, one linear layer.

    Convolutions keep the size, max pooling (3×3, stride 2) halves it after every block; of
    CBR-LargeT not after the last. The convolutions have no bias, which batch norm would cancel.
    """

    def __init__(
        self,
        outputs: int,
        channels: int = 3,
        image_size: int = 224,
        *,
        kernel: int,
        widths: tuple[int, ...],
        last_pool: bool = True,
    ) -> None:
        """A network for pictures of any size.

        Args:
            outputs: Logits.
            channels: Of the pictures.
            image_size: Their side in pixels; changes nothing.
            kernel: Side of every filter, odd.
            widths: Filters of every block.
            last_pool: Whether the last block is pooled too.
        """
        super().__init__()
        self.names = [f"block{i + 1}" for i in range(len(widths))]
        for name, width in zip(self.names, widths, strict=True):
            pooled = last_pool or name != self.names[-1]
            self.add_module(name, Block(channels, width, kernel, pooled=pooled))
            channels = width
        self.classifier = nn.Linear(channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) → logits (N, outputs)."""
        for name in self.names:
            x = self.get_submodule(name)(x)
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


def large_t(outputs: int, channels: int = 3, image_size: int = 224) -> CBR:
    """CBR-LargeT ("tall"): five blocks of 7×7, 32-64-128-256-512."""
    widths = (32, 64, 128, 256, 512)
    return CBR(outputs, channels, image_size, kernel=7, widths=widths, last_pool=False)


def large_w(outputs: int, channels: int = 3, image_size: int = 224) -> CBR:
    """CBR-LargeW ("wide"): four blocks of 7×7, 64-128-256-512."""
    return CBR(outputs, channels, image_size, kernel=7, widths=(64, 128, 256, 512))


def small(outputs: int, channels: int = 3, image_size: int = 224) -> CBR:
    """CBR-Small: four blocks of 7×7, 32-64-128-256."""
    return CBR(outputs, channels, image_size, kernel=7, widths=(32, 64, 128, 256))


def tiny(outputs: int, channels: int = 3, image_size: int = 224) -> CBR:
    """CBR-Tiny: four blocks of 5×5, 64-128-256-512."""
    return CBR(outputs, channels, image_size, kernel=5, widths=(64, 128, 256, 512))

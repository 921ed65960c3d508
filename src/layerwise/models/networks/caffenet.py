"""The network of Yosinski et al. 2014: Caffe's eight-layer reference network, and a small one."""

from torch import Tensor, nn

from layerwise.models.networks.layers import (
    Connected,
    PooledConvolution,
    RectifiedPool,
    ResponseNorm,
)

SMALLEST = 39  # pixels of a side; the last pooling then still has two to look at
SMALLEST_32 = 8


class CaffeNet(nn.Module):
    """Five convolutions and three connected layers; its cuts are conv1 … conv5, fc6 and fc7.

    Yosinski et al. 2014 take Caffe's ``bvlc_reference_caffenet``: an AlexNet whose pooling stands
    before the local response normalisation, with the convolutions 2, 4 and 5 in two groups. Every
    name stands for the layer with its ReLU, pooling and normalisation. Names and shapes of the
    weights are Caffe's: 60,965,224 parameters for 227×227 pixels of three channels and 1000
    outputs. Pooling rounds up, as Caffe's does.

    Weights start as PyTorch's do. Caffe's start (``train_val.prototxt``: normal with deviation
    0.01, in fc6 and fc7 0.005, and biases of 1 in conv2, conv4, conv5, fc6 and fc7) is made for
    pixels from -128 to 127 and its own solver: with AdamW at 1e-3, `CaffeNet32` stayed at chance
    from it on CIFAR-10, on pixels of that scale and of ours.
    """

    def __init__(
        self,
        outputs: int,
        channels: int = 3,
        image_size: int = 227,
        *,
        widths: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256),
        hidden: int = 4096,
        kernel: int = 11,
        stride: int = 4,
        padding: int = 0,
        batch_norm: bool = False,
    ) -> None:
        """A network for square pictures of one size.

        Args:
            outputs: Logits.
            channels: Of the pictures.
            image_size: Their side in pixels, at least `SMALLEST`.
            widths: Filters of the five convolutions, even.
            hidden: Units of fc6 and of fc7.
            kernel: Side of the first convolution's filters.
            stride: Its stride.
            padding: Its padding.
            batch_norm: After every convolution, in place of the two response normalisations.
        """

        def norm(filters: int, *, response: bool = False) -> nn.Module | None:
            if batch_norm:
                return nn.BatchNorm2d(filters)
            return ResponseNorm() if response else None

        super().__init__()
        one, two, three, four, five = widths
        side = (image_size + 2 * padding - kernel) // stride + 1
        for _ in range(3):
            side = (side - 2) // 2 + 1  # 3×3 windows in steps of 2, rounded up
        self.conv1 = PooledConvolution(
            *(channels, one, kernel),
            stride=stride,
            padding=padding,
            pool=_pool(),
            norm=norm(one, response=True),
        )
        self.conv2 = PooledConvolution(
            *(one, two, 5),
            padding=2,
            groups=2,
            pool=_pool(),
            norm=norm(two, response=True),
        )
        self.conv3 = PooledConvolution(two, three, 3, padding=1, norm=norm(three))
        self.conv4 = PooledConvolution(three, four, 3, padding=1, groups=2, norm=norm(four))
        self.conv5 = PooledConvolution(
            four, five, 3, padding=1, groups=2, pool=_pool(), norm=norm(five)
        )
        self.fc6 = Connected(five * side * side, hidden)
        self.drop6 = nn.Dropout(0.5)
        self.fc7 = Connected(hidden, hidden)
        self.drop7 = nn.Dropout(0.5)
        self.fc8 = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, image_size, image_size) → logits (N, outputs)."""
        x = self.conv2(self.conv1(x))  # (N, 256, 13, 13) of 227 pixels
        x = self.conv5(self.conv4(self.conv3(x)))  # (N, 256, 6, 6)
        x = self.drop6(self.fc6(x.flatten(1)))  # (N, 4096)
        logits: Tensor = self.fc8(self.drop7(self.fc7(x)))
        return logits


class CaffeNet32(CaffeNet):
    """`CaffeNet` for 32×32 pixels: narrow layers, batch normalisation, a first convolution of 5×5.

    That convolution keeps the size; the poolings leave 16, 8 and 4 pixels. It is our own scaling,
    for experiments that the large network is too slow for: a sixth or an eighth of the filters and
    a sixteenth of the connected units. A study of transfer means something only if each network is
    trained to its end, and with batch normalisation (Ioffe & Szegedy 2015), which the paper did
    not have yet, that takes fewer epochs.
    """

    def __init__(self, outputs: int, channels: int = 3, image_size: int = 32) -> None:
        """A network for square pictures of one size, at least `SMALLEST_32` pixels."""
        super().__init__(
            *(outputs, channels, image_size),
            widths=(16, 32, 64, 64, 32),
            hidden=256,
            kernel=5,
            stride=1,
            padding=2,
            batch_norm=True,
        )


def _pool() -> RectifiedPool:
    return RectifiedPool(3, 2, ceil_mode=True)

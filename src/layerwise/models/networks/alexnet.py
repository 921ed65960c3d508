"""AlexNet as Buluttekin 2020 §4.1.4 trains it: one stream, no local response normalisation."""

from torch import Tensor, nn

from layerwise.models.networks.layers import (
    Connected,
    Convolution,
    PooledConvolution,
    RectifiedPool,
)

SMALLEST = 67  # pixels of a side; the last pooling then leaves one


class AlexNet(nn.Module):
    """Five convolutions, of which three are pooled (3×3, stride 2), and three connected layers.

    The first convolution has no padding, the others keep the size. For 224×224 pixels of three
    channels and one output: 46,751,105 parameters, as in the thesis's table. The two hidden
    connected layers drop half of their values in training.
    """

    def __init__(self, outputs: int, channels: int = 3, image_size: int = 224) -> None:
        """A network for square pictures of one size, at least `SMALLEST` pixels."""
        super().__init__()
        side = (image_size - 11) // 4 + 1
        for _ in range(3):
            side = (side - 3) // 2 + 1
        self.conv1 = PooledConvolution(channels, 96, 11, stride=4, pool=RectifiedPool(3, 2))
        self.conv2 = PooledConvolution(96, 256, 5, padding=2, pool=RectifiedPool(3, 2))
        self.conv3 = Convolution(256, 384, 3, padding=1)
        self.conv4 = Convolution(384, 384, 3, padding=1)
        self.conv5 = PooledConvolution(384, 256, 3, padding=1, pool=RectifiedPool(3, 2))
        self.fc6 = Connected(256 * side * side, 4096)
        self.drop6 = nn.Dropout(0.5)
        self.fc7 = Connected(4096, 4096)
        self.drop7 = nn.Dropout(0.5)
        self.fc8 = nn.Linear(4096, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, image_size, image_size) → logits (N, outputs)."""
        x = self.conv2(self.conv1(x))  # (N, 256, 12, 12) of 224 pixels
        x = self.conv5(self.conv4(self.conv3(x)))  # (N, 256, 5, 5)
        x = self.drop6(self.fc6(x.flatten(1)))  # (N, 4096)
        logits: Tensor = self.fc8(self.drop7(self.fc7(x)))
        return logits

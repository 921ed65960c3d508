"""LeNet-5 as Buluttekin 2020 §4.1.3 trains it: ReLU instead of tanh, average pooling."""

from torch import Tensor, nn

from layerwise.models.networks.layers import Connected, Convolution

SMALLEST = 28  # pixels of a side; the third convolution then leaves one pixel


class LeNet5(nn.Module):
    """Three convolutions of 5×5, two average poolings, three fully connected layers.

    For 224×224 pixels of three channels and one output: 34,635,761 parameters, as in the paper's
    table, of which 34,574,520 stand in ``fc1``. Below 32 pixels the first convolution pads by
    two, as is usual for 28×28 digits.
    """

    def __init__(self, outputs: int, channels: int = 3, image_size: int = 224) -> None:
        """A network for square pictures of one size, at least `SMALLEST` pixels."""
        super().__init__()
        padding = 2 if image_size < 32 else 0
        side = ((image_size + 2 * padding - 4) // 2 - 4) // 2 - 4
        self.conv1 = Convolution(channels, 6, 5, padding=padding)
        self.pool1 = nn.AvgPool2d(2)
        self.conv2 = Convolution(6, 16, 5)
        self.pool2 = nn.AvgPool2d(2)
        self.conv3 = Convolution(16, 120, 5)
        self.fc1 = Connected(120 * side * side, 120)
        self.fc2 = Connected(120, 84)
        self.fc3 = nn.Linear(84, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, image_size, image_size) → logits (N, outputs)."""
        x = self.pool1(self.conv1(x))  # (N, 6, H/2, W/2)
        x = self.pool2(self.conv2(x))  # (N, 16, H/4, W/4)
        x = self.conv3(x).flatten(1)  # (N, 120·h·w)
        logits: Tensor = self.fc3(self.fc2(self.fc1(x)))
        return logits

"""VGG16 as Buluttekin 2020 §4.1.5 trains it: a small classifier over globally pooled maps."""

from torch import Tensor, nn

SMALLEST = 32  # pixels of a side; five poolings then leave one
_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16(nn.Module):
    """Thirteen convolutions of 3×3 in five pooled groups, global pooling, 4096–4096–outputs.

    For three channels and one output: 33,601,345 parameters at every size, of which 14,714,688
    stand in the convolutions. These have the names of torchvision's ``vgg16``, so its weights
    fit; its classifier, made for 7×7 unpooled maps, does not. The thesis does not name its
    pooling; it is the average. Weights start as torchvision's do (He et al. 2015; 0.01 for the
    connected layers): with PyTorch's own start the signal dies out over sixteen layers.
    """

    def __init__(self, outputs: int, channels: int = 3, image_size: int = 224) -> None:
        """A network for pictures of any size from `SMALLEST` on; `image_size` changes nothing."""
        super().__init__()
        layers: list[nn.Module] = []
        for widths in _WIDTHS:
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            *(nn.Linear(channels, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5)),
            *(nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5)),
            nn.Linear(4096, outputs),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) → logits (N, outputs)."""
        x = self.pool(self.features(x)).flatten(1)  # (N, 512)
        logits: Tensor = self.classifier(x)
        return logits

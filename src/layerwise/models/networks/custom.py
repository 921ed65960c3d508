"""The custom network of Buluttekin 2020 §4.2.2: convolutions as hyper-parameters ask for them."""

from torch import Tensor, nn

from layerwise.errors import ModelError
from layerwise.models.networks.layers import PooledConvolution, RectifiedPool

_WANTED = {
    "layers": "a whole number from 1 on, as in --model-arg layers=3",
    "units": "a whole number from 1 on, or one a layer, as in --model-arg units=16,32,64",
    "kernel": "an odd whole number from 1 on, as in --model-arg kernel=3",
}


class Custom(nn.Module):
    """Convolution, ReLU and max pooling of 2×2 again and again; then pooling and one layer.

    The convolutions keep the size. Number of layers, number of units in a layer and kernel size
    are those of the thesis's list that shape the network; its learning rate, momentum, decay and
    mini-batch size are settings of the recipe. The thesis does not print its classifier; here it
    is global average pooling and one linear layer.
    """

    def __init__(
        self,
        outputs: int,
        channels: int = 3,
        image_size: int = 224,
        *,
        layers: int = 3,
        units: int | tuple[int, ...] = 32,
        kernel: int = 3,
    ) -> None:
        """A network for pictures of any size that the poolings leave a pixel of.

        Args:
            outputs: Logits.
            channels: Of the pictures.
            image_size: Their side in pixels, at least 2 to the power of `layers`.
            layers: How many convolutions.
            units: Filters of every convolution, or of each.
            kernel: Side of the filters, odd.

        Raises:
            ModelError: A value makes no network; it names the flag.
        """
        super().__init__()
        _check("layers", layers, _is_count(layers))
        several = isinstance(units, (tuple, list))
        widths = tuple(units) if isinstance(units, (tuple, list)) else (units,) * layers
        _check("units", units, all(map(_is_count, widths)) and (len(widths) > 0))
        _check("kernel", kernel, _is_count(kernel) and kernel % 2 == 1)
        if several and len(widths) != layers:
            raise ModelError(
                f"--model-arg units={units}: {len(widths)} numbers for {layers} layers; give one "
                f"for each, or --model-arg layers={len(widths)}"
            )
        if image_size < 2**layers:
            most = max(image_size, 1).bit_length() - 1
            raise ModelError(
                f"--model-arg layers={layers}: {layers} poolings leave nothing of {image_size} "
                f"pixels; choose at most {most}, or --image-size {2**layers}"
            )
        self.names = [f"conv{i + 1}" for i in range(layers)]
        for name, width in zip(self.names, widths, strict=True):
            layer = PooledConvolution(
                channels, width, kernel, padding=kernel // 2, pool=RectifiedPool(2)
            )
            self.add_module(name, layer)
            channels = width
        self.classifier = nn.Linear(channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) → logits (N, outputs)."""
        for name in self.names:
            x = self.get_submodule(name)(x)
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check(name: str, value: object, holds: bool) -> None:
    if not holds:
        raise ModelError(f"--model-arg {name}={value}: it must be {_WANTED[name]}")

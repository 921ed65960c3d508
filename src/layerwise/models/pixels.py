"""What a network expects of its input, and the one module that provides it.

Pixels outside a network are always uint8, height × width × channels. `Pixels` stands in front of
the network and is exported with it, so training, prediction and serving can not disagree.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow converts RGB to grey


@dataclass(frozen=True)
class InputContract:
    """What a network expects.

    Attributes:
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        channels: 1 or 3.
        mean: One value a channel, of pixels scaled to [0, 1].
        std: Likewise.
    """

    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Pixels(nn.Module):
    """uint8 pictures → the float32 tensor that a network expects.

    A grey picture is repeated for a network of three channels; a colour picture is turned grey
    for a network of one. The result lies channels-last in memory.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, contract: InputContract) -> None:
        super().__init__()
        self.contract = contract
        mean, std = torch.tensor(contract.mean).double(), torch.tensor(contract.std).double()
        # Not part of the state dict, which holds the network's own names only.
        self.register_buffer("scale", (1 / (255 * std)).float(), persistent=False)  # (C,)
        self.register_buffer("shift", (-mean / std).float(), persistent=False)  # (C,)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise pictures.

        Args:
            images: (N, H, W, C) uint8, C 1 or 3.

        Returns:
            (N, contract.channels, H, W) float32: ``(images / 255 − mean) / std``.
        """
        values = images.to(self.scale.dtype)  # (N, H, W, C)
        if images.shape[-1] == 3 and self.contract.channels == 1:
            values = (values * values.new_tensor(_LUMA)).sum(dim=-1, keepdim=True)
        values = values.permute(0, 3, 1, 2)  # (N, 1 or contract.channels, H, W)
        # One plane at a time: along a last dimension of three, ONNX Runtime takes a sixth of
        # MobileNetV2's whole pass for these two operations.
        values = values * self.scale[:, None, None] + self.shift[:, None, None]
        return values.contiguous(memory_format=torch.channels_last)

    def extra_repr(self) -> str:
        """The whole contract: caches take it for their keys."""
        return repr(self.contract)

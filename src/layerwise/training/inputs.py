"""What a network is fed: pictures from the store, augmented or not, or cached activations.

Both have the same face, ``read(rows, epoch) → Tensor``, so the loop does not know which it has.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerwise.data.augment import augment, image_keys
from layerwise.data.rows import Rows
from layerwise.data.store import ImageStore


class Inputs(Protocol):
    """Rows of the manifest, as the tensors that a module takes."""

    def read(self, rows: NDArray[np.int64], epoch: int | None) -> Tensor:
        """The inputs (n, …) of these rows in an epoch; None: plain, as for validation."""
        ...


@dataclass(frozen=True)
class ImageInputs:
    """Pictures from the store as uint8 (n, H, W, C); augmented anew in every epoch."""

    store: ImageStore
    preset: str
    seed: int

    def read(self, rows: NDArray[np.int64], epoch: int | None) -> Tensor:
        """See `Inputs.read`. The same row, epoch and seed always give the same picture."""
        images = torch.from_numpy(self.store.read(rows))  # (n, H, W, C) uint8
        if epoch is None or self.preset == "none":
            return images
        return augment(images, image_keys(rows, seed=self.seed, view=epoch), self.preset)


@dataclass(frozen=True)
class ActivationInputs:
    """What a frozen bottom puts out, float32 (n, C, h, w), computed once.

    Attributes:
        plain: A row for every image of the manifest.
        views: A row for every training image in each augmented view; empty without augmentation.
        position: (N,) int64, where a row of the manifest lies in the views; −1 outside of them.
    """

    plain: Rows
    views: tuple[Rows, ...]
    position: NDArray[np.int64]

    def read(self, rows: NDArray[np.int64], epoch: int | None) -> Tensor:
        """See `Inputs.read`. Epoch e reads view e modulo the number of views."""
        if epoch is None or not self.views:
            found = self.plain.read(rows)
        else:
            found = self.views[epoch % len(self.views)].read(self.position[rows])
        out = torch.from_numpy(found)
        # The layout that the bottom itself would have put out, for speed and for equal bits.
        return out.contiguous(memory_format=torch.channels_last) if out.ndim == 4 else out

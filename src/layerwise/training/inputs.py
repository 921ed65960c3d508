"""What a network is fed: pictures from the store, augmented or not, or cached activations.

Both have the same face, ``read(rows, epoch, copies) → Tensor``, so the loop does not know which it
has.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerwise.data.augment import augment, image_keys, which_view
from layerwise.data.balance import PLAIN
from layerwise.data.storage.rows import Rows
from layerwise.data.storage.store import ImageStore


class Inputs(Protocol):
    """Rows of the manifest, as the tensors that a module takes."""

    def read(
        self, rows: NDArray[np.int64], epoch: int | None, copies: NDArray[np.int64] | None = None
    ) -> Tensor:
        """The inputs (n, …) of these rows.

        Args:
            rows: (n,) of the manifest.
            epoch: Decides how they are augmented; None: not at all, as for validation.
            copies: (n,) which copy of its row each is: two copies are augmented in two ways, and
                `PLAIN` not at all. None: 0 for all.
        """
        ...


@dataclass(frozen=True)
class ImageInputs:
    """Pictures from the store as uint8 (n, H, W, C); augmented anew in every epoch."""

    store: ImageStore
    preset: str
    seed: int
    vertical_flip: bool = False

    def read(
        self, rows: NDArray[np.int64], epoch: int | None, copies: NDArray[np.int64] | None = None
    ) -> Tensor:
        """See `Inputs.read`. Equal row, epoch, copy and seed always give the same picture."""
        images = torch.from_numpy(self.store.read(rows))  # (n, H, W, C) uint8
        if epoch is None or self.preset == "none":
            return images
        keys = image_keys(rows, seed=self.seed, view=epoch, copies=copies)
        if copies is None or (copies != PLAIN).all():
            return augment(images, keys, self.preset, vertical_flip=self.vertical_flip)
        which = np.flatnonzero(copies != PLAIN)
        images[which] = augment(
            images[which], keys[which], self.preset, vertical_flip=self.vertical_flip
        )
        return images

    def which(
        self, rows: NDArray[np.int64], epoch: int | None, copies: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """(n,) which of the few views of its preset `read` gives of each row: `which_view`."""
        if epoch is None:
            return np.zeros(len(rows), np.int64)
        keys = image_keys(rows, seed=self.seed, view=epoch, copies=copies)
        views = which_view(keys, self.preset, vertical_flip=self.vertical_flip)
        return views if copies is None else np.where(copies == PLAIN, 0, views)


@dataclass(frozen=True)
class ActivationInputs:
    """What a frozen bottom puts out, float32 (n, C, h, w), computed once.

    Attributes:
        plain: A row for every image of the manifest.
        views: A row for every image that is ever augmented, in each augmented view; empty without
            augmentation.
        position: (N,) int64, where a row of the manifest lies in the views; −1 outside of them.
        pictures: Where the plain ones and the views are all that its augmentation can make: those
            pictures. None where the views are only some of many.
    """

    plain: Rows
    views: tuple[Rows, ...]
    position: NDArray[np.int64]
    pictures: ImageInputs | None = None

    def read(
        self, rows: NDArray[np.int64], epoch: int | None, copies: NDArray[np.int64] | None = None
    ) -> Tensor:
        """See `Inputs.read`.

        Each row in the very view that `pictures` would be read in. Where the views are only some
        of many, copy c in epoch e is read in view e + c modulo their number.
        """
        wanted = np.full(len(rows), PLAIN)
        if epoch is not None and self.views:
            if self.pictures is not None:
                view = self.pictures.which(rows, epoch, copies)
                wanted = np.where(view == 0, PLAIN, view - 1)
            else:
                number = np.zeros(len(rows), np.int64) if copies is None else copies
                wanted = np.where(number == PLAIN, PLAIN, (epoch + number) % len(self.views))
        out = torch.from_numpy(self._gather(rows, wanted))
        # The layout that the bottom itself would have put out, for speed and for equal bits.
        return out.contiguous(memory_format=torch.channels_last) if out.ndim == 4 else out

    def _gather(self, rows: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.generic]:
        """Each row (n,) from the view (n,) that is wanted of it, or plain."""
        found: NDArray[np.generic] | None = None
        for view in np.unique(wanted):
            mine = wanted == view
            if view == PLAIN:
                part = self.plain.read(rows[mine])
            else:
                part = self.views[view].read(self.position[rows[mine]])
            if mine.all():
                return part
            if found is None:
                found = np.empty((len(rows), *part.shape[1:]), part.dtype)
            found[mine] = part
        assert found is not None, "a batch has at least one row"
        return found

"""The cache of frozen bottoms: what they put out is computed once and shared by every run.

On a CPU by ONNX Runtime, on a GPU by torch. A cache entry's key is made of the weights below the
cut, the cut, the preprocessing, the images and the augmentation, so that equal work is found
again by any run, study or command, and different work never is.
"""

import hashlib
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerwise.config import content_key
from layerwise.data.augment import count_views, flipped, preset_of
from layerwise.data.storage.rows import Rows
from layerwise.data.storage.store import ImageStore
from layerwise.models.cuts import cut_points, tap
from layerwise.models.heads import pool
from layerwise.models.onnx_graph import export_graph
from layerwise.models.onnx_session import Session
from layerwise.models.pixels import Pixels
from layerwise.training.cached_rows import Progress, cached_rows
from layerwise.training.inputs import ActivationInputs, ImageInputs

BATCH = 8  # images that a thread works on at a time; what lies between layers stays in its cache
GPU_BATCH = 32  # as many as a training step has by default, so they fit
Reader = Callable[[NDArray[np.int64]], Tensor]  # rows (n,) → pictures (n, H, W, C) uint8


class PooledCuts(nn.Module):
    """Pictures → the activations at every cut, each pooled over its places, side by side."""

    def __init__(self, pixels: Pixels, network: nn.Module, cuts: Sequence[str]) -> None:
        """Cuts in any order, by the names that `cut_points` gives; the output keeps the order."""
        super().__init__()
        size = pixels.contract.channels, pixels.contract.height, pixels.contract.width
        last = {cut.name for cut in cut_points(network, size) if cut.channels_last}
        self.pixels = pixels
        self.tap = tap(network, cuts)
        self.channels_last = [name in last for name in cuts]

    def forward(self, images: Tensor) -> Tensor:
        """(N, H, W, C) uint8 → (N, sum of the cuts' channels) float32."""
        values = self.tap(self.pixels(images))
        pooled = [pool(v, last) for v, last in zip(values, self.channels_last, strict=True)]
        return torch.cat(pooled, dim=1)


class Runner:
    """Runs a module over rows of a store: ONNX Runtime on a CPU, torch on a GPU.

    On a CPU every thread takes a batch of its own through the whole graph. Several threads in one
    operator would wait for each other at the end of each; a batch's bits do not depend on it.

    Attributes:
        batch: The most pictures a call takes.
        lanes: Batches that `map` works on at the same time.
    """

    def __init__(
        self, module: nn.Module, example: Tensor, device: torch.device, threads: int
    ) -> None:
        """Prepare the module, whose input is uint8 (N, H, W, C); `example` is such a batch."""
        self._device = device
        self._module = module.eval()
        self._session: Session | None = None
        self.batch, self.lanes = GPU_BATCH, 1
        if device.type == "cpu":
            self.batch, self.lanes = BATCH, threads
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "bottom.onnx"
                export_graph(module, (example,), path, ["activation"])
                self._session = Session(path, threads=1, batch=BATCH)

    def __call__(self, images: Tensor) -> NDArray[np.float32]:
        """The module's output (n, …) float32 of images (n, H, W, C) uint8, n up to `batch`."""
        if self._session is not None:
            return self._session.run(images.numpy())[0]
        with torch.inference_mode():
            out: NDArray[np.float32] = self._module(images.to(self._device)).float().cpu().numpy()
            return out

    def map(self, batches: Iterable[Tensor]) -> Iterator[NDArray[np.float32]]:
        """The module's outputs of these batches, in their order; the next one is read meanwhile."""
        with ThreadPoolExecutor(self.lanes) as threads:
            begun: deque[Future[NDArray[np.float32]]] = deque()
            for images in batches:
                begun.append(threads.submit(self, images))
                if len(begun) > self.lanes:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()


def pooled_at_cuts(
    pixels: Pixels,
    network: nn.Module,
    cuts: Sequence[str],
    store: ImageStore,
    *,
    identity: dict[str, Any],
    folder: Path,
    device: torch.device,
    threads: int,
    progress: Progress | None = None,
) -> Rows:
    """Pooled activations of every picture at every cut, (N, sum of channels), from one pass.

    Args:
        pixels: The input contract as a module.
        network: A whole network.
        cuts: Names, bottom to top; columns come in this order.
        store: The pictures.
        identity: What else fixes the result (network name and arguments), JSON-able.
        folder: The cache.
        device: Where torch runs if there is a GPU.
        threads: Of ONNX Runtime.
        progress: Told (images done, all images).
    """
    key = content_key(
        {
            "what": "pooled",
            "weights": weights_digest(network),
            "cuts": list(cuts),
            "network": identity,
            "pixels": _module_key(pixels),
            "store": _pictures(store),
        }
    )
    module = PooledCuts(pixels, network, cuts)
    rows = np.arange(len(store), dtype=np.int64)
    read = _plain_of(store)
    return _cached(folder / "activations" / key, module, read, rows, device, threads, progress)


def activations(
    bottom: nn.Module,
    store: ImageStore,
    train: NDArray[np.int64],
    *,
    cut: str,
    identity: dict[str, Any],
    preset: str,
    views: int,
    seed: int,
    folder: Path,
    device: torch.device,
    threads: int,
    vertical_flip: bool = False,
    progress: Progress | None = None,
) -> ActivationInputs:
    """A frozen bottom's activations: plain of all pictures, augmented of some.

    Where a preset can only mirror pictures, or turn them upside down, every view that it can make
    is kept, and each picture is read in the view that it would have been given without the cache.
    Of other presets a few views are kept, and the epochs take them in turn.

    Args:
        bottom: uint8 pictures → activations; frozen, in evaluation mode.
        store: The pictures.
        train: Rows that get augmented views; may be none.
        cut: The name of the place.
        identity: Network name and arguments, JSON-able.
        preset: Of the augmentation; "none" keeps no views.
        views: Augmented views of each of these rows, where the preset can make any number.
        seed: Of the augmentation.
        folder: The cache.
        device: Where torch runs if there is a GPU.
        threads: Of ONNX Runtime.
        vertical_flip: As of `augment`.
        progress: Told (passes over an image done, all of them).
    """
    wanted = extra_views(preset, views, vertical_flip=vertical_flip) if len(train) else 0
    few = count_views(preset, vertical_flip=vertical_flip) > 0
    base = {
        "what": "activations",
        "weights": weights_digest(bottom),
        "cut": cut,
        "network": identity,
        "pixels": _module_key(bottom),
        "store": _pictures(store),
    }
    total = len(store) + wanted * len(train)
    rows = np.arange(len(store), dtype=np.int64)
    place = folder / "activations"

    def shown(before: int) -> Progress | None:
        return (lambda done, _all: progress(before + done, total)) if progress else None

    runner: list[Runner] = []  # one export serves all views, and none is made when all are cached

    def get(key: str, read: Reader, which: NDArray[np.int64], before: int) -> Rows:
        return _cached(place / key, bottom, read, which, device, threads, shown(before), runner)

    plain_of = _plain_of(store)
    plain = get(content_key(base), plain_of, rows, 0)
    train_key = hashlib.sha256(np.ascontiguousarray(train).tobytes()).hexdigest()
    augmented = ImageInputs(store, preset, seed, vertical_flip)
    made = []
    for view in range(wanted):
        before = len(store) + view * len(train)
        if few:  # the same ones for every seed
            extra: dict[str, Any] = {"flipped": view + 1, "rows": train_key}
            read = _flipped_of(store, view + 1)
        else:
            # The amounts and not the preset's name, which keeps it when they are changed.
            amounts = asdict(preset_of(preset, vertical_flip=vertical_flip))
            extra = {"augment": amounts, "seed": seed, "view": view, "rows": train_key}
            read = partial(augmented.read, epoch=view)
        made.append(get(content_key(base | extra), read, train, before))
    position = np.full(len(store), -1, dtype=np.int64)
    position[train] = np.arange(len(train))
    return ActivationInputs(plain, tuple(made), position, augmented if few else None)


def _plain_of(store: ImageStore) -> Reader:
    """Rows → their pictures as they are."""
    return lambda rows: torch.from_numpy(store.read(rows))


def _flipped_of(store: ImageStore, view: int) -> Reader:
    """Rows → their pictures in one of the views that `which_view` numbers."""
    return lambda rows: flipped(torch.from_numpy(store.read(rows)), np.full(len(rows), view))


def weights_digest(module: nn.Module) -> str:
    """`state_digest` of a module's weights and statistics."""
    return state_digest(module.state_dict())


def state_digest(state: Mapping[str, Tensor]) -> str:
    """sha256 (hex) over names, shapes and bits of weights and statistics."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        if name.endswith("num_batches_tracked"):
            continue  # counts steps; changes no output
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _pictures(store: ImageStore) -> str:
    """Which rows of which store, in their order."""
    return f"{store.key} {hashlib.sha256(store.rows.tobytes()).hexdigest()}"


def _module_key(module: nn.Module) -> str:
    """What a module's printed form says of it: the preprocessing's mean, deviation, channels."""
    return hashlib.sha256(str(module).encode()).hexdigest()


def _cached(
    place: Path,
    module: nn.Module,
    read: Reader,
    rows: NDArray[np.int64],
    device: torch.device,
    threads: int,
    progress: Progress | None,
    runners: list[Runner] | None = None,
) -> Rows:
    """What the module makes of the pictures that `read` gives of these rows, from the cache."""

    def batches() -> Iterator[NDArray[np.float32]]:
        made = [] if runners is None else runners
        if not made:
            made.append(Runner(module, read(rows[:2]), device, threads))
        step = made[0].batch
        return made[0].map(read(rows[i : i + step]) for i in range(0, len(rows), step))

    return cached_rows(place, len(rows), batches, progress)


def extra_views(preset: str, views: int, *, vertical_flip: bool = False) -> int:
    """How many views of a picture are kept beside it as it is.

    All there are where a preset makes so few that they can be kept; of others, `views` at random.
    """
    few = count_views(preset, vertical_flip=vertical_flip)
    return few - 1 if few else views


def disk_bytes(
    bottom: nn.Module, store: ImageStore, train: int, views: int, device: torch.device
) -> int:
    """What the activations of all pictures, and of `views` views of `train` of them, take."""
    with torch.inference_mode():
        one = torch.from_numpy(store.read(np.zeros(1, np.int64))).to(device)
        values = bottom.eval()(one).numel()
    return int(values * 4 * (len(store) + views * train))

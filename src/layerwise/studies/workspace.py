"""What every run of a study shares: pictures, labels, network, weights, folders."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layerwise.data.manifest import Manifest
from layerwise.data.storage.store import ImageStore
from layerwise.evaluation.metrics import measure
from layerwise.evaluation.predictions import Predictions, probabilities
from layerwise.models.cuts import Cut, cut_points
from layerwise.models.registry import Network, blank, create
from layerwise.studies.study import RunStore
from layerwise.training.network import TransferNetwork, build
from layerwise.training.transfer import Transfer

Say = Callable[[str], None]
Track = Callable[[str], Callable[[int, int], None]]


@dataclass
class Workspace:
    """What every run of a study shares.

    Attributes:
        manifest: Labels, patients and split of every picture; rows agree with the store's.
        store: The decoded pictures.
        data_key: Identifies images, labels and split.
        model: The network's name.
        arguments: For its constructor.
        weights: The source's weights, fitted to the network; None starts at random.
        weights_name: As the user wrote it; "none" without.
        weights_digest: Of the weights; "none" without.
        weights_file: Where they were read, if from a file or a run; not part of any key.
        device: Where torch runs.
        threads: Of torch and ONNX Runtime.
        keep: The cut that every network ends at at the latest, by its own name; or "all".
        seed: Of everything random.
        cache: The folder of activations.
        runs: The folder of runs.
        say: Told what is being done, a line each.
        track: Makes a progress callback with a title.
        metric: By which a trained run chooses its epoch, on validation.
        importance: (N,) float64 what each picture counts in learning and in choosing, 1 being the
            mean of the training part; None: all the same. `data_key` then stands for it too.
    """

    manifest: Manifest
    store: ImageStore
    data_key: str
    model: str
    arguments: Mapping[str, str]
    weights: dict[str, torch.Tensor] | None
    weights_name: str
    weights_digest: str
    device: torch.device
    threads: int
    seed: int
    cache: Path
    runs: RunStore
    say: Say
    track: Track
    keep: str = "all"
    weights_file: str | None = None
    metric: str = "auroc"
    importance: NDArray[np.float64] | None = None
    _cuts: list[Cut] = field(default_factory=list)

    @property
    def outputs(self) -> int:
        """Of the network: 1 for binary, else one a label."""
        return 1 if self.manifest.task == "binary" else len(self.manifest.labels)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self.store.size

    @property
    def identity(self) -> dict[str, Any]:
        """What fixes a network beside its weights, JSON-able."""
        return {"model": self.model, "arguments": dict(self.arguments)}

    @property
    def settings(self) -> dict[str, Any]:
        """What every run's key is made of, JSON-able."""
        return {
            "data": self.data_key,
            **self.identity,
            "image_size": list(self.image_size),
            "channels": self.store.channels,
            "letterbox": self.store.letterbox,
            "weights": self.weights_digest,
            "seed": self.seed,
        }

    def rows(self, split: str) -> NDArray[np.int64]:
        """Rows of a part, ascending."""
        return self.manifest.indices(split)

    def blank(self) -> Network:
        """The network as its constructor makes it, with random weights."""
        return create(
            self.model,
            outputs=self.outputs,
            seed=self.seed,
            image_size=self.image_size[0],
            arguments=self.arguments,
        )

    def outline(self) -> Network:
        """The network without weights: for its cuts, shapes and counts, and quicker to make."""
        return blank(
            self.model,
            outputs=self.outputs,
            image_size=self.image_size[0],
            arguments=self.arguments,
        )

    def network(self, transfer: Transfer) -> TransferNetwork:
        """A transfer applied to the network."""
        network = build(
            transfer,
            model=self.model,
            outputs=self.outputs,
            seed=self.seed,
            image_size=self.image_size[0],
            arguments=self.arguments,
            source_weights=self.weights,
        )
        return laid_out(network, self.device)

    def cuts(self) -> list[Cut]:
        """The main cuts, bottom to top; up to `keep`, which is one of them in any case."""
        if not self._cuts:
            outline = self.outline()
            size = (outline.contract.channels, *self.image_size)
            every = cut_points(outline.module, size)
            names = [cut.name for cut in every]
            kept = len(every) if self.keep == "all" else names.index(self.keep) + 1
            self._cuts = [c for c in every[:kept] if c.block or c.name == self.keep]
        return self._cuts

    def predictions(self, rows: NDArray[np.int64], logits: NDArray[np.float32]) -> Predictions:
        """Logits (n, outputs) of these rows as predictions."""
        return self.scored(rows, probabilities(self.manifest.task, logits))

    def scored(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> Predictions:
        """Probabilities (n, outputs) of these rows as predictions."""
        ids = self.manifest.table["id"].to_numpy(dtype=str)[rows]
        groups = np.asarray(self.manifest.groups(), dtype=str)[rows]
        return Predictions(ids, self.manifest.targets[rows], scores, groups)

    def score(self, targets: NDArray[np.generic], logits: NDArray[np.float32]) -> float:
        """What epochs are chosen by on the validation part: `metric`, as a rule (macro) AUROC."""
        task = self.manifest.task
        scores = probabilities(task, logits)
        threshold = None if task == "multiclass" else 0.5
        counts = self.importance_of("val")
        value = measure(task, targets, scores, threshold, counts)[self.metric]
        return -1.0 if np.isnan(value) else value

    def importance_of(self, split: str) -> NDArray[np.float64] | None:
        """What each picture of a part counts, (n,); None: all the same."""
        return None if self.importance is None else self.importance[self.rows(split)]


def laid_out(network: TransferNetwork, device: torch.device) -> TransferNetwork:
    """The network on a device, its convolutions in the layout that they are fastest in."""
    network.to(device)
    # Not `to(memory_format=…)`, which fails on the masks of Swin, of five dimensions.
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return network

"""Cases of the test part that a person should look at, with what the network looked at."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from layerwise.evaluation.explain import heat_maps
from layerwise.evaluation.predictions import Predictions
from layerwise.studies.workspace import Workspace
from layerwise.training.network import TransferNetwork


@dataclass(frozen=True)
class Case:
    """One test image and its explanation.

    Attributes:
        id: Of the manifest.
        image: uint8 (H, W) or (H, W, 3).
        heat: float32 (H, W) from 0 to 1: Grad-CAM for the decided label.
        truth: Label.
        decision: Label.
        probability: Of the decided label.
        right: Whether the two agree.
    """

    id: str
    image: NDArray[np.uint8]
    heat: NDArray[np.float32]
    truth: str
    decision: str
    probability: float
    right: bool


def cases(
    work: Workspace,
    network: TransferNetwork,
    said: Predictions,
    threshold: float | list[float] | None,
    each: int = 4,
) -> tuple[str, list[Case]]:
    """The cut that is looked at, and cases: the surest wrong ones, and right ones of every label.

    Wrong cases come first, the surest of them first, since these are what a person must see;
    right ones are drawn at random. Multi-label sets are explained for the likeliest label. Where
    no cut has places (all pooled, or in an order of the network's own) there is nothing to see:
    ("", []).
    """
    truth, decided, sure = _decisions(work.manifest.task, said, threshold)
    right = truth == decided
    wrong_rows = np.flatnonzero(~right)
    wrong_rows = wrong_rows[np.argsort(-sure[wrong_rows], kind="stable")][:each]
    generator = np.random.default_rng(work.seed)
    right_rows = _spread(generator, np.flatnonzero(right), truth, each)
    picked = np.concatenate([wrong_rows, right_rows]).astype(np.int64)
    if not len(picked):
        return "", []
    images = torch.from_numpy(work.store.read(work.rows("test")[picked])).to(work.device)
    cut, heat = heat_maps(network, images, decided[picked])
    if not cut:
        return "", []
    labels = work.manifest.labels
    found = []
    for index, row in enumerate(picked):
        image = images[index].cpu().numpy()
        found.append(
            Case(
                str(said.ids[row]),
                image[..., 0] if image.shape[-1] == 1 else image,
                heat[index],
                labels[truth[row]],
                labels[decided[row]],
                float(sure[row]),
                bool(right[row]),
            )
        )
    return cut, found


def _decisions(
    task: str, said: Predictions, threshold: float | list[float] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """True label, decided label and the probability of the decided one; each (n,)."""
    scores = said.scores.astype(np.float64)  # as the metrics compare it with the threshold
    if task == "binary":
        decided = (scores[:, 0] >= threshold).astype(np.int64)  # type: ignore[operator]
        sure = np.where(decided == 1, scores[:, 0], 1 - scores[:, 0])
        return said.targets.astype(np.int64), decided, sure
    likeliest = scores.argmax(axis=1)
    sure = scores[np.arange(len(scores)), likeliest]
    if task == "multiclass":
        return said.targets.astype(np.int64), likeliest, sure
    has = np.nan_to_num(said.targets[np.arange(len(scores)), likeliest].astype(np.float64)) == 1
    first = np.nan_to_num(said.targets.astype(np.float64)).argmax(axis=1)
    return np.where(has, likeliest, first), likeliest, sure


def _spread(
    generator: np.random.Generator, rows: NDArray[np.int64], truth: NDArray[np.int64], each: int
) -> NDArray[np.int64]:
    """Up to `each` of these rows, label after label in turn."""
    rows = generator.permutation(rows)
    by_label = [list(rows[truth[rows] == label]) for label in np.unique(truth[rows])]
    picked: list[int] = []
    while len(picked) < each and any(by_label):
        for queue in by_label:
            if queue and len(picked) < each:
                picked.append(int(queue.pop(0)))
    return np.array(picked, dtype=np.int64)

"""Ids, targets and scores: what a network and a classic baseline both answer."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Predictions:
    """What a model says of some images.

    Attributes:
        ids: (n,) str, the manifest's ids.
        targets: int64 (n,) for binary and multiclass, float32 (n, K) with NaN for multilabel.
        scores: float32 probabilities, (n, 1) for binary (of the positive label), else (n, K).
        groups: (n,) str, the patient, or the id where patients are unknown.
    """

    ids: NDArray[np.str_]
    targets: NDArray[np.generic]
    scores: NDArray[np.float32]
    groups: NDArray[np.str_]

    def save(self, path: Path) -> None:
        """Write as `.npz` without pickled objects; an existing file is replaced in one step."""
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            np.savez(
                file, ids=self.ids, targets=self.targets, scores=self.scores, groups=self.groups
            )
        part.replace(path)

    @staticmethod
    def load(path: Path) -> "Predictions":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return Predictions(file["ids"], file["targets"], file["scores"], file["groups"])


def probabilities(task: str, logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Probabilities of logits (n, outputs): softmax for multiclass, else sigmoid. float32."""
    z = logits.astype(np.float64)
    if task == "multiclass":
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True), np.float32)
    return np.asarray(0.5 * (1 + np.tanh(0.5 * z)), np.float32)

"""What a network says of the images it learns from, and of validation, after every epoch.

Marcelino 2018, Figures 5 to 8. Both sides are measured alike, by the same weights, without dropout
and on pictures as they are, so that the gap between them is one between images and nothing else.
(Keras, which drew his figures, shows the mean over an epoch's steps for training, with dropout.)
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from layerwise.evaluation.metrics import Task, measure
from layerwise.evaluation.predictions import probabilities
from layerwise.training.job import Job
from layerwise.training.losses import Loss


def curve_values(
    job: Job, loss_of: Loss, train: NDArray[np.float32], validation: NDArray[np.float32]
) -> dict[str, float]:
    """Loss and accuracy of both parts; without those that are not defined.

    Args:
        job: What is trained on what.
        loss_of: Its loss, `make_loss`: classes weigh as in training.
        train: Logits (n, outputs) of the training rows.
        validation: Logits (m, outputs) of the validation rows.

    Returns:
        "train_loss", "train_accuracy", "val_loss" and "val_accuracy", decided at ½ or by argmax.
    """
    task: Task = job.task  # type: ignore[assignment]
    out: dict[str, float] = {}
    for part, rows, logits in (("train", job.train, train), ("val", job.validation, validation)):
        with torch.no_grad():
            loss = loss_of(torch.from_numpy(logits).to(job.device), rows)
        values = measure(task, job.targets[rows], probabilities(task, logits))
        out |= {f"{part}_loss": float(loss), f"{part}_accuracy": values["accuracy"]}
    return {name: value for name, value in out.items() if math.isfinite(value)}

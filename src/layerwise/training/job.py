"""What is trained on what: all that the loop is given."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from layerwise.training.inputs import Inputs
from layerwise.training.network import TransferNetwork
from layerwise.training.recipe import Recipe

Score = Callable[[NDArray[np.generic], NDArray[np.float32]], float]


@dataclass
class Job:
    """What is trained on what.

    Attributes:
        network: Holds the learning layers; `module` is what is called on the inputs.
        module: The network itself on pictures, or its top on cached activations.
        inputs: Where rows are read.
        targets: (N,) int64 or (N, K) float32 with NaN, for every row of the manifest.
        train: Rows that are learnt from.
        validation: Rows that the score is taken on after every epoch.
        task: "binary", "multiclass" or "multilabel".
        recipe: How.
        seed: Of order, augmentation, dropout.
        score: (targets, logits) → a number, higher is better.
        device: Where.
        importance: (N,) float64 what each row of the manifest counts in the loss, 1 being the mean
            of the training rows; None: all the same.
        curves: After every epoch, measure loss and accuracy on both parts (`curve_values`); that
            is a pass over the training rows more. The best epoch is then that of the lowest
            validation loss, whatever `score` says.
    """

    network: TransferNetwork
    module: nn.Module
    inputs: Inputs
    targets: NDArray[np.generic]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    task: str
    recipe: Recipe
    seed: int
    score: Score
    device: torch.device
    importance: NDArray[np.float64] | None = None
    curves: bool = False

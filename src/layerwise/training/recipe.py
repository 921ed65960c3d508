"""How a transfer is trained: every setting on its own line with its own comment."""

import math
from dataclasses import dataclass
from typing import Literal

from torch.optim import SGD, AdamW, Optimizer

from layerwise.data.balance import Balance, check_balance
from layerwise.errors import TrainingError
from layerwise.training.network import TransferNetwork


@dataclass(frozen=True)
class Recipe:
    """The settings of one training run; with the seed they fix it to the bit (on one machine)."""

    epochs: int = 10  # passes over the training part
    batch: int = 32  # images a step
    optimizer: Literal["adamw", "sgd"] = "adamw"  # Loshchilov & Hutter 2019, or plain SGD
    lr: float = 1e-3  # learning rate of new layers, at its peak
    copied_lr: float = 0.3  # copied layers learn at this fraction of it
    layer_decay: float = 0.9  # and every block further down at this fraction of the one above
    momentum: float = 0.9  # of SGD
    weight_decay: float = 0.02  # of weights; never of biases and batch-norm scales
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"  # cosine falls to 0
    warmup: float = 0.1  # fraction of all steps in which the rate rises from 0
    plateau_patience: int = 2  # epochs without a better score before the rate falls tenfold
    balance: Balance = "weights"  # what makes unequal classes count the same: data/balance.py
    label_smoothing: float = 0.0  # Szegedy et al. 2016, §7
    augment: Literal["none", "radiograph", "natural"] = "none"  # preset of data/augment.py
    vertical_flip: bool = False  # augmented pictures may be upside down; not for radiographs
    views: int = 4  # augmented views kept of each image where a frozen bottom follows
    patience: int = 0  # stop after so many epochs without a better score; 0: never
    mixed_precision: bool = True  # bfloat16 on a GPU that has it; never on a CPU

    def __post_init__(self) -> None:
        """Refuse settings with which training can not mean anything."""
        for name in ("epochs", "batch", "views"):
            if getattr(self, name) < 1:
                raise TrainingError(
                    f"recipe: {name} is {getattr(self, name)}; it must be 1 or more"
                )
        if self.lr <= 0:
            raise TrainingError(f"recipe: lr is {self.lr}; it must be above 0")
        check_balance(self.balance, preset=self.augment)
        check_flip(self.vertical_flip, self.augment)


def check_flip(vertical_flip: bool, preset: str | None) -> None:
    """Refuse to turn pictures upside down where none is augmented (None: not known yet).

    Raises:
        TrainingError: A vertical flip is asked for without an augmentation.
    """
    if vertical_flip and preset == "none":
        raise TrainingError(
            "vertical_flip is a part of the augmentation, and augment is 'none'; choose --augment "
            "radiograph or natural, or leave --vertical-flip out"
        )


def make_optimizer(recipe: Recipe, network: TransferNetwork) -> Optimizer:
    """The optimiser with a rate for every layer: smaller for copied layers, falling with depth.

    Discriminative rates as in Howard & Ruder 2018, §3.2 (there 1/2.6 a layer). Each group keeps
    its own peak rate in ``peak``; `set_rate` scales all of them together.
    """
    groups = []
    for layer in network.learning_layers():
        rate = recipe.lr
        if layer.copied:
            rate *= recipe.copied_lr * recipe.layer_decay ** max(0, layer.depth - 1)
        for decay in (True, False):
            parameters = [p for p in layer.parameters if (p.ndim > 1) == decay]
            if parameters:
                groups.append(
                    {
                        "params": parameters,
                        "lr": rate,
                        "peak": rate,
                        "weight_decay": recipe.weight_decay if decay else 0.0,
                    }
                )
    if recipe.optimizer == "adamw":
        return AdamW(groups, lr=recipe.lr)
    return SGD(groups, lr=recipe.lr, momentum=recipe.momentum)


def rate_factor(recipe: Recipe, step: int, steps: int) -> float:
    """The fraction of its peak at which every layer learns in a step (before any plateau).

    Args:
        recipe: The settings.
        step: The step about to be made, from 0.
        steps: All steps of the run.
    """
    warmup = int(recipe.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    return 1.0


def set_rate(optimizer: Optimizer, factor: float) -> None:
    """Let every group learn at this fraction of its peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor

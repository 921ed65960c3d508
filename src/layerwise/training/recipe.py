"""How a transfer is trained: every setting on its own line with its own comment."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from layerwise.data.balance import Balance, check_balance
from layerwise.errors import TrainingError
from layerwise.training.network import TransferNetwork

BatchNorm = Literal["running", "frozen", "reestimated"]
SGD_WEIGHT_DECAY = 5e-4
"""Krizhevsky et al. 2012, §5. In SGD the rate and the momentum multiply it, and AdamW's 0.02 would
hold a network at zero."""


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
    l2_sp: float = 0.0  # strength of copied weights' pull to the source; Li et al. 2018, §3
    schedule: Literal["cosine", "plateau", "constant", "inverse"] = "cosine"  # cosine falls to 0
    decay: float = 0.0  # of "inverse": rate / (1 + decay · step), as SGD of Keras had it
    warmup: float = 0.1  # fraction of all steps in which the rate rises from 0
    plateau_patience: int = 2  # epochs without a better score before the rate falls tenfold
    probe_epochs: int = 0  # first so many epochs of new layers alone; Kumar et al. 2022, LP-FT
    unfreeze: float = 0.0  # epochs until one more copied block learns; Howard & Ruder 2018, §3.3
    batch_norm: BatchNorm = "running"  # where its statistics come from: statistics.py
    balance: Balance = "weights"  # what makes unequal classes count the same: data/balance.py
    label_smoothing: float = 0.0  # Szegedy et al. 2016, §7
    augment: Literal["none", "flip", "radiograph", "natural"] = "none"  # preset of data/augment.py
    vertical_flip: bool = False  # augmented pictures may be upside down; not for radiographs
    views: int = 4  # augmented views kept of each image where a frozen bottom follows
    patience: int = 0  # stop after so many epochs without a better score; 0: never
    mixed_precision: bool = True  # bfloat16 on a GPU that has it; never on a CPU
    compile: bool = False  # steps by torch.compile, other last bits: compiling.py

    def __post_init__(self) -> None:
        """Refuse settings with which training can not mean anything."""
        for name in ("epochs", "batch", "views"):
            if getattr(self, name) < 1:
                raise TrainingError(
                    f"recipe: {name} is {getattr(self, name)}; it must be 1 or more"
                )
        if self.lr <= 0:
            raise TrainingError(f"recipe: lr is {self.lr}; it must be above 0")
        for name in ("l2_sp", "decay", "probe_epochs", "unfreeze"):
            if not 0 <= getattr(self, name) < math.inf:
                raise TrainingError(
                    f"recipe: {name} is {getattr(self, name)}; it must be 0 or more"
                )
        if (self.schedule == "inverse") != (self.decay > 0):
            raise TrainingError(
                f"recipe: decay is {self.decay} with schedule {self.schedule!r}; schedule "
                "'inverse' needs a decay above 0, and no other schedule has one"
            )
        if self.probe_epochs >= self.epochs:
            raise TrainingError(
                f"recipe: probe_epochs is {self.probe_epochs} of {self.epochs} epochs, so that no "
                "copied layer would ever learn; lower it, raise epochs, or freeze = 'all' for a "
                "probe alone"
            )
        check_balance(self.balance, preset=self.augment)
        check_flip(self.vertical_flip, self.augment)


def with_settings(base: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recipe by name: as asked for, else those of `base`.

    Who asks for SGD and says nothing of weight decay gets SGD's.
    """
    sgd = asked.get("optimizer") == "sgd" != base.get("optimizer")
    return {**base, **({"weight_decay": SGD_WEIGHT_DECAY} if sgd else {}), **asked}


def check_flip(vertical_flip: bool, preset: str | None) -> None:
    """Refuse to turn pictures upside down where none is augmented (None: not known yet).

    Raises:
        TrainingError: A vertical flip is asked for without an augmentation.
    """
    if vertical_flip and preset == "none":
        raise TrainingError(
            "vertical_flip is a part of the augmentation, and augment is 'none'; choose --augment "
            "flip, radiograph or natural, or leave --vertical-flip out"
        )


def make_optimizer(recipe: Recipe, network: TransferNetwork) -> Optimizer:
    """The optimiser with a rate for every layer: smaller for copied layers, falling with depth.

    Discriminative rates as in Howard & Ruder 2018, §3.2 (there 1/2.6 a layer). Each group keeps
    its own peak rate in ``peak``; `set_rate` scales all of them together. With L2-SP the values
    that the copied layers hold now are those they are pulled to.
    """
    groups = []
    for layer in network.learning_layers():
        rate = recipe.lr
        if layer.copied:
            rate *= recipe.copied_lr * recipe.layer_decay ** max(0, layer.depth - 1)
        pulled = layer.copied and recipe.l2_sp > 0
        for decay in (True, False):
            parameters = [p for p in layer.parameters if (p.ndim > 1) == decay]
            if parameters:
                groups.append(
                    {
                        "params": parameters,
                        "lr": rate,
                        "peak": rate,
                        "weight_decay": recipe.weight_decay if decay and not pulled else 0.0,
                    }
                )
    # One call for all weights instead of a few for each: many layers, few pictures.
    fused = network.pixels.scale.device.type in ("cpu", "cuda")
    optimizer: Optimizer
    if recipe.optimizer == "adamw":
        optimizer = AdamW(groups, lr=recipe.lr, fused=fused)
    else:
        optimizer = SGD(groups, lr=recipe.lr, momentum=recipe.momentum, fused=fused)
    if recipe.l2_sp:
        copied = [p for g in network.learning_layers() if g.copied for p in g.parameters]
        pull_to_source(optimizer, copied, recipe.l2_sp)
    return optimizer


def pull_to_source(optimizer: Optimizer, weights: list[nn.Parameter], strength: float) -> None:
    """L2-SP: before each step α(w − w⁰) is added to the gradient, that of ½α‖w − w⁰‖².

    Li, Grandvalet & Davoine 2018, §3. w⁰ is what the weights hold now. With it the source is the
    place that weights return to, where weight decay would have them return to 0. A weight
    without a gradient (a block that does not learn yet) stays where it is.

    Args:
        optimizer: Whose steps are changed.
        weights: The copied ones.
        strength: α.
    """
    source = [w.detach().clone() for w in weights]

    def add_pull(*_: object) -> None:
        with torch.no_grad():
            for weight, start in zip(weights, source, strict=True):
                if weight.grad is not None:
                    weight.grad.add_(weight - start, alpha=strength)

    optimizer.register_step_pre_hook(add_pull)


def rate_factor(recipe: Recipe, step: int, steps: int) -> float:
    """The fraction of its peak at which every layer learns in a step (before any plateau).

    After a linear probe the schedule starts anew: in Kumar et al. 2022 (LP-FT) these are two runs,
    one after the other.

    Args:
        recipe: The settings.
        step: The step about to be made, from 0.
        steps: All steps of the run.
    """
    probe = steps // recipe.epochs * recipe.probe_epochs
    step, steps = (step, probe) if step < probe else (step - probe, steps - probe)
    warmup = int(recipe.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    step, steps = step - warmup, steps - warmup
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))
    return 1 / (1 + recipe.decay * step)  # 1 of every schedule without a decay


def set_rate(optimizer: Optimizer, factor: float) -> None:
    """Let every group learn at this fraction of its peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor

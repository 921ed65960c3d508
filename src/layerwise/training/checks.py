"""The checks before a long run (Buluttekin 2020, §2.6): shapes, a falling loss, overfitting a few.

They run on a copy, so the run itself starts from untouched weights.
"""

import copy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from layerwise.errors import TrainingError
from layerwise.training.job import Job
from layerwise.training.loop import set_modes
from layerwise.training.losses import make_loss
from layerwise.training.recipe import make_optimizer
from layerwise.training.unfreezing import check_stages, copied_blocks

FEW = 8  # images that must be learnt by heart
STEPS = 200  # steps allowed for it; most networks need five, one that starts at random many
MUST_FALL_TO = 0.6  # of the loss of one who knows nothing


def check_before_training(job: Job, outputs: int) -> None:
    """Refuse to start a long run that can not end well.

    The shapes are those of the task; every learning layer gets a gradient; and the network can
    learn a few training images by heart: not augmented, every layer at the rate of new ones, and
    none held back by a stage of the recipe.

    Args:
        job: The run that is about to start; it is left as it was.
        outputs: What the network must put out.

    Raises:
        TrainingError: A check failed; the message says which, with its numbers and what to try.
    """
    check_stages(job.recipe, job.network)
    rows = _few_of_each(job)
    network, module = copy.deepcopy((job.network, job.module))
    trial = copy.copy(job)
    trial.network, trial.module = network, module
    inputs = job.inputs.read(rows, None).to(job.device)
    set_modes(trial, copied_blocks(network), job.recipe.epochs - 1)  # as when every layer learns
    loss_of = make_loss(trial)
    optimizer = make_optimizer(replace(job.recipe, l2_sp=0.0), network)  # nothing holds them back
    for group in optimizer.param_groups:
        group["lr"] = max(group["lr"], job.recipe.lr)
    losses = []
    for step in range(STEPS):
        torch.manual_seed(step)
        logits = module(inputs)
        if step == 0 and logits.shape != (len(rows), outputs):
            raise TrainingError(
                f"check before training: the network answers {tuple(logits.shape)} for "
                f"{len(rows)} images where ({len(rows)}, {outputs}) is needed; check --model"
            )
        loss = loss_of(logits.float(), rows)
        losses.append(loss.item())
        if step == 0:
            ignorant = loss_of(torch.zeros_like(logits).float(), rows).item()
        if not np.isfinite(losses[-1]):
            raise TrainingError(
                f"check before training: the loss is {losses[-1]} after {step} steps on "
                f"{len(rows)} images; lower lr in the plan (it is {job.recipe.lr})"
            )
        if losses[-1] < MUST_FALL_TO * ignorant and step > 2:
            return
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if step == 0:
            _refuse_dead_layers(job, network)
        optimizer.step()
    raise TrainingError(
        f"check before training: {len(rows)} images could not be learnt by heart; the loss went "
        f"from {losses[0]:.3f} to {losses[-1]:.3f} in {STEPS} steps. Check the labels and "
        f"--weights, or change lr (it is {job.recipe.lr}) or the frozen layers in plan.json"
    )


def _refuse_dead_layers(job: Job, network: torch.nn.Module) -> None:
    """Every learning parameter must get a gradient."""
    dead = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    if dead:
        raise TrainingError(
            f"check before training: no gradient reaches {dead[0]} ({len(dead)} such weights); "
            f"check the cuts of the transfer ({job.network.transfer.name})"
        )


def _few_of_each(job: Job) -> NDArray[np.int64]:
    """A few training rows, as evenly from the classes, or with and without labels, as there are."""
    targets = job.targets[job.train]
    columns = targets.T if targets.ndim == 2 else targets[None]  # (K, n), NaN where unknown
    wanted = [column == value for column in columns for value in np.unique(column)[::-1]]
    queues = [np.flatnonzero(mask)[:FEW].tolist() for mask in wanted]
    picked: dict[int, None] = {}  # in order, no row twice
    while len(picked) < FEW and any(queues):
        for queue in queues:
            if queue and len(picked) < FEW:
                picked[queue.pop(0)] = None
    return job.train[list(picked)]

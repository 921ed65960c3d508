"""The whole training loop, top to bottom.

The loop is given a module, inputs, targets and a score function; it does not know metrics, plans
or reports. It starts in this order: from the newest good checkpoint of this run; else from the
weights the module has.

**Exact resume.** Every random number of a step follows from (seed, step), the order of images
from (seed, epoch). A checkpoint holds the learning weights, the batch-norm statistics, the
optimiser, the schedule and the position. So a run that was killed at any moment and started
again ends with the same bits as one that never was (same machine, CPU, same number of threads).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from layerwise.data.balance import Epochs, class_weights, positive_weights
from layerwise.errors import TrainingError
from layerwise.training.checkpoint import (
    newest_checkpoint,
    pack_optimizer,
    save_checkpoint,
    unpack_optimizer,
)
from layerwise.training.inputs import Inputs
from layerwise.training.network import TransferNetwork
from layerwise.training.recipe import (
    Recipe,
    make_optimizer,
    rate_factor,
    set_rate,
)
from layerwise.training.tracking import Tracker

CHECKPOINT_SECONDS = 30.0  # how much work a kill may cost
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


@dataclass
class Position:
    """Where a run stands; JSON-able, part of every checkpoint."""

    step: int = 0
    best_score: float = -math.inf
    best_epoch: int = -1
    plateau: float = 1.0  # what the plateau schedule has come down to
    loss_sum: float = 0.0  # of this epoch so far
    loss_steps: int = 0
    seconds: float = 0.0  # spent so far, over all sittings
    history: list[dict[str, float]] = field(default_factory=list)  # one entry an epoch


def fit(
    job: Job,
    folder: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> list[dict[str, float]]:
    """Train until the recipe ends; the network then holds the weights of its best epoch.

    Args:
        job: What is trained on what.
        folder: Checkpoints and logs of this run.
        progress: Told (steps made, all steps).
        watch: Told the same; may raise to stop the run, whose checkpoints then stay.

    Returns:
        One entry an epoch: epoch, loss, score, seconds (from the start, over all sittings).

    Raises:
        TrainingError: The loss is not a number any more.
    """
    recipe, module = job.recipe, job.module
    epochs = Epochs(recipe.balance, job.targets, job.train, job.seed)
    per_epoch = max(1, epochs.size // recipe.batch)
    steps = per_epoch * recipe.epochs
    optimizer = make_optimizer(recipe, job.network)
    state_of = _learning_state(job)
    best = {name: value.clone() for name, value in state_of().items()}
    at = Position()

    found = newest_checkpoint(folder / "checkpoints")
    if found is not None:
        _, tensors, position = found
        at = Position(**position)
        with torch.no_grad():
            for name, value in state_of().items():
                value.copy_(tensors[f"now.{name}"])
        best = {name: tensors[f"best.{name}"].to(job.device) for name in best}
        unpack_optimizer(optimizer, {n[4:]: t for n, t in tensors.items() if n.startswith("opt.")})

    started = time.monotonic() - at.seconds

    def save() -> None:
        at.seconds = round(time.monotonic() - started, 3)
        tensors = {f"now.{n}": t for n, t in state_of().items()}
        tensors |= {f"best.{n}": t for n, t in best.items()}
        tensors |= {f"opt.{n}": t for n, t in pack_optimizer(optimizer).items()}
        save_checkpoint(folder / "checkpoints", at.step, tensors, vars(at))

    loss_of = make_loss(job)
    tracker = Tracker(folder, at.step)
    saved = time.monotonic()
    try:
        while at.step < steps and not _is_stale(recipe, at):
            epoch, within = divmod(at.step, per_epoch)
            rows, copies = epochs.draw(epoch)
            module.train()
            for index in range(within, per_epoch):
                part = slice(index * recipe.batch, (index + 1) * recipe.batch)
                set_rate(optimizer, at.plateau * rate_factor(recipe, at.step, steps))
                loss = train_step(job, optimizer, loss_of, rows[part], epoch, at.step, copies[part])
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"the loss became {loss} at step {at.step}; lower lr in the recipe "
                        f"(it is {recipe.lr})"
                    )
                at.step, at.loss_sum, at.loss_steps = (
                    at.step + 1,
                    at.loss_sum + loss,
                    at.loss_steps + 1,
                )
                if progress:
                    progress(at.step, steps)
                if watch:
                    watch(at.step, steps)
                if time.monotonic() - saved > CHECKPOINT_SECONDS and index + 1 < per_epoch:
                    save()
                    saved = time.monotonic()
            score = _end_epoch(job, at, epoch)
            at.history[-1]["seconds"] = round(time.monotonic() - started, 3)
            if at.best_epoch == epoch:
                best = {name: value.clone() for name, value in state_of().items()}
            _plateau(recipe, at, epoch)
            tracker.log(at.step, epoch=epoch, loss=at.history[-1]["loss"], score=score)
            if time.monotonic() - saved > CHECKPOINT_SECONDS:  # short epochs would only write
                save()
                saved = time.monotonic()
    finally:
        tracker.close()
    with torch.no_grad():
        for name, value in state_of().items():
            value.copy_(best[name])
    module.eval()
    return at.history


def train_step(
    job: Job,
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[Tensor, NDArray[np.int64]], Tensor],
    rows: NDArray[np.int64],
    epoch: int,
    step: int,
    copies: NDArray[np.int64] | None = None,
) -> float:
    """One step on these rows, and these copies of them (see `Inputs.read`); its loss."""
    torch.manual_seed(_step_seed(job.seed, step))  # dropout and stochastic depth
    inputs = job.inputs.read(rows, epoch, copies).to(job.device, non_blocking=True)
    use_bfloat16 = job.recipe.mixed_precision and _has_bfloat16(job.device)
    with torch.autocast(job.device.type, torch.bfloat16, enabled=use_bfloat16):
        logits = job.module(inputs)  # (n, outputs)
    loss = loss_of(logits.float(), rows)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


def make_loss(job: Job) -> Callable[[Tensor, NDArray[np.int64]], Tensor]:
    """The loss of logits (n, outputs) on rows: cross-entropy of the task, weighted by class.

    Unknown multilabel targets (NaN) are left out. Label smoothing moves targets towards ½
    (binary, multilabel) or the uniform distribution (multiclass), Szegedy et al. 2016, §7.
    """
    balanced = job.recipe.balance == "weights"
    smoothing = job.recipe.label_smoothing
    targets = torch.from_numpy(np.ascontiguousarray(job.targets))
    learnt = job.targets[job.train]
    if job.task == "multilabel":
        weight = None
        if balanced:
            weight = torch.from_numpy(positive_weights(learnt)).to(job.device)  # (K,)

        def masked(logits: Tensor, rows: NDArray[np.int64]) -> Tensor:
            wanted = targets[torch.from_numpy(rows)].to(job.device)  # (n, K)
            known = ~torch.isnan(wanted)
            soft = torch.where(known, wanted, 0.0) * (1 - smoothing) + smoothing / 2
            each = functional.binary_cross_entropy_with_logits(
                logits, soft, pos_weight=weight, reduction="none"
            )
            return (each * known).sum() / known.sum().clamp(min=1)

        return masked

    classes = 2 if job.task == "binary" else int(targets.max()) + 1
    weights = torch.ones(classes, device=job.device)
    if balanced:
        weights = torch.from_numpy(class_weights(learnt, classes)).to(job.device)

    def weighted(logits: Tensor, rows: NDArray[np.int64]) -> Tensor:
        wanted = targets[torch.from_numpy(rows)].to(job.device)  # (n,)
        if job.task == "binary":
            soft = wanted.float() * (1 - smoothing) + smoothing / 2
            each = functional.binary_cross_entropy_with_logits(logits[:, 0], soft, reduction="none")
        else:
            each = functional.cross_entropy(
                logits, wanted, label_smoothing=smoothing, reduction="none"
            )
        return (each * weights[wanted]).mean()

    return weighted


def _learning_state(job: Job) -> Callable[[], dict[str, Tensor]]:
    """A function that gives what training changes: parameters and statistics of the top."""
    top = job.network.top
    return lambda: {n: t for n, t in top.state_dict().items()}


def _end_epoch(job: Job, at: Position, epoch: int) -> float:
    """Score the epoch and write it into the history."""
    logits = predict_logits(job.module, job.inputs, job.validation, job.device, job.recipe.batch)
    score = job.score(job.targets[job.validation], logits)
    at.history.append({"epoch": epoch, "loss": at.loss_sum / max(1, at.loss_steps), "score": score})
    at.loss_sum, at.loss_steps = 0.0, 0
    if score > at.best_score:
        at.best_score, at.best_epoch = score, epoch
    return score


def predict_logits(
    module: nn.Module,
    inputs: Inputs,
    rows: NDArray[np.int64],
    device: torch.device,
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Logits (n, outputs) float32 of these rows, plain (not augmented), in evaluation mode."""
    module.eval()
    out = []
    with torch.inference_mode():
        for start in range(0, len(rows), batch):
            part = inputs.read(rows[start : start + batch], None).to(device)
            out.append(module(part).float().cpu().numpy())
            if progress:
                progress(min(len(rows), start + batch), len(rows))
    return np.concatenate(out)


def _is_stale(recipe: Recipe, at: Position) -> bool:
    """Whether early stopping ends the run."""
    epochs = len(at.history)
    return recipe.patience > 0 and epochs > 0 and epochs - 1 - at.best_epoch >= recipe.patience


def _plateau(recipe: Recipe, at: Position, epoch: int) -> None:
    """Let the rate fall tenfold after too many epochs without a better score."""
    if recipe.schedule == "plateau":
        since = epoch - at.best_epoch
        if since and since % recipe.plateau_patience == 0:
            at.plateau *= 0.1


def _step_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)


def _has_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported()

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
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerwise.data.balance import Epochs
from layerwise.errors import TrainingError
from layerwise.training.checkpoint import (
    newest_checkpoint,
    pack_optimizer,
    save_checkpoint,
    unpack_optimizer,
)
from layerwise.training.compiling import Forward, compiled
from layerwise.training.curves import curve_values
from layerwise.training.inputs import Inputs
from layerwise.training.job import Job
from layerwise.training.losses import Loss, make_loss
from layerwise.training.memory import freed_memory_kept
from layerwise.training.network import LayerGroup
from layerwise.training.recipe import (
    Recipe,
    make_optimizer,
    rate_factor,
    set_rate,
)
from layerwise.training.statistics import keep_statistics, reestimate, rows_to_measure
from layerwise.training.tracking import Tracker
from layerwise.training.unfreezing import (
    blocks_learning,
    check_stages,
    copied_blocks,
    let_learn,
    whole_from,
)

CHECKPOINT_SECONDS = 30.0  # how much work a kill may cost

OnEpoch = Callable[[Sequence[dict[str, float]]], None]
"""Told the history so far, one entry an epoch, whenever it has got longer."""


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
    on_epoch: OnEpoch | None = None,
) -> list[dict[str, float]]:
    """Train until the recipe ends; the network then holds the weights of its best epoch.

    Args:
        job: What is trained on what.
        folder: Checkpoints and logs of this run.
        progress: Told (steps made, all steps).
        watch: Told the same; may raise to stop the run, whose checkpoints then stay.
        on_epoch: Told the history after each epoch and, of a run that goes on, before its first
            step; may raise likewise.

    Returns:
        One entry an epoch: epoch, loss, score, seconds (from the start, over all sittings); where
        the job asks for curves, those of `curve_values` too.

    Raises:
        TrainingError: The loss or the answers are no numbers any more, or the recipe contradicts
            the transfer.
    """
    recipe, module = job.recipe, job.module
    check_stages(recipe, job.network)
    blocks = copied_blocks(job.network)
    whole = whole_from(recipe, len(blocks))
    epochs = Epochs(recipe.balance, job.targets, job.train, job.seed)
    per_epoch = max(1, epochs.size // recipe.batch)
    steps = per_epoch * recipe.epochs
    measured = rows_to_measure(job.train, recipe.batch, job.seed)
    optimizer = make_optimizer(recipe, job.network)  # before any checkpoint: L2-SP looks at it
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
        if on_epoch and at.history:  # the kill may have come before it was told
            on_epoch(at.history)

    started = time.monotonic() - at.seconds

    def save() -> None:
        at.seconds = round(time.monotonic() - started, 3)
        tensors = {f"now.{n}": t for n, t in state_of().items()}
        tensors |= {f"best.{n}": t for n, t in best.items()}
        tensors |= {f"opt.{n}": t for n, t in pack_optimizer(optimizer).items()}
        save_checkpoint(folder / "checkpoints", at.step, tensors, vars(at))

    loss_of = make_loss(job)
    quick = compiled(module, job.device) if recipe.compile else None
    saved = time.monotonic()
    with freed_memory_kept(job.device), closing(Tracker(folder, at.step)) as tracker:
        while at.step < steps and not _is_stale(recipe, at, whole):
            epoch, within = divmod(at.step, per_epoch)
            rows, copies = epochs.draw(epoch)
            set_modes(job, blocks, epoch)
            forward = quick if epoch >= whole else None  # stages would each be compiled anew
            for index in range(within, per_epoch):
                part = slice(index * recipe.batch, (index + 1) * recipe.batch)
                set_rate(optimizer, at.plateau * rate_factor(recipe, at.step, steps))
                loss = train_step(
                    job, optimizer, loss_of, rows[part], epoch, at.step, copies[part], forward
                )
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"the loss became {loss} at step {at.step}; lower lr in the recipe "
                        f"(it is {recipe.lr})"
                        if at.step
                        else f"the loss is {loss} before anything is learnt: activations are not "
                        "finite, as of weights that do not belong to the network; name other "
                        "ones with --weights, or check --model-arg"
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
            if recipe.batch_norm == "reestimated":
                reestimate(module, job.inputs, measured, recipe.batch, job.device)
            score = _end_epoch(job, at, epoch, loss_of)
            at.history[-1]["seconds"] = round(time.monotonic() - started, 3)
            if at.best_epoch == epoch:
                best = {name: value.clone() for name, value in state_of().items()}
            _plateau(recipe, at, epoch, whole)
            tracker.log(at.step, epoch=epoch, loss=at.history[-1]["loss"], score=score)
            if time.monotonic() - saved > CHECKPOINT_SECONDS:  # short epochs would only write
                save()
                saved = time.monotonic()
            if on_epoch:
                on_epoch(at.history)
    with torch.no_grad():
        for name, value in state_of().items():
            value.copy_(best[name])
    module.eval()
    return at.history


def set_modes(job: Job, blocks: list[LayerGroup], epoch: int) -> None:
    """Put the module into training mode, except what does not learn (yet) in this epoch.

    Args:
        job: Whose module it is.
        blocks: `copied_blocks` of its network.
        epoch: From 0.
    """
    job.module.train()
    let_learn(job.module, blocks, blocks_learning(job.recipe, epoch, len(blocks)))
    if job.recipe.batch_norm == "frozen":
        keep_statistics(job.module, {p for block in blocks for p in block.parameters})


def train_step(
    job: Job,
    optimizer: torch.optim.Optimizer,
    loss_of: Loss,
    rows: NDArray[np.int64],
    epoch: int,
    step: int,
    copies: NDArray[np.int64] | None = None,
    forward: Forward | None = None,
) -> float:
    """One step on these rows, and these copies of them (see `Inputs.read`); its loss.

    `forward` is called in the place of the job's module: the same one, compiled.
    """
    _seed_dropout(job.device, _step_seed(job.seed, step))  # and stochastic depth
    inputs = job.inputs.read(rows, epoch, copies).to(job.device, non_blocking=True)
    use_bfloat16 = job.recipe.mixed_precision and _has_bfloat16(job.device)
    with torch.autocast(job.device.type, torch.bfloat16, enabled=use_bfloat16):
        logits = (forward or job.module)(inputs)  # (n, outputs)
    loss = loss_of(logits.float(), rows)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


def _learning_state(job: Job) -> Callable[[], dict[str, Tensor]]:
    """A function that gives what training changes: parameters and statistics of the top."""
    top = job.network.top
    return lambda: {n: t for n, t in top.state_dict().items()}


def _end_epoch(job: Job, at: Position, epoch: int, loss_of: Loss) -> float:
    """Score the epoch and write it into the history."""
    logits = predict_logits(job.module, job.inputs, job.validation, job.device, job.recipe.batch)
    if not np.isfinite(logits).all():
        raise TrainingError(
            f"the network's answers are no finite numbers after epoch {epoch + 1}; lower lr in the "
            f"recipe (it is {job.recipe.lr})"
        )
    score = job.score(job.targets[job.validation], logits)
    curves: dict[str, float] = {}
    if job.curves:
        learnt = predict_logits(job.module, job.inputs, job.train, job.device)
        curves = curve_values(job, loss_of, learnt, logits)
        score = -curves.get("val_loss", -score)
    loss = at.loss_sum / max(1, at.loss_steps)
    at.history.append({"epoch": epoch, "loss": loss, "score": score, **curves})
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


def _is_stale(recipe: Recipe, at: Position, whole: int) -> bool:
    """Whether early stopping ends the run; epochs before every layer learns do not count."""
    since = len(at.history) - 1 - max(at.best_epoch, whole - 1)
    return recipe.patience > 0 and len(at.history) > 0 and since >= recipe.patience


def _plateau(recipe: Recipe, at: Position, epoch: int, whole: int) -> None:
    """Let the rate fall tenfold after too many epochs (of all layers) without a better score."""
    if recipe.schedule == "plateau":
        since = epoch - max(at.best_epoch, whole - 1)
        if since > 0 and since % recipe.plateau_patience == 0:
            at.plateau *= 0.1


def _seed_dropout(device: torch.device, seed: int) -> None:
    """As `torch.manual_seed`, for one device.

    That one formats the caller's stack for each kind of device that torch knows and this machine
    has not, and so takes a sixth of a step of a linear head.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)


def _step_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)


def _has_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported()

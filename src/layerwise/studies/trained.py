"""One trained run: a transfer and a recipe become weights and validation predictions."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from layerwise.config import to_mapping
from layerwise.data.balance import Epochs
from layerwise.errors import TrainingError
from layerwise.studies.study import Outcome, Run
from layerwise.studies.workspace import Workspace
from layerwise.training.activations import activations, disk_bytes, extra_views
from layerwise.training.checks import check_before_training
from layerwise.training.inputs import ImageInputs, Inputs
from layerwise.training.job import Job
from layerwise.training.loop import OnEpoch, fit, predict_logits
from layerwise.training.memory import ran_out
from layerwise.training.network import TransferNetwork
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

Watch = Callable[[int, int], None]
MOST_DISK = 16 * 2**30  # bytes of cached activations of one run; beyond it they are recomputed


def trained_run(
    work: Workspace, transfer: Transfer, recipe: Recipe, *, curves: bool = False
) -> Run:
    """What is asked for, with the key of everything that decides it."""
    settings = {
        **work.settings,
        "transfer": transfer.to_dict(),
        "recipe": to_mapping(recipe),
        "threads": work.threads,
        "device": work.device.type,
    }
    if curves:  # one that was finished without them does not have what is asked for
        settings["curves"] = True
    elif work.metric != "auroc":
        settings["metric"] = work.metric
    return Run(transfer.name, "trained", settings)


def train(
    work: Workspace,
    transfer: Transfer,
    recipe: Recipe,
    watch: Watch | None = None,
    on_epoch: OnEpoch | None = None,
    *,
    check: bool = True,
    parts: Sequence[str] = (),
    curves: bool = False,
) -> Outcome:
    """Train a transfer, or find it finished; an interrupted one goes on where it stopped.

    Args:
        work: What every run shares.
        transfer: What is kept, copied and frozen.
        recipe: How the rest learns.
        watch: Told (steps made, all steps) after every step; may raise to stop.
        on_epoch: Told the history after every epoch, as by `loop.fit`; not of a finished run.
        check: Refuse what can not be learnt by heart; no where that would be a finding.
        parts: Further parts to be predicted, "train" or "test"; kept with the run.
        curves: Keep loss and accuracy on both parts after every epoch in the history, and the
            weights of the lowest validation loss.

    Raises:
        TrainingError: A check before training failed, or the loss is not a number.
    """
    run = trained_run(work, transfer, recipe, curves=curves)
    found = work.runs.find(run)
    if found is not None:
        return _with_parts(work, transfer, found, parts)
    started = time.monotonic()
    network = work.network(transfer)
    inputs, module = _inputs(work, network, recipe)
    job = Job(
        network=network,
        module=module,
        inputs=inputs,
        targets=work.manifest.targets,
        train=work.rows("train"),
        validation=work.rows("val"),
        task=work.manifest.task,
        recipe=recipe,
        seed=work.seed,
        score=work.score,
        device=work.device,
        importance=work.importance,
        curves=curves,
    )
    if check and not (work.runs.folder / run.id / "checkpoints").exists():
        check_before_training(job, work.outputs)  # a run that fails here leaves no folder
    folder = work.runs.place(run)
    before = time.monotonic() - started
    try:
        track = work.track(run.name)
        history = fit(job, folder, progress=track, watch=watch, on_epoch=on_epoch)
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        raise TrainingError(
            f"memory ran out ({str(error).strip().splitlines()[0][:120]}); a smaller batch (it is "
            f"{recipe.batch}), --image-size or network needs less, and fewer runs at a time do"
        ) from error
    ended = time.monotonic()
    logits = predict_logits(module, inputs, job.validation, work.device)
    weights = {n: t.detach().cpu().numpy() for n, t in network.weights().items()}
    outcome = Outcome(
        run,
        round(before + history[-1]["seconds"] + time.monotonic() - ended, 3),
        sum(p.numel() for p in network.parameters()),
        work.predictions(job.validation, logits),
        {"history": history, "epochs": len(history)},
        weights,
        {
            part: work.predictions(
                work.rows(part), predict_logits(module, inputs, work.rows(part), work.device)
            )
            for part in parts
        },
    )
    work.runs.finish(outcome)
    return outcome


def _with_parts(
    work: Workspace, transfer: Transfer, outcome: Outcome, parts: Sequence[str]
) -> Outcome:
    """A finished run, with what it says of these parts too."""
    missing = [part for part in parts if part not in outcome.parts]
    if not missing:
        return outcome
    network = rebuild(work, transfer, outcome)
    said = dict(outcome.parts)
    for part in missing:
        rows = work.rows(part)
        said[part] = work.predictions(rows, test_logits(work, network, rows))
        work.runs.add_part(outcome.run, part, said[part])
    return replace(outcome, parts=said)


def rebuild(work: Workspace, transfer: Transfer, outcome: Outcome) -> TransferNetwork:
    """The network of a finished run, in evaluation mode, with the weights it ended with."""
    network = work.network(transfer)
    tensors = {n: torch.from_numpy(np.array(w)) for n, w in outcome.weights.items()}
    if outcome.run.kind == "probe":
        network.load_head(tensors)
    else:
        network.load(tensors)
    return network.eval()


def test_logits(
    work: Workspace, network: TransferNetwork, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Logits (n, outputs) of pictures through the whole network."""
    inputs = ImageInputs(work.store, "none", 0)
    return predict_logits(network, inputs, rows, work.device, progress=work.track("predicting"))


def _inputs(
    work: Workspace, network: TransferNetwork, recipe: Recipe
) -> tuple[Inputs, torch.nn.Module]:
    """Cached activations and the top where a bottom is frozen; else pictures and the whole."""
    pictures = ImageInputs(work.store, recipe.augment, work.seed, recipe.vertical_flip)
    bottom = network.frozen_part()
    if bottom is None:
        return pictures, network
    epochs = Epochs(recipe.balance, work.manifest.targets, work.rows("train"), work.seed)
    views = extra_views(recipe.augment, recipe.views, vertical_flip=recipe.vertical_flip)
    needed = disk_bytes(bottom, work.store, len(epochs.augmented), views, work.device)
    if needed > MOST_DISK:
        work.say(
            f"activations below {network.place} would take {needed / 2**30:.0f} GB on "
            "disk; they are computed again in every epoch instead"
        )
        return pictures, network
    cached = activations(
        bottom,
        work.store,
        epochs.augmented,
        cut=network.place,
        identity=work.identity,
        preset=recipe.augment,
        views=recipe.views,
        seed=work.seed,
        folder=work.cache,
        device=work.device,
        threads=work.threads,
        vertical_flip=recipe.vertical_flip,
        progress=work.track(f"activations below {network.place}"),
    )
    return cached, network.top

"""Whether a planned run compiles its steps: measured, and only where the run is long."""

from dataclasses import replace

import numpy as np
import torch

from layerwise.studies.plan import PlannedRun
from layerwise.studies.workspace import Workspace
from layerwise.training.compiling import WORTH_TRYING, Forward, try_compiling
from layerwise.training.memory import freed_memory_kept
from layerwise.training.recipe import make_optimizer


def with_compiling(work: Workspace, run: PlannedRun, steps: int, step_seconds: float) -> PlannedRun:
    """The run with compiled steps where that repays; else as it was. Either way it says why.

    Tried on a CPU, for runs that learn from pictures: the top above a frozen bottom makes steps too
    short to be worth it. Measuring costs about two minutes.

    Args:
        work: The pictures' size, the network.
        run: As planned without compiling.
        steps: All its steps.
        step_seconds: What one costs without.
    """
    short = steps * step_seconds < WORTH_TRYING
    if short or run.left_out or run.recipe.compile or work.device.type != "cpu":
        return run
    network = work.network(run.transfer)
    if network.bottom is not None:
        return run
    network.train()
    shape = (run.recipe.batch, *work.store.size, work.store.channels)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images = torch.from_numpy(noise)
    optimizer = make_optimizer(replace(run.recipe, l2_sp=0.0), network)

    def step(forward: Forward) -> None:
        loss = forward(images).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    with freed_memory_kept(work.device):
        trial = try_compiling(network, step, work.device)
    torch._dynamo.reset()  # what was compiled for this network
    if isinstance(trial, str):
        return replace(run, reason=f"{run.reason}; not compiled: {trial}")
    measured = f"a step takes {trial.step:.2f} s compiled and {trial.eager:.2f} s not"
    if not trial.repays(steps):
        return replace(run, reason=f"{run.reason}; not compiled: {measured}")
    saved = steps * trial.eager - trial.seconds(steps)
    return replace(
        run,
        recipe=replace(run.recipe, compile=True),
        reason=f"{run.reason}; compiled: {measured}, after {trial.first:.0f} s of compiling",
        seconds=round(max(0.0, run.seconds - saved), 1),
    )

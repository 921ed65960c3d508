"""Compiling in the plan: only for long runs on pictures, only where measured steps repay it."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from layerwise.studies import compile_trial
from layerwise.studies.compile_trial import with_compiling
from layerwise.studies.plan import PlannedRun
from layerwise.training.compiling import Trial
from layerwise.training.network import build
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

STEPS = 4000


@pytest.fixture
def run() -> PlannedRun:
    transfer = Transfer("none", copy="none")
    return PlannedRun(transfer, Recipe(batch=2), "everything learns", 4100.0, "")


@pytest.fixture
def work() -> SimpleNamespace:
    """As much of a workspace as the trial looks at."""

    def network(transfer: Transfer) -> nn.Module:
        return build(transfer, model="lenet5", outputs=1, seed=0, image_size=32)

    store = SimpleNamespace(size=(32, 32), channels=1)
    return SimpleNamespace(device=torch.device("cpu"), store=store, network=network)


def planted(monkeypatch, found: Trial | str) -> list[float]:
    """Let the trial find this; the losses of the steps that it makes are kept."""
    losses: list[float] = []

    def try_compiling(module: nn.Module, step, _device: torch.device) -> Trial | str:
        assert module.training

        def forward(images: torch.Tensor) -> torch.Tensor:
            out = module(images)
            assert out.shape == (2, 1)
            losses.append(float(out.detach().square().mean()))
            return out

        for _ in range(5):
            step(forward)
        return found

    monkeypatch.setattr(compile_trial, "try_compiling", try_compiling)
    return losses


def test_a_long_run_is_compiled_where_that_repays(work, run, monkeypatch):
    losses = planted(monkeypatch, Trial(first=100.0, step=0.8, eager=1.0))
    found = with_compiling(work, run, STEPS, 1.0)
    assert losses[-1] < losses[0]  # whole steps were made: the network learnt
    assert found.recipe == Recipe(batch=2, compile=True)
    assert found.seconds == 4100 - (4000 * 1.0 - (100 + 4000 * 0.8))
    assert found.reason == (
        "everything learns; compiled: a step takes 0.80 s compiled and 1.00 s not, "
        "after 100 s of compiling"
    )


def test_else_it_is_said_why_not(work, run, monkeypatch):
    planted(monkeypatch, Trial(first=100.0, step=0.97, eager=1.0))
    found = with_compiling(work, run, STEPS, 1.0)
    assert (found.recipe, found.seconds) == (run.recipe, run.seconds)
    assert found.reason.endswith("; not compiled: a step takes 0.97 s compiled and 1.00 s not")
    planted(monkeypatch, "there is no C++ compiler")
    found = with_compiling(work, run, STEPS, 1.0)
    assert found.reason == "everything learns; not compiled: there is no C++ compiler"


def test_short_runs_and_gpus_are_not_tried(work, run, monkeypatch):
    losses = planted(monkeypatch, Trial(0.0, 0.1, 1.0))
    assert with_compiling(work, run, 1799, 1.0) is run
    work.device = torch.device("cuda")
    assert with_compiling(work, run, STEPS, 1.0) is run
    assert losses == []

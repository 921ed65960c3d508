"""Compiled steps: what is said where there can be none, when they repay, and (slow) their bits."""

import copy

import pytest
import torch
import torch._inductor.config

from layerwise.errors import TrainingError
from layerwise.training import compiling, loop
from layerwise.training.compiling import Trial, compiled, no_compiler, try_compiling
from layerwise.training.transfer import Transfer

CPU = torch.device("cpu")


@pytest.fixture
def without_compiler(monkeypatch):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))


def test_compiling_repays_when_the_gain_is_larger_than_its_cost():
    trial = Trial(first=60.0, step=1.0, eager=1.25)
    assert trial.seconds(400) == 460
    assert not trial.repays(200)  # 260 s against 250 s
    assert not trial.repays(290)  # 350 s against 362.5 s, which is no clear gain
    assert trial.repays(400)  # 460 s against 500 s
    assert not Trial(60.0, 1.0, 0.99).repays(10**9)
    assert not Trial(0.0, 1.0, 1.04).repays(10**9)


def test_without_a_compiler_it_is_said_and_a_recipe_that_wants_it_is_refused(
    without_compiler, make_job, folder
):
    assert "there is no C++ compiler" in no_compiler(CPU)
    module = torch.nn.Linear(2, 1)
    assert "there is no C++ compiler" in try_compiling(module, lambda forward: None, CPU)
    with pytest.raises(TrainingError, match=r"compile is true, but there is no C\+\+ .*CXX"):
        compiled(module, CPU)
    with pytest.raises(TrainingError, match="or set compile to false"):
        loop.fit(make_job(model="lenet5", compile=True), folder)


def test_a_trial_alternates_and_tells_what_failed(monkeypatch):
    module = torch.nn.Linear(2, 1)
    called: list[object] = []
    monkeypatch.setattr(compiling, "no_compiler", lambda _device: "")
    monkeypatch.setattr(compiling, "compiled", lambda _module, _device: "compiled")
    now = [0.0]

    def step(forward: object) -> None:
        called.append(forward)
        now[0] += {1: 40.0}.get(len(called), 2.0 if forward == "compiled" else 3.0)

    monkeypatch.setattr(compiling.time, "perf_counter", lambda: now[0])
    assert try_compiling(module, step, CPU) == Trial(first=40.0, step=2.0, eager=3.0)
    assert called == ["compiled", *["compiled", module] * 3]

    def fail(_forward: object) -> None:
        raise TrainingError("outer") from ValueError("the reason\nand more")

    assert try_compiling(module, fail, CPU) == "it failed here (the reason)"


def test_only_epochs_in_which_every_layer_learns_are_compiled(make_job, folder, monkeypatch):
    source = make_job(seed=9).network.original.state_dict()
    job = make_job(
        transfer=Transfer("file"), source=source, epochs=3, probe_epochs=1, compile=True, batch=16
    )
    used: list[bool] = []

    def spied(module: torch.nn.Module, _device: torch.device):
        def forward(inputs: torch.Tensor) -> torch.Tensor:
            used.append(all(p.requires_grad for p in module.parameters()))
            return module(inputs)

        return forward

    plain = copy.deepcopy(job)
    monkeypatch.setattr(loop, "compiled", spied)
    loop.fit(job, folder / "compiled")
    assert used == [True] * 6  # three steps in each of two epochs
    monkeypatch.setattr(loop, "compiled", lambda module, _device: module)
    loop.fit(plain, folder / "plain")
    one, other = job.network.state_dict(), plain.network.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_compiled_steps_resume_to_the_same_bits_and_learn_as_plain_ones(
    make_job, tmp_path, monkeypatch
):
    """With dropout, batch norm and augmentation; about a minute of compiling."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(torch._inductor.config, "compile_threads", 1)  # no processes stay behind
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    settings = {"arguments": {"drop_rate": "0.3"}, "epochs": 2, "lr": 1e-3}
    untouched = make_job(**settings, compile=True)
    whole, cut = copy.deepcopy(untouched), copy.deepcopy(untouched)
    history = loop.fit(whole, tmp_path / "whole")

    class Stop(Exception):
        pass

    def watch(step: int, _steps: int) -> None:
        if step == 8:
            raise Stop

    with pytest.raises(Stop):
        loop.fit(copy.deepcopy(untouched), tmp_path / "cut", watch=watch)
    torch._dynamo.reset()
    loop.fit(cut, tmp_path / "cut")
    one, other = whole.network.state_dict(), cut.network.state_dict()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    plain = make_job(**settings)
    losses = [entry["loss"] for entry in loop.fit(plain, tmp_path / "plain")]
    # The same dropout and statistics: only rounding differs.
    assert [entry["loss"] for entry in history] == pytest.approx(losses, rel=1e-3)
    torch._dynamo.reset()

"""The recipe: rates by depth, decay, schedules and weights, by closed form."""

import math

import pytest
import torch

from layerwise.errors import TrainingError
from layerwise.training.recipe import (
    Recipe,
    make_optimizer,
    rate_factor,
    set_rate,
    with_settings,
)
from layerwise.training.transfer import Transfer


def by_name(optimizer: torch.optim.Optimizer, network: torch.nn.Module) -> dict[str, dict]:
    names = {id(p): name for name, p in network.top.named_parameters()}
    return {names[id(p)]: g for g in optimizer.param_groups for p in g["params"]}


def test_rates_fall_with_depth_below_the_new_head(make_job):
    source = make_job(model="lenet5", seed=9).network.original.state_dict()
    job = make_job(model="lenet5", transfer=Transfer("file"), source=source)
    recipe = Recipe(lr=0.01, copied_lr=0.5, layer_decay=0.8)
    groups = by_name(make_optimizer(recipe, job.network), job.network)
    below = ["fc2", "fc1", "conv3", "conv2", "conv1"]  # from the top down, all copied
    wanted = {"fc3": 0.01} | {name: 0.01 * 0.5 * 0.8**i for i, name in enumerate(below)}
    assert len(groups) == 12
    for name, group in groups.items():
        assert group["peak"] == pytest.approx(wanted[name.split(".")[0]], rel=1e-12), name
        assert group["lr"] == group["peak"]


def test_only_copied_layers_are_slowed_down(make_job):
    source = make_job(model="lenet5", seed=9).network.original.state_dict()
    job = make_job(model="lenet5", transfer=Transfer("file", copy="conv2"), source=source)
    recipe = Recipe(lr=0.01, copied_lr=0.5, layer_decay=0.8)
    groups = by_name(make_optimizer(recipe, job.network), job.network)
    for new in ("fc3", "fc2", "fc1", "conv3"):
        assert groups[f"{new}.weight"]["peak"] == 0.01
    assert groups["conv2.weight"]["peak"] == pytest.approx(0.01 * 0.5 * 0.8**3)
    assert groups["conv1.weight"]["peak"] == pytest.approx(0.01 * 0.5 * 0.8**4)


def test_what_is_frozen_is_not_in_the_optimiser(make_job):
    source = make_job(model="lenet5", seed=9).network.original.state_dict()
    job = make_job(
        model="lenet5", transfer=Transfer("file", copy="fc1", freeze="conv3"), source=source
    )
    groups = by_name(make_optimizer(Recipe(), job.network), job.network)
    assert {name.split(".")[0] for name in groups} == {"fc1", "fc2", "fc3"}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_only_matrices_and_kernels_decay(make_job, optimizer):
    job = make_job(model="timm:test_efficientnet")
    recipe = Recipe(weight_decay=0.07, optimizer=optimizer, momentum=0.6)
    made = make_optimizer(recipe, job.network)
    groups = by_name(made, job.network)
    shapes = dict(job.network.top.named_parameters())
    assert set(groups) == set(shapes)
    for name, group in groups.items():
        assert group["weight_decay"] == (0.07 if shapes[name].ndim > 1 else 0.0), name
    assert any("bn" in name for name in groups)
    assert type(made) is {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer]
    if optimizer == "sgd":
        assert {g["momentum"] for g in made.param_groups} == {0.6}


def test_a_step_of_sgd_by_hand(make_job):
    """weight ← weight − rate · (gradient + decay · weight), with each layer's own rate."""
    source = make_job(model="lenet5", seed=9).network.original.state_dict()
    job = make_job(model="lenet5", transfer=Transfer("file"), source=source)
    recipe = Recipe(optimizer="sgd", lr=0.1, copied_lr=0.5, layer_decay=0.5, weight_decay=0.3)
    optimizer = make_optimizer(recipe, job.network)
    top = job.network.top
    before = {n: p.detach().clone() for n, p in top.named_parameters()}
    for p in top.parameters():
        p.grad = torch.ones_like(p)
    set_rate(optimizer, 0.25)
    optimizer.step()
    after = dict(top.named_parameters())
    rates = {"fc3": 0.1 * 0.25, "fc2": 0.1 * 0.5 * 0.25, "conv3": 0.1 * 0.5 * 0.25 * 0.25}
    for layer, rate in rates.items():
        weight = before[f"{layer}.weight"]
        torch.testing.assert_close(after[f"{layer}.weight"], weight - rate * (1 + 0.3 * weight))
        torch.testing.assert_close(after[f"{layer}.bias"], before[f"{layer}.bias"] - rate)


@pytest.mark.parametrize(
    ("base", "asked", "decay"),
    [
        ("adamw", {}, 0.02),
        ("adamw", {"optimizer": "sgd"}, 5e-4),
        ("adamw", {"optimizer": "sgd", "weight_decay": 0.1}, 0.1),
        ("adamw", {"optimizer": "adamw"}, 0.02),
        ("sgd", {"optimizer": "sgd"}, 0.02),  # chosen together
    ],
)
def test_who_asks_for_sgd_gets_its_weight_decay(base, asked, decay):
    found = with_settings({"optimizer": base, "weight_decay": 0.02, "lr": 1.0}, asked)
    assert found == {
        "optimizer": asked.get("optimizer", base),
        "weight_decay": decay,
        "lr": 1.0,
    }


def test_the_cosine_rises_then_falls_to_nothing():
    recipe = Recipe(schedule="cosine", warmup=0.2)
    factors = [rate_factor(recipe, step, 20) for step in range(20)]
    assert factors[:4] == pytest.approx([1 / 5, 2 / 5, 3 / 5, 4 / 5])
    assert factors[4] == 1.0
    assert factors[12] == pytest.approx(0.5)  # half of the way from 4 to 20
    assert factors[8] == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert 0 < factors[19] < 0.01
    assert rate_factor(Recipe(warmup=0.0), 0, 1) == 1.0  # a run of one step learns


def test_the_inverse_schedule_is_that_of_keras():
    """keras.optimizers.SGD(decay): lr · 1 / (1 + decay · iterations), iterations from 0."""
    recipe = Recipe(schedule="inverse", decay=0.25, warmup=0.0)
    factors = [rate_factor(recipe, step, 100) for step in (0, 1, 2, 4, 12, 96)]
    assert factors == pytest.approx([1, 1 / 1.25, 1 / 1.5, 1 / 2, 1 / 4, 1 / 25])
    warm = Recipe(schedule="inverse", decay=0.25, warmup=0.2)
    assert rate_factor(warm, 19, 100) == pytest.approx(20 / 21)
    assert rate_factor(warm, 24, 100) == pytest.approx(1 / 2)


@pytest.mark.parametrize("schedule", ["cosine", "inverse", "constant"])
def test_after_the_probe_the_schedule_starts_anew(schedule):
    decay = 0.1 if schedule == "inverse" else 0.0
    recipe = Recipe(epochs=10, probe_epochs=3, schedule=schedule, decay=decay)
    alone = Recipe(epochs=10, schedule=schedule, decay=decay)
    factors = [rate_factor(recipe, step, 200) for step in range(200)]
    assert factors[:60] == [rate_factor(alone, step, 60) for step in range(60)]
    assert factors[60:] == [rate_factor(alone, step, 140) for step in range(140)]


@pytest.mark.parametrize("schedule", ["plateau", "constant"])
def test_other_schedules_stay_after_the_warm_up(schedule):
    recipe = Recipe(schedule=schedule, warmup=0.1)
    factors = [rate_factor(recipe, step, 30) for step in range(30)]
    assert factors == pytest.approx([0.25, 0.5, 0.75] + [1.0] * 27)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_two_steps_of_l2_sp_by_hand(make_job, momentum):
    """g ← ∇loss + α (w − w⁰) for copied weights; new ones decay as ever, copied ones do not."""
    source = make_job(model="lenet5", seed=9).network.original.state_dict()
    job = make_job(model="lenet5", transfer=Transfer("file", copy="conv2"), source=source)
    recipe = Recipe(
        optimizer="sgd", lr=0.1, copied_lr=0.5, layer_decay=1.0, weight_decay=0.3, l2_sp=0.7,
        momentum=momentum,
    )  # fmt: skip
    optimizer = make_optimizer(recipe, job.network)
    top = job.network.top
    start = {n: p.detach().clone() for n, p in top.named_parameters()}
    for _ in range(2):
        for p in top.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
    after = dict(top.named_parameters())
    for name in ("conv1.weight", "conv2.bias"):  # copied; at first there is nothing to pull
        w0 = start[name]
        w1 = w0 - 0.05
        w2 = w1 - 0.05 * (momentum * 1 + 1 + 0.7 * (w1 - w0))
        torch.testing.assert_close(after[name], w2)
    for name, decay in (("fc3.weight", 0.3), ("conv3.weight", 0.3), ("conv3.bias", 0.0)):
        g1 = 1 + decay * start[name]
        w1 = start[name] - 0.1 * g1
        w2 = w1 - 0.1 * (momentum * g1 + 1 + decay * w1)
        torch.testing.assert_close(after[name], w2)


def test_l2_sp_leaves_what_waits_and_what_was_frozen_alone(make_job):
    source = make_job(model="lenet5", seed=9).network.original.state_dict()
    job = make_job(model="lenet5", transfer=Transfer("file"), source=source)
    optimizer = make_optimizer(Recipe(l2_sp=0.5), job.network)
    top = job.network.top
    with torch.no_grad():
        top.conv1.weight.add_(1.0)  # away from the source, but without a gradient
        top.conv2.weight.add_(1.0)
    top.conv2.weight.grad = torch.zeros_like(top.conv2.weight)
    before = {n: p.detach().clone() for n, p in top.named_parameters()}
    optimizer.step()
    changed = {n for n, p in top.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {"conv2.weight"}
    torch.testing.assert_close(top.conv2.weight.grad, torch.full_like(top.conv2.weight, 0.5))
    assert (top.conv2.weight < before["conv2.weight"]).all()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_fused_step_is_that_of_a_plain_loop_over_the_weights(make_job, optimizer):
    """As torch's own single-tensor step, on channels-last weights, to the last digits."""
    job = make_job(model="timm:test_resnet")
    recipe = Recipe(optimizer=optimizer, lr=0.01, weight_decay=0.1)
    fused = make_optimizer(recipe, job.network)
    copies = [
        {**g, "params": [p.detach().clone().requires_grad_() for p in g["params"]], "fused": False}
        for g in fused.param_groups
    ]
    settings = {} if optimizer == "adamw" else {"momentum": 0.9}
    plain = type(fused)(copies, foreach=False, **settings)
    pairs = [
        (p, q)
        for one, other in zip(fused.param_groups, plain.param_groups, strict=True)
        for p, q in zip(one["params"], other["params"], strict=True)
    ]
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for p, q in pairs:
            gradient = torch.randn(p.shape, generator=generator)
            p.grad = torch.empty_like(p).copy_(gradient)
            q.grad = torch.empty_like(q).copy_(gradient)
        fused.step()
        plain.step()
    assert all(group["fused"] for group in fused.param_groups)
    for p, q in pairs:
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("setting", [{"epochs": 0}, {"batch": 0}, {"views": 0}, {"lr": 0.0}])
def test_meaningless_settings_are_refused(setting):
    (name,) = setting
    with pytest.raises(TrainingError, match=f"recipe: {name} is 0"):
        Recipe(**setting)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"l2_sp": -0.1}, "recipe: l2_sp is -0.1; it must be 0 or more"),
        ({"unfreeze": -1}, "recipe: unfreeze is -1; it must be 0 or more"),
        ({"unfreeze": math.nan}, "recipe: unfreeze is nan"),
        ({"probe_epochs": -1}, "recipe: probe_epochs is -1"),
        ({"probe_epochs": 10}, "probe_epochs is 10 of 10 epochs.*no copied layer would ever learn"),
        ({"schedule": "inverse"}, "decay is 0.0 with schedule 'inverse'"),
        ({"decay": 0.1}, "decay is 0.1 with schedule 'cosine'; .* no other schedule has one"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(setting, words):
    with pytest.raises(TrainingError, match=words):
        Recipe(**setting)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"balance": "augment"}, "equal pictures; choose --augment radiograph"),
        ({"balance": "both"}, "balance 'both' is unknown; it is one of none, weights"),
        ({"vertical_flip": True}, "leave --vertical-flip out"),
    ],
)
def test_what_an_absent_augmentation_can_not_do_is_refused(setting, words):
    with pytest.raises(TrainingError, match=words):
        Recipe(augment="none", **setting)
    if setting != {"balance": "both"}:
        Recipe(augment="radiograph", **setting)

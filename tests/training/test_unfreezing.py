"""Stages: what waits keeps its bits, has no gradient and no optimiser state, until its epoch."""

import pytest
import torch

from layerwise.errors import TrainingError
from layerwise.training import loop
from layerwise.training.recipe import Recipe, make_optimizer
from layerwise.training.transfer import Transfer
from layerwise.training.unfreezing import (
    blocks_learning,
    check_stages,
    copied_blocks,
    let_learn,
    parts_of,
    whole_from,
)

BLOCKS = ["bn2", "blocks", "blocks.3", "blocks.2", "blocks.1", "blocks.0", "bn1"]  # top down
MODULES = {  # of timm's test_efficientnet, by the block they belong to
    "conv_stem": 6,
    "bn1": 6,
    "blocks.0": 5,
    "blocks.1": 4,
    "blocks.2": 3,
    "blocks.3": 2,
    "blocks.4": 1,
    "conv_head": 0,
    "bn2": 0,
    "classifier": -1,
}


@pytest.fixture
def copied_job(make_job):
    """A job whose layers are all copied, but for the classifier."""
    source = make_job(seed=9).network.original.state_dict()
    return lambda **settings: make_job(transfer=Transfer("file"), source=source, **settings)


def changed_blocks(before: dict, after: dict) -> set[int]:
    """The blocks of which any weight or statistic differs; −1 is the classifier."""
    names = [name for name in before if not torch.equal(before[name], after[name])]
    found = {next(m for m in MODULES if name.startswith(f"{m}.")) for name in names}
    return {MODULES[module] for module in found}


def test_the_stages_by_hand():
    def stages(epochs: int, **settings: float) -> list[int]:
        recipe = Recipe(epochs=epochs, **settings)
        return [blocks_learning(recipe, epoch, 4) for epoch in range(epochs)]

    assert stages(3) == [4, 4, 4]
    assert stages(6, unfreeze=1) == [0, 1, 2, 3, 4, 4]
    assert stages(9, unfreeze=2) == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert stages(4, unfreeze=0.5) == [0, 2, 4, 4]
    assert stages(4, unfreeze=0.1) == [0, 4, 4, 4]
    assert stages(4, probe_epochs=2) == [0, 0, 4, 4]
    assert stages(7, probe_epochs=2, unfreeze=1) == [0, 0, 1, 2, 3, 4, 4]
    assert stages(7, probe_epochs=1, unfreeze=1.5) == [0, 1, 1, 2, 3, 3, 4]


@pytest.mark.parametrize("probe", [0, 1, 3])
@pytest.mark.parametrize("unfreeze", [0, 0.1, 0.25, 0.3, 0.7, 1, 1.5, 2, 3])
def test_the_first_whole_epoch_is_the_first_in_which_all_blocks_learn(probe, unfreeze):
    recipe = Recipe(epochs=99, probe_epochs=probe, unfreeze=unfreeze)
    for blocks in range(1, 20):
        learning = [blocks_learning(recipe, epoch, blocks) for epoch in range(99)]
        assert learning == sorted(learning)
        assert whole_from(recipe, blocks) == learning.index(blocks)


def test_each_block_keeps_its_bits_until_its_epoch(copied_job, folder):
    seen: list[dict[str, torch.Tensor]] = []
    job = copied_job(
        epochs=5,
        unfreeze=0.5,
        lr=0.05,
        score=lambda _t, _l: seen.append(job.network.weights()) or float(len(seen)),
    )
    kept = job.network.weights
    job.network.weights = lambda: {n: t.clone() for n, t in kept().items()}
    seen.append(job.network.weights())
    assert [block.name for block in copied_blocks(job.network)] == BLOCKS
    loop.fit(job, folder)
    found = [changed_blocks(one, other) for one, other in zip(seen, seen[1:], strict=False)]
    assert found == [set(range(-1, learning)) for learning in (0, 2, 4, 6, 7)]


def test_a_probe_changes_the_classifier_alone_then_everything_learns(copied_job, folder):
    seen: list[dict[str, torch.Tensor]] = []
    factors: list[float] = []
    job = copied_job(
        epochs=3,
        probe_epochs=2,
        warmup=0.0,
        score=lambda _t, _l: seen.append(clone(job)) or float(len(seen)),
    )

    def clone(job: loop.Job) -> dict[str, torch.Tensor]:
        return {n: t.clone() for n, t in job.network.weights().items()}

    seen.append(clone(job))
    with pytest.MonkeyPatch.context() as patch:
        set_rate = loop.set_rate
        patch.setattr(loop, "set_rate", lambda o, f: factors.append(f) or set_rate(o, f))
        loop.fit(job, folder)
    found = [changed_blocks(one, other) for one, other in zip(seen, seen[1:], strict=False)]
    assert found == [{-1}, {-1}, set(range(-1, 7))]
    assert factors[0] == factors[12] == 1.0  # six steps an epoch; the schedule starts anew
    assert factors[:12] == sorted(factors[:12], reverse=True)
    assert factors[11] < 0.1


def test_what_waits_costs_no_backward_pass_and_has_no_state(copied_job):
    job = copied_job(epochs=9, unfreeze=1)
    network, blocks = job.network, copied_blocks(job.network)
    loop.set_modes(job, blocks, 2)  # two blocks learn: bn2 with conv_head, and blocks.4
    passed: dict[str, bool] = {}
    for name in MODULES:
        network.top.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: passed.__setitem__(name, out.requires_grad)
        )
    optimizer = make_optimizer(job.recipe, network)
    loop.train_step(job, optimizer, loop.make_loss(job), job.train[:8], 2, 0)
    for name, block in MODULES.items():
        module = network.top.get_submodule(name)
        assert passed[name] == (block < 2), name
        assert module.training == (block < 2), name
        for parameter in module.parameters():
            assert (parameter.grad is not None) == (block < 2)
            assert (parameter in optimizer.state) == (block < 2)
    loop.set_modes(job, blocks, 7)
    assert all(p.requires_grad for p in network.parameters())
    assert all(part.training for part in network.modules())


def test_parts_are_the_largest(copied_job):
    top = copied_job().network.top
    wanted = {*top.blocks[1].parameters(), *top.bn2.parameters(), top.conv_head.weight}
    wanted.add(top.blocks[0][0].bn1.weight)  # half of a norm is no part
    assert list(parts_of(top, wanted)) == [top.blocks[1], top.conv_head, top.bn2]
    assert list(parts_of(top, set(top.parameters()))) == [top]
    assert list(parts_of(top, set())) == []


def test_new_layers_below_the_head_do_not_wait(make_job):
    source = make_job(seed=9).network.original.state_dict()
    transfer = Transfer("file", copy="blocks.1")
    job = make_job(transfer=transfer, source=source, epochs=9, unfreeze=1)
    blocks = copied_blocks(job.network)
    assert [block.name for block in blocks] == ["blocks.1", "blocks.0", "bn1"]
    let_learn(job.module, blocks, 0)
    resting = {n.rpartition(".")[0] for n, p in job.network.top.named_parameters()
               if not p.requires_grad}  # fmt: skip
    assert {name.split(".")[0] for name in resting} == {"conv_stem", "bn1", "blocks"}
    assert all(name.startswith(("blocks.0", "blocks.1")) for name in resting if "bl" in name)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"unfreeze": 1.0, "epochs": 7}, "unfreeze is 1.0 and 7 .* from epoch 8 on, of 7"),
        ({"unfreeze": 1.0, "probe_epochs": 2, "epochs": 8}, "from epoch 9 on, of 8; lower"),
    ],
)
def test_stages_that_never_come_are_refused(copied_job, folder, setting, words):
    with pytest.raises(TrainingError, match=words):
        loop.fit(copied_job(**setting), folder)
    check_stages(
        Recipe(**setting | {"epochs": setting["epochs"] + 1}), copied_job(**setting).network
    )


@pytest.mark.parametrize("name", ["unfreeze", "probe_epochs", "l2_sp"])
def test_stages_without_a_source_are_refused(make_job, name):
    job = make_job(model="lenet5", **{name: 1})
    with pytest.raises(TrainingError, match=rf"{name} is 1.*random initialisation.*set it to 0"):
        check_stages(job.recipe, job.network)


def test_neither_patience_nor_plateau_judges_before_every_layer_learns(
    copied_job, folder, monkeypatch
):
    factors: list[float] = []
    monkeypatch.setattr(loop, "set_rate", lambda _optimizer, factor: factors.append(factor))
    scores = iter([0.9, *[0.5] * 9])
    job = copied_job(
        epochs=9,
        batch=48,
        probe_epochs=4,
        patience=3,
        schedule="plateau",
        plateau_patience=2,
        warmup=0.0,
        score=lambda _t, _l: next(scores),
    )
    history = loop.fit(job, folder)
    assert len(history) == 7  # three epochs (4, 5, 6) in which everything learnt, none better
    assert factors == [1.0] * 6 + [0.1]

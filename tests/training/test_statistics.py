"""Batch-norm statistics: kept ones stay to the bit, re-estimated ones by brute force."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from layerwise.training import loop, statistics
from layerwise.training.statistics import keep_statistics, reestimate, rows_to_measure
from layerwise.training.transfer import Transfer
from layerwise.training.unfreezing import copied_blocks

CPU = torch.device("cpu")


class Tensors:
    """Inputs of one tensor; they refuse to be augmented."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def read(self, rows: np.ndarray, epoch: int | None, copies: object = None) -> torch.Tensor:
        assert epoch is None
        return self.values[torch.from_numpy(rows)]


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 5, 3), nn.Dropout(0.5), nn.BatchNorm2d(5), nn.ReLU()
    ).train()


def test_the_lowest_norm_gets_the_exact_mean_and_variance_of_all_rows():
    values = torch.randn(40, 3, 6, 6) * torch.tensor([1.0, 3.0, 0.1])[:, None, None]
    values += torch.tensor([0.0, 50.0, -7.0])[:, None, None]
    network, rows = small_network(), np.arange(39, 7, -1)
    reestimate(network, Tensors(values), rows, 8, CPU)
    all_of_it = values[rows].double().transpose(0, 1).flatten(1)  # (3, values)
    norm = network[0]
    np.testing.assert_allclose(norm.running_mean, all_of_it.mean(dim=1), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(norm.running_var, all_of_it.var(dim=1), rtol=2e-6)


def test_a_higher_norm_sees_what_batches_normalised_by_themselves_give():
    values = torch.randn(32, 3, 6, 6) * 4 + 2
    network = small_network()
    reestimate(network, Tensors(values), np.arange(32), 8, CPU)
    given = []
    for batch in values.double().split(8):  # dropout is off
        mean = batch.mean(dim=(0, 2, 3), keepdim=True)
        deviation = (batch.var(dim=(0, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
        x = (batch - mean) / deviation
        conv = network[1]
        given.append(nn.functional.conv2d(x, conv.weight.double(), conv.bias.double()))
    flat = torch.cat(given).transpose(0, 1).flatten(1)
    np.testing.assert_allclose(
        network[3].running_mean, flat.mean(dim=1).detach(), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(network[3].running_var, flat.var(dim=1).detach(), rtol=1e-5)


def test_modes_and_momenta_are_as_before_and_only_what_trains_is_measured():
    network = small_network()
    network[0].eval()
    network[3].momentum = 0.3
    before = network[0].running_mean.clone()
    modes = [part.training for part in network.modules()]
    weights = [p.clone() for p in network.parameters()]
    reestimate(network, Tensors(torch.randn(16, 3, 6, 6) + 5), np.arange(16), 8, CPU)
    assert [part.training for part in network.modules()] == modes
    assert torch.equal(network[0].running_mean, before)
    assert not torch.equal(network[3].running_mean, torch.zeros(5))
    assert (network[0].momentum, network[3].momentum) == (0.1, 0.3)
    assert all(torch.equal(p, w) for p, w in zip(network.parameters(), weights, strict=True))
    assert not any(part._forward_hooks for part in network.modules())
    assert all(p.grad is None for p in network.parameters())


def test_the_rows_are_fixed_whole_batches_of_the_training_part(monkeypatch):
    train = np.arange(100, 1000)
    rows = rows_to_measure(train, 32, seed=5)
    assert len(rows) == len(set(rows.tolist())) == 28 * 32
    assert set(rows.tolist()) <= set(train.tolist())
    assert np.array_equal(rows, rows_to_measure(train, 32, seed=5))
    assert not np.array_equal(rows, rows_to_measure(train, 32, seed=6))
    assert sorted(rows_to_measure(train[:20], 32, seed=5).tolist()) == train[:20].tolist()
    monkeypatch.setattr(statistics, "BATCHES", 3)
    assert len(rows_to_measure(train, 32, seed=5)) == 96


def test_a_scored_epoch_has_statistics_of_its_own_weights_and_plain_pictures(make_job, folder):
    """What the run keeps can be computed again from its weights and the training pictures."""
    job = make_job(epochs=2, batch_norm="reestimated")
    history = loop.fit(job, folder)
    kept = {n: t.clone() for n, t in job.network.state_dict().items()}
    assert history[-1]["score"] > history[0]["score"]  # so that the last epoch's are kept
    norms = [part for part in job.network.modules() if isinstance(part, _BatchNorm)]
    sums: dict[nn.Module, list[torch.Tensor]] = {norm: [] for norm in norms}
    for norm in norms:
        norm.train()
        norm.register_forward_pre_hook(lambda norm, given: sums[norm].append(given[0].detach()))
    with torch.no_grad():
        for part in np.split(rows_to_measure(job.train, 8, job.seed), 6):
            job.network(job.inputs.read(part, None))
    job.network.load_state_dict(kept)
    for norm in norms:
        flat = torch.cat(sums[norm]).double().transpose(0, 1).flatten(1)
        torch.testing.assert_close(
            norm.running_mean.double(), flat.mean(dim=1), rtol=1e-4, atol=1e-6
        )
        torch.testing.assert_close(norm.running_var.double(), flat.var(dim=1), rtol=1e-4, atol=0)


def test_copied_norms_keep_the_source_and_their_scales_learn(make_job, folder):
    source = make_job(seed=9).network.original.state_dict()
    generator = torch.Generator().manual_seed(4)
    for name, value in source.items():
        if "running_" in name:
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    transfer = Transfer("file", copy="blocks.1")
    job = make_job(transfer=transfer, source=source, epochs=1, batch_norm="frozen", lr=0.01)
    loop.fit(job, folder)
    after = job.network.weights()
    running = [name for name in after if "running_" in name]
    copied = {n for n in running if n.startswith(("bn1.", "blocks.0.", "blocks.1."))}
    assert copied and copied != set(running)
    for name in running:
        assert torch.equal(after[name], source[name]) == (name in copied), name
        scale = name.rpartition(".")[0] + ".weight"
        assert not torch.equal(after[scale], source[scale])


def test_a_kept_norm_normalises_by_the_source_in_training(make_job):
    source = make_job(seed=9).network.original.state_dict()
    source["bn1.running_mean"] += 0.7
    source["bn1.running_var"] *= 3
    job = make_job(transfer=Transfer("file"), source=source, batch_norm="frozen")
    loop.set_modes(job, copied_blocks(job.network), 0)
    norm = job.network.top.bn1
    seen = []
    norm.register_forward_pre_hook(lambda _m, given: seen.append(given[0].detach()))
    norm.act.register_forward_pre_hook(lambda _m, given: seen.append(given[0].detach().clone()))
    with torch.no_grad():
        job.module(job.inputs.read(job.train[:8], 0))
    wanted = nn.functional.batch_norm(
        seen[0], source["bn1.running_mean"], source["bn1.running_var"],
        source["bn1.weight"], source["bn1.bias"], eps=norm.eps,
    )  # fmt: skip
    torch.testing.assert_close(seen[1], wanted)
    assert job.module.training and norm.act.training


def test_new_norms_are_not_kept(make_job):
    job = make_job(batch_norm="frozen")
    loop.set_modes(job, copied_blocks(job.network), 0)
    assert all(part.training for part in job.network.modules())
    keep_statistics(job.network, set(job.network.parameters()))
    assert not any(m.training for m in job.network.modules() if isinstance(m, _BatchNorm))


@pytest.mark.parametrize("batch_norm", ["running", "frozen", "reestimated"])
def test_a_network_without_batch_norm_does_not_mind(make_job, tmp_path, batch_norm):
    kept = [make_job(model="lenet5", epochs=1, batch_norm=one) for one in ("running", batch_norm)]
    for number, job in enumerate(kept):
        loop.fit(job, tmp_path / str(number))
    one, other = (job.network.state_dict() for job in kept)
    assert all(torch.equal(one[name], other[name]) for name in one)

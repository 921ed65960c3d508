"""The distance by batch norms, against activations held whole and torch's own divergence."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn.modules.batchnorm import _BatchNorm

from layerwise.errors import TrainingError
from layerwise.studies.advice.distance import NEVER_FILLED, NONE_THERE, distance
from layerwise.training.transfer import Transfer

MODEL = "timm:test_resnet"


def whole(work, rows):
    """KL at each batch norm, from all activations of all pictures in one array each."""
    network = work.network(Transfer(work.weights_name)).eval()
    found = {}
    norms = {n: p for n, p in network.original.named_modules() if isinstance(p, _BatchNorm)}
    for name, norm in norms.items():
        norm.register_forward_pre_hook(
            lambda _norm, given, name=name: found.__setitem__(name, given[0].double())
        )
    with torch.no_grad():
        network(torch.from_numpy(work.store.read(rows)))
    out = {}
    for name, values in found.items():
        norm = norms[name]
        flat = values.transpose(0, 1).flatten(1)  # (C, n · places)
        user = Normal(flat.mean(1), (flat.var(1, correction=0) + norm.eps).sqrt())
        stored = (norm.running_var.double() + norm.eps).sqrt()
        there = Normal(norm.running_mean.double(), stored)
        out[name] = kl_divergence(user, there).mean().item()
    return out


def test_each_layer_is_the_divergence_of_all_activations(workspace, seen):
    work = workspace("multiclass", model=MODEL, weights=seen)
    rows = work.rows("train")
    found = distance(work, rows, 60.0)
    wanted = whole(work, rows)
    assert [layer.name for layer in found.layers] == list(wanted)
    for layer in found.layers:
        assert layer.kl == pytest.approx(wanted[layer.name], rel=1e-4)
    assert found.shift == pytest.approx(np.sqrt(2 * np.median(list(wanted.values()))), rel=1e-4)
    assert found.low <= found.shift <= found.high
    assert (found.images, found.why_not) == (48, "")


def test_pictures_the_norms_were_filled_with_lie_at_no_distance(workspace, seen):
    """Another network's statistics are put in place of the stored ones, and go away."""
    work = workspace("multiclass", model=MODEL, weights=seen)
    before = distance(work, work.rows("train"), 60.0).shift
    network = work.network(Transfer(work.weights_name)).train()
    for part in network.modules():
        if isinstance(part, _BatchNorm):
            part.momentum = None  # the mean over all batches, here one
            part.reset_running_stats()
    with torch.no_grad():
        for _ in range(3):  # deeper layers see what the new statistics make of it
            network(torch.from_numpy(work.store.read(work.rows("train"))))
    work.weights = {n: t.clone() for n, t in network.original.state_dict().items()}
    after = distance(work, work.rows("train"), 60.0).shift
    assert before > 0.5 and after < 0.05


def test_a_patient_with_many_pictures_counts_once_in_the_interval(workspace, seen):
    work = workspace("multiclass", model=MODEL, weights=seen)
    rows = work.rows("train")
    apart = distance(work, rows, 60.0)
    table = work.manifest.table.assign(patient=["a", "b"] * (len(work.manifest) // 2))
    work.manifest = work.manifest.replace(table=table)
    together = distance(work, rows, 60.0)
    assert together.shift == apart.shift
    assert together.high - together.low != apart.high - apart.low


def test_time_bounds_the_pictures_and_some_are_taken_in_any_case(workspace, seen):
    work = workspace("multiclass", model=MODEL, weights=seen)
    assert distance(work, work.rows("train"), 0.0).images == 32


@pytest.mark.parametrize(("model", "why"), [("lenet5", NONE_THERE), (MODEL, NEVER_FILLED)])
def test_networks_of_which_nothing_can_be_said(workspace, model, why, tmp_path):
    work = workspace("multiclass", model=model)
    work.weights, work.weights_name = work.blank().module.state_dict(), "new"
    found = distance(work, work.rows("train"), 60.0)
    assert (found.layers, found.why_not) == ((), why)
    assert found.seconds > 0


def test_activations_that_are_not_finite_are_named(workspace, seen):
    work = workspace("multiclass", model=MODEL, weights=seen)
    name = next(n for n in work.weights if n.endswith("conv1.weight"))
    work.weights[name] = torch.full_like(work.weights[name], torch.nan)
    with pytest.raises(TrainingError, match="activations at .* are not finite.*--weights"):
        distance(work, work.rows("train"), 60.0)

"""Probes and evidence at every cut, against features taken from the parts of the network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from layerwise.errors import DataError, TrainingError
from layerwise.evaluation.logme import logme
from layerwise.models.cuts import truncate
from layerwise.studies.advice.measure import measure, measure_random
from layerwise.studies.profile import auroc, profile
from layerwise.training.transfer import Transfer


def test_the_evidence_is_of_pooled_training_activations(workspace, seen):
    work = workspace("multiclass", model="timm:test_resnet", weights=seen)
    found = measure(work)
    network = work.network(Transfer(work.weights_name)).eval()
    train = work.rows("train")
    with torch.no_grad():
        pixels = network.pixels(torch.from_numpy(work.store.read(train)))
    for probe, value, score in zip(found.probes, found.logme, found.scores, strict=True):
        with torch.no_grad():
            out = truncate(network.original, probe.cut.name)(pixels).numpy()
        pooled = out.reshape(len(train), probe.cut.channels, -1).mean(axis=2)
        wanted = logme(pooled, work.manifest.targets[train], "multiclass").value
        assert value == pytest.approx(wanted, abs=1e-4)
        assert score.value == pytest.approx(auroc(work, probe.outcome))
    assert found.scores[found.best].value == max(one.value for one in found.scores)


def test_random_filters_are_those_of_a_study_without_weights(workspace, seen, tmp_path):
    work = workspace("binary", model="timm:test_resnet", weights=seen)
    found = measure_random(work)
    plain = workspace("binary", model="timm:test_resnet", out=tmp_path / "plain")
    wanted = {p.cut.name: p.outcome for p in profile(plain)}
    for probe in found.probes:
        assert probe.outcome.run.id == wanted[probe.cut.name].run.id
        np.testing.assert_array_equal(
            probe.outcome.validation.scores, wanted[probe.cut.name].validation.scores
        )


def test_activations_that_are_not_finite_are_named(workspace):
    work = workspace("binary")  # LeNet-5 has no batch norms that would meet them first
    weights = work.blank().module.state_dict()
    name = next(iter(weights))
    weights[name] = torch.full_like(weights[name], torch.nan)
    broken = replace(work, weights=weights, weights_name="broken", weights_digest="x")
    with pytest.raises(TrainingError, match="at conv1 are not finite for 72 of 72.*--weights"):
        measure(broken)


def test_constant_features_are_named(workspace):
    work = workspace("binary")
    weights = {n: torch.zeros_like(t) for n, t in work.blank().module.state_dict().items()}
    dead = replace(work, weights=weights, weights_name="dead", weights_digest="y")
    with pytest.raises(DataError, match="same for every training image.*--weights"):
        measure(dead)

"""Cases: which pictures are shown, and heat of the network that decided and no other."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from layerwise.evaluation.predictions import Predictions, probabilities
from layerwise.models.cuts import truncate
from layerwise.studies import cases as module
from layerwise.studies.cases import cases
from layerwise.studies.profile import probe_transfer, profile
from layerwise.studies.trained import rebuild
from layerwise.studies.trained import test_logits as predict
from layerwise.training.transfer import Transfer

predict.__test__ = False  # pytest would take its name for a test's


def said(targets: np.ndarray, scores: np.ndarray) -> Predictions:
    ids = np.array([f"test/{i}" for i in range(len(targets))])
    return Predictions(ids, targets, scores.astype(np.float32), ids)


def test_the_surest_wrong_ones_first_then_right_ones_of_every_label(workspace):
    work = workspace()
    targets = work.manifest.targets[work.rows("test")]  # 0, 1, 0, 1, …
    scores = np.where(targets == 1, 0.9, 0.1)
    scores[[1, 3, 4, 7, 8]] = [0.3, 0.05, 0.8, 0.2, 0.5]  # wrong at a threshold of 0.4
    cut, found = cases(work, work.network(Transfer()).eval(), said(targets, scores[:, None]), 0.4)
    assert cut == "conv2"  # above it the maps have one place only
    wrong, right = found[:4], found[4:]
    assert [case.id for case in wrong] == ["test/3", "test/4", "test/7", "test/1"]
    assert [case.probability for case in wrong] == pytest.approx([0.95, 0.8, 0.8, 0.7])
    assert [(case.truth, case.decision) for case in wrong[:2]] == [("1", "0"), ("0", "1")]
    assert [case.right for case in found] == [False] * 4 + [True] * 4
    assert sorted(case.truth for case in right) == ["0", "0", "1", "1"]
    assert all(case.truth == case.decision for case in right)
    for case in found:
        row = work.rows("test")[int(case.id.split("/")[1])]
        np.testing.assert_array_equal(case.image, work.store.read(np.array([row]))[0, ..., 0])
        assert case.heat.shape == (32, 32) and 0 <= case.heat.min() <= case.heat.max() <= 1


def test_all_right_and_all_wrong(workspace):
    work = workspace()
    targets = work.manifest.targets[work.rows("test")]
    network = work.network(Transfer()).eval()
    for right in (True, False):
        scores = np.abs(targets - (0.1 if right else 0.9))[:, None]
        _, found = cases(work, network, said(targets, scores), 0.5, each=3)
        assert [case.right for case in found] == [right] * 3


def test_multiclass_and_multilabel_decisions():
    scores = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    truth, decided, sure = module._decisions("multiclass", said(np.array([1, 2]), scores), None)
    assert (truth.tolist(), decided.tolist()) == ([1, 2], [1, 0])
    np.testing.assert_allclose(sure, [0.5, 0.6])
    targets = np.array([[0, 1, 1], [0, 0, 1]], np.float32)
    truth, decided, sure = module._decisions("multilabel", said(targets, scores), [0.5] * 3)
    assert (truth.tolist(), decided.tolist()) == ([1, 2], [1, 0])


def shown(work, network) -> tuple[str, np.ndarray, np.ndarray, torch.Tensor]:
    """Cases of a network's own decisions: the cut, heats, decided labels, pictures."""
    rows = work.rows("test")
    scores = probabilities(work.manifest.task, predict(work, network, rows))
    targets = work.manifest.targets[rows]
    cut, found = cases(work, network, said(targets, scores), 0.5)
    labels = list(work.manifest.labels)
    decided = np.array([labels.index(case.decision) for case in found])
    where = np.array([int(case.id.split("/")[1]) for case in found])
    images = torch.from_numpy(work.store.read(rows[where]))
    return cut, np.stack([case.heat for case in found]), decided, images


def brought_to_size(maps: torch.Tensor, weights: torch.Tensor) -> np.ndarray:
    """The positive part of the weighted sum of maps, 32×32, its highest value 1 (eq. 2)."""
    raw = torch.relu((maps * weights[:, :, None, None]).sum(1, keepdim=True))
    heat = torch.nn.functional.interpolate(raw, (32, 32), mode="bilinear")[:, 0]
    return (heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-30)).numpy()


def test_a_truncated_network_is_explained_by_its_own_layers(workspace):
    work = workspace("multiclass", model="timm:test_resnet")
    network = work.network(Transfer(keep="layer3")).eval()
    cut, heat, decided, images = shown(work, network)
    assert cut == "layer2"  # 4×4; layer3 has 2×2
    whole, head = network.original, network.top.get_submodule("head")
    with torch.no_grad():
        maps = truncate(whole, "layer2")(network.pixels(images))
    maps.requires_grad_()
    logits = head.linear(whole.get_submodule("layer3")(maps).mean((2, 3)))
    np.testing.assert_allclose(logits.detach(), network(images).detach(), atol=1e-5)
    logits[torch.arange(len(images)), torch.from_numpy(decided)].sum().backward()
    wanted = brought_to_size(maps.detach(), maps.grad.mean((2, 3)))
    np.testing.assert_allclose(heat, wanted, atol=1e-4)
    assert wanted.max() == pytest.approx(1)


def test_a_probe_is_explained_by_its_weights(workspace):
    """Under a mean and a linear layer, eq. 1 of Grad-CAM is the layer's weight over h·w."""
    work = workspace("multiclass", model="timm:test_resnet")
    probe = next(p for p in profile(work) if p.cut.name == "layer1")
    network = rebuild(work, probe_transfer("layer1", work.weights_name), probe.outcome)
    cut, heat, decided, images = shown(work, network)
    assert cut == "layer1"
    with torch.no_grad():
        below, _ = network.parts("layer1")
        maps = below(network.pixels(images))  # (n, C, 8, 8)
        weight = torch.from_numpy(probe.outcome.weights["head.linear.weight"])[decided]  # (n, C)
    np.testing.assert_allclose(heat, brought_to_size(maps, weight), atol=1e-4)


def test_no_cases_without_pictures(workspace):
    work = workspace()
    nothing = Predictions(np.array([], str), np.array([], int), np.zeros((0, 1)), np.array([], str))
    assert cases(work, SimpleNamespace(), nothing, 0.5) == ("", [])


@pytest.mark.parametrize(
    ("model", "arguments", "cut", "prefix"),
    [
        ("timm:vit_tiny_patch16_224", {"depth": "2", "patch_size": "4"}, "blocks.0", 1),
        (
            "timm:swin_tiny_patch4_window7_224",
            {"embed_dim": "12", "depths": "(1,)", "num_heads": "(1,)"},
            "patch_embed",
            0,
        ),
    ],
)
def test_tokens_and_channels_last_are_seen_as_maps(workspace, model, arguments, cut, prefix):
    work = workspace("multiclass", model=model, arguments=arguments)
    network = work.network(Transfer(keep=cut)).eval()
    seen, heat, decided, images = shown(work, network)
    assert seen == cut
    head = network.top.get_submodule("head").linear
    with torch.no_grad():  # a mean and a linear layer: eq. 1 is the layer's weight, over a number
        values = truncate(network.original, cut)(network.pixels(images)).flatten(1, -2)
        maps = values[:, prefix:].transpose(1, 2).unflatten(2, (8, 8))  # (n, C, 8, 8)
        wanted = brought_to_size(maps, head.weight[torch.from_numpy(decided)])
    np.testing.assert_allclose(heat, wanted, atol=1e-4)


def test_a_network_without_places_has_no_cases(workspace, monkeypatch):
    work = workspace()
    network = work.network(Transfer()).eval()
    network.cuts = [cut for cut in network.cuts if not cut.rows]
    rows = work.rows("test")
    assert network.cuts
    found = said(work.manifest.targets[rows], np.full((len(rows), 1), 0.9))
    assert cases(work, network, found, 0.5) == ("", [])

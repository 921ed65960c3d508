"""The ensemble's logits against the mean of probabilities in float64, and in ONNX."""

import numpy as np
import pytest
import torch
from torch import nn

from layerwise.models.ensemble import Ensemble
from layerwise.serving.bundle import Bundle, BundleInfo, Preprocessing
from layerwise.serving.export import export_bundle

TASKS = [("binary", 1), ("multiclass", 3), ("multilabel", 3)]


class Fixed(nn.Module):
    """Answers given logits whatever the picture."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, pixels):
        return self.logits


class Net(nn.Module):
    """uint8 NHWC → logits, by way of `width` channels."""

    def __init__(self, outputs, width, size=5.0):
        super().__init__()
        self.body = nn.Conv2d(3, width, 3, stride=2)
        self.head = nn.Linear(width, outputs)
        self.size = size

    def forward(self, pixels):
        x = pixels.permute(0, 3, 1, 2).float() / 255
        return self.size * self.head(self.body(x).relu().mean(dim=(2, 3)))


class Counting(nn.Module):
    """A bottom that counts how often it runs."""

    def __init__(self):
        super().__init__()
        self.runs = 0

    def forward(self, pixels):
        self.runs += 1
        return pixels.float().mean(dim=(1, 2))


def chances(task, logits):
    """Probabilities in float64."""
    z = logits.double()
    return z.softmax(dim=1) if task == "multiclass" else z.sigmoid()


def images(n):
    return np.random.default_rng(3).integers(0, 256, (n, 16, 12, 3), dtype=np.uint8)


@pytest.mark.parametrize(("task", "outputs"), TASKS)
@pytest.mark.parametrize("size", [1.0, 30.0, 1000.0])
def test_its_probabilities_are_the_weighted_mean(task, outputs, size):
    torch.manual_seed(0)
    logits = [torch.randn(40, outputs) * size for _ in range(3)]
    ensemble = Ensemble([Fixed(z) for z in logits], [1, 2, 5], task)
    said = ensemble(torch.zeros(1))
    assert said.dtype == torch.float32 and said.isfinite().all()
    wanted = sum(w / 8 * chances(task, z) for w, z in zip([1, 2, 5], logits, strict=True))
    torch.testing.assert_close(chances(task, said), wanted, rtol=1e-5, atol=2e-7)


@pytest.mark.parametrize(("task", "outputs"), TASKS)
def test_one_member_keeps_its_logits(task, outputs):
    logits = torch.linspace(-80, 80, 60).reshape(-1, outputs)
    said = Ensemble([Fixed(logits)], [0.3], task)(torch.zeros(1))
    if task == "multiclass":
        logits = logits.log_softmax(dim=1)
    torch.testing.assert_close(said, logits, rtol=1e-5, atol=1e-5)


def test_members_that_are_all_sure_make_it_as_sure():
    """Probabilities of e⁻⁵⁰ are 0 in float32; logits made from their mean would not be finite."""
    for sign in (-1, 1):
        members = [Fixed(torch.full((1, 1), sign * z)) for z in (50.0, 50.0)]
        said = Ensemble(members, [1, 1], "binary")(torch.zeros(1))
        torch.testing.assert_close(said, torch.full((1, 1), sign * 50.0), rtol=1e-5, atol=0)


def test_a_bottom_that_several_stand_on_runs_once():
    torch.manual_seed(0)
    bottom, other = Counting(), Counting()
    tops = [nn.Linear(3, 1) for _ in range(4)]
    members = [
        (bottom, tops[0]),
        (other, tops[1]),
        (bottom, tops[2]),
        nn.Sequential(other, tops[3]),
    ]
    pixels = torch.from_numpy(images(5))
    said = Ensemble(members, [1, 1, 1, 1], "binary")(pixels)
    assert bottom.runs == 1 and other.runs == 2  # the last member is a network of its own
    below = pixels.float().mean(dim=(1, 2))
    wanted = sum(top(below).double().sigmoid() for top in tops) / 4
    torch.testing.assert_close(said.double().sigmoid(), wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("task", "outputs"), TASKS)
def test_a_bundle_of_two_different_networks(tmp_path, task, outputs):
    torch.manual_seed(0)
    members = [Net(outputs, 4), Net(outputs, 7, size=300.0)]
    labels = ("no", "yes") if task == "binary" else ("a", "b", "c")
    info = BundleInfo("both", task, labels, Preprocessing((16, 12), 3, letterbox=False))
    gap = export_bundle(tmp_path / "bundle", Ensemble(members, [3, 1], task), info, images(9))
    assert gap <= 1e-5
    with torch.no_grad():
        each = [chances(task, member(torch.from_numpy(images(20)))) for member in members]
    wanted = 0.75 * each[0] + 0.25 * each[1]
    said = Bundle.load(tmp_path / "bundle").predict(list(images(20)))
    np.testing.assert_allclose(said, wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], []])
def test_weights_that_can_not_be_are_refused(weights):
    with pytest.raises(ValueError, match="weights above 0"):
        Ensemble([Fixed(torch.zeros(1, 1))] * 2, weights, "binary")
    with pytest.raises(ValueError, match="0 members"):
        Ensemble([], weights, "binary")

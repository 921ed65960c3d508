"""Exported bundles answer as the network does, or are refused."""

import numpy as np
import pytest
import torch
from torch import nn

from layerwise.data.pictures.images import prepare
from layerwise.errors import BundleError
from layerwise.models.onnx_graph import OPSET
from layerwise.serving import export
from layerwise.serving.bundle import Bundle, BundleInfo, Preprocessing
from layerwise.serving.export import export_bundle
from layerwise.serving.operators import OPSET as READ


class Net(nn.Module):
    """uint8 NHWC → logits."""

    def __init__(self, outputs):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, outputs)

    def forward(self, pixels):
        x = pixels.permute(0, 3, 1, 2).float() / 255
        return 5 * self.head(self.drop(self.body(x).flatten(1)))


def info(task, outputs):
    labels = ("no", "yes") if task == "binary" else tuple("abc"[:outputs])
    return BundleInfo("net", task, labels, Preprocessing((16, 12), 3, letterbox=True))


def images(n=7):
    return np.random.default_rng(3).integers(0, 256, (n, 16, 12, 3), dtype=np.uint8)


@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("multiclass", 3), ("multilabel", 3)])
def test_probabilities_equal_the_networks(tmp_path, task, outputs):
    torch.manual_seed(0)
    net = Net(outputs)
    net(torch.from_numpy(images()))  # moves the batch-norm statistics away from 0 and 1
    difference = export_bundle(tmp_path / "bundle", net, info(task, outputs), images(), batch=3)
    assert difference <= 1e-5
    assert all(part.training for part in net.modules())
    with torch.no_grad():
        logits = net.eval()(torch.from_numpy(images(20))).double()
    exp = logits.exp()
    expected = exp / exp.sum(1, keepdim=True) if task == "multiclass" else exp / (1 + exp)
    scores = Bundle.load(tmp_path / "bundle").predict(list(images(20)))
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-5)


def test_graphs_are_written_in_the_opset_that_is_read():
    assert OPSET == READ


def test_a_difference_refuses_and_leaves_nothing(tmp_path, monkeypatch):
    """A graph of other weights stands for an exporter that is wrong."""
    other = export.export_graph

    def wrong(module, example, path, names):
        with torch.no_grad():
            module.network.head.bias += 0.001
            other(module, example, path, names)
            module.network.head.bias -= 0.001

    monkeypatch.setattr(export, "export_graph", wrong)
    with pytest.raises(BundleError, match="differ from the trained network's"):
        export_bundle(tmp_path / "bundle", Net(1), info("binary", 1), images())
    assert list(tmp_path.iterdir()) == []


def test_nan_is_refused_and_the_old_bundle_stays(tmp_path):
    export_bundle(tmp_path / "bundle", Net(1), info("binary", 1), images())
    before = (tmp_path / "bundle" / "model.onnx").read_bytes()
    broken = Net(1)
    nn.init.constant_(broken.head.bias, float("nan"))
    with pytest.raises(BundleError, match="nan"):
        export_bundle(tmp_path / "bundle", broken, info("binary", 1), images())
    assert (tmp_path / "bundle" / "model.onnx").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_a_network_with_other_outputs_is_refused(tmp_path):
    with pytest.raises(BundleError, match="multiclass with 3 labels"):
        export_bundle(tmp_path / "bundle", Net(2), info("multiclass", 3), images())
    assert list(tmp_path.iterdir()) == []


def test_check_images_must_be_what_the_bundle_takes(tmp_path):
    with pytest.raises(BundleError, match="check_images"):
        export_bundle(tmp_path / "bundle", Net(1), info("binary", 1), images()[:, :8])
    with pytest.raises(BundleError, match="check_images"):
        export_bundle(tmp_path / "bundle", Net(1), info("binary", 1), images(0))


def test_real_pictures_through_mobilenet(tmp_path, shared_data):
    """The network of the issue with its real weights: file → bundle against file → torch."""
    import timm

    class Front(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = timm.create_model("mobilenetv2_100", pad_type="same")
            path = shared_data / "weights" / "mobilenetv2_100_imagenet.pth"
            self.net.load_state_dict(torch.load(path, weights_only=True))

        def forward(self, pixels):
            x = pixels.permute(0, 3, 1, 2).float() / 255
            mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
            return self.net((x - mean[:, None, None]) / std[:, None, None])

    files = sorted(p for p in (shared_data / "imagenet-photos").iterdir() if p.suffix != ".md")
    ready = np.stack([prepare(f, (160, 160), 3, True) for f in files])
    labels = tuple(f"class {k}" for k in range(1000))
    how = Preprocessing((160, 160), 3, letterbox=True)
    net = Front().eval()
    about = BundleInfo("imagenet", "multiclass", labels, how)
    assert export_bundle(tmp_path / "bundle", net, about, ready) <= 1e-4
    with torch.no_grad():
        expected = net(torch.from_numpy(ready)).softmax(1).numpy()
    assert expected.max(axis=1).min() > 0.2  # it recognises something in each: no flat scores
    bundle = Bundle.load(tmp_path / "bundle")
    scores = bundle.predict(files, batch=2)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert (bundle.decide(scores) == expected.argmax(axis=1)).all()

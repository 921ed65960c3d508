"""Heat maps of bundles against torch's Grad-CAM, on generated and on real pictures."""

import copy

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from layerwise.data.pictures.images import prepare
from layerwise.evaluation.explain import grad_cam, heat_maps
from layerwise.models.ensemble import Ensemble
from layerwise.serving.bundle import Bundle, BundleInfo, Preprocessing
from layerwise.serving.explanation import write
from layerwise.serving.explanation.write import TOGETHER, Explained, Together, explained_at
from layerwise.serving.export import export_bundle
from layerwise.training.network import build
from layerwise.training.transfer import Transfer

LABELS = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "multilabel": ("a", "b", "c")}


def network(model, side, task="multiclass", labels=None, **more):
    outputs = 1 if task == "binary" else len(labels or LABELS[task])
    made = build(Transfer(), model=model, outputs=outputs, seed=0, image_size=side, **more).eval()
    generator = torch.manual_seed(1)
    for part in made.modules():  # else every weight of a norm is 1 and every statistic 0
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
    return made


def pictures(side, count=6, channels=3):
    """Discs and bars on noise."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    out = generator.integers(0, 60, (count, side, side, channels))
    for image in out:
        cx, cy = generator.uniform(0.2, 0.8, 2)
        image[((x - cx) ** 2 + (y - cy) ** 2 < 0.03) | (abs(x - cy) < 0.04)] += 150
    return out.astype(np.uint8)


def exported(folder, made, side, images, task="multiclass", labels=None):
    """The bundle, and the cut that the report would look at."""
    how = Preprocessing((side, side), images.shape[-1], letterbox=False)
    info = BundleInfo("net", task, tuple(labels or LABELS[task]), how)
    decided = np.zeros(len(images), np.int64)
    cut, _ = heat_maps(made, torch.from_numpy(images), decided)
    export_bundle(folder, made, info, images, explained=explained_at(made, cut))
    return Bundle.load(folder), cut


def torchs(made, cut, images, labels):
    parts = explained_at(made, cut)
    return grad_cam(
        made,
        torch.from_numpy(images),
        (parts.below, parts.above),
        torch.from_numpy(labels),
        layout=parts.cut.layout,
        prefix=parts.cut.prefix,
    )


def but_for_rounding(made, cut, image, label, heat):
    """The least difference from torch's maps, its activation moved within rounding, 32 times."""
    parts, dice = explained_at(made, cut), torch.Generator().manual_seed(1)

    def below(pixels):
        found = parts.below(pixels)
        return found * (1 + 2.0**-20 * (2 * torch.rand(found.shape, generator=dice) - 1))

    maps = grad_cam(
        made,
        torch.from_numpy(np.repeat(image[None], 32, axis=0)),
        (below, parts.above),
        int(label),
        layout=parts.cut.layout,
        prefix=parts.cut.prefix,
    )
    return np.abs(maps - heat).max((1, 2)).min()


def label_choices(bundle, images):
    """The likeliest label of each picture, and up to three for all."""
    few = range(min(3, len(bundle.info.labels)))
    return [bundle.run(images).argmax(1), *(np.full(len(images), k) for k in few)]


def check(folder, made, side, task="multiclass", images=None, labels=None):
    """Every label, alone and in a batch, on pictures that the export has not seen."""
    images = pictures(side) if images is None else images
    bundle, cut = exported(folder, made, side, images[:4], task, labels)
    assert bundle.explains, bundle.info.explanation
    for numbers in label_choices(bundle, images):
        wanted = torchs(made, cut, images, numbers)
        scores, heat = bundle.explain(images, numbers)
        np.testing.assert_array_equal(scores, bundle.run(images))
        alone = bundle.explain(images[-1:], numbers[-1:])[1]
        np.testing.assert_allclose(alone, heat[-1:], atol=1e-3)
        gap = np.abs(heat - wanted).max((1, 2))
        assert gap.max() < 0.05
        for k in np.flatnonzero(gap > 1e-3):
            # Grad-CAM jumps where a unit is within rounding of a kink.
            gap[k] = but_for_rounding(made, cut, images[k], numbers[k], heat[k])
        assert gap.max() <= 1e-3
        if wanted.any():
            assert heat.max() == pytest.approx(1, abs=1e-5)
    assert bundle.info.explanation["cut"] == cut
    return bundle


def test_a_small_network_that_is_not_linear_above_its_cut(tmp_path):
    bundle = check(tmp_path / "b", network("lenet5", 32), 32)
    assert bundle.info.explanation == {"cut": "conv2", "exact": False, "why": None}


def test_pooling_and_a_linear_layer_need_weights_alone(tmp_path):
    """Binary: label 0 is what speaks against label 1."""
    made = network("cbr-tiny", 64, "binary")
    bundle = check(tmp_path / "b", made, 64, "binary")
    assert bundle.info.explanation["exact"]
    assert (tmp_path / "b" / "explain.onnx").stat().st_size < 20_000


def test_one_label_alone_is_explained_by_its_own_logit(tmp_path):
    made = network("lenet5", 32, "multilabel", labels=("only",))
    images = pictures(32)
    bundle, cut = exported(tmp_path / "b", made, 32, images, "multilabel", labels=("only",))
    wanted = torchs(made, cut, images, np.ones(6, np.int64))  # 1: the logit itself
    got = bundle.explain(images, np.zeros(6, np.int64))[1]
    np.testing.assert_allclose(got, wanted, atol=1e-3)


def test_a_map_that_differs_is_left_out_and_the_bundle_says_why(tmp_path, monkeypatch):
    made, images = network("lenet5", 32), pictures(32)
    right = write.heat_of
    monkeypatch.setattr(write, "heat_of", lambda *given: 0.9 * right(*given))
    bundle, _ = exported(tmp_path / "b", made, 32, images)
    assert not bundle.explains and not (tmp_path / "b" / "explain.onnx").exists()
    assert bundle.info.explanation["cut"] is None
    assert "differ from torch's by" in bundle.info.explanation["why"]
    with torch.no_grad():
        wanted = made(torch.from_numpy(images)).softmax(1)
    np.testing.assert_allclose(bundle.run(images), wanted, atol=1e-5)


def test_one_picture_that_differs_a_little_is_enough(tmp_path, monkeypatch):
    """By a hundredth, and rounding does not explain it."""
    made, images = network("lenet5", 32), pictures(32)
    _, cut = exported(tmp_path / "b", made, 32, images)
    with torch.no_grad():
        loud = explained_at(made, cut).below(torch.from_numpy(images)).mean((1, 2, 3)).sort()[0]
    level, right = float(loud[-2:].mean()), write.heat_of

    def off(maps, *more):
        return right(maps, *more) * (1 - 0.01 * (maps.mean((1, 2, 3)) > level)[:, None, None])

    monkeypatch.setattr(write, "heat_of", off)
    bundle, _ = exported(tmp_path / "b", made, 32, images)
    assert not bundle.explains
    assert "by 0.01 at" in bundle.info.explanation["why"]
    assert "in 1 of 6 pictures" in bundle.info.explanation["why"]


def by_hooks(made, name, images, labels):
    """Grad-CAM as the paper has it: a hook, weights, the positive part, 1 at its highest."""
    seen = {}
    hook = made.original.get_submodule(name).register_forward_hook(
        lambda _layer, _given, out: seen.update(maps=out, slope=None) or out.retain_grad()
    )
    logits = made.original.eval()(made.pixels(torch.from_numpy(images)))
    hook.remove()
    logits[torch.arange(len(images)), torch.from_numpy(labels)].sum().backward()
    maps, slope = seen["maps"].detach(), seen["maps"].grad
    heat = (slope.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).clamp_min(0)
    side = images.shape[1]
    heat = nn.functional.interpolate(heat, (side, side), mode="bilinear")[:, 0]
    return (heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-30)).numpy()


@pytest.mark.parametrize("layers, exact", [(3, True), (5, False)])
def test_the_searched_network(tmp_path, layers, exact):
    """With five poolings of 64 pixels the last layer shows no places: the one below is shown."""
    arguments = {"layers": str(layers), "units": "8", "kernel": "5"}
    made, images = network("custom", 64, arguments=arguments), pictures(64)
    bundle, cut = exported(tmp_path / "b", made, 64, images[:4])
    assert bundle.info.explanation == {"cut": cut, "exact": exact, "why": None}
    for label in range(3):
        numbers = np.full(len(images), label)
        wanted = by_hooks(made, cut, images, numbers)
        assert label or wanted.any()
        np.testing.assert_allclose(bundle.explain(images, numbers)[1], wanted, atol=1e-3)


def ensemble(folder, made, weights, images, task="multiclass"):
    """The bundle of several networks, and the cuts that are looked at."""
    side, labels = images.shape[1], LABELS[task]
    info = BundleInfo("all", task, labels, Preprocessing((side, side), images.shape[-1], False))
    decided = np.zeros(len(images), np.int64)
    cuts = [heat_maps(one, torch.from_numpy(images), decided)[0] for one in made]
    split = [explained_at(one, cut) for one, cut in zip(made, cuts, strict=True)]
    together = Ensemble(made, weights, task).eval()
    export_bundle(folder, together, info, images, explained=Together(split, weights))
    return Bundle.load(folder), cuts


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_an_ensemble_shows_the_weighted_mean_of_its_networks(tmp_path, task):
    made, images = [network(name, 64, task) for name in ("lenet5", "cbr-tiny")], pictures(64)
    bundle, cuts = ensemble(tmp_path / "b", made, [3.0, 1.0], images[:4], task)
    said = {"cut": ", ".join(cuts), "exact": False, "why": None, "way": TOGETHER}
    assert bundle.info.explanation == said
    assert f"where it looked is {TOGETHER}." in (tmp_path / "b" / "README.md").read_text()
    gaps = []
    for label in range(2):
        numbers = np.full(len(images), label)
        scores, heat = bundle.explain(images, numbers)
        one, other = (torchs(*both, images, numbers) for both in zip(made, cuts, strict=True))
        mean = 0.75 * one + 0.25 * other
        highest = mean.max((1, 2), keepdims=True)
        wanted = mean / np.where(highest > 0, highest, 1)
        np.testing.assert_allclose(heat, wanted, atol=1e-3)
        np.testing.assert_allclose(
            bundle.explain(images[-1:], numbers[-1:])[1], heat[-1:], atol=1e-3
        )
        gaps.append(np.abs(heat - one).max())
    assert max(gaps) > 0.1  # not that of the first alone
    with torch.no_grad():
        logits = [one(torch.from_numpy(images)) for one in made]
    first, second = (z.softmax(1) if task == "multiclass" else z.sigmoid() for z in logits)
    np.testing.assert_allclose(scores, 0.75 * first + 0.25 * second, atol=1e-5)


def test_an_ensemble_runs_and_keeps_what_its_networks_share_once(tmp_path):
    made, images = [network("lenet5", 32) for _ in range(2)], pictures(32)
    with torch.no_grad():
        made[1].original.get_submodule(made[1].classifier).weight.neg_()  # of the same bottom
    bundle, cuts = ensemble(tmp_path / "two", made, [1.0, 1.0], images)
    exported(tmp_path / "one", made[0], 32, images)
    two, one = (onnx.load(tmp_path / name / "model.onnx").graph for name in ("two", "one"))
    for kind in ("Conv", "Gemm"):
        count = [sum(node.op_type == kind for node in graph.node) for graph in (two, one)]
        assert count[0] == count[1] + (kind == "Gemm") > 0  # the last layer is another
    numbers = np.zeros(len(images), np.int64)
    heat = sum(torchs(member, cuts[0], images, numbers) for member in made)
    highest = heat.max((1, 2), keepdims=True)
    np.testing.assert_allclose(
        bundle.explain(images, numbers)[1], heat / np.where(highest > 0, highest, 1), atol=1e-3
    )


class Crowded(nn.Module):
    """The more pictures, the louder: no graph for one picture says that."""

    def forward(self, x):
        return x * len(x)


def test_a_top_without_a_graph_is_left_out_and_the_bundle_says_why(tmp_path):
    made, images = network("lenet5", 32), pictures(32)
    parts = explained_at(made, "conv2")
    odd = Explained(parts.cut, parts.below, nn.Sequential(parts.above, Crowded()))
    info = BundleInfo("net", "multiclass", tuple("abc"), Preprocessing((32, 32), 3, False))
    export_bundle(tmp_path / "b", made, info, images, explained=odd)
    bundle = Bundle.load(tmp_path / "b")
    assert "Grad-CAM at conv2 has no graph" in bundle.info.explanation["why"]
    assert bundle.run(images).shape == (6, 3)


ZOO = [
    ("timm:resnet18", 64),
    ("timm:resnet18", 224),
    ("timm:densenet121", 64),
    ("timm:densenet121", 224),
    ("timm:efficientnet_b0", 96),
    ("timm:efficientnet_b0", 224),
    ("timm:mobilenetv3_small_100", 96),
    ("timm:convnext_tiny", 96),
    ("timm:convnext_tiny", 224),
    ("timm:vgg11", 64),
    ("vgg16", 64),
    ("alexnet", 96),
    ("caffenet-32", 32),
    ("cbr-tiny", 96),
    ("lenet5", 64),
    ("timm:vit_tiny_patch16_224", 224),
    ("timm:swin_tiny_patch4_window7_224", 224),
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "side"), ZOO)
def test_the_networks(tmp_path, model, side):
    made = network(model, side)
    bundle = check(tmp_path / "b", made, side)
    above = explained_at(made, bundle.info.explanation["cut"]).above
    weights = 4 * sum(p.numel() for p in above.parameters())
    assert (tmp_path / "b" / "explain.onnx").stat().st_size < 1.05 * weights + 200_000


@pytest.mark.slow
def test_real_weights_on_real_radiographs(tmp_path, shared_data):
    """MobileNetV2 with its ImageNet weights, at the size of the data and at a smaller one."""
    path = shared_data / "weights" / "mobilenetv2_100_imagenet.pth"
    weights = torch.load(path, weights_only=True)
    files = sorted((shared_data / "guangzhou" / "test").glob("*/*.jpeg"))[::80]
    for side, exact in ((224, True), (96, False)):
        made = build(
            Transfer(source="given"),
            model="timm:mobilenetv2_100",
            outputs=1000,
            seed=0,
            image_size=side,
            arguments={"pad_type": "same"},
            source_weights=weights,
        ).eval()
        made.original.load_state_dict(weights)  # the classifier too
        images = np.stack([prepare(file, (side, side), 3, False) for file in files])
        labels = [f"class {k}" for k in range(1000)]
        bundle = check(tmp_path / str(side), made, side, images=images, labels=labels)
        assert bundle.info.explanation["exact"] is exact
        cut = bundle.info.explanation["cut"]
        double = copy.deepcopy(made).double()
        for numbers in label_choices(bundle, images):
            heat = bundle.explain(images, numbers)[1]
            gaps = [
                np.abs(heat - torchs(one, cut, images, numbers)).max((1, 2))
                for one in (made, double)
            ]
            assert np.minimum(*gaps).max() <= 1e-3  # of 32 or 64 bits

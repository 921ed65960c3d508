"""Presets against the counts and percentages of the paper, counted in the networks themselves."""

import pytest
from torch import nn

from layerwise.errors import ModelError
from layerwise.models.cuts import cut_points, truncate
from layerwise.models.presets import PRESETS, presets_of, resolve_keep
from layerwise.models.registry import blank

# Peng et al. 2021, section 2.2: layers kept, and their share as printed there. For Dens-T3 the
# paper prints "88%", which is its number of layers: 88 of 121 are 73%.
PAPER = {
    "res-t1": (25, 50),
    "res-t2": (37, 74),
    "res-t3": (43, 86),
    "res-t4": (46, 92),
    "res-t5": (49, 98),
    "dens-t1": (14, 12),
    "dens-t2": (39, 32),
    "dens-t3": (88, 73),
}
NETWORKS = {
    "timm:resnet50": 50,
    "torchvision:resnet50": 50,
    "timm:densenet121": 121,
    "torchvision:densenet121": 121,
}


def layers(module, kinds=nn.Conv2d):
    """How many layers of some kinds a network has, without those on shortcuts."""
    parts = module.named_modules()
    return sum(isinstance(part, kinds) and "downsample" not in name for name, part in parts)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return blank(request.param, outputs=1)


def test_the_layers_below_each_cut_are_those_of_the_paper(network):
    total = layers(network.module, (nn.Conv2d, nn.Linear))
    assert total == NETWORKS[network.name]
    cuts = {cut.name: cut for cut in cut_points(network.module)}
    found = presets_of(network.name)
    assert [p.name for p in found] == [n for n in PAPER if n[0] == network.name.split(":")[1][0]]
    for preset in found:
        below = layers(truncate(network.module, preset.cut))
        assert (below, round(100 * below / total)) == PAPER[preset.name]
        assert (preset.layers, preset.of, preset.percentage) == (
            below,
            total,
            PAPER[preset.name][1],
        )
        assert cuts[preset.cut].block


def test_a_dense_preset_ends_with_its_transition(network):
    """Dens-Tn holds n dense blocks and n transitions, Res-Tn whole bottlenecks."""
    for number, preset in enumerate(presets_of(network.name), start=1):
        part = truncate(network.module, preset.cut)
        names = {name.replace("features.", "") for name, _ in part.named_modules()}
        if preset.name.startswith("dens"):
            blocks = {name for name in names if name.startswith("denseblock") and "." not in name}
            ends = {name for name in names if name.startswith("transition") and "." not in name}
            assert (len(blocks), len(ends)) == (number, number)
        else:
            convolutions = [n for n in names if n.startswith("layer") and ".conv" in n]
            assert len(convolutions) % 3 == 0 and len(convolutions) + 1 == preset.layers


def test_names_are_unlike_and_presets_complete():
    assert [preset.name for preset in PRESETS] == list(PAPER)
    assert {network for preset in PRESETS for network in preset.networks} == set(NETWORKS)


@pytest.mark.parametrize(
    ("model", "keep", "cut"),
    [
        ("timm:resnet50", "res-t1", "layer3.0"),
        ("torchvision:resnet50", "Res-T5", "layer4"),
        ("timm:resnet50.a1_in1k", "RES-T4", "layer4.1"),
        ("timm:densenet121", "Dens-T3", "features.transition3"),
        ("timm:densenet121", "features.denseblock2", "features.denseblock2"),
        ("lenet5", "Conv1", "Conv1"),
        ("timm:resnet50", "res-t6", "res-t6"),  # no preset: the cuts decide
    ],
)
def test_a_preset_stands_for_its_cut_and_all_else_for_itself(model, keep, cut):
    assert resolve_keep(model, keep) == cut


@pytest.mark.parametrize(
    ("model", "keep", "said"),
    [
        ("timm:densenet121", "res-t1", ["--model timm:resnet50", "it has dens-t1"]),
        ("torchvision:resnet50", "Dens-T1", ["--keep Dens-T1", "torchvision:densenet121"]),
        ("timm:resnet101", "res-t1", ["it has no presets", "`layerwise models timm:resnet101"]),
        ("torchvision:resnet50.tag", "res-t1", ["--model torchvision:resnet50"]),
    ],
)
def test_a_preset_of_another_network_names_the_right_one(model, keep, said):
    with pytest.raises(ModelError) as error:
        resolve_keep(model, keep)
    for words in said:
        assert words in str(error.value)

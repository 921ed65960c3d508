"""AlexNet against the table of Buluttekin 2020 §4.1.4."""

import pytest

from layerwise.errors import ModelError
from layerwise.models.cuts import cut_points
from layerwise.models.registry import blank

# H × W × C as the thesis prints them: of the convolution, after its pooling; parameters.
TABLE = {
    "conv1": ((54, 54, 96), (26, 26, 96), 34944),
    "conv2": ((26, 26, 256), (12, 12, 256), 614656),
    "conv3": ((12, 12, 384), None, 885120),
    "conv4": ((12, 12, 384), None, 1327488),
    "conv5": ((12, 12, 256), (5, 5, 256), 884992),
    "fc6": ((4096,), None, 26218496),
    "fc7": ((4096,), None, 16781312),
    "fc8": ((1,), None, 4097),
}


def test_shapes_and_parameters_of_every_layer_are_those_of_the_thesis(layer_shapes) -> None:
    network = blank("alexnet", outputs=1)
    found = layer_shapes(network)
    for name, (shape, pooled, parameters) in TABLE.items():
        layer = network.module.get_submodule(name)
        assert sum(p.numel() for p in layer.parameters()) == parameters
        convolved = found[f"{name}.pool"][0] if pooled else found[name][1]
        assert convolved == (shape[-1], *shape[:-1])
        if pooled:
            assert found[name][1] == (pooled[-1], *pooled[:-1])
    assert found["fc6"][0] == (6400,)
    assert found["drop6"][1] == found["drop7"][1] == (4096,)
    assert sum(p.numel() for p in network.module.parameters()) == 46_751_105


# 67 → 15 → 7 → 3 → 1; 227 → 55 → 27 → 13 → 6; 320 → 78 → 38 → 18 → 8
@pytest.mark.parametrize(
    ("size", "side", "channels", "outputs"), [(67, 1, 1, 3), (227, 6, 3, 1000), (320, 8, 1, 1)]
)
def test_other_sizes_channels_and_labels_follow_the_closed_form(
    size, side, channels, outputs
) -> None:
    expected = (121 * channels + 1) * 96 + (25 * 96 + 1) * 256 + (9 * 256 + 1) * 384
    expected += (9 * 384 + 1) * 384 + (9 * 384 + 1) * 256
    expected += (256 * side**2 + 1) * 4096 + 4097 * 4096 + 4097 * outputs
    network = blank("alexnet", outputs=outputs, channels=channels, image_size=size)
    assert sum(p.numel() for p in network.module.parameters()) == expected


def test_its_seven_layers_are_its_main_cuts() -> None:
    cuts = cut_points(blank("alexnet", outputs=1).module, (3, 224, 224))
    main = [(cut.name, cut.shape) for cut in cuts if cut.block]
    tops = [(name, pooled or shape) for name, (shape, pooled, _) in TABLE.items()][:7]
    assert main == [(name, (shape[-1], *shape[:-1])) for name, shape in tops]


def test_smaller_pictures_are_refused() -> None:
    with pytest.raises(ModelError, match="alexnet needs pictures of at least 67 pixels, not 66"):
        blank("alexnet", outputs=1, image_size=66)

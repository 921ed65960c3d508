"""LeNet-5 against the table of Buluttekin 2020 §4.1.3."""

import pytest

from layerwise.errors import ModelError
from layerwise.models.registry import blank

# The thesis prints H × W × C; so is it here.
TABLE = {
    "conv1": ((220, 220, 6), 456),
    "pool1": ((110, 110, 6), 0),
    "conv2": ((106, 106, 16), 2416),
    "pool2": ((53, 53, 16), 0),
    "conv3": ((49, 49, 120), 48120),
    "fc1": ((120,), 34574520),
    "fc2": ((84,), 10164),
    "fc3": ((1,), 85),
}


def test_shapes_and_parameters_of_every_layer_are_those_of_the_thesis(layer_shapes) -> None:
    network = blank("lenet5", outputs=1)
    found = layer_shapes(network)
    layers = dict(network.module.named_children())
    assert list(layers) == list(TABLE)
    for name, (shape, parameters) in TABLE.items():
        assert found[name][1] == (shape[-1], *shape[:-1])
        assert sum(p.numel() for p in layers[name].parameters()) == parameters
    assert found["fc1"][0] == (288120,)
    assert sum(p.numel() for p in network.module.parameters()) == 34_635_761


@pytest.mark.parametrize(("size", "channels", "outputs"), [(28, 1, 10), (32, 3, 2), (97, 1, 14)])
def test_other_sizes_channels_and_labels_follow_the_closed_form(size, channels, outputs) -> None:
    side = {28: 1, 32: 1, 97: 17}[size]  # 97 → 93 → 46 → 42 → 21 → 17
    expected = (25 * channels + 1) * 6 + (25 * 6 + 1) * 16 + (25 * 16 + 1) * 120
    expected += (120 * side**2 + 1) * 120 + 121 * 84 + 85 * outputs
    module = blank("lenet5", outputs=outputs, channels=channels, image_size=size).module
    assert sum(p.numel() for p in module.parameters()) == expected


def test_smaller_pictures_are_refused() -> None:
    with pytest.raises(ModelError, match="lenet5 needs pictures of at least 28 pixels, not 27"):
        blank("lenet5", outputs=1, image_size=27)

"""The custom network: what each hyper-parameter changes, and which values are refused."""

import pytest

from layerwise.errors import ModelError
from layerwise.models.cuts import cut_points
from layerwise.models.registry import blank


@pytest.mark.parametrize(
    ("arguments", "widths", "kernel"),
    [
        ({}, (32, 32, 32), 3),
        ({"layers": "4", "units": "(8, 16, 24, 32)", "kernel": "5"}, (8, 16, 24, 32), 5),
        ({"layers": "2", "units": "7,9"}, (7, 9), 3),
        ({"layers": "1", "units": "[5]", "kernel": "1"}, (5,), 1),
        ({"layers": "5", "units": "6", "kernel": "7"}, (6,) * 5, 7),
    ],
)
def test_layers_units_and_kernel_make_the_network(arguments, widths, kernel) -> None:
    network = blank("custom", outputs=4, channels=1, image_size=64, arguments=arguments)
    cuts = [c for c in cut_points(network.module, (1, 64, 64)) if c.block]
    sides = [64 // 2 ** (i + 1) for i in range(len(widths))]
    assert [cut.shape for cut in cuts] == [(w, s, s) for w, s in zip(widths, sides, strict=True)]
    assert [cut.name for cut in cuts] == [f"conv{i + 1}" for i in range(len(widths))]
    before = (1, *widths)
    expected = sum((kernel**2 * a + 1) * b for a, b in zip(before, widths, strict=False))
    expected += (widths[-1] + 1) * 4
    assert sum(p.numel() for p in network.module.parameters()) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"layers": "0"}, "--model-arg layers=0: it must be a whole number"),
        ({"layers": "2.5"}, "--model-arg layers=2.5"),
        ({"layers": "many"}, "--model-arg layers=many"),
        ({"layers": "True"}, "--model-arg layers=True"),
        ({"layers": "7"}, "layers=7: 7 poolings leave nothing of 64 .*at most 6.*--image-size 128"),
        ({"units": "-4"}, "--model-arg units=-4"),
        ({"units": "()"}, r"--model-arg units=\(\)"),
        ({"units": "(8, 'x', 8)"}, "--model-arg units="),
        ({"units": "8,8"}, "2 numbers for 3 layers.*--model-arg layers=2"),
        ({"kernel": "4"}, "--model-arg kernel=4: it must be an odd"),
        ({"kernel": "0"}, "--model-arg kernel=0"),
        ({"kernel": "(3, 3)"}, "--model-arg kernel="),
        ({"colour": "red"}, "--model-arg colour=red"),
        ({"outputs": "3"}, "--model-arg outputs.*leave it out"),
    ],
)
def test_impossible_values_are_refused_by_the_name_of_their_flag(arguments, words) -> None:
    with pytest.raises(ModelError, match=words):
        blank("custom", outputs=1, image_size=64, arguments=arguments)

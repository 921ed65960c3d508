"""The CBR family against the widths of Raghu et al. 2019, appendix A."""

import pytest
import torch

from layerwise.models.cuts import cut_points
from layerwise.models.registry import blank, create

FAMILY = {
    "cbr-larget": (7, (32, 64, 128, 256, 512), 14),
    "cbr-largew": (7, (64, 128, 256, 512), 14),
    "cbr-small": (7, (32, 64, 128, 256), 14),
    "cbr-tiny": (5, (64, 128, 256, 512), 14),
}


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize(("channels", "outputs"), [(3, 1), (1, 5)])
def test_parameters_follow_the_closed_form(name: str, channels: int, outputs: int) -> None:
    kernel, widths, _ = FAMILY[name]
    before = (channels, *widths)
    expected = sum(
        kernel**2 * into * out + 2 * out for into, out in zip(before, widths, strict=False)
    )
    expected += (widths[-1] + 1) * outputs
    module = blank(name, outputs=outputs, channels=channels).module
    assert sum(p.numel() for p in module.parameters()) == expected


@pytest.mark.parametrize("name", FAMILY)
def test_its_blocks_are_its_main_cuts_and_each_halves_the_picture(name: str) -> None:
    _, widths, last = FAMILY[name]
    main = [c for c in cut_points(blank(name, outputs=1).module, (3, 224, 224)) if c.block]
    assert [cut.name for cut in main] == [f"block{i + 1}" for i in range(len(widths))]
    sides = (112, 56, 28, 14, 14)[: len(widths)]
    assert [cut.shape for cut in main] == [(w, s, s) for w, s in zip(widths, sides, strict=True)]
    assert main[-1].shape[1] == last


def test_the_answer_is_that_of_the_layers_written_out() -> None:
    network = create("cbr-larget", outputs=3, image_size=20, seed=4).module.eval()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        for name, value in network.state_dict().items():
            if "norm" in name and value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.5)  # scales and statistics, not neutral
        x = torch.randn(2, 3, 20, 20)
    state, f = network.state_dict(), torch.nn.functional
    y = x
    for i in range(1, 6):
        y = f.conv2d(y, state[f"block{i}.conv.weight"], padding=3)
        mean, var, scale, shift = (
            state[f"block{i}.norm.{part}"].view(1, -1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        y = ((y - mean) / (var + 1e-5).sqrt() * scale + shift).relu()
        if i < 5:
            y = f.max_pool2d(f.pad(y, (1, 1, 1, 1), value=float("-inf")), 3, 2)
    expected = f.linear(y.mean(dim=(2, 3)), state["classifier.weight"], state["classifier.bias"])
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected)

"""How activations lie: by hand, and by value on the networks themselves."""

import pytest
import timm
import torch
from torch import nn

from layerwise.errors import ModelError
from layerwise.models.cuts import cut_points, tap
from layerwise.models.graph.layout import Lie, as_maps, lies
from layerwise.models.heads import PooledLinear, append_pool, pool


def test_shapes_of_a_square_picture() -> None:
    shapes = [(8, 16, 16), (16, 16, 8), (4, 49, 8), (257, 8), (64, 8), (20, 8), (8,)]
    assert lies(shapes, (64, 64), prefix=4) == [
        Lie("map", 8, 16),
        Lie("channels last", 8, 16),
        Lie("channels last", 8, 0),  # windows of tokens: no grid
        Lie("tokens", 8, 16, 1),
        Lie("tokens", 8, 8, 0),
        Lie("tokens", 8, 4, 4),
        Lie("vector", 8, 0),
    ]


def test_a_picture_that_is_not_square() -> None:
    assert lies([(8, 5, 6), (5, 6, 8), (31, 8)], (10, 12)) == [
        Lie("map", 8, 5),
        Lie("channels last", 8, 5),
        Lie("tokens", 8, 0),
    ]


def test_as_many_channels_as_rows_is_settled_by_what_is_near() -> None:
    cube = (8, 8, 8)
    for near, kind in (((16, 4, 4), "map"), ((4, 4, 16), "channels last")):
        assert [one.layout for one in lies([cube, near, cube], (64, 64))] == [kind] * 3
    assert lies([cube], (64, 64)) == [Lie("map", 8, 8)]
    assert lies([cube], (64, 64), channels_last=True) == [Lie("channels last", 8, 8)]


def test_tokens_that_fit_several_grids_take_the_one_below() -> None:
    """9 tokens are 3×3, or 2×2 behind five others: the grid never becomes finer."""
    found = lies([(8, 2, 2), (9, 8)], (32, 32), prefix=5)
    assert found == [Lie("map", 8, 2), Lie("tokens", 8, 2, 5)]
    assert lies([(9, 8), (14, 8)], (48, 48), prefix=5) == [
        Lie("tokens", 8, 3, 0),
        Lie("tokens", 8, 3, 5),
    ]


def test_maps_of_tokens_and_of_channels_last() -> None:
    maps = torch.randn(2, 3, 4, 4)
    tokens = torch.cat([torch.randn(2, 2, 3), maps.flatten(2).transpose(1, 2)], dim=1)
    assert torch.equal(as_maps(maps, "map"), maps)
    assert torch.equal(as_maps(maps.permute(0, 2, 3, 1), "channels last"), maps)
    assert torch.equal(as_maps(tokens, "tokens", 2), maps)
    for features, layout, prefix in ((tokens, "tokens", 1), (maps[..., 0, 0], "vector", 0)):
        with pytest.raises(ModelError, match="no maps"):
            as_maps(features, layout, prefix)


def test_pooling_is_the_mean_over_places() -> None:
    maps = torch.randn(2, 5, 5, 5)  # the shape does not tell
    head = PooledLinear(5, 2, seed=3, channels_last=True)
    last = maps.permute(0, 2, 3, 1)
    torch.testing.assert_close(pool(last, True), pool(maps))
    torch.testing.assert_close(head(last), head.linear(maps.mean((2, 3))))
    torch.testing.assert_close(pool(last), maps.permute(0, 2, 3, 1).mean((2, 3)))


@pytest.fixture(scope="module")
def swin() -> nn.Module:
    torch.manual_seed(0)
    small = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "img_size": 32}
    return timm.create_model("swin_tiny_patch4_window7_224", **small).eval()


def test_swin_lies_with_its_channels_last(swin: nn.Module) -> None:
    """At 32 pixels the first blocks are 8×8×8; what stands above them tells how they lie."""
    found = {cut.name: cut for cut in cut_points(swin, (3, 32, 32)) if cut.block}
    cut = found["layers.0"]
    assert (cut.shape, cut.layout, cut.channels, cut.stride) == ((8, 8, 8), "channels last", 8, 4)
    last = found["norm"]
    assert (last.shape, last.layout, last.channels, last.stride) == (
        (4, 4, 16),
        "channels last",
        16,
        8,
    )
    section = tap(swin, ["layers.0"])
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        embedded = swin.patch_embed.norm(swin.patch_embed.proj(x).permute(0, 2, 3, 1))
        wanted = swin.layers[0].blocks[0](embedded).mean((1, 2))
        section = tap(swin, ["layers.0"])
        section.graph.find_nodes(op="output")[0].args = (
            section.graph.find_nodes(op="output")[0].args[0][0],
        )
        append_pool(section, channels_last=True)
        torch.testing.assert_close(section(x), wanted)


def test_vit_has_a_grid_behind_its_class_token() -> None:
    model = timm.create_model("vit_tiny_patch16_224", depth=2, img_size=48)
    found = {cut.name: cut for cut in cut_points(model, (3, 48, 48)) if cut.block}
    assert list(found) == ["patch_embed", "pos_drop", "blocks.0", "blocks", "norm", "head_drop"]
    embedded, block, answer = found["patch_embed"], found["blocks.0"], found["head_drop"]
    assert (embedded.shape, embedded.stride, embedded.prefix) == ((9, 192), 16, 0)
    assert (block.shape, block.stride, block.prefix) == ((10, 192), 16, 1)
    assert (answer.shape, answer.stride, answer.layout) == ((192,), 0, "vector")

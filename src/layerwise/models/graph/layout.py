"""How a tensor that crosses a cut lies: where its channels are, and where its places.

Networks of timm use four layouts, beside the batch:

* ``map``: (C, H, W), of convolutional networks;
* ``channels last``: (H, W, C), of Swin and others; also tokens in windows, (windows, T, C);
* ``tokens``: (T, C), of ViT: one token for each place, row by row, after a few that stand for no
  place (a class token, registers);
* ``vector``: (C,), after pooling.

A shape alone tells them apart, since places lie in a grid of the picture's form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Literal

from torch import Tensor

from layerwise.errors import ModelError

Layout = Literal["map", "channels last", "tokens", "vector"]


@dataclass(frozen=True)
class Lie:
    """How one tensor lies.

    Attributes:
        layout: See the module.
        channels: How many.
        rows: Of its grid of places; 0 where it has none, or its order is not known.
        prefix: Tokens that stand before those of the places.
    """

    layout: Layout
    channels: int
    rows: int
    prefix: int = 0


def lies(
    shapes: Sequence[tuple[int, ...]],
    picture: tuple[int, int],
    *,
    prefix: int = 1,
    channels_last: bool = False,
) -> list[Lie]:
    """How the tensors at a network's cuts lie.

    Args:
        shapes: Theirs without the batch, bottom to top; two, three or one dimension.
        picture: Height and width of the input.
        prefix: Tokens without a place that the network says it has; 0 and 1 are looked for too.
        channels_last: What to take where a shape fits both ways (C = H = W) and no shape near it
            tells: a network is of one kind for long stretches.
    """
    found: list[Lie | None] = []
    rows = picture[0]  # of the last grid
    for shape in shapes:
        one = (
            _tokens(shape, picture, rows, {0, 1, prefix})
            if len(shape) == 2
            else _lie(shape, picture)
        )
        if one is not None and one.rows:
            rows = one.rows
        found.append(one)
    known = [i for i, one in enumerate(found) if one is not None and len(shapes[i]) == 3]
    out = []
    for i, one in enumerate(found):
        if one is None:  # C = H = W
            below, above = [k for k in known if k < i], [k for k in known if k > i]
            near = found[below[-1]] if below else found[above[0]] if above else None
            last = near.layout == "channels last" if near is not None else channels_last
            one = Lie("channels last" if last else "map", shapes[i][0], shapes[i][0])
        out.append(one)
    return out


def _lie(shape: tuple[int, ...], picture: tuple[int, int]) -> Lie | None:
    """How a vector, a map or a tensor with its channels last lies; None where both fit."""
    if len(shape) == 1:
        return Lie("vector", shape[0], 0)
    first, second, third = shape
    as_map, as_last = _misfit(second, third, picture), _misfit(first, second, picture)
    if as_map == as_last < max(picture):
        return None
    if as_map < max(picture) and as_map < as_last:
        return Lie("map", first, second)
    return Lie("channels last", third, first if as_last < max(picture) else 0)


def _misfit(rows: int, columns: int, picture: tuple[int, int]) -> int:
    """How far a grid is from the picture's form; rounding of its last rows: less than a side."""
    height, width = picture
    return abs(rows * width - columns * height)


def _tokens(shape: tuple[int, ...], picture: tuple[int, int], rows: int, prefixes: set[int]) -> Lie:
    """Tokens of a square grid that is no finer than the one below, behind so many others."""
    count, channels = shape
    grids = {isqrt(count - k): k for k in prefixes if count > k and _is_square(count - k)}
    fitting = [side for side in grids if side <= rows and picture[0] == picture[1]]
    side = max(fitting, default=0)
    return Lie("tokens", channels, side, grids.get(side, 0))


def _is_square(number: int) -> bool:
    return isqrt(number) ** 2 == number


def as_maps(features: Tensor, layout: Layout, prefix: int = 0) -> Tensor:
    """Features as maps (N, C, H, W), their tokens without a place left out.

    Raises:
        ModelError: They have no places.
    """
    if layout == "map" and features.ndim == 4:
        return features
    if layout == "channels last" and features.ndim == 4:
        return features.permute(0, 3, 1, 2)
    if layout == "tokens" and features.ndim == 3 and _is_square(features.shape[1] - prefix):
        side = isqrt(features.shape[1] - prefix)
        return features[:, prefix:].transpose(1, 2).reshape(*features.shape[::2], side, side)
    raise ModelError(
        f"a tensor of shape {tuple(features.shape)} has no maps to show; choose a layer before "
        "the pooling"
    )

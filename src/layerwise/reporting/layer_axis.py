"""Axes along a network's layers: numbers and names below, points with their intervals above."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from layerwise.reporting.drawing import PAPER, SOFT, plain
from layerwise.reporting.text import number
from layerwise.reporting.transferability.findings import Span

LETTERS = 100  # that fit beside each other under an axis


class LayerAxis:
    """The places of layers along an axis: 0 for the base, then one a layer, whatever its number."""

    def __init__(self, names: Mapping[int, str], base: bool = True) -> None:
        self.names = names
        self.base = base
        self._place = {0: 0, **{n: i for i, n in enumerate(names, 1)}}

    def place(self, layer: int) -> float:
        """Where a layer stands."""
        return float(self._place[layer])

    @property
    def width(self) -> float:
        """Inches that a figure with this axis needs, so that its marks do not run together."""
        return min(7.4 + 0.24 * max(0, len(self.names) - 9), 10.5)

    def label(self, axes: Axes, named: bool = True) -> None:
        """Ticks with the layers' numbers and, where ``named``, their names."""
        places = [0] * self.base + [self.place(n) for n in self.names]
        shown = [plain(name, 20, tail=True) for name in self.names.values()]
        upright = (max(map(len, shown)) + 2) * (len(shown) + 1) <= LETTERS
        texts = ["0\nbase" if upright else "0 base"] * self.base if named else ["0"] * self.base
        between = "\n" if upright else " "
        texts += [
            f"{n}{between}{name}" if named else str(n)
            for n, name in zip(self.names, shown, strict=True)
        ]
        step = 1 if named else math.ceil(len(places) / 11)
        axes.set_xticks(places[::step], texts[::step])
        axes.set_xlim(-0.6 if self.base else 0.4, len(self.names) + 0.6)
        axes.tick_params(axis="x", labelsize=8.5 if upright else 8, length=2)
        if named and not upright:
            for text in axes.get_xticklabels():
                text.set(rotation=50, ha="right", rotation_mode="anchor")
        axes.grid(False, axis="x")


def intervals(
    axes: Axes,
    x: Sequence[float] | np.ndarray[Any, Any],
    spans: Sequence[Span],
    **style: Any,  # noqa: ANN401 - matplotlib's own
) -> None:
    """Values with bars of their 95% intervals; no bar where the interval is not known."""
    value, low, high = (np.array([s[side] for s in spans], float) for side in _SIDES)
    sides = np.clip(np.nan_to_num([value - low, high - value]), 0, None)
    name = style.pop("gid", None)  # of the markers alone, or several elements would have it
    markers = axes.errorbar(x, value, sides, **{"capsize": 2, "elinewidth": 1, **style}).lines[0]
    if name is not None and markers is not None:
        markers.set_gid(name)


_SIDES = ("value", "low", "high")


def hollow(colour: str) -> dict[str, Any]:
    """A marker that is empty inside."""
    return {"markerfacecolor": PAPER, "markeredgecolor": colour, "markeredgewidth": 1.3}


def chance_line(axes: Axes, level: float, lowest: float, reach: bool) -> None:
    """A dotted line at chance level.

    Args:
        axes: Where.
        level: Of chance; NaN draws nothing.
        lowest: The lowest value drawn.
        reach: Whether the axis is to reach down to it. Else, where it is far below everything, a
            word in the corner says how far, so that differences stay visible.
    """
    if not math.isfinite(level):
        return
    if reach or level >= lowest:
        axes.axhline(level, color=SOFT, linewidth=1.1, linestyle=(0, (1, 2)), zorder=1)
        axes.annotate(
            f"chance {number(level)}",
            (0, level),
            xycoords=("axes fraction", "data"),
            xytext=(4, 3),
            textcoords="offset points",
            color=SOFT,
            fontsize=8,
        )
        return
    axes.annotate(
        f"chance is {number(level)}, below this axis ↓",
        (0, 0),
        xycoords="axes fraction",
        xytext=(4, 4),
        textcoords="offset points",
        color=SOFT,
        fontsize=8,
    )


def element_id(*parts: str) -> str:
    """An id in an SVG, by which what was drawn is found again."""
    plain_parts = (part.replace("+", " tuned") for part in parts)
    return "-".join(re.sub(r"\W+", "-", part).strip("-") for part in plain_parts)

"""The size–similarity matrix with the user's data on it, and the profile that it rests on."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from layerwise.reporting.advice.words import STRATEGY
from layerwise.reporting.drawing import (
    BLUE,
    INK,
    PAPER,
    SOFT,
    VERMILION,
    canvas,
    plain,
    styled,
    to_svg,
)
from layerwise.reporting.layer_axis import intervals
from layerwise.studies.advice.matrix import LARGE, NEAR, QUADRANTS, Likeness, Size

WIDEST = 8.0  # borders; what is further out stands at the edge
IMAGES = (10.0, 100_000.0)
SIDES = {1: ("left", "top"), 2: ("right", "top"), 3: ("left", "bottom"), 4: ("right", "bottom")}
MARKS = {"probe": "^", "batch norm": "s"}
NAMES = {"probe": "by the probe", "batch norm": "by the shift of activations"}


@styled
def matrix(size: Size, like: Likeness, quadrant: int, said: str) -> str:
    """Marcelino's Figures 3 and 4: four quadrants, their strategies, and where the data lie.

    Both axes are logarithmic, as far from the border to either side; similarity grows to the right.
    The shaded band is what is called near the border.

    Args:
        size: Of the data.
        like: How similar they are.
        quadrant: That they lie in.
        said: A sentence for those who can not see it.
    """
    figure, (axes,) = canvas(6.4, 4.6)
    lowest, highest = IMAGES
    axes.set(xscale="log", yscale="log", xlim=(1 / WIDEST, WIDEST), ylim=IMAGES)
    left, bottom = quadrant in (1, 3), quadrant in (3, 4)
    corner = (1 / WIDEST if left else 1, lowest if bottom else LARGE)
    across = 1 - 1 / WIDEST if left else WIDEST - 1
    up = LARGE - lowest if bottom else highest - LARGE
    axes.add_patch(Rectangle(corner, across, up, color=BLUE, alpha=0.13, linewidth=0))
    axes.axvspan(1 / NEAR, NEAR, color=SOFT, alpha=0.1, linewidth=0)
    axes.axhspan(LARGE / NEAR, LARGE * NEAR, color=SOFT, alpha=0.1, linewidth=0)
    axes.axvline(1, color=INK, linewidth=1)
    axes.axhline(LARGE, color=INK, linewidth=1)
    _name(axes, quadrant)
    _place(axes, size, like)
    marks = [0.125, 0.25, 0.5, 1, 2, 4, 8]
    axes.set_xticks(marks, [_times(mark) for mark in marks])
    axes.set_yticks([10, 100, 1000, 10_000, 100_000], ["10", "100", "1,000", "10,000", "100,000"])
    axes.minorticks_off()
    axes.set_xlabel("different  ←  similarity to the pretraining, in borders  →  similar")
    axes.set_ylabel("training images of the smallest class")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, handletextpad=0.3)
    return to_svg(figure, "matrix", said)


def _name(axes: Axes, quadrant: int) -> None:
    """What each quadrant asks for, in its corner."""
    for number, strategy in QUADRANTS.items():
        right, top = SIDES[number][0] == "right", SIDES[number][1] == "top"
        words = STRATEGY[strategy].replace(" and leave", "\nand leave")
        axes.annotate(
            f"{number}\n{words}" if top else f"{words}\n{number}",
            (float(right), float(top)),
            xycoords="axes fraction",
            xytext=(-6 if right else 6, -6 if top else 6),
            textcoords="offset points",
            ha="right" if right else "left",
            va="top" if top else "bottom",
            fontsize=8.5,
            fontweight="bold" if number == quadrant else "normal",
            color=INK if number == quadrant else SOFT,
        )


def _place(axes: Axes, size: Size, like: Likeness) -> None:
    """The data: where both measures put them, and the one that decides with its interval."""
    height = float(np.clip(size.images, IMAGES[0] * 1.15, IMAGES[1] / 1.15))
    far = like.far
    value, low, high = (_across(far[side]) for side in ("value", "high", "low"))
    axes.errorbar(
        value,
        height,
        xerr=[[max(0.0, value - low)], [max(0.0, high - value)]],
        fmt="o",
        color=VERMILION,
        markersize=11,
        markeredgecolor=PAPER,
        capsize=3,
        zorder=5,
        label="your data (95%)",
    )
    for name, part in like.parts.items():
        axes.plot(
            _across(part["value"]),
            height,
            MARKS[name],
            color=INK,
            markerfacecolor=PAPER,
            markersize=5,
            linestyle="none",
            zorder=6,
            label=NAMES[name],
        )


def _across(far: float) -> float:
    """A distance in borders as a place on the axis of similarity."""
    if not math.isfinite(far):
        return 1.0
    return float(np.clip(1 / max(far, 1e-9), 1.04 / WIDEST, WIDEST / 1.04))


def _times(value: float) -> str:
    """A tick: at the border 1, else how many times inside or outside of it."""
    if value == 1:
        return "border"
    return f"{1 / value:.0f}× out" if value < 1 else f"{value:.0f}× in"


@styled
def profile(rows: Sequence[Mapping[str, Any]], said: str) -> str:
    """Probes and LogME at every cut, of the source's features and of random filters.

    Args:
        rows: As `results.profile_rows` gives them, bottom to top.
        said: A sentence for those who can not see it.
    """
    figure, (top, bottom) = canvas(
        min(7.4 + 0.24 * max(0, len(rows) - 9), 10.5), 5.6, rows=2, sharex=True
    )
    places = np.arange(len(rows))
    series = (("", "source", BLUE, "o", "-"), ("random_", "random filters", VERMILION, "s", ":"))
    for prefix, label, colour, mark, dash in series:
        style: dict[str, Any] = {
            "color": colour,
            "marker": mark,
            "linestyle": dash,
            "markersize": 5,
        }
        here = [i for i, row in enumerate(rows) if row[f"{prefix}auroc"] is not None]
        spans = [rows[i][f"{prefix}auroc"] for i in here]
        intervals(top, places[here], spans, label=label, **style)
        known = [i for i, row in enumerate(rows) if row[f"{prefix}logme"] is not None]
        bottom.plot(places[known], [rows[i][f"{prefix}logme"] for i in known], **style)
    top.set_ylabel("AUROC of a linear probe")
    figure.legend(*top.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    bottom.set_ylabel("LogME, nats an image")
    bottom.set_xlabel("Cut, from the pixels up")
    bottom.set_xticks(places, [plain(str(row["cut"]), 20, tail=True) for row in rows])
    for text in bottom.get_xticklabels():
        text.set(rotation=50, ha="right", rotation_mode="anchor")
    for axes in (top, bottom):
        axes.grid(False, axis="x")
    return to_svg(figure, "profile", said)

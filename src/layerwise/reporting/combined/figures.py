"""What putting together gains in each way, and what each member is worth."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

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
from layerwise.reporting.text import signed
from layerwise.studies.combined.comparison import SCORE, Contribution, Tried
from layerwise.studies.gain.scores import LEVEL

WIDTH = 7.4  # inches
SHIFT = 0.16  # of validation above test


@styled
def gains(ways: Sequence[Tried]) -> str:
    """AUROC of each way less the best run alone: cross-fitted on validation, and on test."""
    figure, (axes,) = canvas(WIDTH, 1.5 + 0.45 * len(ways))
    axes.axvline(0, color=SOFT, linewidth=1)
    for y, way in enumerate(ways):
        _dot(axes, way.unseen_gain, y - SHIFT, VERMILION, "s", filled=True)
        beyond = way.test_gain[SCORE]["p_holm"] < LEVEL
        _dot(axes, way.test_gain[SCORE], y + SHIFT, BLUE, "o", filled=beyond)
    _rows(axes, [way.way for way in ways])
    axes.set_xlabel("AUROC, ensemble less the best run alone")
    handles = [
        Line2D([], [], color=VERMILION, marker="s", label="validation, cross-fitted"),
        Line2D([], [], color=BLUE, marker="o", label="test, beyond noise after Holm"),
        Line2D([], [], color=BLUE, marker="o", markerfacecolor=PAPER, label="test, within noise"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    said = "; ".join(f"{way.way} {signed(way.test_gain[SCORE]['value'])}" for way in ways)
    return to_svg(figure, "gains", f"AUROC on test less the best run alone: {said}.")


@styled
def worth(contributions: Sequence[Contribution], names: Mapping[str, str]) -> str:
    """AUROC on test that the ensemble loses without each member, the largest first.

    Args:
        contributions: In order.
        names: Of the runs, by id.
    """
    figure, (axes,) = canvas(WIDTH, 1.3 + 0.34 * len(contributions))
    axes.axvline(0, color=SOFT, linewidth=1)
    for y, one in enumerate(contributions):
        _dot(axes, one.test, y, BLUE, "o", filled=one.beyond_noise)
    _rows(axes, [f"{plain(names[c.id], 34)}  {c.weight:.2f}" for c in contributions])
    axes.set_xlabel("AUROC on test, with the run less without it")
    handles = [
        Line2D([], [], color=INK, marker="o", label="beyond noise, after Holm"),
        Line2D([], [], color=INK, marker="o", markerfacecolor=PAPER, label="within noise"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    said = "; ".join(f"{names[c.id]} {signed(c.test['value'])}" for c in contributions[:12])
    return to_svg(figure, "contributions", f"AUROC that each run is worth: {said}.")


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")


def _dot(
    axes: Axes, interval: Mapping[str, Any], y: float, colour: str, marker: str, *, filled: bool
) -> None:
    """A value with its interval; nothing where it is not known."""
    value, low, high = (float(interval.get(s, math.nan)) for s in ("value", "low", "high"))
    if math.isnan(value):
        return
    axes.plot([low, high], [y, y], color=colour, linewidth=1.4)
    face = colour if filled else PAPER
    axes.plot(value, y, marker, color=colour, markersize=6, markerfacecolor=face)

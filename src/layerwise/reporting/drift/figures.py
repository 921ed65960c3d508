"""How far each quantity lies from training, beside chance; and the distributions themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from layerwise.reporting.drawing import (
    BLUE,
    GRID,
    INK,
    PAPER,
    SOFT,
    VERMILION,
    canvas,
    plain,
    styled,
    to_svg,
)
from layerwise.reporting.drift.words import MEASURES, title, value

WIDTH = 7.4  # inches
FULLEST = 24  # bins of a drawn distribution

Row = Mapping[str, Any]


@styled
def apart(rows: Sequence[Row], measure: str, threshold: float) -> str:
    """The distance of every input and score, over the band that chance alone gives.

    Args:
        rows: Of inputs and scores, as `drift.json` has them; all with distances.
        measure: "psi", "js" or "ks".
        threshold: What matters, beyond what chance gives on average.
    """
    figure, (axes,) = canvas(WIDTH, 1.6 + 0.34 * len(rows))
    for y, row in enumerate(rows):
        far = row[measure]
        axes.barh(y, far["bound"], height=0.62, color=GRID)
        needed = far["expected"] + threshold
        axes.plot([needed, needed], [y - 0.31, y + 0.31], color=INK, linewidth=1.4)
        drifted = row["verdict"] == "drifted"
        colour = VERMILION if drifted else BLUE
        face = colour if row["verdict"] != "within noise" else PAPER
        mark = "s" if drifted else "o"
        axes.plot(far["value"], y, mark, color=colour, markerfacecolor=face, clip_on=False)
    _names(axes, [title(row) for row in rows])
    axes.set_xscale("symlog", linthresh=threshold, linscale=1)
    axes.set_xlim(left=0)
    axes.set_xticks(_ticks(max(r[measure]["value"] for r in rows), threshold))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set_xlabel(MEASURES[measure][0].upper() + MEASURES[measure][1:])
    handles = [
        *_verdicts(),
        Patch(color=GRID, label="chance, 95%"),
        Line2D([], [], color=INK, linewidth=1.4, label="matters from here"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, handlelength=1)
    said = "; ".join(f"{title(row)} {row[measure]['value']:.2g}" for row in rows)
    return to_svg(figure, "distances", f"{MEASURES[measure]} from training: {said}.")


@styled
def shares(rows: Sequence[Row]) -> str:
    """The change of every share, in percentage points, with its 95% interval."""
    figure, (axes,) = canvas(WIDTH, 1.4 + 0.34 * len(rows))
    axes.axvline(0, color=SOFT, linewidth=1)
    for y, row in enumerate(rows):
        gap = row["difference"]
        drifted = row["verdict"] == "drifted"
        colour = VERMILION if drifted else BLUE
        axes.plot([100 * gap["low"], 100 * gap["high"]], [y, y], color=colour, linewidth=1.4)
        face = PAPER if row["verdict"] == "within noise" else colour
        marker = "s" if drifted else "o"
        axes.plot(100 * gap["value"], y, marker, color=colour, markerfacecolor=face)
    _names(axes, [title(row) for row in rows])
    axes.set_xlabel("Percentage points more than in training and validation")
    figure.legend(handles=_verdicts(), loc="outside upper center", ncols=3, handlelength=1)
    said = "; ".join(f"{title(row)} {100 * row['difference']['value']:+.1f}" for row in rows)
    return to_svg(figure, "shares", f"Change of shares in percentage points: {said}.")


@styled
def distributions(rows: Sequence[Row]) -> str:
    """Every input and score as shares of the pictures by bin, before and now.

    Args:
        rows: As of `apart`, at least one.
    """
    count = (len(rows) + 2) // 3
    figure = Figure(figsize=(WIDTH + 1.4, 0.6 + 1.75 * count), layout="constrained")
    FigureCanvasSVG(figure)
    panels = figure.subplots(count, 3, squeeze=False).ravel()
    for axes, row in zip(panels, rows, strict=False):
        places, before, after = drawn(row)
        names = [value(row, edge) for edge in places]
        x = np.arange(len(before) + 1)
        axes.stairs(before, x, fill=True, color=BLUE, alpha=0.35, linewidth=0)
        axes.stairs(after, x, color=VERMILION, linewidth=1.6)
        axes.set_title(plain(title(row), 30), color=VERMILION if _drifted(row) else INK)
        some = np.unique(np.linspace(0, len(before), 4).round().astype(int))
        axes.set_xticks(some, [names[k] for k in some])
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.grid(False, axis="x")
    for axes in panels[len(rows) :]:
        axes.set_axis_off()
    handles = [
        Patch(color=BLUE, alpha=0.35, label="training (scores: validation)"),
        Line2D([], [], color=VERMILION, label="now"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    said = ", ".join(title(row) for row in rows)
    return to_svg(figure, "distributions", f"Distributions in training and now of: {said}.")


def drawn(row: Row) -> tuple[list[float], list[float], list[float]]:
    """(edges, shares before, shares now) of the bins that hold something, at most about 24.

    Neighbours are put together, two or more at a time, until they are few enough.
    """
    before, after = (np.array(row["counts"][side], float) for side in ("before", "after"))
    there = np.flatnonzero(before + after)
    first, last = int(there[0]), int(there[-1]) + 1
    step = -(-(last - first) // FULLEST)
    starts = np.arange(first, last, step)
    edges = [row["edges"][k] for k in [*starts.tolist(), last]]
    total = [
        np.add.reduceat(counts[:last], starts) / max(counts.sum(), 1) for counts in (before, after)
    ]
    return edges, total[0].tolist(), total[1].tolist()


def _verdicts() -> list[Line2D]:
    """What the markers mean."""
    means = (
        (VERMILION, VERMILION, "s", "drifted"),
        (BLUE, BLUE, "o", "none that matters"),
        (BLUE, PAPER, "o", "too few to tell"),
    )
    return [
        Line2D([], [], color=edge, markerfacecolor=face, marker=mark, linestyle="", label=word)
        for edge, face, mark, word in means
    ]


def _drifted(row: Row) -> bool:
    return bool(row["verdict"] == "drifted")


def _ticks(largest: float, threshold: float) -> list[float]:
    """0, what matters, and some beyond it."""
    above = [t for t in (0.25, 0.5, 1, 2, 5, 10) if threshold * 1.5 < t < 1.5 * largest]
    return [0, threshold / 2, threshold, *above]


def _names(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [plain(name, 40) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")

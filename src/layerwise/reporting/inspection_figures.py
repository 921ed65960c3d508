"""The figures of `layerwise inspect`: numbers in, an SVG element out."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from layerwise.data.brightness import BINS, Brightness
from layerwise.data.exploration import Sizes
from layerwise.reporting.drawing import (
    BLUE,
    DASHES,
    SERIES,
    SOFT,
    VERMILION,
    canvas,
    plain,
    styled,
    to_svg,
)

TOGETHER = 4  # labels that are drawn into one histogram; more get a panel each
PANELS = 20  # labels that are drawn at all
HEAT = 20  # labels of the table of labels that occur together


@styled
def density(sizes: Sizes, labels: Sequence[str]) -> str:
    """Widths against heights, with what each label has on either side and the medians marked."""
    figure = Figure(figsize=(7.4, 5.4), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(
        2, 2, sharex="col", sharey="row", width_ratios=(4, 1), height_ratios=(1, 4)
    )
    (above, corner), (middle, beside) = axes
    most = sizes.density.max()
    for row, column in np.argwhere(sizes.density):
        x, y = sizes.widths[column], sizes.heights[row]
        size = (sizes.widths[column + 1] - x, sizes.heights[row + 1] - y)
        alpha = 0.1 + 0.9 * float(np.sqrt(sizes.density[row, column] / most))
        middle.add_patch(
            Rectangle((x, y), *size, facecolor=BLUE, alpha=alpha, edgecolor="none", linewidth=0)
        )
    corner.set_axis_off()
    if sizes.logarithmic:
        middle.set(xscale="log", yscale="log")
    middle.set(xlim=_ends(sizes.widths, sizes), ylim=_ends(sizes.heights, sizes))
    square = np.array(
        [
            max(sizes.widths[0], sizes.heights[0]),
            min(sizes.widths[-1], sizes.heights[-1]),
        ]
    )
    if square[1] > square[0]:
        middle.plot(square, square, color=SOFT, linewidth=1, linestyle=(0, (2, 3)))
    facts = sizes.facts
    width, height = facts["width"]["median"], facts["height"]["median"]
    dashed: dict[str, Any] = {"color": VERMILION, "linewidth": 1, "linestyle": (0, (4, 3))}
    for axis in (above, middle):
        axis.axvline(width, **dashed)
    for axis in (middle, beside):
        axis.axhline(height, **dashed)
    _sides(above, beside, sizes, labels)
    middle.set_xlabel(f"Width, pixels (median {width:,.0f})")
    middle.set_ylabel(f"Height, pixels (median {height:,.0f})")
    return to_svg(
        figure,
        "density",
        f"Density of widths and heights of {facts['images']:,} pictures. Width: median "
        f"{width:,.0f}, {facts['width']['min']:,.0f} to {facts['width']['max']:,.0f} pixels. "
        f"Height: median {height:,.0f}, {facts['height']['min']:,.0f} to "
        f"{facts['height']['max']:,.0f} pixels.",
    )


def _ends(edges: NDArray[np.float64], sizes: Sizes) -> tuple[float, float]:
    """The limits of an axis: the edges and a little room."""
    first, last = float(edges[0]), float(edges[-1])
    if sizes.logarithmic:
        return first / 1.03, last * 1.03
    room = 0.02 * (last - first)
    return first - room, last + room


def _sides(above: Axes, beside: Axes, sizes: Sizes, labels: Sequence[str]) -> None:
    """What share of each label's pictures is how wide and how high, each to its own maximum."""
    several = len(labels) <= len(SERIES)
    groups = range(len(labels)) if several else [None]
    both: tuple[tuple[Axes, Any, Any, Literal["vertical", "horizontal"]], ...] = (
        (above, sizes.by_label[0], sizes.widths, "vertical"),
        (beside, sizes.by_label[1], sizes.heights, "horizontal"),
    )
    for k in groups:
        for axis, values, edges, turned in both:
            own = values.sum(axis=0) if k is None else values[k]
            axis.stairs(
                own / max(own.sum(), 1) / np.diff(edges),
                edges,
                orientation=turned,
                color=SERIES[k or 0],
                linestyle=DASHES[k or 0],
                linewidth=1.5,
                label=None if k is None else plain(labels[k], 28),
                baseline=None,
            )
    for axis, ticks in ((above, above.yaxis), (beside, beside.xaxis)):
        axis.grid(False)
        ticks.set_major_locator(NullLocator())
        ticks.set_minor_locator(NullLocator())
    above.spines["left"].set_visible(False)
    beside.spines["bottom"].set_visible(False)
    above.tick_params(axis="x", labelbottom=False)
    beside.tick_params(axis="y", labelleft=False)
    for ticks in (above.xaxis, beside.yaxis):
        if sizes.logarithmic:
            ticks.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            ticks.set_minor_locator(NullLocator())
        else:
            ticks.set_major_locator(MaxNLocator(6, integer=True))
        ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if several:
        above.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(3, len(labels)))


@styled
def histograms(brightness: Brightness, labels: Sequence[str]) -> str:
    """How bright pixels are, by label: mean over pictures and one deviation either way."""
    shown = [k for k in range(len(labels)) if np.isfinite(brightness.mean[k])][:PANELS]
    if len(shown) <= TOGETHER:
        figure, (first,) = canvas(7.4, 3.6)
        panels, columns = [first] * len(shown), 1
    else:
        columns = 4 if len(shown) > 6 else 3
        rows = -(-len(shown) // columns)
        figure = Figure(figsize=(7.4, 0.5 + 1.45 * rows), layout="constrained")
        FigureCanvasSVG(figure)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for spare in grid[len(shown) :]:
            spare.set_axis_off()
        panels = list(grid[: len(shown)])
    edges = np.linspace(0, 256, BINS + 1)
    inner = brightness.histogram[shown, 1:-1]  # (n, 62); black and white would hide the rest
    top = 1.35 * float((inner + 0.5 * brightness.spread[shown, 1:-1]).max()) + 1e-9
    everyone = np.nanmean(brightness.histogram[shown], axis=0)
    for j, (k, panel) in enumerate(zip(shown, panels, strict=True)):
        colour = SERIES[j % len(SERIES)] if len(shown) <= TOGETHER else BLUE
        mean, spread = brightness.histogram[k], brightness.spread[k]
        low, high = np.clip(mean - spread, 0, None), mean + spread
        panel.fill_between(
            edges, _last(low), _last(high), step="post", color=colour, alpha=0.16, linewidth=0
        )
        dash = DASHES[j % len(DASHES)] if len(shown) <= TOGETHER else "-"
        panel.stairs(
            mean, edges, color=colour, linestyle=dash, linewidth=1.6, baseline=None,
            label=plain(labels[k], 28),
        )  # fmt: skip
        if len(shown) > TOGETHER:
            panel.stairs(everyone, edges, color=SOFT, linewidth=1, linestyle=":", baseline=None)
            panel.set_title(plain(labels[k], 22))
    for panel in dict.fromkeys(panels):
        panel.set(xlim=(0, 256), ylim=(0, top))
        panel.set_xticks([0, 64, 128, 192, 255])
        panel.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))
    figure.supxlabel("Brightness of a pixel (0 black, 255 white)", fontsize=9.5)
    figure.supylabel("Share of the pixels", fontsize=9.5)
    if len(shown) <= TOGETHER:
        panels[0].legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=min(4, len(shown)), borderpad=0
        )
    said = "; ".join(
        f"{labels[k]} mean {brightness.mean[k]:.0f} ± {brightness.deviation[k]:.0f}" for k in shown
    )
    return to_svg(figure, "histograms", f"Histograms of brightness by label: {said}, of 255.")


def _last(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """With the last value once more, as a step plot wants it."""
    return np.append(values, values[-1])


@styled
def together(table: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Of the images with one label (row), the share that has another too (column), in percent."""
    shown = labels[:HEAT]
    both = np.asarray(table, dtype=float)[: len(shown), : len(shown)]
    own = np.diag(both)[:, None]
    share = np.divide(both, own, out=np.zeros_like(both), where=own > 0)
    side = min(9.0, 2.4 + 0.44 * len(shown))
    figure, (axes,) = canvas(side, side - 0.4)
    for (i, j), part in np.ndenumerate(share):
        if i == j:
            continue
        style: dict[str, Any] = {
            "facecolor": BLUE,
            "alpha": 0.03 + 0.55 * float(part),
            "edgecolor": "none",
        }
        axes.add_patch(Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, **style))
        axes.text(j, i, f"{100 * part:.0f}", ha="center", va="center", fontsize=8)
    axes.set(xlim=(-0.5, len(shown) - 0.5), ylim=(len(shown) - 0.5, -0.5))
    names = [plain(label, 22) for label in shown]
    axes.set_xticks(range(len(shown)), names, rotation=50, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(shown)), names)
    axes.tick_params(length=0)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    share[np.diag_indices_from(share)] = -1
    i, j = divmod(int(share.argmax()), len(shown))
    return to_svg(
        figure,
        "together",
        f"Labels that occur together. Most often: of the images with {shown[i]}, "
        f"{100 * share[i, j]:.0f}% have {shown[j]} too.",
    )

"""The figures of a gain study: RI and TL side by side, and the gain itself.

RI is hatched and TL is filled, and the network stands under its pair, so that nothing is lost in
black and white.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from layerwise.reporting.drawing import (
    BLUE,
    INK,
    MARKERS,
    PAPER,
    SERIES,
    SOFT,
    canvas,
    plain,
    styled,
    to_svg,
)
from layerwise.reporting.text import NAMES, signed
from layerwise.studies.gain.scores import METRICS, Bar

PAIRS_A_ROW = 22  # more would leave no room for the networks' names
CHANCE = {"auroc": 0.5, "auprc": 0.0}  # where bars begin
WIDTH = 7.4  # inches
LETTERS = 84  # of a heading, across all of it

Group = tuple[str, Sequence[Bar]]  # its heading, and one pair a bar


@styled
def pairs(
    name: str, groups: Mapping[str, Sequence[Bar]], chance: Mapping[str, float], said: str
) -> str:
    """Pairs of bars, RI and TL, in groups; AUROC above AUPRC (Peng et al. 2021, Figures 3 and 4).

    AUROC's bars stand on 0.5, which is chance; in the panels of AUPRC a dotted line is.

    Args:
        name: The figure's id.
        groups: The bars of each group, both metrics of a network one after the other.
        chance: The AUPRC of chance of each group.
        said: A sentence for those who can not see it.
    """
    rows = _rows(groups)
    longest = max(len(plain(bar.network, 18)) for bars in groups.values() for bar in bars)
    lines = max(len(heading.splitlines()) for heading in groups)
    names = 0.25 + 0.062 * longest  # inches under a row
    figure, axes = canvas(
        WIDTH,
        0.6 + len(rows) * (2 * 1.55 + 0.35 * lines + names),
        rows=2 * len(rows),
    )
    limits = {metric: _limits(groups, metric) for metric in METRICS}
    most = max(sum(len(_of(groups[g], "auroc")) for g in row) + len(row) - 1 for row in rows)
    for r, row in enumerate(rows):
        for m, metric in enumerate(METRICS):
            panel = axes[2 * r + m]
            panel.set_ylim(*limits[metric])
            panel.set_xlim(-0.7, max(most - 0.3, 2.7))
            _panel(panel, {g: _of(groups[g], metric) for g in row}, metric, chance, m == 0)
    _legend(axes[0], any(bar.beyond_noise for bars in groups.values() for bar in bars))
    return to_svg(figure, name, said)


def _panel(
    axes: Axes,
    groups: Mapping[str, Sequence[Bar]],
    metric: str,
    chance: Mapping[str, float],
    top: bool,
) -> None:
    """One metric of one row of groups."""
    at, places, names = 0.0, [], []
    floor = CHANCE[metric]
    for heading, bars in groups.items():
        begins = at
        for bar in bars:
            for side, shift, style in (
                (bar.random, -0.19, {"facecolor": PAPER, "hatch": "/////"}),
                (bar.transferred, 0.19, {"facecolor": BLUE}),
            ):
                value = _number(side["value"])
                if math.isnan(value):
                    continue
                drawn = axes.bar(at + shift, value - floor, 0.36, bottom=floor, linewidth=0.6)
                drawn[0].set(edgecolor=INK, **style)
                sd = _number(side["sd"])
                if sd > 0:
                    axes.errorbar(at + shift, value, sd, color=INK, elinewidth=1, capsize=2)
            if bar.beyond_noise:
                better = _number(bar.gain["value"]) > 0
                height = max(_top(bar.random), _top(bar.transferred))
                axes.plot(
                    at,
                    height,
                    "^" if better else "v",
                    color=INK,
                    markersize=4.5,
                    transform=axes.transData + _up(axes, 6),
                    clip_on=False,
                )
            places.append(at)
            names.append(plain(bar.network, 18, tail=True))
            at += 1
        if metric == "auprc" and math.isfinite(chance.get(heading, math.nan)):
            sides = [begins - 0.45, at - 0.55]
            axes.plot(sides, [chance[heading]] * 2, color=INK, linewidth=1.2, linestyle=":")
        if top:
            letters = int(LETTERS / np.ptp(axes.get_xlim()) * (len(bars) + 0.8))
            axes.annotate(
                "\n".join(plain(line, max(letters, 4)) for line in heading.splitlines()),
                ((begins + at - 1) / 2, 1.02),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                weight="bold",
            )
        at += 1  # a gap between groups
    axes.grid(False, axis="x")
    axes.set_ylabel(NAMES[metric])
    axes.set_xticks(places, [""] * len(places) if top else names)
    axes.tick_params(axis="x", length=0, labelsize=8)
    if metric == "auroc":
        axes.spines["bottom"].set_visible(False)
        axes.axhline(floor, color=SOFT, linewidth=0.8)
    for label in axes.get_xticklabels():
        label.set(rotation=60, ha="right", rotation_mode="anchor")


@styled
def gains(bars: Sequence[Bar], fractions: Mapping[float, str]) -> str:
    """TL − RI with its 95% interval, by sample size, one marker a network.

    A filled marker is a difference beyond noise after Holm's correction.

    Args:
        bars: Of the means, both metrics.
        fractions: What stands under each fraction, ascending.
    """
    networks = list(dict.fromkeys(bar.network for bar in bars))
    figure, axes = canvas(WIDTH, 4.6, rows=2, sharex=True)
    order = list(fractions)
    for panel, metric in zip(axes, METRICS, strict=True):
        panel.axhline(0, color=SOFT, linewidth=1)
        for j, network in enumerate(networks):
            mine = [bar for bar in bars if (bar.network, bar.metric) == (network, metric)]
            colour, marker = SERIES[j % len(SERIES)], MARKERS[j % len(MARKERS)]
            shift = (j - (len(networks) - 1) / 2) * min(0.14, 0.7 / len(networks))
            for bar in mine:
                x = order.index(bar.fraction) + shift
                value, low, high = (_number(bar.gain[k]) for k in ("value", "low", "high"))
                panel.plot([x, x], [low, high], color=colour, linewidth=1.4)
                panel.plot(
                    x,
                    value,
                    marker,
                    color=colour,
                    markersize=6,
                    markerfacecolor=colour if bar.beyond_noise else PAPER,
                )
        panel.set_ylabel(f"{NAMES[metric]}, TL − RI")
        panel.grid(False, axis="x")
    axes[1].set_xticks(range(len(order)), list(fractions.values()))
    axes[1].set_xlim(-0.6, len(order) - 0.4)
    axes[1].set_xlabel("Training images")
    handles = [
        Line2D(
            [],
            [],
            color=SERIES[j % len(SERIES)],
            marker=MARKERS[j % len(MARKERS)],
            markersize=6,
            linestyle="none",
            label=plain(network, 26),
        )
        for j, network in enumerate(networks)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(networks)))
    said = "; ".join(
        f"{bar.network} at {fractions[bar.fraction]} {NAMES[bar.metric]} "
        f"{signed(_number(bar.gain['value']))}"
        for bar in bars[:24]
    )
    return to_svg(figure, "gain", f"Transfer less random initialisation: {said}.")


def _rows(groups: Mapping[str, Sequence[Bar]]) -> list[list[str]]:
    """Groups put into rows that have room for their pairs, evenly filled."""
    pairs_of = max(1, max(len(_of(bars, "auroc")) for bars in groups.values()))
    room = max(1, PAIRS_A_ROW // (pairs_of + 1))
    rows = np.array_split(np.arange(len(groups)), math.ceil(len(groups) / room))
    names = list(groups)
    return [[names[i] for i in row] for row in rows]


def _of(bars: Sequence[Bar], metric: str) -> list[Bar]:
    return [bar for bar in bars if bar.metric == metric]


def _limits(groups: Mapping[str, Sequence[Bar]], metric: str) -> tuple[float, float]:
    """From what bars stand on, or the lowest that hangs below it, to the highest with its sd."""
    mine = [bar for bars in groups.values() for bar in _of(bars, metric)]
    sides = [side for bar in mine for side in (bar.random, bar.transferred)]
    tops = [_top(side) for side in sides if math.isfinite(_number(side["value"]))]
    lows = [_number(s["value"]) - _sd(s) for s in sides if math.isfinite(_number(s["value"]))]
    floor = CHANCE[metric]
    high = max([floor + 0.05, *tops])
    low = min([floor, *lows])
    return (low - 0.02 * (high - low) if low < floor else floor), high + 0.1 * (high - low)


def _legend(axes: Axes, marked: bool) -> None:
    """What the two bars, the dotted line and the mark are."""
    handles: list[Any] = [
        Patch(facecolor=PAPER, edgecolor=INK, hatch="/////", linewidth=0.6),
        Patch(facecolor=BLUE, edgecolor=INK, linewidth=0.6),
        Line2D([], [], color=INK, linewidth=1.2, linestyle=":"),
    ]
    words = ["RI: random initialisation", "TL: transfer learning", "AUPRC of chance"]
    if marked:
        up, down = (
            Line2D([], [], color=INK, marker=m, linestyle="none", markersize=4.5) for m in "^v"
        )
        handles.append((up, down))
        words.append("TL higher, lower beyond noise")
    figure = axes.figure
    figure.legend(
        handles,
        words,
        loc="outside upper center",
        ncols=len(handles),
        fontsize=8.5,
        handletextpad=0.5,
        columnspacing=1.2,
        handler_map={tuple: HandlerTuple(ndivide=None)},
    )


def _up(axes: Axes, points: float) -> Any:  # noqa: ANN401 - a transform of matplotlib
    from matplotlib.transforms import ScaledTranslation

    return ScaledTranslation(0, points / 72, axes.figure.dpi_scale_trans)


def _top(side: Mapping[str, Any]) -> float:
    return _number(side["value"]) + _sd(side)


def _sd(side: Mapping[str, Any]) -> float:
    found = _number(side["sd"])
    return found if math.isfinite(found) else 0.0


def _number(value: float | None) -> float:
    return math.nan if value is None else float(np.float64(value))

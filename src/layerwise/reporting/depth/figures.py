"""The figures of a depth study: quality by depth, quality against cost, similarity by layer.

A kind of network is told by its marker and a line by its dashes, so that nothing is lost in black
and white.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from layerwise.reporting.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PAPER,
    PURPLE,
    SOFT,
    VERMILION,
    canvas,
    plain,
    styled,
    to_svg,
)
from layerwise.reporting.text import NAMES, quantity

Rows = Sequence[Mapping[str, Any]]
KINDS = {  # marker, colour, size
    "full": ("*", INK, 13.0),
    "truncated": ("s", VERMILION, 6.0),
    "frozen": ("D", GREEN, 5.5),
    "hybrid": ("^", PURPLE, 6.5),
    "probe": ("o", BLUE, 4.5),
}
WORDS = {
    "full": "full network, fine-tuned",
    "truncated": "truncated, fine-tuned",
    "frozen": "truncated, partly frozen",
    "hybrid": "truncated, upper part at random",
    "probe": "probe (all frozen)",
}
COSTS = {
    "parameters": "Parameters",
    "macs": "Multiply–adds of one image",
    "batch1_seconds": "Milliseconds, batch of 1",
    "batch16_seconds": "Milliseconds, batch of 16",
}


def depth_order(probes: Rows, candidates: Rows) -> list[str]:
    """Every cut that something stands at, from the bottom up."""
    known = {row["cut"]: (row["macs"], row["parameters"]) for row in candidates}
    known |= {row["cut"]: (row["macs"], row["parameters"]) for row in probes}
    full = next(row["cut"] for row in candidates if row["kind"] == "full")
    order = {row["cut"]: i for i, row in enumerate(probes)}
    if full not in order:
        known.pop(full)
    return sorted(known, key=lambda cut: (*known[cut], order.get(cut, 0)))


@styled
def by_depth(probes: Rows, candidates: Rows, metric: str, said: str) -> str:
    """Quality of probes and of trained networks by where the network ends (Peng, Figures 5, 6).

    Args:
        probes: `curves["probes"]`.
        candidates: `curves["candidates"]`.
        metric: What quality is; the other one is drawn below.
        said: A sentence for those who can not see it.
    """
    cuts = depth_order(probes, candidates)
    place = {cut: i for i, cut in enumerate(cuts)}
    metrics = [metric, "auroc" if metric == "auprc" else "auprc"]
    width = min(7.4 + 0.2 * max(0, len(cuts) - 12), 10.5)
    figure, axes = canvas(width, 6.6, rows=2, sharex=True, height_ratios=[1.35, 1])
    full = next(row for row in candidates if row["kind"] == "full")
    for panel, name in zip(axes, metrics, strict=True):
        value, low, high = _sides([full[name]])
        if np.isfinite([low[0], high[0]]).all():
            panel.axhspan(low[0], high[0], color=SOFT, alpha=0.14, linewidth=0)
        panel.axhline(
            value[0], color=INK, linewidth=1.2, linestyle=(0, (6, 2, 1, 2)), label=WORDS["full"]
        )
        x = [place[row["cut"]] for row in probes]
        value, low, high = _sides([row[name] for row in probes])
        panel.fill_between(x, low, high, color=BLUE, alpha=0.13, linewidth=0)
        panel.plot(
            x,
            value,
            color=BLUE,
            linestyle=(0, (4, 2)),
            marker="o",
            markersize=4,
            linewidth=1.2,
            label=WORDS["probe"],
        )
        for kind, shift in (("truncated", 0.0), ("frozen", 0.22), ("hybrid", -0.22)):
            rows = sorted(
                (row for row in candidates if row["kind"] == kind),
                key=lambda row: place[row["cut"]],
            )
            if rows:
                _points(panel, [place[row["cut"]] + shift for row in rows], rows, name, kind)
        panel.set_ylabel(f"{NAMES[name]} on validation")
        panel.grid(False, axis="x")
    _legend(axes[0])
    step = max(1, math.ceil(len(cuts) / 40))
    shown = range(0, len(cuts), step)
    axes[1].set_xticks(list(shown), [plain(cuts[i], 22, tail=True) for i in shown])
    axes[1].set_xlabel("The network ends at")
    axes[1].tick_params(axis="x", labelsize=8, length=2)
    for text in axes[1].get_xticklabels():
        text.set(rotation=52, ha="right", rotation_mode="anchor")
    return to_svg(figure, "depth", said)


def _points(axes: Axes, x: Sequence[float], rows: Rows, metric: str, kind: str) -> None:
    """Trained networks with their intervals; a line joins the truncated ones."""
    marker, colour, size = KINDS[kind]
    value, low, high = _sides([row[metric] for row in rows])
    axes.errorbar(
        x,
        value,
        np.clip(np.nan_to_num([value - low, high - value]), 0, None),
        color=colour,
        marker=marker,
        markersize=size,
        linestyle="-" if kind == "truncated" else "none",
        linewidth=1.4,
        elinewidth=0.9,
        capsize=2,
        label=WORDS[kind],
    )


def _legend(axes: Axes) -> None:
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8.5, handlelength=2.6
    )


@styled
def by_cost(
    candidates: Rows,
    pareto: Mapping[str, Sequence[str]],
    metric: str,
    best: str,
    recommended: str,
    said: str,
) -> str:
    """Quality against parameters, multiply–adds and latency; the front marked, the choice ringed.

    Args:
        candidates: `curves["candidates"]`.
        pareto: By cost, the names of what no other one beats.
        metric: What quality is.
        best: The name of the best one, whose interval is a band.
        recommended: The name of the one to take.
        said: A sentence for those who can not see it.
    """
    figure = Figure(figsize=(8.6, 7.4), layout="constrained")
    FigureCanvasSVG(figure)
    panels = figure.subplots(2, 2, sharey="row").ravel()
    top = next(row for row in candidates if row["name"] == best)[metric]
    for i, (panel, cost) in enumerate(zip(panels, COSTS, strict=True)):
        rows = [row for row in candidates if cost_of(row, cost) is not None]
        if _finite(top["low"]) and _finite(top["high"]):
            panel.axhspan(top["low"], top["high"], color=SOFT, alpha=0.14, linewidth=0)
        front = [row for row in rows if row["name"] in pareto[cost]]
        front.sort(key=lambda row: (cost_of(row, cost) or 0, row[metric]["value"]))
        panel.plot(
            [cost_of(row, cost) for row in front],
            [row[metric]["value"] for row in front],
            color=INK,
            linewidth=1.1,
            linestyle=(0, (5, 2)),
            drawstyle="steps-post",
            zorder=2,
            label="Pareto front",
        )
        for kind, (marker, colour, size) in KINDS.items():
            for on_front in (True, False):
                mine = [
                    row
                    for row in rows
                    if row["kind"] == kind and (row["name"] in pareto[cost]) == on_front
                ]
                panel.plot(
                    [cost_of(row, cost) for row in mine],
                    [row[metric]["value"] for row in mine],
                    linestyle="none",
                    marker=marker,
                    markersize=size,
                    markeredgecolor=colour,
                    markeredgewidth=1.2,
                    markerfacecolor=colour if on_front else PAPER,
                    zorder=4 if on_front else 3,
                    label=WORDS[kind] if on_front else None,
                )
        for row in rows:
            if row["name"] == recommended:
                x, y = cost_of(row, cost), row[metric]["value"]
                panel.plot(
                    x,
                    y,
                    "o",
                    markersize=17,
                    markerfacecolor="none",
                    markeredgecolor=INK,
                    markeredgewidth=1.6,
                    zorder=5,
                )
                _name_it(panel, rows, row, cost, metric)
        panel.set_xscale("log")
        panel.set_xlabel(COSTS[cost])
        panel.xaxis.set_major_locator(LogLocator(10, subs=_ticks(rows, cost)))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.xaxis.set_major_formatter(FuncFormatter(lambda v, _: _short(v)))
        panel.tick_params(axis="x", labelsize=8)
        if i % 2 == 0:
            panel.set_ylabel(f"{NAMES[metric]} on validation")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=8.5)
    return to_svg(figure, "cost", said)


def _ticks(rows: Rows, cost: str) -> tuple[int, ...]:
    """Which multiples of powers of ten have a number at an axis, so that none run together."""
    costs = [c for row in rows if (c := cost_of(row, cost))]
    decades = math.log10(max(costs) / min(costs)) if costs else 0
    return (1, 2, 5) if decades < 2 else (1, 3) if decades < 3 else (1,)


def _name_it(axes: Axes, rows: Rows, row: Mapping[str, Any], cost: str, metric: str) -> None:
    """Say which one is recommended, on the side where there is room."""
    costs = sorted(c for r in rows if (c := cost_of(r, cost)) is not None)
    right = (cost_of(row, cost) or 0) > math.sqrt(costs[0] * costs[-1])
    axes.annotate(
        f"recommended: {plain(row['cut'] if row['kind'] != 'full' else 'full', 26, tail=True)}",
        (cost_of(row, cost) or 0, row[metric]["value"]),
        xytext=(-6 if right else 6, -23),
        textcoords="offset points",
        ha="right" if right else "left",
        weight="bold",
        fontsize=8.5,
        zorder=6,
        bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
    )


def cost_of(row: Mapping[str, Any], cost: str) -> float | None:
    """One of COSTS of a candidate; latencies in milliseconds, None where not measured."""
    if not cost.endswith("_seconds"):
        return float(row[cost])
    latency = row["latency"]
    return None if latency is None else 1000 * float(latency[cost]["value"])


@styled
def similarity(rows: Rows, said: str) -> str:
    """CKA and SVCCA of every layer before and after fine-tuning.

    Args:
        rows: `curves["similarity"]`.
        said: A sentence for those who can not see it.
    """
    figure, axes = canvas(7.4, 4.9, rows=2, sharex=True)
    cuts = list(dict.fromkeys(row["cut"] for row in rows))
    networks = list(dict.fromkeys(row["network"] for row in rows))
    for panel, (measure, words) in zip(
        axes, (("cka", "Linear CKA"), ("svcca", "SVCCA")), strict=True
    ):
        for network, colour, dash, marker in zip(
            networks, (INK, VERMILION), ("-", (0, (4, 2))), ("*", "s"), strict=False
        ):
            mine = [row for row in rows if row["network"] == network]
            panel.plot(
                [cuts.index(row["cut"]) for row in mine],
                [_number(row[measure]) for row in mine],
                color=colour,
                linestyle=dash,
                marker=marker,
                markersize=8 if marker == "*" else 4.5,
                linewidth=1.4,
                label=plain(network, 60),
            )
        if measure == "svcca":
            mine = [row for row in rows if row["network"] == networks[0]]
            panel.plot(
                [cuts.index(row["cut"]) for row in mine],
                [_number(row["chance"]) for row in mine],
                color=ORANGE,
                linestyle=(0, (1, 1.5)),
                linewidth=1.3,
                label="nothing in common",
            )
        panel.set_ylabel(words)
        panel.set_ylim(
            min(0.0, *(v for row in rows if _finite(v := _number(row[measure]))), 1), 1.03
        )
        panel.grid(False, axis="x")
    lines, titles = axes[1].get_legend_handles_labels()
    axes[0].legend(
        lines, titles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8.5
    )
    step = max(1, math.ceil(len(cuts) / 40))
    shown = range(0, len(cuts), step)
    axes[1].set_xticks(list(shown), [plain(cuts[i], 22, tail=True) for i in shown])
    axes[1].set_xlabel("Layer, from the pixels up")
    axes[1].tick_params(axis="x", labelsize=8, length=2)
    for text in axes[1].get_xticklabels():
        text.set(rotation=52, ha="right", rotation_mode="anchor")
    return to_svg(figure, "similarity", said)


def _short(value: float) -> str:
    """A cost at an axis: 0.05, 2, 20, 300, 2 M."""
    if value >= 1e4:
        return quantity(value).replace(" ", "")
    return f"{value:g}"


def _sides(intervals: Rows) -> tuple[np.ndarray[Any, Any], ...]:
    return tuple(
        np.array([_number(one[side]) for one in intervals], float)
        for side in ("value", "low", "high")
    )


def _number(value: Any) -> float:  # noqa: ANN401 - a number or None
    return float("nan") if value is None else float(value)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)

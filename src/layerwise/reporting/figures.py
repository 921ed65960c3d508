"""The figures of a report, one function each: numbers in, an SVG element out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from layerwise.evaluation.operating import reliability
from layerwise.reporting.curves import one_against_rest
from layerwise.reporting.drawing import (
    BLUE,
    DASHES,
    MARKERS,
    SERIES,
    SOFT,
    VERMILION,
    canvas,
    plain,
    styled,
    to_svg,
)
from layerwise.reporting.evidence import Evidence, Interval, ProfilePoint
from layerwise.reporting.text import number, quantity, with_interval


@styled
def depth_profile(points: Sequence[ProfilePoint]) -> str:
    """Validation AUROC by cut with its interval, and the parameters below each cut."""
    figure, (top, bottom) = canvas(7.4, 4.9, rows=2, sharex=True, height_ratios=[2.4, 1])
    x = range(len(points))
    value, low, high = (_sides([p.auroc for p in points], s) for s in ("value", "low", "high"))
    top.fill_between(x, low, high, color=BLUE, alpha=0.18, linewidth=0)
    top.plot(x, value, color=BLUE, marker="o", markersize=4)
    top.set_ylabel("AUROC on validation")
    bars = bottom.bar(x, [max(p.parameters, 1) for p in points], color=SOFT, alpha=0.6, width=0.62)
    bottom.set_yscale("log")
    bottom.yaxis.set_major_formatter(FuncFormatter(lambda v, _: quantity(v).replace(" ", "")))
    bottom.minorticks_off()
    bottom.set_ylabel("Parameters")
    for i, point in enumerate(points):
        if point.chosen:
            for axes in (top, bottom):
                axes.axvline(i, color=VERMILION, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
            top.plot(i, value[i], "D", color=VERMILION, markersize=8, zorder=5)
            left = i > len(points) / 2
            top.annotate(
                f"chosen: {plain(point.cut, 40, tail=True)}",
                (i, 0.03 + 0.07 * sum(p.chosen for p in points[:i])),
                xycoords=("data", "axes fraction"),
                xytext=(-6 if left else 6, 0),
                textcoords="offset points",
                ha="right" if left else "left",
                color=VERMILION,
                weight="bold",
            )
            bars[i].set(color=VERMILION, alpha=1)
    step = math.ceil(len(points) / 36)
    shown = [i for i in x if i % step == 0 or points[i].chosen]
    bottom.set_xticks(shown, [plain(points[i].cut, 20, tail=True) for i in shown])
    bottom.set_xlabel("Cut, from the pixels up")
    bottom.tick_params(axis="x", labelsize=8, length=2)
    for label in bottom.get_xticklabels():
        label.set(rotation=55, ha="right", rotation_mode="anchor")
    for axes in (top, bottom):
        axes.grid(False, axis="x")
    best = max(points, key=lambda p: -1 if not _known(p.auroc) else p.auroc["value"] or 0)
    chosen = ", ".join(p.cut for p in points if p.chosen) or "none of them"
    return to_svg(
        figure,
        "depth-profile",
        f"Validation AUROC of a linear layer at {len(points)} cuts. Highest at {best.cut}: "
        f"{with_interval(best.auroc)}. Chosen: {chosen}.",
    )


@styled
def transfer_comparison(rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy by cut, one curve a kind of transfer; rows without a cut are level lines."""
    figure, (axes,) = canvas(7.4, 3.8)
    cuts = list(dict.fromkeys(row["cut"] for row in rows if row["cut"] is not None))
    names = list(dict.fromkeys(row["name"] for row in rows))
    said = []
    for j, name in enumerate(names):
        mine = [row for row in rows if row["name"] == name]
        colour, dash, marker = (s[j % len(s)] for s in (SERIES, DASHES, MARKERS))
        value, low, high = (_sides([r["accuracy"] for r in mine], s) for s in _SIDES)
        if mine[0]["cut"] is None:
            axes.axhspan(low[0], high[0], color=colour, alpha=0.12, linewidth=0)
            axes.axhline(value[0], color=colour, linestyle=dash, label=plain(name, 40))
        else:
            x = np.array([cuts.index(r["cut"]) for r in mine]) + (j - (len(names) - 1) / 2) * 0.06
            axes.errorbar(
                x,
                value,
                np.clip([value - low, high - value], 0, None),
                color=colour,
                linestyle=dash,
                marker=marker,
                markersize=5,
                capsize=3,
                elinewidth=1,
                label=plain(name, 40),
            )
        best = int(np.nanargmax(value)) if np.isfinite(value).any() else 0
        said.append(f"{name} at best {with_interval(mine[best]['accuracy'])}")
    axes.set_xticks(range(len(cuts)), [plain(c, tail=True) for c in cuts])
    axes.set_xlabel("Layers copied from the base network, up to")
    axes.set_ylabel("Accuracy")
    axes.grid(False, axis="x")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=max(len(names), 1))
    return to_svg(figure, "transfer-comparison", "Accuracy by cut: " + "; ".join(said) + ".")


def confusion_counts(evidence: Evidence) -> tuple[np.ndarray[Any, Any], list[str], list[str]]:
    """Counts (rows, columns) and the names of both.

    Rows are true classes and columns decisions; for multi-label, rows are labels and columns the
    four outcomes.
    """
    k = len(evidence.labels)
    if evidence.task == "multilabel":
        counts = np.array(
            [
                [
                    int(np.sum((truth == a) & ((score >= limit) == b)))
                    for a, b in ((1, True), (1, False), (0, True), (0, False))
                ]
                for _, truth, score, limit in one_against_rest(evidence)
            ]
        )
        return counts, list(evidence.labels), ["found", "missed", "false alarm", "left alone"]
    scores = np.asarray(evidence.scores).reshape(len(evidence.targets), -1)
    if evidence.task == "binary":
        limit = 0.5 if evidence.threshold is None else evidence.threshold
        decided = (scores[:, 0].astype(float) >= np.asarray(limit, float)).astype(int)
    else:
        decided = scores.argmax(1)
    counts = np.bincount(np.asarray(evidence.targets, int) * k + decided, minlength=k * k)
    return counts.reshape(k, k), list(evidence.labels), list(evidence.labels)


@styled
def confusion(evidence: Evidence) -> str:
    """Counts and row percentages at the threshold; for multi-label, outcomes by label."""
    counts, rows, columns = confusion_counts(evidence)
    totals = np.broadcast_to(counts.sum(1, keepdims=True), counts.shape).astype(float)
    side = next((s for most, s in ((2, 1.4), (4, 0.75), (6, 0.62)) if len(columns) <= most), 0.5)
    height = 1.0 + 0.8 * side * len(rows)
    if evidence.task == "multilabel":
        # Present and absent are each a whole of their own.
        totals = np.repeat(counts.reshape(len(rows), 2, 2).sum(2), 2, axis=1).astype(float)
        height = 0.9 + 0.55 * len(rows)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    width = 1.6 + side * len(columns)
    figure, (axes,) = canvas(min(max(width, 3.8), 9), min(max(height, 2.6), 9))
    size = next((s for most, s in ((4, 12), (40, 9.5), (120, 7.5)) if counts.size <= most), 6)
    for (i, j), part in np.ndenumerate(share):
        shade = {"facecolor": BLUE, "alpha": 0.04 + 0.46 * part, "edgecolor": "none"}
        axes.add_patch(Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, **shade))
        if counts.size <= 450:
            text = f"{counts[i, j]:,}" + (f"\n{100 * part:.0f}%" if counts.size <= 120 else "")
            axes.text(j, i, text, ha="center", va="center", fontsize=size)
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xticks(range(len(columns)), [plain(c, 16) for c in columns])
    axes.set_yticks(range(len(rows)), [plain(r, 16) for r in rows])
    axes.tick_params(length=0)
    if len(columns) > 4:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    if evidence.task != "multilabel":
        axes.set_xlabel("Decision")
        axes.set_ylabel("Truth")
    said = "; ".join(
        f"{r}: " + ", ".join(f"{c} {n}" for c, n in zip(columns, line, strict=True))
        for r, line in zip(rows[:12], counts, strict=False)
    )
    return to_svg(figure, "confusion", f"Decisions on {evidence.where}. {said}.")


@styled
def calibration(evidence: Evidence, bins: int = 10) -> str:
    """How often a probability comes true, against what it says."""
    truth, score, what = calibration_pairs(evidence)
    found = reliability(truth, score, bins)
    figure, (top, bottom) = canvas(4.4, 4.6, rows=2, sharex=True, height_ratios=[3.2, 1])
    top.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (2, 3)))
    there = found["count"] > 0
    x, y = found["score"][there], found["rate"][there]
    sides = np.clip([y - found["low"][there], found["high"][there] - y], 0, None)
    top.errorbar(x, y, sides, color=BLUE, marker="o", markersize=5, capsize=3, elinewidth=1)
    top.set(ylim=(-0.03, 1.03), xlim=(-0.02, 1.02))
    top.set_ylabel("Share that came true")
    bottom.bar(
        (np.arange(bins) + 0.5) / bins, found["count"], width=0.86 / bins, color=SOFT, alpha=0.6
    )
    bottom.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    bottom.set_ylabel("Images" if evidence.task != "multilabel" else "Labels")
    bottom.set_xlabel(what)
    bottom.grid(False, axis="x")
    return to_svg(
        figure,
        "calibration",
        f"Reliability on {evidence.where}: expected calibration error {number(found['error'])}.",
    )


def calibration_pairs(evidence: Evidence) -> tuple[Any, Any, str]:
    """(came true, probability, what that is): the decided class's for multi-class, else each."""
    scores = np.asarray(evidence.scores, float).reshape(len(evidence.targets), -1)
    if evidence.task == "multiclass":
        right = (scores.argmax(1) == evidence.targets).astype(float)
        return right, scores.max(1, initial=0.0), "Probability of the decided class"
    what = f"Probability of {plain(evidence.labels[-1])}"
    what = what if evidence.task == "binary" else "Probability of the label"
    return np.asarray(evidence.targets, float).ravel(), scores.ravel(), what


_SIDES = ("value", "low", "high")


def _sides(intervals: Sequence[Interval], side: str) -> np.ndarray[Any, Any]:
    """One side of each interval, NaN where not known."""
    return np.array([np.nan if i.get(side) is None else i[side] for i in intervals], float)


def _known(interval: Interval) -> bool:
    value = interval.get("value")
    return value is not None and math.isfinite(value)

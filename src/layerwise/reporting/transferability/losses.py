"""What losses are made of: AnB's in two parts, layer by layer; and how much networks overfit."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from layerwise.reporting.drawing import (
    BLUE,
    GREEN,
    INK,
    PAPER,
    SOFT,
    VERMILION,
    canvas,
    plain,
    styled,
    to_svg,
)
from layerwise.reporting.layer_axis import LayerAxis, element_id, hollow, intervals
from layerwise.reporting.text import quantity
from layerwise.reporting.transferability.findings import Curves, Span, kinds, span
from layerwise.reporting.transferability.terms import kind_name, measure

Row = dict[str, Any]

_PARTS = (
    ("coadaptation", -0.18, BLUE, "", "lost co-adaptation (base − BnB)"),
    ("specificity", 0.18, VERMILION, "/////", "specific features (BnB − AnB)"),
)


@styled
def decomposition(curves: Curves) -> str:
    """The loss of AnB by layer in two parts: lost co-adaptation, and specific features."""
    shown = [kind for kind in kinds(curves) if kind.total]
    axis = LayerAxis(shown[0].names, base=False)
    height = 1.2 + 2.2 * len(shown)
    figure, panels = canvas(axis.width, height, rows=len(shown), sharex=True, sharey=True)
    for axes, kind in zip(panels, shown, strict=True):
        for part, aside, colour, hatch, name in _PARTS:
            losses: Mapping[int, Span] = getattr(kind, part)
            x = np.array([axis.place(n) for n in losses]) + aside
            bars = axes.bar(
                x,
                [s["value"] for s in losses.values()],
                width=0.34,
                facecolor=colour,
                alpha=0.75,
                hatch=hatch,
                edgecolor=PAPER,
                linewidth=0,
                label=name,
            )
            for n, bar in zip(losses, bars, strict=True):
                bar.set_gid(element_id(kind.name, part, str(n)))
            intervals(axes, x, list(losses.values()), color=INK, linestyle="none", marker="")
        x = np.array([axis.place(n) for n in kind.total])
        total = [s["value"] for s in kind.total.values()]
        together = "both together (base − AnB)"
        axes.hlines(total, x - 0.36, x + 0.36, color=INK, linewidth=2, label=together)
        axes.axhline(0, color=SOFT, linewidth=0.8)
        axes.set_title(plain(kind_name(curves, kind.name), 80))
        axes.set_ylabel(f"Loss of {measure(curves)}")
        axis.label(axes, named=axes is panels[-1])
    panels[-1].set_xlabel("Layer n: the lowest n layers are copied and frozen")
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3, fontsize=8.5)
    return to_svg(
        figure,
        "decomposition",
        "Loss of AnB by layer, in the part from lost co-adaptation and the part from specificity.",
    )


def decomposition_rows(curves: Curves) -> list[Row]:
    """What the decomposition draws."""
    return [
        {
            "kind": kind.name,
            "layer": n,
            "cut": kind.names[n],
            "coadaptation": kind.coadaptation[n],
            "specificity": kind.specificity[n],
            "total": kind.total[n],
        }
        for kind in kinds(curves)
        for n in kind.total
    ]


_FITS: dict[str, dict[str, Any]] = {
    "train": {"color": GREEN, "marker": "^", "linestyle": (0, (5, 2)), **hollow(GREEN)},
    "test": {"color": BLUE, "marker": "o", "linestyle": "-"},
}


@styled
def overfitting(curves: Curves) -> str:
    """Accuracy on training and test images: by images per class, and of the study's bases."""
    found = curves["overfitting"]
    rows, bases = list(found.get("rows") or ()), list(found.get("bases") or ())
    heights = [h for h, there in ((3.2, rows), (2.9, bases)) if there]
    figure, panels = canvas(7.4, sum(heights), rows=len(heights), height_ratios=heights)
    if rows:
        axes = panels[0]
        _fits(axes, [float(row["per_class"]) for row in rows], rows, lines=True)
        axes.set_xscale("log")
        axes.set_xticks(
            [float(row["per_class"]) for row in rows], [quantity(row["per_class"]) for row in rows]
        )
        axes.minorticks_off()
        axes.set_title(f"Task {plain(str(found.get('task')), 40)}, with fewer images")
        axes.set_xlabel("Training images per class")
    if bases:
        axes = panels[-1]
        _fits(axes, list(range(len(bases))), bases, lines=False)
        texts = [plain(str(b["task"]), 26, tail=True) for b in bases]
        axes.set_xticks(range(len(bases)), texts, fontsize=8)
        axes.set_xlim(-0.6, len(bases) - 0.4)
        if len(bases) > 3:
            for text in axes.get_xticklabels():
                text.set(rotation=35, ha="right", rotation_mode="anchor")
        axes.set_title("The base networks, with all their training images")
    for axes in panels:
        axes.set_ylabel(measure(curves).capitalize())
        axes.grid(False, axis="x")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=9
    )
    return to_svg(
        figure, "overfitting", f"{measure(curves).capitalize()} on training and on test images."
    )


def _fits(axes: Axes, x: Sequence[float], rows: Sequence[Row], lines: bool) -> None:
    """Training and test accuracy at given places, joined by lines or each pair by one."""
    if not lines:
        train, test = ([span(row[side])["value"] for row in rows] for side in ("train", "test"))
        axes.vlines(x, test, train, color=SOFT, linewidth=1)
    for side, style in _FITS.items():
        style = style if lines else {**style, "linestyle": "none"}
        spans = [span(row[side]) for row in rows]
        gid = element_id(side, "rows" if lines else "bases")
        intervals(axes, x, spans, label=f"{side} images", markersize=6, gid=gid, **style)


def overfitting_rows(curves: Curves) -> list[Row]:
    """What the figure of overfitting draws: smaller sets, then the study's bases."""
    found = curves["overfitting"]
    smaller = [
        {
            "part": "fewer images",
            "pair": None,
            "task": found.get("task"),
            **{key: row.get(key) for key in ("per_class", "images", "epochs")},
            **{key: span(row[key]) for key in ("train", "test", "gap")},
        }
        for row in found.get("rows") or ()
    ]
    whole = [
        {
            "part": "bases",
            "pair": row["pair"],
            "task": row["task"],
            **dict.fromkeys(("per_class", "images", "epochs")),
            **{key: span(row[key]) for key in ("train", "test", "gap")},
        }
        for row in found.get("bases") or ()
    ]
    return smaller + whole

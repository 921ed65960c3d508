"""All models on one sheet: a row each, with its decisions and its two curves (thesis, §5.1)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from layerwise.reporting.baselines.shapes import Shapes, grid
from layerwise.reporting.drawing import BLUE, INK, PAPER, SOFT, VERMILION, plain, styled, to_svg
from layerwise.reporting.text import number
from layerwise.studies.baselines.lineup import AUGMENTED, BASE
from layerwise.studies.baselines.scores import Cell

COLOURS = {BASE: VERMILION, AUGMENTED: BLUE}
DASHED: dict[str, Any] = {BASE: (0, (4, 2)), AUGMENTED: "-"}
MOST_NUMBERS = 5  # columns of a matrix whose counts are written
MOST_NAMES = 8  # columns of one whose classes are named
WIDTH, HEIGHT = 8.6, 1.75  # inches: of the sheet, of a row

Drawn = Mapping[str, tuple[Cell, Shapes]]  # by form


@styled
def sheet(rows: Sequence[tuple[str, Drawn]], said: str, wide: bool = False) -> str:
    """Confusion matrices of both forms, ROC and precision–recall curves, a row a model.

    Args:
        rows: A model's name, and what is drawn of it in each of its forms.
        said: A sentence for those who can not see it.
        wide: The matrices have four outcomes a label instead of classes.
    """
    forms = [form for form in (BASE, AUGMENTED) if any(form in drawn for _, drawn in rows)]
    figure = Figure(figsize=(WIDTH, 0.5 + HEIGHT * len(rows)), layout="constrained")
    FigureCanvasSVG(figure)
    ratios = [1.25 if wide else 1.0] * len(forms) + [1.0, 1.0]
    panels = figure.subplots(len(rows), len(forms) + 2, squeeze=False, width_ratios=ratios)
    for r, (name, drawn) in enumerate(rows):
        last = r == len(rows) - 1
        for c, form in enumerate(forms):
            panel = panels[r, c]
            if form in drawn:
                _matrix(panel, drawn[form][1], names=c == 0, decisions=last)
            else:
                panel.axis("off")
        for c, metric in ((len(forms), "auroc"), (len(forms) + 1, "auprc")):
            _curves(panels[r, c], drawn, metric, last)
        panels[r, 0].set_title(plain(name, 30), weight="bold", loc="left", fontsize=9)
    for c, form in enumerate(forms):
        heading = f"{form}: decisions"
        panels[0, c].annotate(
            heading, (0.5, 1.28), xycoords="axes fraction", ha="center", annotation_clip=False
        )
    for c, heading in enumerate(("ROC", "precision–recall")):
        panels[0, len(forms) + c].annotate(
            heading, (0.5, 1.28), xycoords="axes fraction", ha="center", annotation_clip=False
        )
    handles = [
        Line2D([], [], color=COLOURS[form], linestyle=DASHED[form], label=form) for form in forms
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(forms))
    return to_svg(figure, "sheet", said)


def _matrix(axes: Axes, shapes: Shapes, *, names: bool, decisions: bool) -> None:
    """Decisions in shares of each row (of several labels: of each truth), with their counts."""
    counts = shapes.counts
    totals = np.broadcast_to(counts.sum(1, keepdims=True), counts.shape)
    if len(shapes.columns) == 4 and shapes.columns[0] == "found":
        totals = np.repeat(counts.reshape(len(counts), 2, 2).sum(2), 2, axis=1)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    small = 7.5 if counts.size <= 9 else 6
    for (i, j), part in np.ndenumerate(share):
        shade = {"facecolor": BLUE, "alpha": 0.04 + 0.46 * part, "edgecolor": "none"}
        axes.add_patch(Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, **shade))
        if counts.shape[1] <= MOST_NUMBERS and len(counts) <= MOST_NAMES:
            count = f"{counts[i, j]:,.0f}"
            words = f"{count}\n{100 * part:.0f}%" if counts.size <= 4 else count
            axes.text(j, i, words, ha="center", va="center", fontsize=small)
    axes.set(
        xlim=(-0.5, counts.shape[1] - 0.5), ylim=(len(counts) - 0.5, -0.5), xticks=[], yticks=[]
    )
    axes.tick_params(length=0, labelsize=7)
    if decisions and counts.shape[1] <= MOST_NAMES:
        axes.set_xticks(range(counts.shape[1]), [plain(c, 11) for c in shapes.columns])
        if counts.shape[1] > 2:
            for label in axes.get_xticklabels():
                label.set(rotation=45, ha="right", rotation_mode="anchor")
    if names and len(counts) <= MOST_NAMES:
        axes.set_yticks(range(len(counts)), [plain(row, 11) for row in shapes.rows])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _curves(axes: Axes, drawn: Drawn, metric: str, last: bool) -> None:
    """Both forms' curves, their areas, and where the decisions lie."""
    if metric == "auroc":
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=(0, (2, 3)))
    for k, (form, (cell, shapes)) in enumerate(drawn.items()):
        values = shapes.roc if metric == "auroc" else shapes.precision
        axes.plot(
            grid(),
            values,
            color=COLOURS[form],
            linestyle=DASHED[form],
            linewidth=1.4,
            drawstyle="default" if metric == "auroc" else "steps-pre",
        )
        if shapes.point is not None:
            alarms, recall, precision = shapes.point
            at = (alarms, recall) if metric == "auroc" else (recall, precision)
            axes.plot(*at, "o", color=COLOURS[form], markeredgecolor=PAPER, markersize=5, zorder=5)
        axes.annotate(
            f"{form} {number(cell.test[metric]['value'])}",
            (0.97 if metric == "auroc" else 0.05, 0.05 + 0.13 * (len(drawn) - 1 - k)),
            xycoords="axes fraction",
            ha="right" if metric == "auroc" else "left",
            fontsize=7,
            color=INK,
        )
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.05))
    axes.tick_params(labelsize=7)
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"] if last else [])
    axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    if last:
        axes.set_xlabel("false positive rate" if metric == "auroc" else "recall", fontsize=8)

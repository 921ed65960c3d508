"""Scores by model and form, and what augmentation changes: one panel a metric."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layerwise.reporting.baselines.sheet import COLOURS
from layerwise.reporting.drawing import BLUE, INK, PAPER, SOFT, VERMILION, plain, styled, to_svg
from layerwise.reporting.text import NAMES, number, signed
from layerwise.studies.baselines.lineup import AUGMENTED, BASE
from layerwise.studies.baselines.scores import METRICS, Cell, Difference

WIDTH = 8.6  # inches
SHIFT = 0.17  # of a form beside its model's place
MARKER = {BASE: "s", AUGMENTED: "o"}


@styled
def scores(cells: Sequence[Cell]) -> str:
    """Every metric of every model in every form, with its interval: squares base, discs augmented.

    Args:
        cells: As they are shown.
    """
    models = list(dict.fromkeys(cell.made.entrant.name for cell in cells))
    forms = list(dict.fromkeys(cell.made.form.name for cell in cells))

    def draw(panel: Axes, metric: str) -> None:
        for cell in cells:
            name, form = cell.made.entrant.name, cell.made.form.name
            one = _alone(cells, name)
            y = models.index(name) + (0 if one else SHIFT * (1 if form == AUGMENTED else -1))
            _dot(panel, cell.test[metric], y, COLOURS[form], MARKER[form], filled=True)

    handles = [
        Line2D([], [], color=COLOURS[f], marker=MARKER[f], linestyle="none", label=f) for f in forms
    ]
    said = "; ".join(f"{c.name} {number(c.test['auroc']['value'])}" for c in cells)
    return _panels("scores", models, draw, handles, f"Scores on the test part. AUROC: {said}.")


@styled
def changes(differences: Sequence[Difference]) -> str:
    """Augmented less base, by metric; filled beyond noise after Holm's correction.

    Args:
        differences: Of `Scores.changes`.
    """
    models = list(dict.fromkeys(one.model for one in differences))

    def draw(panel: Axes, metric: str) -> None:
        panel.axvline(0, color=SOFT, linewidth=1)
        for one in differences:
            if one.metric == metric:
                up = _number(one.interval, "value") >= 0
                colour = BLUE if up else VERMILION
                y = models.index(one.model)
                _dot(panel, one.interval, y, colour, "o", filled=one.beyond_noise)

    handles = [
        Line2D(
            [],
            [],
            color=INK,
            marker="o",
            linestyle="none",
            markerfacecolor=INK if filled else PAPER,
            label=label,
        )
        for label, filled in (("beyond noise, after Holm", True), ("within noise", False))
    ]
    said = "; ".join(
        f"{one.model} {NAMES[one.metric]} {signed(_number(one.interval, 'value'))}"
        for one in differences
    )
    return _panels("changes", models, draw, handles, f"Augmented less base: {said}.")


def _panels(
    name: str,
    models: Sequence[str],
    draw: Callable[[Axes, str], None],
    handles: Sequence[Any],
    said: str,
) -> str:
    """Six panels in two rows, one a metric, models from the top down."""
    figure = Figure(figsize=(WIDTH, 1.4 + 2 * (0.5 + 0.3 * len(models))), layout="constrained")
    FigureCanvasSVG(figure)
    panels = figure.subplots(2, 3, squeeze=False, sharey=True)
    for panel, metric in zip(panels.ravel(), METRICS, strict=True):
        draw(panel, metric)
        panel.set_title(NAMES[metric])
        panel.set_yticks(range(len(models)), [plain(model, 24) for model in models])
        panel.set_ylim(len(models) - 0.5, -0.5)
        panel.grid(False, axis="y")
        panel.tick_params(axis="y", length=0)
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    return to_svg(figure, name, said)


def _dot(
    panel: Axes, interval: Mapping[str, Any], y: float, colour: str, marker: str, *, filled: bool
) -> None:
    """A value with its interval; nothing where it is not defined."""
    value, low, high = (_number(interval, side) for side in ("value", "low", "high"))
    if math.isnan(value):
        return
    panel.plot([low, high], [y, y], color=colour, linewidth=1.3)
    face = colour if filled else PAPER
    panel.plot(value, y, marker, color=colour, markersize=5, markerfacecolor=face)


def _alone(cells: Sequence[Cell], model: str) -> bool:
    return sum(cell.made.entrant.name == model for cell in cells) == 1


def _number(interval: Mapping[str, Any], side: str) -> float:
    found = interval.get(side)
    return math.nan if found is None else float(np.float64(found))

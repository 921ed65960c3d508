"""Figure 3 of Yosinski et al. 2014: dissimilar tasks and random filters, beside similar tasks.

Random halves of the classes are the similar tasks. Everything else, named groups, two data sets or
given weights, is set against them.
"""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Drawing

from layerwise.reporting.drawing import (
    BLUE,
    DASHES,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    SOFT,
    VERMILION,
    plain,
    styled,
    to_svg,
)
from layerwise.reporting.layer_axis import LayerAxis, chance_line, element_id, hollow, intervals
from layerwise.reporting.text import signed
from layerwise.reporting.transferability.findings import (
    Curves,
    Kind,
    Span,
    chance,
    compared,
    defined,
    kinds,
    layer_names,
    points_of,
    span,
)
from layerwise.reporting.transferability.terms import kind_name, measure
from layerwise.studies.transferability.experiment import BASE, FILTERS, TRANSFER

Row = dict[str, Any]

_KINDS: dict[str, dict[str, Any]] = {
    "random": {"color": VERMILION, "marker": "D", "linestyle": "-"},
    "groups": {"color": ORANGE, "marker": "h", "linestyle": (0, (5, 2))},
    "data sets": {"color": GREEN, "marker": "s", "linestyle": (0, (6, 2, 1, 2))},
    "weights": {"color": PURPLE, "marker": "P", "linestyle": (0, (3, 1))},
}
_TARGETS: tuple[dict[str, Any], ...] = tuple(
    {"color": colour, "marker": marker, "linestyle": dash}
    for colour, marker, dash in zip(
        (ORANGE, GREEN, PURPLE, VERMILION, SKY, BLUE), "h^sDPv", DASHES, strict=True
    )
)
_FILTERS: tuple[dict[str, Any], ...] = (
    {"color": BLUE, "marker": "v", "linestyle": (0, (1, 1.2))},
    {"color": SKY, "marker": "v", "linestyle": (0, (5, 2)), **hollow(SKY)},
    {"color": INK, "marker": "v", "linestyle": (0, (3, 1)), **hollow(INK)},
    {"color": SOFT, "marker": "v", "linestyle": "-"},
)


@styled
def figure3(curves: Curves) -> str:
    """Dissimilar tasks (top left), random filters (top right), all less their base (bottom)."""
    rows = figure3_rows(curves)
    upper = [p for p in ("dissimilar", "random filters") if any(r["panel"] == p for r in rows)]
    axis = LayerAxis(kinds(curves)[0].names)
    figure = Drawing(figsize=(axis.width, 7.2 if upper else 4.2), layout="constrained")
    FigureCanvasSVG(figure)
    if upper:
        plan: Any = [upper, ["normalised"] * len(upper)]
        panels: Mapping[str, Axes] = figure.subplot_mosaic(plan, height_ratios=[1, 1.15])
    else:
        panels = {"normalised": figure.subplots()}
    for name, axes in panels.items():
        mine = [row for row in rows if row["panel"] == name]
        for i, line in enumerate(dict.fromkeys(row["line"] for row in mine)):
            _line(axes, axis, line, [r for r in mine if r["line"] == line], i, name)
        axis.label(axes, named=name == "normalised")
        axes.margins(y=0.12)
        if name == "normalised":
            axes.axhline(0, color=INK, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
        else:
            lowest = min(row["accuracy"]["value"] for row in mine)
            levels = [chance(curves, k) for k in {row["kind"] for row in mine}]
            chance_line(axes, sum(levels) / len(levels), lowest, reach=name == "random filters")
        axes.legend(fontsize=8, loc="best")
    said = measure(curves).capitalize()
    for name in upper:
        panels[name].set_title(_TITLES[name])
        panels[name].set_ylabel(f"{said} on test images" if name == upper[0] else "")
        panels[name].set_xlabel("Layer n")
    panels["normalised"].set_title("All of them, less their base")
    panels["normalised"].set_ylabel(f"{said} less the base's")
    panels["normalised"].set_xlabel("Layer n: the lowest n layers are copied or random, and frozen")
    return to_svg(figure, "figure3", f"{said} by layer, of frozen layers. {_last_words(rows)}")


_TITLES = {"dissimilar": "From other tasks, by target", "random filters": "Random filters"}


def _last_words(rows: list[Row]) -> str:
    """The normalised lines at their highest layer, for those who do not see them."""
    last = {row["line"]: row for row in rows if row["panel"] == "normalised"}
    return "; ".join(
        f"{line} at layer {row['layer']}: {signed(row['difference_to_base']['value'])}"
        for line, row in last.items()
    )


def _line(axes: Axes, axis: LayerAxis, line: str, rows: list[Row], number: int, panel: str) -> None:
    """One line with its intervals, from its base on."""
    if panel == "dissimilar":
        style = _TARGETS[number % len(_TARGETS)]
    elif panel == "random filters":
        style = _FILTERS[number % len(_FILTERS)]
    elif rows[0]["treatment"] == FILTERS:
        style = _FILTERS[0]
    else:
        style = _KINDS.get(rows[0]["kind"], {"color": SOFT, "marker": "X", "linestyle": "-"})
    spans = [row["difference_to_base" if panel == "normalised" else "accuracy"] for row in rows]
    aside = (number - 1) * 0.06
    x = [axis.place(row["layer"]) + (aside if row["layer"] else 0) for row in rows]
    intervals(
        axes,
        x,
        spans,
        markersize=6 if len(axis.names) < 10 else 4.5,
        label=plain(line, 50),
        gid=element_id(panel, line),
        **style,
    )
    if panel == "normalised":  # the base less itself is where every line begins
        first = [0.0, x[0]], [0.0, spans[0]["value"]]
        axes.plot(*first, color=style["color"], linestyle=style["linestyle"])
    if panel == "normalised" or rows[0]["treatment"] == BASE:
        start = 0.0 if panel == "normalised" else spans[0]["value"]
        axes.plot([0], [start], "o", markersize=6.5, color=INK, zorder=5, **hollow(INK))


def figure3_rows(curves: Curves) -> list[Row]:
    """What Figure 3 draws, panel by panel and line by line."""
    rows: list[Row] = []
    measured = kinds(curves)
    for kind in measured:
        if kind.name != "random":
            rows += _by_target(curves, kind)
    filtered = [kind for kind in measured if kind.has(FILTERS)]
    for kind in filtered:
        for treatment in (BASE, FILTERS):
            for n, accuracy in kind.accuracy.get(treatment, {}).items():
                name = kind_name(curves, kind.name)
                rows.append(_row("random filters", name, kind, treatment, n, accuracy))
    for kind in measured:
        for n, difference in kind.at(TRANSFER).items():
            name, accuracy = kind_name(curves, kind.name), kind.accuracy[TRANSFER][n]
            rows.append(_row("normalised", name, kind, TRANSFER, n, accuracy, difference))
    for n, difference in _filters_of_all(curves, filtered).items():
        rows.append(_row("normalised", FILTERS, None, FILTERS, n, None, difference))
    names = layer_names(curves)
    return [{**row, "cut": names.get(row["layer"])} for row in rows]


def _filters_of_all(curves: Curves, filtered: list[Kind]) -> dict[int, Span]:
    """Random filters less their base, over all kinds; where that is not given, the first kind's."""
    return compared(curves, FILTERS) or (dict(filtered[0].at(FILTERS)) if filtered else {})


def _by_target(curves: Curves, kind: Kind) -> list[Row]:
    """The base and AnB of each target task, in lines that join common targets."""
    out = []
    points = points_of(curves, kind.name, BASE, TRANSFER)
    several = len({point["pair"] for point in points}) > 1
    for pair, target in dict.fromkeys((point["pair"], point["target"]) for point in points):
        mine = [p for p in points if (p["pair"], p["target"]) == (pair, target)]
        if all(point["treatment"] == BASE for point in mine):
            continue
        line = f"to {target}" + (f" ({pair})" if several else "")
        for point in sorted(mine, key=lambda p: int(p["layer"])):
            accuracy, difference = span(point["accuracy"]), span(point.get("difference_to_base"))
            if defined(accuracy):
                place = point["treatment"], int(point["layer"])
                out.append(_row("dissimilar", line, kind, *place, accuracy, difference))
    return out


def _row(
    panel: str,
    line: str,
    kind: Kind | None,
    treatment: str,
    layer: int,
    accuracy: Span | None,
    difference: Span | None = None,
) -> Row:
    return {
        "panel": panel,
        "line": line,
        "kind": kind.name if kind else None,
        "treatment": treatment,
        "layer": layer,
        "cut": None,
        "accuracy": accuracy or span(None),
        "difference_to_base": difference or span(None),
    }

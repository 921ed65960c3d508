"""Figure 2 of Yosinski et al. 2014, of any network and any tasks.

Every network and the means of every treatment. Filled markers are frozen layers, hollow ones
fine-tuned; circles are selffers, diamonds transfers: so they differ in black and white too. Figure
3 is in `transferability_contrasts.py`, what losses are made of in `transferability_losses.py`.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.layout_engine import ConstrainedLayoutEngine

from layerwise.reporting.drawing import (
    BLUE,
    INK,
    ORANGE,
    PAPER,
    SKY,
    SOFT,
    VERMILION,
    canvas,
    plain,
    styled,
    to_svg,
)
from layerwise.reporting.layer_axis import LayerAxis, chance_line, element_id, hollow, intervals
from layerwise.reporting.transferability.findings import (
    Curves,
    Kind,
    chance,
    defined,
    kinds,
    points_of,
    span,
)
from layerwise.reporting.transferability.terms import digits, kind_name, layers_words, measure
from layerwise.studies.transferability.experiment import (
    BASE,
    LONGER,
    SELFFER,
    SELFFER_TUNED,
    TRANSFER,
    TRANSFER_TUNED,
)

Row = dict[str, Any]

STYLES: dict[str, dict[str, Any]] = {
    SELFFER: {"color": BLUE, "marker": "o", "linestyle": "-"},
    SELFFER_TUNED: {"color": SKY, "marker": "o", "linestyle": (0, (5, 2)), **hollow(SKY)},
    TRANSFER: {"color": VERMILION, "marker": "D", "linestyle": (0, (6, 2, 1, 2))},
    TRANSFER_TUNED: {
        "color": ORANGE,
        "marker": "D",
        "linestyle": (0, (1, 1.2)),
        **hollow(ORANGE),
    },
    BASE: {"color": INK, "marker": "o", "linestyle": "none", **hollow(INK)},
    LONGER: {"color": INK, "marker": "s", "linestyle": "none", **hollow(SOFT)},
}
DRAWN = (SELFFER, SELFFER_TUNED, TRANSFER, TRANSFER_TUNED)  # in the order of the legend
NEARER = 0.3  # means stand nearer together than networks
BESIDE_BASE = 0.3  # where the base that was trained twice as long stands


@styled
def figure2(curves: Curves) -> str:
    """Every network (top), and the means with the interpretations of §4.1 that apply (bottom)."""
    kind = kinds(curves)[0]
    axis = LayerAxis(kind.names)
    figure, (top, bottom) = canvas(axis.width, 7.6, rows=2, height_ratios=[1, 1.15])
    shown = _shown(kind)
    size = 4.5 if len(axis.names) <= 9 else 3.5
    for treatment in shown:
        rows = networks(curves, kind, treatment)
        top.plot(
            [axis.place(row["layer"]) + _aside(kind, treatment) for row in rows],
            [row["accuracy"]["value"] for row in rows],
            markersize=size + (1.5 if treatment in (BASE, LONGER) else 0),
            label=treatment,
            gid=element_id("points", treatment),
            **{**STYLES[treatment], "linestyle": "none"},
        )
        _mean_line(bottom, axis, kind, treatment, size + 1)
    base = kind.accuracy.get(BASE, {}).get(0)
    for axes in (top, bottom):
        if base:
            axes.axhline(base["value"], color=INK, lw=0.9, linestyle=(0, (1, 2)), zorder=1)
        axes.set_ylabel(f"{measure(curves).capitalize()} on test images")
        axis.label(axes, named=axes is bottom)
        axes.margins(y=0.13)
        chance_line(axes, chance(curves, kind.name), axes.get_ylim()[0], reach=False)
    top.set_title(f"Every network: {plain(kind_name(curves, kind.name), 70)}")
    bottom.set_title("Means with 95% intervals; each number is explained below")
    bottom.set_xlabel("Layer n: the lowest n layers are copied; filled: frozen, hollow: fine-tuned")
    figure.legend(
        *top.get_legend_handles_labels(),
        loc="outside upper center",
        ncols=len(shown),
        handletextpad=0.2,
        columnspacing=1.4,
    )
    marks = interpretations(kind)
    said = [f"{mark['number']}.  {mark['text']}" for mark in marks]
    _key(figure, said)
    _badges(figure, bottom, axis, kind, marks)
    return to_svg(figure, "figure2", f"{measure(curves).capitalize()} by layer. {'; '.join(said)}.")


def _shown(kind: Kind) -> list[str]:
    return [t for t in (BASE, LONGER, *DRAWN) if t in kind.accuracy]


def _mean_line(axes: Axes, axis: LayerAxis, kind: Kind, treatment: str, size: float) -> None:
    """The means of a treatment, in a line that begins at the base, as in the paper."""
    means = kind.accuracy[treatment]
    style = {**STYLES[treatment], "markersize": size, "gid": element_id("mean", treatment)}
    x = [axis.place(n) + _aside(kind, treatment, NEARER) for n in means]
    if treatment in DRAWN and BASE in kind.accuracy:
        y = [kind.accuracy[BASE][0]["value"], *(s["value"] for s in means.values())]
        axes.plot([0.0, *x], y, color=style["color"], linestyle=style["linestyle"])
        style["linestyle"] = "none"
    intervals(axes, x, list(means.values()), zorder=3, **style)


def _aside(kind: Kind, treatment: str, spread: float = 1.0) -> float:
    """How far beside its layer a treatment stands, so that it can be told from the others."""
    if treatment == LONGER:
        return BESIDE_BASE
    layered = [t for t in _shown(kind) if t in DRAWN]
    if treatment not in layered:
        return 0.0
    return spread * 0.16 * (layered.index(treatment) - (len(layered) - 1) / 2)


def interpretations(kind: Kind) -> list[dict[str, Any]]:
    """The numbered interpretations of §4.1 that apply to these numbers, for Figure 2.

    Returns:
        Each with its "number", the "treatment" whose line it belongs to, the "layers" at which it
        applies, and a short "text".
    """
    out: list[dict[str, Any]] = []

    def add(which: int, treatment: str, layers: Sequence[int], text: str) -> None:
        out.append({"number": which, "treatment": treatment, "layers": layers, "text": text})

    if BASE in kind.accuracy:
        add(1, BASE, [0], f"Base: {digits(kind.accuracy[BASE][0]['value'])}")
    if fragile := kind.below(SELFFER):
        where = layers_words(fragile)
        add(2, SELFFER, fragile, f"BnB is below the base at {where}: fragile co-adaptation")
    if recovered := kind.recovered():
        where = layers_words(recovered)
        add(3, SELFFER_TUNED, recovered, f"BnB+ recovers at {where}: fine-tuning mends it")
    if fallen := kind.below(TRANSFER):
        parts = kind.losses()
        specific = [
            n for n in fallen if n in {*parts.get("specificity", ()), *parts.get("both", ())}
        ]
        text = f"AnB is below the base at {layers_words(fallen)}"
        text += f"; features are specific at {layers_words(specific)}" if specific else ""
        add(4, TRANSFER, specific or fallen, text)
    if (gained := kind.above(TRANSFER_TUNED)) and kind.boosted():
        where = layers_words(gained)
        add(5, TRANSFER_TUNED, gained, f"AnB+ is above the base at {where}, and above its controls")
    return out


def _badges(
    figure: Drawing, axes: Axes, axis: LayerAxis, kind: Kind, marks: Sequence[Mapping[str, Any]]
) -> None:
    """Each interpretation's number beside its line, where there is room for it."""
    figure.draw_without_rendering()
    transform = axes.transData.transform
    occupied = transform(np.array(_drawn(axis, kind)))
    point = figure.dpi / 72
    box = axes.get_window_extent()
    for mark in marks:
        spans = kind.accuracy[mark["treatment"]]
        best: tuple[float, int, tuple[int, int]] | None = None
        for n in _greatest_first(kind, mark):
            if best is not None and best[0] >= ROOM * point:
                break
            x = axis.place(n) + _aside(kind, mark["treatment"], NEARER)
            here = transform((x, spans[n]["value"]))
            for offset in _AROUND:
                at = here + np.multiply(offset, point)
                if not (box.y0 + 9 * point < at[1] < box.y1 - 9 * point):
                    continue
                room = float(np.min(np.hypot(*(occupied - at).T)))
                if best is None or room > best[0] + 0.5:
                    best = (room, n, offset)
        if best is None:
            best = (0.0, mark["layers"][0], (0, 17))
        _, n, offset = best
        x = axis.place(n) + _aside(kind, mark["treatment"], NEARER)
        note = axes.annotate(
            str(mark["number"]),
            (x, spans[n]["value"]),
            xytext=offset,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
            weight="bold",
            color=STYLES[mark["treatment"]]["color"],
            bbox={
                "boxstyle": "circle,pad=0.22",
                "facecolor": PAPER,
                "edgecolor": STYLES[mark["treatment"]]["color"],
                "linewidth": 1,
            },
            zorder=6,
        )
        note.set_gid(f"interpretation-{mark['number']}")
        placed = transform((x, spans[n]["value"])) + np.multiply(offset, point)
        around = [placed + 7 * point * np.array([math.cos(a), math.sin(a)]) for a in _CIRCLE]
        occupied = np.vstack([occupied, placed, *around])


def _drawn(axis: LayerAxis, kind: Kind) -> list[tuple[float, float]]:
    """Points on everything that the panel of means draws, in the units of its axes."""
    out = []
    for treatment in _shown(kind):
        spans = {n: s for n, s in kind.accuracy[treatment].items() if defined(s)}
        x = {n: axis.place(n) + _aside(kind, treatment, NEARER) for n in spans}
        line = [(x[n], s["value"]) for n, s in spans.items()]
        if treatment in DRAWN and BASE in kind.accuracy:
            line = [(0.0, kind.accuracy[BASE][0]["value"]), *line]
        for (xa, ya), (xb, yb) in itertools.pairwise(line):
            out += [(xa + f * (xb - xa), ya + f * (yb - ya)) for f in np.linspace(0, 1, 9)]
        out += line
        for n, one in spans.items():
            out += [(x[n], one[end]) for end in ("low", "high") if math.isfinite(one[end])]
    return out


def _greatest_first(kind: Kind, mark: Mapping[str, Any]) -> list[int]:
    """The layers of an interpretation, where there is most to see first."""
    line = SELFFER if mark["treatment"] == SELFFER_TUNED else mark["treatment"]
    size = {n: abs(one["value"]) for n, one in kind.at(line).items()}
    return sorted(mark["layers"], key=lambda n: -size.get(n, 0))


ROOM = 12  # points around a number that nothing is drawn in
_AROUND = ((0, 17), (0, -17), (14, 13), (14, -13), (-14, 13), (-14, -13), (0, 25), (0, -25))
_CIRCLE = np.linspace(0, 2 * math.pi, 8, endpoint=False)


def _key(figure: Drawing, lines: Sequence[str]) -> None:
    """What the numbers in the figure mean, below it."""
    if not lines:
        return
    width, height = figure.get_size_inches()
    room = 0.17 * len(lines) + 0.1
    figure.set_size_inches(width, height + room)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, room / (height + room), 1, height / (height + room)))
    for i, line in enumerate(lines):
        y = (room - 0.17 * (i + 0.6)) / (height + room)
        figure.text(0.02, y, plain(line, 110), fontsize=8.5, va="center")


def networks(curves: Curves, kind: Kind, treatment: str) -> list[Row]:
    """One row a trained network: each repeat of each pair and direction."""
    rows = []
    for point in points_of(curves, kind.name, treatment):
        whole = span(point["accuracy"])
        each = [float(v) for v in point["accuracy"].get("repeats") or () if v is not None]
        spans = [{"value": v, "low": math.nan, "high": math.nan} for v in each]
        for repeat, one in enumerate(spans if len(spans) > 1 else [whole], 1):
            rows.append(
                {
                    "pair": point["pair"],
                    "source": point.get("source"),
                    "target": point["target"],
                    "treatment": treatment,
                    "layer": int(point["layer"]),
                    "cut": point.get("cut"),
                    "repeat": repeat,
                    "accuracy": one,
                }
            )
    return rows


def figure2_rows(curves: Curves) -> list[Row]:
    """What Figure 2 draws: the networks of the top panel, then the means of the bottom one."""
    kind = kinds(curves)[0]
    shown = _shown(kind)
    rows = [
        {"panel": "networks", "kind": kind.name, **row}
        for treatment in shown
        for row in networks(curves, kind, treatment)
    ]
    nothing = span(None)
    for treatment in shown:
        for n, accuracy in kind.accuracy[treatment].items():
            rows.append(
                {
                    "panel": "means",
                    "kind": kind.name,
                    "pair": None,
                    "source": None,
                    "target": None,
                    "treatment": treatment,
                    "layer": n,
                    "cut": kind.names.get(n),
                    "repeat": None,
                    "accuracy": accuracy,
                    "difference_to_base": kind.difference.get(treatment, {}).get(n, nothing),
                }
            )
    return rows

"""The figures of a search: what mattered, which values went together, how it went.

The best trial has its own marker and the heaviest line, and trials that were not finished other
markers, so that nothing is lost in black and white.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from layerwise.reporting.drawing import (
    BLUE,
    INK,
    PAPER,
    SOFT,
    VERMILION,
    canvas,
    plain,
    styled,
    to_svg,
)
from layerwise.reporting.search.words import value_word
from layerwise.reporting.text import NAMES
from layerwise.studies.search.space import Dimension

WIDTH = 7.4  # inches
MOST_TICKS = 7  # of one axis of the parallel coordinates
DECADES = 3  # of an axis with a logarithm: with so many, its ticks are powers of ten
CUT_OFF = {"pruned": ("v", "pruned"), "stopped": ("s", "stopped, the time was up")}

Row = Mapping[str, Any]


@styled
def importance(rows: Sequence[Row], said: str) -> str:
    """The share of each field with its interval, the largest on top.

    Args:
        rows: As `curves.importance`.
        said: A sentence for those who can not see it.
    """
    figure, (axes,) = canvas(WIDTH, 0.9 + 0.34 * max(2, len(rows)))
    for i, row in enumerate(rows):
        value, low, high = (_number(row["share"][side]) for side in ("value", "low", "high"))
        axes.barh(-i, value, 0.62, color=BLUE, edgecolor=INK, linewidth=0.6, gid=f"share-{i}")
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([low, high], [-i, -i], color=INK, linewidth=1.2)
            axes.plot([low, high], [-i, -i], "|", color=INK, markersize=6)
    axes.set_yticks([-i for i in range(len(rows))], [plain(row["name"]) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_xlim(0, None)
    axes.set_xlabel("Share of what single fields explain of the differences between trials")
    return to_svg(figure, "importance", said)


@styled
def parallel(
    dimensions: Sequence[Dimension], rows: Sequence[Row], metric: str, best: int, said: str
) -> str:
    """Parallel coordinates: a vertical axis a field and one of the score, a line a trial.

    Lines of better trials are darker; those of trials that were not finished are dashed and end
    before the score.

    Args:
        dimensions: Fields with several values.
        rows: As `curves.trials`.
        metric: What the score is.
        best: The number of the best trial.
        said: A sentence for those who can not see it.
    """
    figure, (axes,) = canvas(WIDTH, 4.2)
    done = sorted((r for r in rows if r["score"] is not None), key=lambda r: r["score"]["value"])
    scores = [row["score"]["value"] for row in done]
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    axes.set_axisbelow(False)
    for row in rows:
        if row["score"] is None and row["state"] != "failed":
            y = _places(dimensions, row)
            axes.plot(range(len(y)), y, color=SOFT, linewidth=0.7, linestyle=(0, (2, 3)), alpha=0.5)
    for rank, row in enumerate(done):
        value = row["score"]["value"]
        y = [*_places(dimensions, row), _on_axis(value, low, high)]
        share = (rank + 1) / len(done)  # the better, the darker and the heavier
        first = row["number"] == best
        axes.plot(
            range(len(y)),
            y,
            color=VERMILION if first else BLUE,
            linewidth=2.6 if first else 0.6 + 1.2 * share**3,
            alpha=1.0 if first else 0.12 + 0.75 * share**3,
            marker="D" if first else None,
            markersize=5.5,
            zorder=3 if first else 2,
            gid=f"trial-{row['number']}",
        )
    for x, dimension in enumerate(dimensions):
        axes.axvline(x, color=SOFT, linewidth=1, zorder=1)
        _ticks(axes, x, _axis_ticks(dimension))
    end = len(dimensions)
    axes.axvline(end, color=INK, linewidth=1.2, zorder=1)
    marks = np.linspace(low, high, 5) if high > low else [low]
    _ticks(axes, end, [(_on_axis(float(v), low, high), f"{v:.3f}") for v in marks], right=True)
    names = [plain(d.name, 14) for d in dimensions]
    axes.set_xticks(range(end + 1), [*names, NAMES[metric]])
    axes.tick_params(axis="x", length=0, pad=6)
    axes.set_yticks([])
    axes.set(xlim=(-0.35, end + 0.35), ylim=(-0.04, 1.04))
    axes.grid(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    handles = [
        Line2D([], [], color=VERMILION, linewidth=2.6, marker="D", markersize=5.5),
        Line2D([], [], color=BLUE, linewidth=1.6),
        Line2D([], [], color=BLUE, linewidth=0.7, alpha=0.35),
    ]
    words = ["the best", "better trials", "worse trials"]
    if len(done) < len(rows):
        handles.append(Line2D([], [], color=SOFT, linewidth=0.8, linestyle=(0, (2, 3))))
        words.append("not trained to the end")
    figure.legend(handles, words, loc="outside upper center", ncols=len(words))
    return to_svg(figure, "parallel", said)


@styled
def history(rows: Sequence[Row], metric: str, best: int, random: int, said: str) -> str:
    """Every trial's score by its number, and the best one so far.

    Args:
        rows: As `curves.trials`.
        metric: What the score is.
        best: The number of the best trial.
        random: So many of the first were drawn at random.
        said: A sentence for those who can not see it.
    """
    figure, (axes,) = canvas(WIDTH, 3.4)
    so_far = [(row["number"], row["best_so_far"]) for row in rows if row["best_so_far"] is not None]
    lowest = min((row["score"]["value"] for row in rows if row["score"]), default=0.0)
    axes.step(*zip(*so_far, strict=True), where="post", color=INK, linewidth=1.4)
    done = [row for row in rows if row["score"] is not None]
    for row in done:
        low, high = _number(row["score"]["low"]), _number(row["score"]["high"])
        axes.plot([row["number"]] * 2, [low, high], color=BLUE, linewidth=0.8, alpha=0.5)
    axes.plot(*_points([(r["number"], r["score"]["value"]) for r in done]), "o", color=BLUE, ms=4.5)
    handles = [
        Line2D([], [], color=INK, linewidth=1.4, label="best so far"),
        Line2D([], [], color=BLUE, marker="o", ms=4.5, linewidth=0.8, label="trial, 95% interval"),
    ]
    first = next(row for row in rows if row["number"] == best)
    axes.plot(best, first["score"]["value"], "D", color=VERMILION, ms=8, zorder=4, gid="best")
    handles.append(
        Line2D([], [], color=VERMILION, marker="D", ms=7, linestyle="none", label="the best")
    )
    for state, (marker, word) in CUT_OFF.items():
        cut = [(r["number"], max(r["curve"])) for r in rows if r["state"] == state and r["curve"]]
        if not cut:
            continue
        style: dict[str, Any] = {"color": SOFT, "markerfacecolor": PAPER, "ms": 4.5}
        axes.plot(*_points(cut), marker, linestyle="none", **style)
        handles.append(Line2D([], [], marker=marker, linestyle="none", label=word, **style))
        lowest = min(lowest, *(value for _, value in cut))
    failed = [row["number"] for row in rows if row["state"] == "failed"]
    if failed:
        axes.plot(failed, [lowest] * len(failed), "x", color=INK, ms=5)
        handles.append(Line2D([], [], color=INK, marker="x", linestyle="none", label="failed"))
    if len(rows) > random:
        axes.axvline(random - 0.5, color=SOFT, linewidth=1, linestyle=(0, (2, 3)))
        axes.annotate(
            "drawn at random ←",
            (random - 0.5, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-4, 4),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=SOFT,
        )
    axes.set_xlabel("Trial")
    axes.set_ylabel(f"{NAMES[metric]} on validation")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(-0.8, len(rows) - 0.2)
    figure.legend(handles=handles, loc="outside upper center", ncols=min(5, len(handles)))
    return to_svg(figure, "history", said)


def _places(dimensions: Sequence[Dimension], row: Row) -> list[float]:
    return [d.place(row["values"][d.name]) for d in dimensions]


def _on_axis(value: float, low: float, high: float) -> float:
    return 0.5 if high <= low else (value - low) / (high - low)


def _axis_ticks(dimension: Dimension) -> list[tuple[float, str]]:
    """(place, word) of some values of a field: all of few, else round ones."""
    values: Sequence[Any]
    if dimension.choices or (dimension.count or MOST_TICKS + 1) <= MOST_TICKS:
        values = dimension.every()
    elif dimension.log:
        first, last = math.log10(dimension.low), math.log10(dimension.high)
        powers = [10.0**n for n in range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)]
        values = powers if len(powers) >= DECADES else [dimension.low, *powers, dimension.high]
        values = list(dict.fromkeys(values))
    else:
        values = list(np.linspace(dimension.low, dimension.high, 5))
        values = [round(v) for v in values] if dimension.whole else values
    return [(dimension.place(v), plain(value_word(v), 10)) for v in values]


def _ticks(axes: Axes, x: float, marks: Sequence[tuple[float, str]], right: bool = False) -> None:
    """Words beside a vertical axis; on paper, so that lines below them do not disturb."""
    for y, word in marks:
        axes.plot([x - 0.02, x + 0.02], [y, y], color=SOFT, linewidth=1, zorder=1)
        axes.annotate(
            word,
            (x, y),
            xytext=(5 if right else -5, 0),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            fontsize=8,
            zorder=5,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": PAPER, "edgecolor": "none"}
            | {"alpha": 0.75},
        )


def _points(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in pairs], [y for _, y in pairs]


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)

"""The figures of a heads study: the three heads side by side, curves by epoch, curves by size.

Training is dashed and hollow, what was not learnt from is solid and filled, so that nothing is lost
in black and white.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from layerwise.reporting.drawing import (
    BLUE,
    GREEN,
    INK,
    SOFT,
    VERMILION,
    canvas,
    styled,
    to_svg,
)
from layerwise.reporting.layer_axis import hollow, intervals
from layerwise.reporting.text import number
from layerwise.studies.heads.experiment import HEADS, SVM

Row = Mapping[str, Any]
Rows = Sequence[Row]

WIDTH = 7.4  # inches
APART = 0.27  # of a head's place: a part's number ends before the next part's marker
DASHED: Any = (0, (4, 2))
SIDES = (  # of the comparison: part, word, marker, colour, whether hollow
    ("train_accuracy", "training", "o", SOFT, True),
    ("val_accuracy", "validation", "o", BLUE, False),
    ("test_accuracy", "test", "D", VERMILION, False),
)


@styled
def comparison(heads: Rows, said: str) -> str:
    """The accuracy of each head on every part, with intervals; the gap is between the first two.

    Args:
        heads: `curves["heads"]`.
        said: A sentence for those who can not see it.
    """
    figure, (axes,) = canvas(WIDTH, 3.3)
    for shift, (part, word, marker, colour, empty) in zip((-APART, 0.0, APART), SIDES, strict=True):
        x = np.arange(len(heads)) + shift
        style = hollow(colour) if empty else {}
        spans = [_numbers(row[part]) for row in heads]
        intervals(
            axes,
            x,
            spans,
            color=colour,
            marker=marker,
            markersize=6,
            linestyle="none",
            label=word,
            **style,
        )
        for at, span in zip(x, spans, strict=True):
            axes.annotate(
                number(span["value"]),
                (at, span["value"]),
                xytext=(6, 0),
                textcoords="offset points",
                fontsize=7.5,
                va="center",
                color=INK,
            )
    axes.set_xticks(range(len(heads)), [row["head"] for row in heads])
    axes.set_xlim(-0.5, len(heads) - 0.4)  # the last number needs room too
    axes.set_ylabel("Accuracy")
    axes.grid(False, axis="x")
    figure.legend(loc="outside upper center", ncols=3)
    return to_svg(figure, "heads", said)


@styled
def by_epoch(name: str, rows: Rows, said: str) -> str:
    """Accuracy above loss, training and validation, after every epoch (Marcelino, Figures 5 to 8).

    The mean over repeats is drawn thick, every repeat thin; a dot stands on the epoch whose weights
    were kept.

    Args:
        name: The figure's id.
        rows: `curves["epochs"]` of one head.
        said: A sentence for those who can not see it.
    """
    figure, panels = canvas(WIDTH, 5.2, rows=2, sharex=True)
    repeats = sorted({row["repeat"] for row in rows})
    epochs = sorted({row["epoch"] for row in rows})
    for axes, what in zip(panels, ("accuracy", "loss"), strict=True):
        for part, colour, line in (("train", VERMILION, DASHED), ("val", BLUE, "-")):
            key = f"{part}_{what}"
            each = np.array(
                [[_number(row[key]) for row in rows if row["repeat"] == r] for r in repeats]
            )
            if len(repeats) > 1:
                for values in each:
                    axes.plot(epochs, values, color=colour, alpha=0.35, linewidth=0.8)
            axes.plot(epochs, each.mean(axis=0), color=colour, linestyle=line)
            kept = [row for row in rows if row["kept"]]
            axes.plot(
                [row["epoch"] for row in kept],
                [_number(row[key]) for row in kept],
                "o",
                color=colour,
                markersize=5,
                **(hollow(colour) if part == "train" else {}),
            )
        axes.set_ylabel(what.capitalize())
    highest = max((_number(row[f"{p}_loss"]) for row in rows for p in ("train", "val")), default=1)
    # A loss that does not fall leaves no margin above it, and its dots would be cut in half.
    panels[1].set_ylim(0, 1.08 * highest if np.isfinite(highest) and highest > 0 else None)
    panels[1].set_xlabel("Epoch")
    figure.legend(
        handles=[
            Line2D([], [], color=VERMILION, linestyle=DASHED, label="training"),
            Line2D([], [], color=BLUE, label="validation"),
            Line2D([], [], color=INK, marker="o", linestyle="none", label="kept"),
        ],
        loc="outside upper center",
        ncols=3,
    )
    return to_svg(figure, name, said)


@styled
def by_size(sizes: Rows, said: str) -> str:
    """Accuracy by the number of training images, one panel a head (Marcelino, Figure 9).

    Args:
        sizes: `curves["sizes"]`.
        said: A sentence for those who can not see it.
    """
    shown = [head for head in HEADS if any(row["head"] == head for row in sizes)]
    figure, panels = canvas(
        WIDTH, 0.7 + 2.1 * len(shown), rows=len(shown), sharex=True, sharey=True
    )
    for axes, head in zip(panels, shown, strict=True):
        rows = [row for row in sizes if row["head"] == head]
        x = [row["images"] for row in rows]
        if head == SVM:
            _folds(axes, rows)
        else:
            axes.plot(
                x,
                [_number(row["train_accuracy"]) for row in rows],
                color=VERMILION,
                linestyle=DASHED,
                marker="o",
                markersize=5,
                **hollow(VERMILION),
            )
        intervals(
            axes,
            x,
            [_numbers(row["val_accuracy"]) for row in rows],
            color=BLUE,
            marker="o",
            markersize=5,
        )
        axes.set_title(head[0].upper() + head[1:])
        axes.set_ylabel("Accuracy")
    panels[-1].set_xlabel("Training images")
    handles = [
        Line2D([], [], color=VERMILION, linestyle=DASHED, label="training"),
        Line2D([], [], color=BLUE, marker="o", label="validation part"),
    ]
    if SVM in shown:
        handles.append(Line2D([], [], color=GREEN, marker="s", label="cross-validation"))
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return to_svg(figure, "sizes", said)


def _folds(axes: Axes, rows: Rows) -> None:
    """Training and cross-validation as means over folds, with bands of their deviation."""
    x = np.array([row["learnt_in_folds"] for row in rows], float)
    for key, colour, line, marker in (
        ("train_in_folds", VERMILION, DASHED, "o"),
        ("cross_validated", GREEN, "-", "s"),
    ):
        value = np.array([_number(row[key]["value"]) for row in rows])
        sd = np.nan_to_num([_number(row[key]["sd"]) for row in rows])
        axes.fill_between(x, value - sd, value + sd, color=colour, alpha=0.15, linewidth=0)
        style = hollow(colour) if marker == "o" else {}
        axes.plot(x, value, color=colour, linestyle=line, marker=marker, markersize=5, **style)


def _numbers(span: Row) -> dict[str, float]:
    return {side: _number(span[side]) for side in ("value", "low", "high")}


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)

"""ROC and precision–recall curves, one against the rest where there are several labels."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from layerwise.evaluation.intervals import pr_band, roc_band
from layerwise.evaluation.metrics import Label, measure
from layerwise.reporting.drawing import (
    DASHES,
    PAPER,
    SERIES,
    SOFT,
    canvas,
    plain,
    styled,
    to_svg,
)
from layerwise.reporting.evidence import Evidence
from layerwise.reporting.text import number

MOST_CURVES = len(SERIES)  # more labels than this share one grey, and the extremes stand out
MOST_BANDS = 3  # more of them hide each other
MOST_POINTS = 400  # of a curve: finer than a page can show


@styled
def roc(evidence: Evidence, draws: int = 300) -> str:
    """The ROC curve of each label, with its band and the operating point."""
    figure, (axes,) = canvas(4.4, 4.3)
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (2, 3)))
    said = _curves(axes, evidence, "auroc", draws)
    axes.set_xlabel("False positive rate (1 − specificity)")
    axes.set_ylabel("True positive rate (sensitivity)")
    return to_svg(figure, "roc", f"ROC curve on {evidence.where}. AUROC: {said}.")


@styled
def precision_recall(evidence: Evidence, draws: int = 300) -> str:
    """The precision–recall curve of each label, with its band and the operating point."""
    figure, (axes,) = canvas(4.4, 4.3)
    if evidence.task == "binary" and len(evidence.targets):
        share = float(np.mean(evidence.targets))
        axes.axhline(share, color=SOFT, linewidth=1, linestyle=(0, (2, 3)))
    said = _curves(axes, evidence, "auprc", draws)
    axes.set_xlabel("Recall (sensitivity)")
    axes.set_ylabel("Precision")
    return to_svg(
        figure, "precision-recall", f"Precision–recall curve on {evidence.where}. AUPRC: {said}."
    )


def _curves(axes: Axes, evidence: Evidence, metric: str, draws: int) -> str:
    """Draw the curve of every label that has both classes; says their areas in words."""
    band = roc_band if metric == "auroc" else pr_band
    drawn = []
    for name, truth, score, limit in one_against_rest(evidence):
        label = Label.of(truth == 1, score, score >= limit, ~np.isnan(truth))
        value = measure("binary", truth[~np.isnan(truth)], score[~np.isnan(truth)], limit)
        if np.isfinite(value[metric]):
            drawn.append((name, truth, score, label, value))
    drawn.sort(key=lambda one: -one[-1]["auroc"])  # the same colours in both figures
    few = len(drawn) <= MOST_CURVES
    for j, (name, truth, score, label, value) in enumerate(drawn):
        marked = few or j in (0, len(drawn) - 1)
        k = min(j, MOST_CURVES - 1) if few else int(j > 0)
        colour, dash = (SERIES[k], DASHES[k]) if marked else (SOFT, "-")
        if len(drawn) <= MOST_BANDS:
            side = band(truth, score, evidence.groups, draws=draws)
            axes.fill_between(
                side["grid"], side["low"], side["high"], color=colour, alpha=0.18, linewidth=0
            )
        x, y = _points(label, metric)
        axes.plot(
            x,
            y,
            color=colour,
            linestyle=dash,
            linewidth=1.8 if marked else 0.7,
            alpha=1 if marked else 0.6,
            drawstyle="default" if metric == "auroc" else "steps-pre",
            label=f"{plain(name, 18)}  {number(value[metric])}" if marked else None,
        )
        if evidence.task != "multiclass" and marked:
            here = (1 - value["specificity"], value["recall"])
            here = here if metric == "auroc" else (value["recall"], value["precision"])
            axes.plot(*here, "o", color=colour, markeredgecolor=PAPER, markersize=9, zorder=5)
    axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.03), aspect="equal")
    if drawn:
        axes.legend(
            loc="lower right" if metric == "auroc" else "lower left",
            title=metric.upper(),
            alignment="left",
        )
    return ", ".join(f"{one[0]} {number(one[-1][metric])}" for one in drawn) or "not defined"


def banded(evidence: Evidence) -> bool:
    """Whether the curves have bands."""
    both = [name for name, y, _, _ in one_against_rest(evidence) if {0.0, 1.0} <= set(y)]
    return len(both) <= MOST_BANDS


def _points(label: Label, metric: str) -> tuple[Any, Any]:
    """A curve's corners, thinned where there are more than a page can show."""
    tp, fp = (side[0] for side in label.curve(np.ones((1, int(label.rows.max()) + 1))))
    keep = np.unique(np.linspace(0, len(tp) - 1, min(len(tp), MOST_POINTS)).astype(int))
    tp_kept, fp_kept = tp[keep], fp[keep]
    if metric == "auroc":
        return np.append(0, fp_kept / fp[-1]), np.append(0, tp_kept / tp[-1])
    precision = tp_kept / (tp_kept + fp_kept)
    return np.append(0, tp_kept / tp[-1]), np.append(precision[0], precision)


def one_against_rest(evidence: Evidence) -> list[tuple[str, Any, Any, float]]:
    """(label, 0/1/NaN truth, score, threshold) of every label that has a score."""
    scores = np.asarray(evidence.scores, float).reshape(len(evidence.targets), -1)
    if evidence.task == "multiclass":
        truth = evidence.targets[:, None] == np.arange(scores.shape[1])
    else:
        truth = np.asarray(evidence.targets).reshape(scores.shape)
    limit = 0.5 if evidence.threshold is None else evidence.threshold
    limits = np.broadcast_to(np.asarray(limit, float), scores.shape[1:])
    names = evidence.labels[1:] if evidence.task == "binary" else evidence.labels
    return [
        (name, truth[:, j].astype(float), scores[:, j], float(limits[j]))
        for j, name in enumerate(names)
    ]

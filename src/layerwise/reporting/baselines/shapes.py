"""Confusion matrices, ROC and precision–recall curves of one model in one form, over its repeats.

A curve is the mean over repeats, and over labels where there are several, at fixed false positive
rates or recalls. Precision is read where a recall is first reached, as in the average precision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.data.manifest import Manifest
from layerwise.evaluation.metrics import Label
from layerwise.reporting.curves import one_against_rest
from layerwise.reporting.evidence import Evidence
from layerwise.reporting.figures import confusion_counts
from layerwise.studies.baselines.scores import Cell

Floats = NDArray[np.float64]

POINTS = 101  # of a curve, from 0 to 1


@dataclass(frozen=True)
class Shapes:
    """What is drawn of one cell.

    Attributes:
        counts: (rows, columns) decisions of the test part, the mean over repeats.
        rows: What the rows are: true classes, or labels.
        columns: What the columns are: decisions, or outcomes of a decision.
        roc: (POINTS,) true positive rates at even false positive rates; NaN where undefined.
        precision: (POINTS,) at even recalls.
        point: (false positive rate, recall, precision) of the decisions; None where they are
            not those of one threshold.
    """

    counts: Floats
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    roc: Floats
    precision: Floats
    point: tuple[float, float, float] | None


def shapes_of(cell: Cell, manifest: Manifest) -> Shapes:
    """From a cell's predictions of the test part."""
    every = [
        Evidence(manifest.task, manifest.labels, said.targets, said.scores, threshold)
        for said, threshold in zip(
            (outcome.parts["test"] for outcome in cell.made.outcomes), cell.thresholds, strict=True
        )
    ]
    tables = [confusion_counts(one) for one in every]
    counts = np.mean([table[0] for table in tables], axis=0)
    curves = [curve for one in every for curve in _curves(one)]
    point = None
    if manifest.task == "binary":
        (tn, fp), (fn, tp) = counts
        point = (_share(fp, tn + fp), _share(tp, tp + fn), _share(tp, tp + fp))
    return Shapes(
        counts,
        tuple(tables[0][1]),
        tuple(tables[0][2]),
        _mean([roc for roc, _ in curves]),
        _mean([precision for _, precision in curves]),
        point,
    )


def grid() -> Floats:
    """(POINTS,) where curves are read."""
    return np.linspace(0, 1, POINTS)


def _curves(evidence: Evidence) -> list[tuple[Floats, Floats]]:
    """ROC and precision of every label that has both classes."""
    out = []
    for _, truth, score, limit in one_against_rest(evidence):
        known = ~np.isnan(truth)
        if set(truth[known]) != {0.0, 1.0}:
            continue
        label = Label.of(truth == 1, score, score >= limit, known)
        true, false = (side[0] for side in label.curve(np.ones((1, len(truth)))))
        recall, alarms = true / true[-1], false / false[-1]
        roc = np.interp(grid(), np.append(0, alarms), np.append(0, recall))
        first = np.searchsorted(recall, np.maximum(grid(), 1e-12) - 1e-12)
        out.append((roc, (true / (true + false))[first]))
    return out


def _mean(curves: Sequence[Floats]) -> Floats:
    return np.mean(curves, axis=0) if curves else np.full(POINTS, np.nan)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def sheet_rows(cells: Sequence[tuple[Cell, Shapes]]) -> list[dict[str, Any]]:
    """Everything that the sheet draws, a row a number: for its CSV."""
    out: list[dict[str, Any]] = []
    for cell, shapes in cells:
        who = {"model": cell.made.entrant.name, "form": cell.made.form.name}
        for (i, j), count in np.ndenumerate(shapes.counts):
            place = {"truth": shapes.rows[i], "decision": shapes.columns[j]}
            out.append({**who, "what": "confusion", **place, "count": float(count)})
        for what, x, y in (
            ("ROC", "false_positive_rate", shapes.roc),
            ("precision–recall", "recall", shapes.precision),
        ):
            named = "true_positive_rate" if what == "ROC" else "precision"
            for at, value in zip(grid(), y, strict=True):
                out.append({**who, "what": what, x: float(at), named: float(value)})
    return out

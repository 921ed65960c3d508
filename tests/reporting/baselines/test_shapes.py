"""Matrices and curves against scikit-learn, and the sheet that they are drawn on."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from sklearn.metrics import (
    confusion_matrix,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from layerwise.data.manifest import Manifest, make_table
from layerwise.evaluation.predictions import Predictions
from layerwise.reporting.baselines.figures import changes, scores
from layerwise.reporting.baselines.shapes import grid, shapes_of, sheet_rows
from layerwise.reporting.baselines.sheet import sheet
from layerwise.reporting.study_page import csv_text, standalone
from layerwise.studies.baselines.lineup import AUGMENTED, BASE, Entrant, Form
from layerwise.studies.baselines.runs import Made
from layerwise.studies.baselines.scores import METRICS, Cell, Difference
from layerwise.studies.engine import Done, Planned
from layerwise.studies.study import Outcome, Run
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

COUNT = 120
LABELS = {
    "binary": ("well", "ill"),
    "multiclass": ("a", "b", "c"),
    "multilabel": ("Edema", "Mass", "Never"),
}
THRESHOLDS = {"binary": 0.4, "multiclass": None, "multilabel": [0.4, 0.5, 0.6]}


def data(task):
    generator = np.random.default_rng(0)
    if task == "multilabel":
        targets = (generator.random((COUNT, 3)) < [0.5, 0.3, 0.0]).astype(np.float32)
        targets[generator.random((COUNT, 3)) < 0.1] = np.nan
    else:
        targets = np.arange(COUNT) % (2 if task == "binary" else 3)
    table = make_table([f"i{i}" for i in range(COUNT)], splits=["test"] * COUNT)
    return Manifest("made up", task, LABELS[task], table, targets)


def said(manifest, seed):
    generator = np.random.default_rng(seed)
    if manifest.task == "multiclass":
        logits = generator.normal(size=(COUNT, 3)) + 2 * np.eye(3)[manifest.targets]
        scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    else:
        truth = np.nan_to_num(manifest.targets.reshape(COUNT, -1), nan=0.5)
        scores = 1 / (1 + np.exp(-(generator.normal(size=truth.shape) + 2 * truth - 1)))
        scores = scores.round(2)  # ties
    ids = manifest.table["id"].to_numpy(dtype=str)
    return Predictions(ids, manifest.targets, scores.astype(np.float32), ids)


def interval(value):
    return {"value": value, "low": value - 0.05, "high": value + 0.05, "sd": float("nan")}


def cell_of(manifest, name="LeNet-5", form=BASE, repeats=2, value=0.8):
    done = []
    for repeat in range(repeats):
        run = Run("", "trained", {"name": name, "form": form, "repeat": repeat})
        test = said(manifest, repeat + 1)
        outcome = Outcome(run, 2.0, 10, test, {}, {}, {"test": test})
        done.append(Done(Planned("", "", Transfer(), Recipe(), repeat), run, outcome))
    made = Made(Entrant(name, name, "network"), Form(form, "none", "none"), tuple(done))
    thresholds = (THRESHOLDS[manifest.task],) * repeats
    return Cell(made, thresholds, interval(value), {m: interval(value) for m in METRICS})


def test_a_matrix_is_the_mean_of_scikit_learn_s_over_repeats():
    manifest = data("binary")
    cell = cell_of(manifest)
    found = shapes_of(cell, manifest)
    each = [
        confusion_matrix(manifest.targets, o.parts["test"].scores[:, 0] >= 0.4)
        for o in cell.made.outcomes
    ]
    np.testing.assert_allclose(found.counts, np.mean(each, axis=0))
    assert found.rows == found.columns == ("well", "ill")
    (tn, fp), (fn, tp) = np.mean(each, axis=0)
    assert found.point == pytest.approx((fp / (fp + tn), tp / (tp + fn), tp / (tp + fp)))


def test_curves_are_scikit_learn_s():
    manifest = data("binary")
    cell = cell_of(manifest, repeats=1)
    found = shapes_of(cell, manifest)
    truth, score = manifest.targets, cell.made.outcomes[0].parts["test"].scores[:, 0]
    alarms, recall, _ = roc_curve(truth, score, drop_intermediate=False)
    np.testing.assert_allclose(found.roc, np.interp(grid(), alarms, recall))
    assert np.trapezoid(found.roc, grid()) == pytest.approx(roc_auc_score(truth, score), abs=0.01)
    precision, recall, _ = precision_recall_curve(truth, score)
    precision, recall = precision[:-1][::-1], recall[:-1][::-1]  # by falling threshold
    for at, value in zip(grid(), found.precision, strict=True):
        assert value == pytest.approx(precision[np.flatnonzero(recall >= max(at, 1e-9) - 1e-12)[0]])


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_of_several_labels_curves_are_the_mean_of_those_that_are_defined(task):
    manifest = data(task)
    cell = cell_of(manifest, repeats=1)
    found = shapes_of(cell, manifest)
    scores = cell.made.outcomes[0].parts["test"].scores
    each = []
    for label in range(3 if task == "multiclass" else 2):  # the last one never occurs
        truth = manifest.targets == label if task == "multiclass" else manifest.targets[:, label]
        known = ~np.isnan(np.asarray(truth, float))
        alarms, recall, _ = roc_curve(truth[known], scores[known, label], drop_intermediate=False)
        each.append(np.interp(grid(), alarms, recall))
    np.testing.assert_allclose(found.roc, np.mean(each, axis=0), rtol=1e-6)
    assert found.point is None
    if task == "multiclass":
        expected = confusion_matrix(manifest.targets, scores.argmax(1))
        np.testing.assert_array_equal(found.counts, expected)
    else:
        assert found.columns == ("found", "missed", "false alarm", "left alone")
        assert found.counts.sum(1).tolist() == (~np.isnan(manifest.targets)).sum(0).tolist()


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_the_sheet_names_every_model_once_and_stands_alone(task):
    manifest = data(task)
    rows = []
    for name, forms in (("dummy", [BASE]), ("LeNet-5", [BASE, AUGMENTED])):
        cells = {form: cell_of(manifest, name, form, 1) for form in forms}
        rows.append((name, {f: (c, shapes_of(c, manifest)) for f, c in cells.items()}))
    svg = sheet(rows, "said", wide=task == "multilabel")
    root = ElementTree.fromstring(standalone(svg))
    texts = [e.text for e in root.iter() if e.tag.endswith("text") and e.text]
    for words in ("dummy", "LeNet-5", "ROC", "precision–recall", "base: decisions"):
        assert texts.count(words) == 1, words
    assert texts.count("base 0.800") == 4 and texts.count("augmented 0.800") == 2
    assert svg == sheet(rows, "said", wide=task == "multilabel")
    counts = rows[0][1][BASE][1].counts
    if task == "binary":
        assert texts.count(f"{counts[0, 0]:.0f}") >= 1
        assert len(re.findall(r"stroke-linejoin|markeredge|<use ", svg)) > 0


def test_everything_drawn_is_in_the_csv():
    manifest = data("binary")
    cell = cell_of(manifest, repeats=1)
    shapes = shapes_of(cell, manifest)
    lines = csv_text(sheet_rows([(cell, shapes)])).splitlines()
    names = lines[0].split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]
    table = {
        (r["truth"], r["decision"]): float(r["count"]) for r in rows if r["what"] == "confusion"
    }
    assert table["ill", "well"] == shapes.counts[1, 0] and len(table) == 4
    roc = [r for r in rows if r["what"] == "ROC"]
    np.testing.assert_allclose([float(r["true_positive_rate"]) for r in roc], shapes.roc)
    assert len(rows) == 4 + 2 * len(grid())


def test_dots_stand_where_their_scores_are():
    """0.9 is as far to the right of 0.8 as 0.8 is of 0.7."""
    manifest = data("binary")
    cells = [
        cell_of(manifest, name, BASE, 1, value)
        for name, value in (("a", 0.7), ("b", 0.8), ("c", 0.9))
    ]
    svg = scores(cells)
    places = [float(x) for x in re.findall(r'<use [^>]*?x="([\d.]+)"[^>]*stroke: var\(--c2', svg)]
    assert len(places) >= 6 * 3
    a, b, c = places[:3]
    assert c - b == pytest.approx(b - a, rel=1e-3) and b > a
    for words in ("AUROC", "AUPRC", "Accuracy", "Precision", "F1", "a", "b", "c"):
        assert f">{words}<" in svg
    assert "AUROC: a, base 0.700; b, base 0.800" in svg


def test_changes_are_filled_where_they_are_beyond_noise():
    def family(p):
        return [
            Difference("a, augmented", "a, base", "a", m, interval(0.1) | {"p": p, "p_holm": p})
            for m in METRICS
        ]

    clear, unclear = changes(family(0.001)), changes(family(0.5))
    assert clear != unclear and "a AUROC +0.100" in clear

"""Figures: well-formed, deterministic, with the numbers in them, and no trace on matplotlib."""

import dataclasses
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

from layerwise.reporting import curves, figures
from layerwise.reporting.report import ProfilePoint

TASKS = ("binary", "multiclass", "multilabel")


def texts(svg: str) -> list[str]:
    return [t.text or "" for t in ElementTree.fromstring(svg).iter() if t.tag.endswith("}text")]


def drawn(evidence) -> dict[str, str]:
    return {
        "depth-profile": figures.depth_profile(evidence.profile),
        "transfer-comparison": figures.transfer_comparison(evidence.transfer_comparison),
        "roc": curves.roc(evidence, draws=20),
        "precision-recall": curves.precision_recall(evidence, draws=20),
        "confusion": figures.confusion(evidence),
        "calibration": figures.calibration(evidence),
    }


@pytest.mark.parametrize("task", TASKS)
def test_every_figure_is_whole(make, task: str) -> None:
    before = dict(matplotlib.rcParams)
    evidence = make(task)[1]
    seen: set[str] = set()
    for name, svg in drawn(evidence).items():
        root = ElementTree.fromstring(svg)
        assert root.get("id") == name and root.get("aria-label") and root.get("role") == "img"
        ids = re.findall(r'\bid="([^"]+)"', svg)
        assert len(ids) == len(set(ids)) and not seen & set(ids)
        seen |= set(ids)
        referred = re.findall(r'(?:href="#|url\(#)([^")]+)', svg)
        assert set(referred) <= set(ids)
        assert texts(svg) and "<metadata" not in svg
        assert not re.search(r'(?:href|src)="(?!#)', svg)
    assert dict(matplotlib.rcParams) == before


def test_same_bytes_twice(make) -> None:
    evidence = make("multilabel")[1]
    assert drawn(evidence) == drawn(evidence)


def test_the_numbers_are_in_the_figures(make) -> None:
    evidence = make("binary")[1]
    area = roc_auc_score(evidence.targets, evidence.scores[:, 0])
    assert f"PNEUMONIA  {area:.3f}" in texts(curves.roc(evidence, draws=5))
    assert "chosen: blocks.4" in texts(figures.depth_profile(evidence.profile))


def test_confusion_counts(make) -> None:
    evidence = make("binary")[1]
    counts, _, _ = figures.confusion_counts(evidence)
    decided = evidence.scores[:, 0].astype(float) >= 0.41
    assert np.array_equal(counts, confusion_matrix(evidence.targets, decided))
    said = texts(figures.confusion(evidence))
    assert {str(v) for v in counts.ravel()} <= set(said)
    evidence = make("multiclass")[1]
    counts, _, _ = figures.confusion_counts(evidence)
    assert np.array_equal(
        counts, confusion_matrix(evidence.targets, evidence.scores.argmax(1), labels=range(5))
    )
    evidence = make("multilabel")[1]
    counts, rows, columns = figures.confusion_counts(evidence)
    known = ~np.isnan(evidence.targets)
    assert counts.sum(1).tolist() == known.sum(0).tolist() and len(columns) == 4
    assert counts[0, 0] == np.sum((evidence.targets[:, 0] == 1) & (evidence.scores[:, 0] >= 0.4))


def test_a_curve_goes_through_its_corners(make) -> None:
    evidence = make("binary")[1]
    label = curves.Label.of(
        evidence.targets == 1,
        evidence.scores[:, 0].astype(float),
        evidence.targets == 1,
        evidence.targets >= 0,
    )
    x, y = curves._points(label, "auroc")
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(
        roc_auc_score(evidence.targets, evidence.scores[:, 0])
    )


def test_many_classes_and_long_networks() -> None:
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(30), 400)
    from layerwise.reporting.report import Evidence

    names = [f"class {k}" for k in range(30)]
    evidence = Evidence("multiclass", names, rng.integers(0, 30, 400), scores, None)
    legend = [t for t in texts(curves.roc(evidence)) if t.startswith("class")]
    assert len(legend) == 2  # the best and the worst stand out
    assert ElementTree.fromstring(figures.confusion(evidence)) is not None
    undefined = {"value": None, "low": None, "high": float("nan")}
    points = [
        ProfilePoint(f"stage.{k}.<b>$x$", 8, 2, 10**k if k < 9 else 10**9, 5, undefined, k == 40)
        for k in range(70)
    ]
    said = texts(figures.depth_profile(points))
    assert "stage.40.<b>$x$" in said and sum(t.startswith("stage") for t in said) <= 37


def test_one_class_only_draws_empty_curves(make) -> None:
    evidence = make("binary", bare=True)[1]
    evidence = dataclasses.replace(evidence, targets=np.zeros(300, int))
    assert "not defined" in curves.roc(evidence)
    assert "not defined" in curves.precision_recall(evidence)
    assert "0 0" not in texts(figures.confusion(evidence))
    assert figures.calibration(evidence)

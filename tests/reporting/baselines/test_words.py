"""The answer in sentences: each follows from the numbers."""

import numpy as np
import pytest

from layerwise.reporting.baselines.words import answer, form_words
from layerwise.studies.baselines.lineup import AUGMENTED, BASE, Entrant, Form
from layerwise.studies.baselines.runs import Made
from layerwise.studies.baselines.scores import METRICS, Cell, Difference, Scores

FORMS = {BASE: Form(BASE, "none", "none"), AUGMENTED: Form(AUGMENTED, "radiograph", "augment")}


def interval(value, half=0.02):
    return {"value": value, "low": value - half, "high": value + half, "sd": float("nan")}


def cell(name, form=BASE, value=0.9, kind="network", half=0.02):
    key = "dummy" if name == "dummy" else name.lower()
    made = Made(Entrant(key, name, kind), FORMS[form], ())
    test = {metric: interval(value, half) for metric in METRICS}
    return Cell(made, (0.5,), interval(value), test)


def gap(one, other, value, p, metrics=METRICS):
    return [
        Difference(
            one.name,
            other.name,
            one.made.entrant.name,
            metric,
            interval(value) | {"p": p, "p_holm": p},
        )
        for metric in metrics
    ]


@pytest.fixture
def study():
    """VGG16 is best; the SVM is behind, LeNet-5 within noise, and augmentation helps the SVM."""
    dummy = cell("dummy", value=0.5, kind="classic", half=0.0)
    svm, svm2 = cell("SVM", value=0.8), cell("SVM", AUGMENTED, 0.85)
    lenet, lenet2 = cell("LeNet-5", value=0.89), cell("LeNet-5", AUGMENTED, 0.89)
    best = cell("VGG16", value=0.95)
    cells = (dummy, svm, svm2, lenet, lenet2, best)
    changes = gap(svm2, svm, 0.05, 0.001) + gap(lenet2, lenet, 0.0, 0.9)
    behind = []
    for one in cells[:-1]:
        away = 0.9 if one.made.entrant.name == "LeNet-5" else 0.001
        behind += gap(one, best, one.test["auroc"]["value"] - 0.95, away)
    return Scores(cells, best, tuple(changes), tuple(behind), 100)


def test_the_best_comes_first_with_its_scores(study):
    first, second, *_ = answer(study)
    assert first.startswith("What a network has to beat is VGG16, base")
    assert "AUROC 0.950 (0.930–0.970)" in first and "F1 0.950" in first
    assert second == ("LeNet-5, base and LeNet-5, augmented are within noise of it by AUROC.")


def test_what_augmentation_changes_is_said_by_both_metrics(study):
    said = answer(study)
    assert (
        "Augmentation and balancing raise AUROC beyond noise for SVM (most: SVM +0.050, 95% "
        "0.030 to 0.070); 1 of 2 is within noise." in said
    )
    assert any("raise F1 beyond noise for SVM" in sentence for sentence in said)


def test_no_change_is_said_too(study):
    svm, svm2 = study.cells[1], study.cells[2]
    quiet = Scores(study.cells, study.best, tuple(gap(svm2, svm, 0.01, 0.4)), study.behind, 100)
    assert "Augmentation and balancing change AUROC of no model beyond noise." in answer(quiet)


def test_a_transfer_is_compared_with_the_best_baseline(study):
    guest = cell("mobilenet, transfer", value=0.99, kind="transfer")
    behind = (*study.behind, *gap(guest, study.best, 0.04, 0.001))
    said = answer(Scores((*study.cells, guest), study.best, study.changes, behind, 100))
    assert (
        "Transfer (mobilenet, transfer, base) is higher than the best baseline, VGG16, base, by "
        "0.040 AUROC (95% 0.020 to 0.060)." in said
    )


def test_what_learnt_nothing_is_named(study):
    blind = cell("AlexNet", value=0.51)
    behind = (*study.behind, *gap(blind, study.best, -0.44, 0.001))
    said = answer(Scores((*study.cells, blind), study.best, study.changes, behind, 100))
    (found,) = [s for s in said if "has learnt nothing" in s]
    assert found.startswith("AlexNet, base") and "0.510 (0.490–0.530)" in found


def test_accuracy_is_read_against_the_dummy_s(study):
    assert any("is right for 50.0% of the test images" in sentence for sentence in answer(study))


def test_undefined_scores_are_no_error(study):
    nan = cell("SVM", value=float("nan"))
    behind = tuple(gap(nan, study.best, float("nan"), float("nan")))
    said = answer(Scores((nan, study.best), study.best, (), behind, 100))
    assert said[0].startswith("What a network has to beat is VGG16")
    assert not any("nan" in sentence for sentence in said)
    assert np.isnan(nan.test["auroc"]["value"])


def test_the_forms_are_said():
    said = form_words(tuple(FORMS.values()), lambda form: f"By {form.balance}.")
    assert said[0].startswith("Base: the pictures as they are")
    assert said[1] == "Augmented: pictures are changed as by the preset radiograph. By augment."
    assert len(form_words((FORMS[BASE],), str)) == 1

"""Classic models without and with augmentation, against scikit-learn and picture by picture."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

from layerwise.data.augment import augment, image_keys
from layerwise.data.balance import PLAIN
from layerwise.models.classic import shrink
from layerwise.models.tuned import KernelSVM, TunedForest
from layerwise.studies.baselines import classic
from layerwise.studies.baselines.classic import (
    classic_baseline,
    features,
    most_pictures,
    training_rows,
    with_copies,
)
from layerwise.studies.baselines.lineup import AUGMENTED, BASE, Form

PLAIN_FORM = Form(BASE, "none", "none")
COPIES = Form(AUGMENTED, "radiograph", "augment")
WEIGHED = Form(AUGMENTED, "radiograph", "weights")


def test_copies_make_classes_equal_beside_the_originals():
    """§3.4 of the thesis: 30 of the smaller class are added to 10, and 40 stay as they are."""
    targets = np.array([0] * 10 + [1] * 40)
    rows, copies = with_copies("augment", "flip", targets, np.arange(50), 0)
    assert np.bincount(targets[rows]).tolist() == [40, 40]
    assert sorted(rows[copies == PLAIN]) == list(range(50))
    made = rows[copies != PLAIN]
    assert len(made) == 30 and set(targets[made]) == {0}
    assert np.bincount(made).tolist() == [3] * 10
    assert len(set(zip(rows.tolist(), copies.tolist(), strict=True))) == 80  # no two are equal


def test_with_weights_every_picture_is_there_as_it_is_and_augmented():
    rows, copies = with_copies("weights", "flip", np.zeros(4, int), np.array([3, 5, 7]), 0)
    assert rows.tolist() == [3, 5, 7] * 2 and copies.tolist() == [PLAIN] * 3 + [0] * 3
    rows, copies = with_copies("weights", "none", np.zeros(4, int), np.array([3, 5, 7]), 0)
    assert rows.tolist() == [3, 5, 7] and copies.tolist() == [PLAIN] * 3


def test_pictures_are_augmented_one_by_one_and_then_shrunk(workspace, monkeypatch):
    work = workspace()
    rows, copies = training_rows(work, WEIGHED, 1000)
    assert len(rows) == 96
    monkeypatch.setattr(classic, "CHUNK", 7)
    found = features(work, rows, copies, WEIGHED)
    for i in (0, 20, 50, 95):
        picture = torch.from_numpy(work.store.read(rows[i : i + 1]))
        if copies[i] != PLAIN:
            key = image_keys(rows[i : i + 1], seed=work.seed, view=0, copies=copies[i : i + 1])
            picture = augment(picture, key, "radiograph")
        np.testing.assert_array_equal(found[i], shrink(picture.numpy())[0])
    changed = [i for i in range(48) if not np.array_equal(found[i], found[48 + i])]
    assert len(changed) == 48
    np.testing.assert_array_equal(
        features(work, rows[:5], None, WEIGHED), shrink(work.store.read(rows[:5]))
    )


def test_the_base_form_counts_every_picture_alike(workspace, monkeypatch):
    """Against scikit-learn's forest, and an SVM, without class weights."""
    work = workspace()
    targets = work.manifest.targets.copy()
    work.manifest = work.manifest.replace(targets=targets)
    rows = work.rows("train")
    work.manifest.targets[rows[:18:2]] = 1  # unequal classes: weights would show
    small = {"folds": 2, "trees": (7,), "max_features": ("sqrt",)}
    monkeypatch.setitem(
        classic.MAKERS,
        "random-forest",
        lambda task, k, seed, n, b: TunedForest(task, k, seed=seed, threads=n, balanced=b, **small),
    )
    pictures = shrink(work.store.read(rows))
    reference = RandomForestClassifier(
        7, min_samples_leaf=2, max_features="sqrt", random_state=work.seed
    ).fit(pictures, work.manifest.targets[rows])
    test = shrink(work.store.read(work.rows("test")))
    found = classic_baseline(work, "random-forest", PLAIN_FORM, 1000)
    np.testing.assert_allclose(
        found.parts["test"].scores[:, 0], reference.predict_proba(test)[:, 1], rtol=1e-6
    )
    assert found.details["images"] == found.details["rows"] == found.details["of"] == 48
    weighed = classic_baseline(work, "random-forest", WEIGHED, 1000)
    assert weighed.details["rows"] == 96 and weighed.run.id != found.run.id


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_an_svm_in_both_forms_is_found_again(workspace, monkeypatch, task):
    work = workspace(task)
    monkeypatch.setitem(
        classic.MAKERS,
        "svm",
        lambda t, k, seed, n, b: KernelSVM(
            t, k, seed=seed, threads=n, folds=2, penalties=(1.0,), widths=(1.0,), balanced=b
        ),
    )
    form = WEIGHED if task == "multilabel" else Form(AUGMENTED, "radiograph", "sampling")
    first = {f.name: classic_baseline(work, "svm", f, 1000) for f in (PLAIN_FORM, form)}
    assert first[BASE].run.id != first[AUGMENTED].run.id
    monkeypatch.setattr(classic, "MAKERS", {})  # nothing is fitted again
    again = workspace(task)
    for one in (PLAIN_FORM, form):
        found = classic_baseline(again, "svm", one, 1000)
        for part, said in (("val", found.validation), ("test", found.parts["test"])):
            assert said.ids.tolist() == [f"{part}/{i}" for i in range(24)]
        np.testing.assert_array_equal(found.validation.scores, first[one.name].validation.scores)


def test_the_dummy_says_what_is_most_frequent(workspace):
    work = workspace("multiclass")
    targets = work.manifest.targets.copy()
    work.manifest = work.manifest.replace(targets=targets)
    work.manifest.targets[work.rows("train")[:9]] = 2
    found = classic_baseline(work, "dummy", PLAIN_FORM, 1000)
    np.testing.assert_array_equal(found.parts["test"].scores, np.tile([0, 0, 1], (24, 1)))


def test_fewer_pictures_with_less_time_by_the_flag_alone():
    assert most_pictures("svm", None) == most_pictures("svm", 7200.0) == 4000
    assert most_pictures("svm", 900.0) == 2000  # a quarter of an hour, half of the pictures
    assert most_pictures("svm", 1.0) == 1000
    assert most_pictures("random-forest", 900.0) == 5_000


def test_copies_are_bounded_too(workspace):
    work = workspace("multiclass")
    train = work.rows("train")
    targets = work.manifest.targets.copy()
    targets[train] = 0
    targets[train[:2]] = [1, 2]  # copies of two pictures would make 46 rows each
    work.manifest = work.manifest.replace(targets=targets)
    rows, _ = training_rows(work, COPIES, 40)
    assert len(rows) <= 80
    whole, _ = training_rows(work, COPIES, 1000)
    assert np.bincount(work.manifest.targets[whole]).tolist() == [46, 46, 46]

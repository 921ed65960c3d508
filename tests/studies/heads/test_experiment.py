"""Three heads on the same activations: against scikit-learn, from one pass, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.svm import LinearSVC

from layerwise.data.fingerprint import data_key
from layerwise.data.splits.folds import fold_numbers
from layerwise.errors import DataError, ModelError, TrainingError
from layerwise.models.cuts import truncate
from layerwise.studies import frozen
from layerwise.studies.board import Board
from layerwise.studies.engine import Engine
from layerwise.studies.gain.fractions import training_parts
from layerwise.studies.heads.experiment import (
    CONNECTED,
    HEADS,
    POOLED,
    SVM,
    Design,
    check_folds_fit,
    check_head,
    cut_named,
    places,
    run_study,
    spaces_of,
    transfer_of,
    whole_base,
)
from layerwise.studies.heads.scores import findings
from layerwise.studies.trained import rebuild, train
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

GRID = (0.0001, 0.01)
RECIPE = Recipe(epochs=3, batch=8, schedule="constant", warmup=0.0, weight_decay=0.0)


def compared(work, **changes):
    """A study of the lowest cut of LeNet-5, with one worker."""
    settings = {
        "cut": work.cuts()[0],
        "fractions": (0.5, 1.0),
        "repeats": 1,
        "recipe": RECIPE,
        "folds": 4,
        "penalties": GRID,
    }
    design = Design(**settings | changes)
    parts = training_parts(
        work.manifest, design.fractions, design.repeats, contents=work.store.digests, seed=0
    )
    keys = {place: data_key(manifest, work.store) for place, manifest in parts.items()}
    engine = Engine(spaces_of(work, parts, keys), workers=1, board=Board())
    return run_study(engine, design, work, parts)


def activation(work, cut):
    """(N, values) raw activations of every picture, by torch."""
    network = work.network(Transfer("untrained")).eval()
    with torch.no_grad():
        pixels = network.pixels(torch.from_numpy(work.store.read(np.arange(len(work.manifest)))))
        return truncate(network.original, cut.name)(pixels).flatten(1).numpy().astype(np.float64)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_svm_is_scikit_learns_grid_search_on_the_activations(workspace, task):
    work = workspace(task)
    found = compared(work)
    cut, targets = found.design.cut, work.manifest.targets
    x, train_rows, val = activation(work, cut), work.rows("train"), work.rows("val")
    part = work.manifest.take(train_rows)
    fold = fold_numbers(part, 4, contents=work.store.digests[train_rows], seed=work.seed)
    other = GridSearchCV(
        LinearSVC(dual=False, tol=1e-9, max_iter=100_000),
        {"C": list(GRID)},
        cv=PredefinedSplit(fold),
    ).fit(x[train_rows], targets[train_rows])
    svm = found.of(SVM)[0]
    np.testing.assert_allclose(svm.details["accuracy"], other.cv_results_["mean_test_score"])
    assert svm.details["C"] == other.best_params_["C"]
    assert set(svm.parts) == {"train", "test"}

    for fraction, point in zip(found.design.fractions, found.points[0], strict=True):
        rows = found.parts[fraction, 0].indices("train")
        assert point.details["images"] == len(rows) == round(fraction * len(train_rows))
        fitted = LinearSVC(C=svm.details["C"], dual=False, tol=1e-9, max_iter=100_000)
        fitted.fit(x[rows], targets[rows])
        scores = point.validation.scores
        said = scores.argmax(1) if task == "multiclass" else (scores[:, 0] >= 0.5).astype(int)
        np.testing.assert_array_equal(said, fitted.predict(x[val]))
        held = []
        for f in range(4):
            inside = rows[np.isin(rows, train_rows[fold != f])]
            out = train_rows[fold == f]
            held.append(fitted.fit(x[inside], targets[inside]).score(x[out], targets[out]))
        np.testing.assert_allclose(point.details["held_out"], held)
    assert np.mean(point.details["held_out"]) == pytest.approx(other.best_score_)


def test_all_heads_and_sizes_answer_on_activations_of_one_pass(workspace, monkeypatch):
    work = workspace()
    passes = []
    run = frozen.activations

    def counted(bottom, *more, **named):
        passes.append(named["cut"])
        return run(bottom, *more, **named)

    monkeypatch.setattr(frozen, "activations", counted)
    found = compared(work)
    assert passes and set(passes) == {found.design.cut.name}
    (entry,) = (work.cache / "activations").iterdir()  # one pass, at one place, of all pictures
    assert (entry / "rows.bin").stat().st_size == 4 * 96 * np.prod(found.design.cut.shape)
    assert [found.trained[place].outcome is not None for place in places(found.design)] == [
        True
    ] * 4
    for head in HEADS:
        (outcome,) = found.of(head).values()
        assert set(outcome.parts) == {"train", "test"}
        np.testing.assert_array_equal(
            outcome.validation.targets, work.manifest.targets[work.rows("val")]
        )
    history = found.of(CONNECTED)[0].details["history"]
    assert [set(entry) >= {"train_loss", "val_accuracy"} for entry in history] == [True] * 3


def test_several_labels_an_image_have_a_c_each(workspace):
    found = compared(workspace("multilabel"), penalties=(0.0001, 0.01, 1.0))
    scores = findings(workspace("multilabel"), found, draws=20)
    svm = scores.heads[2]
    assert svm["head"] == SVM and len(svm["C"][0]) == 3
    held = np.mean(found.points[0][1].details["held_out"])  # the mean over labels in each fold
    assert svm["cross_validated"] == pytest.approx(held, abs=1e-9)
    for row in scores.heads:
        said = found.of(row["head"])[0].validation
        assert row["val_accuracy"]["value"] == pytest.approx(
            np.mean((said.scores >= 0.5) == said.targets)
        )


def test_a_finished_study_is_found_and_computes_nothing(workspace, monkeypatch):
    first = compared(workspace())

    def never(*_more, **_named):
        raise AssertionError("computed again")

    monkeypatch.setattr(frozen, "activations", never)
    monkeypatch.setattr("layerwise.studies.trained.fit", never)
    again = compared(workspace())
    for head in HEADS:
        np.testing.assert_array_equal(
            again.of(head)[0].validation.scores, first.of(head)[0].validation.scores
        )
    assert [p.details for p in again.points[0]] == [p.details for p in first.points[0]]


def test_the_pooled_head_is_the_usual_one_but_for_where_it_pools(workspace):
    """Equal weights at the start, equal pictures: the same network, learnt from other files."""
    work = workspace("multiclass")
    cut = work.cuts()[1]
    here = transfer_of(POOLED, cut, work.weights_name)
    usual = replace(here, head="linear")
    recipe = replace(RECIPE, lr=0.01)
    one, other = (train(work, transfer, recipe, check=False) for transfer in (here, usual))
    assert one.run.id != other.run.id
    np.testing.assert_allclose(one.validation.scores, other.validation.scores, atol=1e-4)
    assert one.parameters == other.parameters
    network = rebuild(work, here, one)
    with torch.no_grad():
        images = torch.from_numpy(work.store.read(work.rows("val")))
        logits = network(images).numpy()
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(shares, one.validation.scores, atol=1e-4)


def test_more_folds_than_images_are_named_with_the_number_that_works(workspace):
    work = workspace("multiclass")
    with pytest.raises(
        DataError, match="has 16 training images, and cross-validation with 20.*--folds 16 works"
    ):
        check_folds_fit(work, 20)
    check_folds_fit(work, 16)
    manifest = work.manifest
    table = manifest.table.assign(patient=[f"p{i // 24}" for i in range(96)])
    patients = replace(work, manifest=replace(manifest, table=table))
    with pytest.raises(DataError, match="16 training images of 2 patients.*--folds 2 works"):
        check_folds_fit(patients, 10)
    only = np.where(manifest.targets == 1, "", manifest.table["split"])
    only[np.flatnonzero(manifest.targets == 1)[0]] = "train"
    with pytest.raises(DataError, match="has 1 training image, .*2 are the least: add images"):
        check_folds_fit(replace(work, manifest=manifest.replace(split=only)), 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: np.ones_like(x), "--cut conv1: .*the same for every image; take another cut"),
        (
            lambda x: np.where(x > np.median(x), np.nan, x),
            "--cut conv1: .*not finite.*take other weights",
        ),
    ],
    ids=["constant", "NaN"],
)
def test_activations_that_say_nothing_are_named(workspace, monkeypatch, change, message):
    read = frozen.Rows.read
    monkeypatch.setattr(
        frozen.Rows,
        "read",
        lambda self, rows: (
            change(read(self, rows)) if self.dtype == np.float32 else read(self, rows)
        ),
    )
    with pytest.raises(TrainingError, match=message):
        compared(workspace())


def test_the_base_is_what_has_places_and_may_be_cut_lower(workspace):
    work = workspace()
    assert whole_base(work) == [cut for cut in work.cuts() if cut.rows > 1][-1]
    cut = cut_named(work, "conv1")
    assert cut.shape == work.cuts()[0].shape
    check_head(cut)
    with pytest.raises(
        ModelError, match=r"--cut conv1: .* parameters on its 64×224×224 values.*--im"
    ):
        check_head(replace(cut, shape=(64, 224, 224)))

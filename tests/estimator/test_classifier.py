"""The estimator: the same work as the studies, scikit-learn's tools, and what it refuses."""

import copy
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from layerwise import LayerwiseClassifier, Recipe, Transfer
from layerwise.data.load import DataOptions
from layerwise.errors import EstimatorError, LayerwiseError, TrainingError
from layerwise.estimator import learning
from layerwise.models.cuts import truncate
from layerwise.serving.bundle import Bundle
from layerwise.serving.statistics import Statistics
from layerwise.studies.prepare import Request, prepare
from layerwise.studies.profile import best_probe, profile
from layerwise.studies.trained import rebuild, test_logits, train

SIDE = 28
RECIPE = Recipe(epochs=2, batch=8, lr=3e-3)
logits_of = test_logits  # pytest would take the other name for a test
del test_logits


def tiny(**settings) -> LayerwiseClassifier:
    """A small network at random, trained for two epochs unless asked for something else."""
    plain = {
        "model": "lenet5",
        "weights": "none",
        "transfer": "finetune",
        "recipe": RECIPE,
        "image_size": SIDE,
        "threads": 1,
        "validation": 0.25,
    }
    return LayerwiseClassifier(**plain | settings)


@pytest.fixture(scope="module")
def fitted(make):
    """Probes on two classes."""
    torch.set_num_threads(1)
    X, y = make(20)
    return tiny(transfer="probe").fit(X, y), X, y


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights for lenet5 with four outputs."""
    from safetensors.torch import save_file

    from layerwise.models.registry import create

    network = create("lenet5", outputs=4, seed=7, image_size=SIDE)
    path = tmp_path_factory.mktemp("weights") / "lenet5.safetensors"
    save_file(network.module.state_dict(), path)
    return path


# The same work done by the studies themselves, from files.


def by_the_studies(folder: Path, model, X, y, unseen, unseen_y, transfer) -> np.ndarray:
    """Probabilities of `unseen`: pictures written to files, and read as `layerwise fit` reads."""
    held = set(model.validation_indices_.tolist())
    rows = []
    for index, (picture, label) in enumerate(zip([*X, *unseen], [*y, *unseen_y], strict=True)):
        path = folder / f"{index:04d}.png"
        Image.fromarray(picture).save(path)
        split = "test" if index >= len(X) else "val" if index in held else "train"
        rows.append((path.name, f"class {label}", split))
    table = folder / "table.csv"
    pd.DataFrame(rows, columns=["path", "label", "split"]).to_csv(table, index=False)
    prepared = prepare(
        Request(
            data=str(table),
            out=folder / "out",
            cache=folder / "cache",
            options=DataOptions(label_column=("label",), split_column="split"),
            model=model.model,
            weights=str(model.weights),
            image_size=SIDE,
            seed=model.random_state,
            threads=1,
        ),
        lambda _words: None,
        lambda _title: lambda _done, _all: None,
        lambda _network, _manifest, _device: SIDE,
    )
    work = prepared.work
    assert work.rows("val").tolist() == model.validation_indices_.tolist()
    if transfer is None:
        probe = best_probe(work, profile(work))
        chosen, outcome = Transfer.from_dict(probe.outcome.run.settings["transfer"]), probe.outcome
    else:
        chosen = transfer(work.weights_name)
        outcome = train(work, chosen, RECIPE)
    network = rebuild(work, chosen, outcome)
    rows = work.rows("test")
    return work.predictions(rows, logits_of(work, network, rows)).scores


@pytest.mark.parametrize(
    ("asked", "transfer", "classes"),
    [
        ("probe", None, 3),
        ("finetune", lambda source: Transfer(source), 2),
        ("conv2", lambda source: Transfer(source, keep="conv2", copy="conv2"), 3),
        (
            Transfer(freeze="conv1", classifier="small"),
            lambda source: Transfer(source, freeze="conv1", classifier="small"),
            2,
        ),
        (Transfer(copy="none"), lambda source: Transfer(copy="none"), 2),
    ],
    ids=["probe", "finetune", "cut", "transfer", "random"],
)
def test_it_is_the_work_of_the_studies(make, weights, tmp_path, asked, transfer, classes):
    X, y = make(20, classes)
    unseen, unseen_y = make(6, classes, seed=1)
    model = tiny(transfer=asked, weights=weights, random_state=3).fit(X, y)
    said = model.predict_proba(unseen)
    wanted = by_the_studies(tmp_path, model, X, y, unseen, unseen_y, transfer)
    np.testing.assert_array_equal(said[:, 1:] if classes == 2 else said, wanted)


def test_auto_takes_the_better_of_the_probe_and_the_tuned_network(make, weights, monkeypatch):
    X, y = make(20)
    probed = tiny(weights=weights, transfer="probe").fit(X, y)
    monkeypatch.setattr(learning, "smallest_equal", lambda _work, probes: probes[1])
    tuned = tiny(weights=weights, transfer="conv2").fit(X, y)
    assert probed.history_ == [] and len(tuned.history_) == 2
    for frozen, fine, better in ((0.6, 0.7, tuned), (0.7, 0.7, probed)):
        values = iter([frozen, fine, 0.0, 0.0])
        monkeypatch.setattr(learning, "auroc", lambda _work, _outcome, v=values: next(v))
        model = tiny(weights=weights, transfer="auto").fit(X, y)
        np.testing.assert_array_equal(model.predict_proba(X), better.predict_proba(X))
        assert [one["auroc"] for one in model.profile_] == [one["auroc"] for one in probed.profile_]


def test_what_can_not_be_trained_is_left_out(make, weights, monkeypatch):
    X, y = make(10)

    def fails(*_more, **_rest):
        raise TrainingError("the loss became nan")

    monkeypatch.setattr(learning, "train", fails)
    frozen = tiny(weights=weights, transfer="auto").fit(X, y)
    assert frozen.history_ == [] and frozen.transfer_.freeze == frozen.transfer_.keep
    with pytest.raises(EstimatorError, match="the loss became nan"):
        tiny(weights=weights).fit(X, y)


def test_at_random_auto_trains_the_whole_network(make):
    X, y = make(20)
    model = tiny(transfer="auto", recipe={"lr": 3e-3}, epochs=2).fit(X, y)
    whole = tiny(recipe={"lr": np.float64(3e-3)}, epochs=np.int64(2)).fit(X, y)
    assert len(whole.history_) == 2 and whole.transfer_ == Transfer(copy="none")
    assert model.validation_score_ >= whole.validation_score_
    assert [one["cut"] for one in model.profile_] == ["conv1", "conv2", "conv3", "fc1", "fc2"]


# What it says and keeps.


def test_equal_seeds_give_equal_bits_and_others_do_not(make):
    X, y = make(10)
    model = tiny().fit(X, y)
    again = clone(model).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(again, model.predict_proba(X))
    other = clone(model).set_params(random_state=1).fit(X, y)
    assert (other.predict_proba(X) != again).any()
    drawn = [tiny(random_state=np.random.RandomState(5)).fit(X, y) for _ in range(2)]
    np.testing.assert_array_equal(*(one.predict_proba(X) for one in drawn))


@pytest.mark.parametrize("transfer", ["probe", "conv2", Transfer("untrained", freeze="conv1")])
def test_a_pickled_one_answers_to_the_bit(make, transfer):
    X, y = make(10)
    model = tiny(transfer=transfer).fit(X, y)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
        np.testing.assert_array_equal(other.explain(X[:2]), model.explain(X[:2]))
        assert other.history_ == model.history_
        assert transfer != "probe" or other.profile_ == model.profile_


def test_nothing_is_left_behind(make, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    X, y = make(10)
    torch.set_num_threads(2)
    images = [Image.fromarray(picture) for picture in X]
    tiny().fit(images, y).predict(images)
    assert torch.get_num_threads() == 2
    assert list(tmp_path.iterdir()) == []


def test_with_a_cache_nothing_is_trained_twice(make, tmp_path, monkeypatch):
    X, y = make(15)
    settings = {"cache": tmp_path}
    first = tiny(**settings).fit(X, y).predict_proba(X)
    monkeypatch.setattr("layerwise.studies.trained.fit", None)
    np.testing.assert_array_equal(tiny(**settings).fit(X, y).predict_proba(X), first)
    with pytest.raises(TypeError):
        tiny(**settings, random_state=1).fit(X, y)


def test_files_images_and_arrays_are_one_thing(make, tmp_path):
    X, y = make(12, 3)
    X = np.stack([X, X // 2, 255 - X], axis=-1)  # colour
    paths = [tmp_path / f"{index}.png" for index in range(len(X))]
    images = [Image.fromarray(picture) for picture in X]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    names = np.array(["ant", "bee", "cat"])[y]
    model = tiny().fit(X, names)
    assert model.classes_.tolist() == ["ant", "bee", "cat"] and model.n_features_in_ == X[0].size
    said = model.predict_proba(X)
    for form in (images, pd.Series(list(map(str, paths)))):
        other = tiny().fit(form, names)
        np.testing.assert_array_equal(other.predict_proba(form), said)
        assert not hasattr(other, "n_features_in_")
    for form in (paths, images, X.astype(np.float64), X.tolist()):
        np.testing.assert_array_equal(model.predict_proba(form), said)
    with pytest.raises(ValueError, match="fit was given a table"):
        tiny(transfer="probe").fit(X[..., 0].reshape(len(X), -1), y).predict(paths)


def test_each_patient_is_on_one_side(make):
    X, y = make(30)
    patients = np.arange(60) // 4
    held = tiny().fit(X, y, groups=patients).validation_indices_
    rest = np.setdiff1d(np.arange(60), held)
    assert len(held) in (12, 16) and not set(patients[held]) & set(patients[rest])


def test_only_the_proportions_of_sample_weight_decide(make):
    X, y = make(10)
    for transfer in ("finetune", "probe"):
        plain = tiny(transfer=transfer).fit(X, y).predict_proba(X)
        for weight in (np.ones(20), [4] * 20, pd.Series(np.full(20, 0.25))):
            said = tiny(transfer=transfer).fit(X, y, sample_weight=weight).predict_proba(X)
            np.testing.assert_array_equal(said, plain)
        more = np.where(np.arange(20) < 6, 5.0, 1.0)
        assert (
            tiny(transfer=transfer).fit(X, y, sample_weight=more).predict_proba(X) != plain
        ).any()


def test_pictures_that_count_nothing_are_left_out(make):
    X, y = make(12)
    patients = np.arange(24) // 2
    weight = np.where(np.arange(24) % 5 == 0, 0.0, 1.0 + np.arange(24) % 3)
    y = np.where(weight, y, 7)  # a class that nothing counts of is none
    some = np.flatnonzero(weight)
    all_given = tiny().fit(X, y, groups=patients, sample_weight=weight)
    left = tiny().fit(X[some], y[some], groups=patients[some], sample_weight=weight[some])
    np.testing.assert_array_equal(all_given.predict_proba(X), left.predict_proba(X))
    assert all_given.classes_.tolist() == [0, 1]
    np.testing.assert_array_equal(all_given.validation_indices_, some[left.validation_indices_])
    images = [Image.fromarray(picture) for picture in X]
    listed = tiny().fit(images, y, groups=patients, sample_weight=weight)
    np.testing.assert_array_equal(listed.predict_proba(images), left.predict_proba(X))


@pytest.mark.parametrize("transfer", ["probe", "finetune"])
def test_of_contradicting_answers_those_that_count_more_are_learnt(squares, transfer):
    """Each place is answered both ways; whose answers count nine times as much is right."""
    place = np.arange(80) // 2 % 2
    y = np.arange(80) % 2
    X = squares(np.eye(4, dtype=int)[place])
    recipe = Recipe(epochs=12, batch=8, lr=3e-3)
    for right in (place == y, place != y):
        weight = np.where(right, 9.0, 1.0)
        model = tiny(transfer=transfer, recipe=recipe).fit(X, y, sample_weight=weight)
        said = model.predict_proba(X)[:, 1]
        assert (model.predict(X) == np.where(right, y, 1 - y)).mean() > 0.95
        held = model.validation_indices_
        wanted = roc_auc_score(y[held], said[held], sample_weight=weight[held])
        assert model.validation_score_ == pytest.approx(wanted) and wanted > 0.8
        if transfer == "probe":
            (chosen,) = [one for one in model.profile_ if one["chosen"]]
            assert chosen["auroc"] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        ([1.0] * 7, "sample_weight has the shape .7,., and X has 8 pictures"),
        (np.ones((8, 2)), "sample_weight has the shape .8, 2."),
        ([1.0] * 7 + [-1], "sample_weight has -1; a picture counts 0"),
        ([0] * 8, "sample_weight is zero for every picture"),
        ([1, 0] * 4, "y has one class, 0, and two or more are needed"),
        ([np.nan] * 8, "sample_weight contains NaN"),
        (["much"] * 8, "could not convert string"),
    ],
)
def test_a_sample_weight_that_can_not_be_is_named(weight, words):
    with pytest.raises(ValueError, match=words):
        tiny().fit(PICTURES, Y, sample_weight=weight)


def test_copies_of_a_picture_are_on_one_side(make):
    X, y = make(10)
    held = tiny().fit(np.concatenate([X, X]), np.concatenate([y, y])).validation_indices_
    assert sorted(held % 20) == sorted(np.tile(np.unique(held % 20), 2))


def test_several_labels_a_picture(squares):
    has = np.random.default_rng(0).integers(0, 2, (60, 3))
    X = squares(has)
    model = tiny(recipe=Recipe(epochs=12, batch=8, lr=3e-3)).fit(X, has)
    said, decided = model.predict_proba(X), model.predict(X)
    assert said.shape == has.shape and model.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(decided, said > 0.5)
    assert decided.dtype == has.dtype
    assert model.score(X, has) == (decided == has).all(axis=1).mean()
    held = model.validation_indices_
    each = [roc_auc_score(has[held, k], said[held, k]) for k in range(3)]
    assert model.validation_score_ == pytest.approx(np.mean(each))
    from scipy.sparse import csr_matrix

    sparse = clone(model).fit(X, csr_matrix(has))
    np.testing.assert_array_equal(sparse.predict_proba(X), said)


def test_the_profile_is_the_auroc_of_each_probe(fitted):
    model, X, y = fitted
    table = pd.DataFrame(model.profile_)
    assert table["cut"].tolist() == ["conv1", "conv2", "conv3", "fc1", "fc2"]
    assert (table["low"] <= table["auroc"]).all() and (table["auroc"] <= table["high"]).all()
    (chosen,) = table.index[table["chosen"]]
    assert table["cut"][chosen] == model.transfer_.keep
    held = model.validation_indices_
    alone = roc_auc_score(y[held], model.predict_proba(X)[held, 1])
    assert table["auroc"][chosen] == pytest.approx(alone) == model.validation_score_
    unprobed = tiny().fit(X, y)
    assert not hasattr(unprobed, "profile_") and not hasattr(tiny(), "profile_")
    with pytest.raises(AttributeError, match="transfer='finetune' probes no depth"):
        unprobed.plot_profile()


def test_explain_finds_what_a_class_was_planted_in(squares, places):
    """Of a linear layer on pooled maps, Grad-CAM is the maps weighed by that layer."""
    has = np.eye(4, dtype=int)[np.arange(80) % 4] * (np.arange(80) < 40)[:, None]
    X, y = squares(has), np.where(has.any(axis=1), "with", "without")
    model = tiny(transfer="probe").fit(X, y)
    assert model.score(X, y) == 1 and model.transfer_.keep == "conv1"
    heat = model.explain(X[:4], label="with")
    network = model._fitted.network
    weight = -network.weights()["head.linear.weight"][0]  # its logit is that of "without"
    with torch.no_grad():
        maps = truncate(network.original, "conv1")(
            network.pixels(torch.from_numpy(X[:4, ..., None]))
        )
        by_hand = torch.relu((maps * weight[:, None, None]).sum(dim=1)).numpy()
    assert by_hand.shape == heat.shape  # so nothing is resized
    np.testing.assert_allclose(heat, by_hand / by_hand.max(axis=(1, 2), keepdims=True), atol=1e-5)
    for index, (top, left) in enumerate(places):
        inside = heat[index, top : top + 10, left : left + 10].mean()
        outside = (heat[index].sum() - inside * 100) / (SIDE * SIDE - 100)
        assert inside > 2 * outside
    np.testing.assert_array_equal(model.explain(X[:4]), heat)
    assert (model.explain(X[:1], label="without")[0] != heat[0]).any()
    with pytest.raises(ValueError, match="label='x' is none of the classes"):
        model.explain(X[:1], label="x")


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_a_bundle_answers_alike(make, tmp_path, task):
    X, y = make(12)
    y = y if task == "binary" else np.stack([y, 1 - y, np.arange(24) % 3 == 0], axis=1).astype(int)
    model = tiny().fit(X, y)
    assert model.export(tmp_path / "bundle") == tmp_path / "bundle"
    bundle = Bundle.load(tmp_path / "bundle")
    paths = []
    for index, picture in enumerate(X[:6]):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(picture).save(paths[-1])
    said = model.predict_proba(X[:6])
    scores = bundle.predict(paths)
    np.testing.assert_allclose(scores[:, -1], said[:, -1], atol=1e-4)
    assert bundle.info.labels == (("0", "1") if task == "binary" else ("0", "1", "2"))
    assert bundle.info.provenance["transfer"] == model.transfer_.to_dict()
    # what drift compares with: all that it learnt from, and what it says of what was held out
    known = Statistics.from_json(bundle.info.statistics, "bundle.json")
    held = model.validation_indices_
    assert (known.images, known.answers) == (len(X) - len(held), len(held))
    said = model.predict(X[held]).reshape(len(held), -1)  # (v, 1 | K)
    assert [known.decided[label][1] for label in known.decided] == said.sum(axis=0).tolist()


# scikit-learn's tools.


def test_cross_validation_is_fitting_fold_by_fold(make):
    X, y = make(16)
    patients = np.arange(32) // 4
    folds = GroupKFold(2)
    found = cross_validate(
        tiny(), X, y, groups=patients, cv=folds, params={"groups": patients}, return_estimator=True
    )
    for fold, (learnt, unseen) in enumerate(folds.split(X, y, patients)):
        alone = tiny().fit(X[learnt], y[learnt], groups=patients[learnt])
        said = alone.predict(X[unseen])
        assert found["test_score"][fold] == accuracy_score(y[unseen], said)
        np.testing.assert_array_equal(
            found["estimator"][fold].predict_proba(X[unseen]), alone.predict_proba(X[unseen])
        )


def test_a_grid_of_cuts(make, tmp_path):
    X, y = make(12)
    grid = {"transfer": ["conv1", "conv3"], "recipe": [{"batch": 4}], "epochs": [1]}
    search = GridSearchCV(tiny(cache=tmp_path), grid, cv=2, error_score="raise").fit(X, y)
    assert len(search.cv_results_["params"]) == 2
    assert search.best_estimator_.transfer_.keep == search.best_params_["transfer"]
    assert len(search.best_estimator_.history_) == 1


def test_in_a_pipeline(make):
    X, y = make(12)
    table = X.reshape(len(X), -1).astype(float)
    piped = make_pipeline(StandardScaler(), tiny()).fit(table, y)
    alone = tiny().fit(StandardScaler().fit_transform(table), y)
    wanted = alone.predict_proba(StandardScaler().fit_transform(table))
    np.testing.assert_array_equal(piped.predict_proba(table), wanted)


def test_importing_the_package_stays_light():
    code = (
        "import sys, layerwise\n"
        "assert not {'torch', 'sklearn', 'numpy'} & set(sys.modules)\n"
        "assert 'LayerwiseClassifier' in layerwise.__all__\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# What it refuses: a ValueError that says what would do, and is one of ours.

Y = np.arange(8) % 2
PICTURES = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE), dtype=np.uint8)
DARK = np.where(np.arange(SIDE) == 0, np.nan, PICTURES / 255)


@pytest.mark.parametrize(
    ("settings", "X", "y", "words"),
    [
        ({}, PICTURES[:3], [0, 1, 1], "class '0' has 1 images .* 2 are needed"),
        ({}, PICTURES, [1] * 8, "y has one class, 1, and two or more are needed"),
        ({}, PICTURES, Y[:5], "X has 8 pictures and y 5 answers"),
        ({}, PICTURES, None, "requires y to be passed, but the target y is None"),
        ({}, PICTURES, Y + 0.5 * np.pi, "Unknown label type: continuous"),
        ({}, PICTURES, np.array([0, np.nan] * 4), "y contains NaN"),
        ({}, PICTURES, np.stack([Y, Y + 1, Y], 1), "multiclass-multioutput|label indicator"),
        ({}, DARK, Y, "X contains NaN"),
        ({}, DARK - np.inf, Y, "X contains (infinity|NaN)"),
        ({}, np.full_like(PICTURES, 9), Y, "all 8 pictures of X are the same"),
        ({}, PICTURES[:0], [], "0 sample"),
        ({}, ["gone.png"] * 8, Y, r"(?s)8 of 8 pictures can not be read.*replace or remove them$"),
        ({"image_size": 8}, PICTURES, Y, "at least 28 pixels, not 8; choose another image_size"),
        ({"image_size": "big"}, PICTURES, Y, "image_size='big': it must be a whole number"),
        ({"model": "lenet6"}, PICTURES, Y, "model lenet6: no such network; .*lenet5"),
        ({"model": None}, PICTURES, Y, "model=None: it must be a name"),
        ({"model_args": {"depth": 3}}, PICTURES, Y, "model_args"),
        ({"model_args": 3}, PICTURES, Y, "model_args=3: it must be a mapping"),
        ({"weights": "gone.pth"}, PICTURES, Y, "weights gone.pth: no such file"),
        ({"weights": 3}, PICTURES, Y, "weights=3: it must be"),
        ({"transfer": "conv9"}, PICTURES, Y, "no layer 'conv9'; near to it are"),
        ({"transfer": 3}, PICTURES, Y, "transfer=3: it must be 'auto'"),
        ({"recipe": {"speed": 3}}, PICTURES, Y, "unknown setting 'speed'"),
        ({"recipe": 3}, PICTURES, Y, "recipe=3: it must be a Recipe"),
        ({"epochs": 0}, PICTURES, Y, "epochs=0: it must be a whole number from 1"),
        ({"threads": True}, PICTURES, Y, "threads=True: it must be"),
        ({"validation": 1.5}, PICTURES, Y, "validation=1.5: it must be a fraction"),
        ({"random_state": -1}, PICTURES, Y, "random_state=-1: give a number from 0"),
    ],
)
def test_bad_input_is_named_with_what_would_do(settings, X, y, words):
    with pytest.raises(ValueError, match=words) as caught:
        tiny(**settings).fit(X, y)
    assert "--" not in str(caught.value)


def test_two_pictures_a_class_are_enough():
    """One to learn from and one to look at."""
    model = tiny().fit(PICTURES[:4], [0, 1, 0, 1])
    assert len(model.validation_indices_) == 2


def test_ours_are_of_both_families():
    with pytest.raises(LayerwiseError) as caught:
        tiny().fit(PICTURES, [1] * 8)
    assert isinstance(caught.value, EstimatorError) and isinstance(caught.value, ValueError)
    assert caught.value.exit_code == 2 and isinstance(caught.value.__cause__, LayerwiseError)


def test_groups_of_another_length_are_refused():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        tiny().fit(PICTURES, Y, groups=[1, 2])

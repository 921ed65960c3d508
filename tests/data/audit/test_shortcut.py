"""What predicts the label is named, and chance is not."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from layerwise.data.audit.quality import Looks
from layerwise.data.audit.shortcut import FOLDS, TOGETHER, probes, shortcuts, weighted_auroc
from layerwise.data.load import load
from layerwise.data.manifest import Manifest, make_table
from layerwise.data.storage.headers import Headers, read_headers


def made(targets, labels=("a", "b"), task="binary", patients=None):
    n = len(targets)
    table = make_table([f"{i}" for i in range(n)], patients=patients)
    return Manifest("made", task, labels, table, np.asarray(targets))


def headers_of(n, **given_fields):
    fields = {
        "sizes": np.full((n, 2), 100),
        "grey": np.ones(n, bool),
        "formats": np.full(n, "PNG"),
        "bits": np.full(n, 8),
        "bytes": np.zeros(n, int),
    }
    return Headers(**(fields | given_fields))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 3)), max_size=30))
def test_the_weighted_area_is_that_of_scikit_learn_on_repeated_rows(rows):
    truth = np.array([r[0] for r in rows], bool)
    score = np.array([r[1] / 4 for r in rows])
    weights = np.array([r[2] for r in rows], int)
    got = weighted_auroc(truth, score, np.stack([np.ones(len(rows)), weights]))
    for value, times in zip(got, (np.ones(len(rows), int), weights), strict=True):
        t, s = truth.repeat(times), score.repeat(times)
        if len(set(t.tolist())) < 2:
            assert np.isnan(value)
        else:
            assert abs(value - roc_auc_score(t, s)) < 1e-6


def test_width_that_tells_the_class_is_named():
    random = np.random.default_rng(0)
    targets = np.arange(300) % 2
    width = np.where(targets == 1, 1024, 900) + random.integers(-10, 10, 300)
    sizes = np.column_stack([np.full(300, 800), width])
    found = shortcuts(made(targets), headers_of(300, sizes=sizes), None)
    assert [f.severity for f in found] == ["warning", "warning"]
    assert {f.message.partition(" alone predicts b with AUROC 1.00")[0] for f in found} == {
        "image width",
        "aspect ratio",
    }


def test_held_out_auroc_is_that_of_the_same_tree_fitted_by_hand():
    random = np.random.default_rng(1)
    targets = random.integers(0, 2, 400)
    size = 5000 + targets * 700 + random.integers(0, 2000, 400)
    patients = [f"p{i // 2}" for i in range(400)]
    manifest = made(targets, patients=patients)
    (probe,) = probes(manifest, headers_of(400, bytes=size), None, seed=3)
    assert probe.feature == "file size" and probe.label == "b"
    # The folds again: patients in a random order, dealt out in turn.
    patient = np.unique(patients, return_inverse=True)[1]
    fold = np.random.default_rng(3).permutation(200)[patient] % FOLDS
    score = np.zeros(400)
    for k in range(FOLDS):
        tree = DecisionTreeClassifier(
            max_leaf_nodes=16,
            min_samples_leaf=max(5, int((fold != k).sum()) // 100),
            class_weight="balanced",
            random_state=0,
        )
        tree.fit(size[fold != k, None].astype(float), targets[fold != k])
        score[fold == k] = tree.predict_proba(size[fold == k, None].astype(float))[:, 1]
    assert abs(probe.auroc - roc_auc_score(targets, score)) < 1e-6
    assert probe.low < probe.auroc < probe.high and probe.high - probe.low < 0.15
    assert all(len(set(fold[patient == p])) == 1 for p in range(200))


def test_each_label_against_the_rest_and_unknown_labels_left_out():
    random = np.random.default_rng(0)
    jpeg = random.random(300) < 0.5
    files = headers_of(300, formats=np.where(jpeg, "JPEG", "PNG"))
    classes = np.where(jpeg, 0, random.integers(1, 3, 300))
    told = probes(made(classes, ("a", "b", "c"), "multiclass"), files, None)
    assert {p.label for p in told} == {"a", "b", "c"} and told[0].auroc == 1
    assert all(0.6 < p.auroc < 0.9 for p in told[1:])
    targets = np.full((300, 3), np.nan, np.float32)
    targets[:150, 0] = jpeg[:150]
    targets[:, 1] = random.integers(0, 2, 300)
    targets[:5, 2] = 1  # too few to judge
    many = made(targets, ("x", "y", "z"), "multilabel")
    found = shortcuts(many, files, None)
    assert [f.message.split(" (")[0] for f in found] == [
        "file type alone predicts x with AUROC 1.00"
    ]


def test_together_is_named_only_where_nothing_alone_is():
    random = np.random.default_rng(0)
    grey, wide = random.random((2, 1000)) < 0.5
    targets = (grey ^ wide).astype(np.int64)  # neither alone tells anything
    sizes = np.column_stack([np.full(1000, 100), np.where(wide, 200, 100)])
    found = shortcuts(made(targets), headers_of(1000, sizes=sizes, grey=grey), None)
    assert [f.message.partition(" alone")[0] for f in found] == [TOGETHER]


def test_borders_count():
    targets = np.arange(200) % 2
    borders = np.random.default_rng(0).uniform(0, 50, (200, 5)).astype(np.float32)
    borders[:, 2] += 60 * targets
    flat = np.zeros(200, np.float32)
    looks = Looks(flat, flat, flat, flat, flat, borders)
    found = shortcuts(made(targets), None, looks)
    assert [f.message.split(" alone")[0] for f in found] == [
        "the border (the picture has a part in it)"
    ]


def test_chance_is_silent():
    """Everything differs, nothing tells: no alarm over 12 draws, small and large, few and many."""
    alarms = 0
    for seed in range(12):
        random = np.random.default_rng(seed)
        n = (60, 200, 600)[seed % 3]
        files = headers_of(
            n,
            sizes=random.integers(100, 2000, (n, 2)),
            grey=random.random(n) < 0.5,
            formats=random.choice(["PNG", "JPEG", "BMP"], n),
            bytes=random.integers(1000, 90000, n),
        )
        share = (0.5, 0.35)[seed % 2]
        alarms += len(shortcuts(made((random.random(n) < share).astype(int)), files, None, seed))
    assert alarms == 0


def test_nothing_to_look_at():
    assert probes(made(np.arange(300) % 2), headers_of(300), None) == []
    assert probes(made(np.arange(300) % 2), None, None) == []
    few = headers_of(30, bytes=np.arange(30))
    assert probes(made(np.arange(30) % 2), few, None) == []
    one = made(np.arange(100) % 2, patients=["p"] * 100)
    assert all(p.auroc == 0.5 for p in probes(one, headers_of(100, bytes=np.arange(100)), None))


def test_pictures_of_many_hospitals_and_of_one(shared_data):
    chest = load(shared_data / "chest3")
    headers = read_headers(chest, workers=1)
    found = shortcuts(chest, headers, None)
    assert found[0].message.startswith("aspect ratio alone predicts COVID19 with AUROC 0.9")
    shuffled = chest.targets[np.random.default_rng(0).permutation(len(chest))]
    random = Manifest("shuffled", chest.task, chest.labels, chest.table, shuffled)
    assert shortcuts(random, headers, None) == []
    photos = load(shared_data / "cats-dogs")
    assert shortcuts(photos, read_headers(photos, workers=1), None) == []

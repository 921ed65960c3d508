"""So many images of each class: exact, disjoint, whole patients, given parts kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwise.data.manifest import Manifest, make_table
from layerwise.data.splits.per_class import per_class
from layerwise.errors import DataError


def data(targets, patients=None, splits=None):
    targets = np.asarray(targets)
    ids = [f"{i}.png" for i in range(len(targets))]
    table = make_table(ids, patients=patients, splits=splits)
    several = targets.ndim == 2
    labels = ("a", "b", "c")[: 2 if several else int(targets.max()) + 1]
    task = "multilabel" if several else "binary" if len(labels) == 2 else "multiclass"
    dtype = np.float32 if several else np.int64
    return Manifest("made", task, labels, table, targets.astype(dtype))


def test_marcelinos_sizes_out_of_a_large_set():
    manifest = data([0, 1] * 1000)
    found = per_class(manifest, (100, 50, 50))
    wanted = {p: {"a": n, "b": n} for p, n in (("train", 100), ("val", 50), ("test", 50))}
    assert found.counts() == wanted and len(set(found.table["id"])) == len(found) == 400
    assert found.settled
    assert "400 of 2000 images are used (--per-class 100,50,50, seed 0)" in found.notes[-1]
    again, other = per_class(manifest, (100, 50, 50)), per_class(manifest, (100, 50, 50), seed=1)
    assert list(again.table["id"]) == list(found.table["id"])
    assert set(other.table["id"]) != set(found.table["id"])


def test_a_part_that_is_given_is_drawn_from_its_own_images():
    splits = ["train", "val", "test", ""] * 30
    manifest = data([0] * 60 + [1] * 60, splits=splits)
    found = per_class(manifest, (20, 5, 5))
    was = dict(zip(manifest.table["id"], splits, strict=True))
    now = dict(zip(found.table["id"], found.table["split"], strict=True))
    allowed = {"train": {"train", ""}, "val": {"val"}, "test": {"test"}}
    assert all(was[name] in allowed[part] for name, part in now.items())
    assert found.counts()["train"] == {"a": 20, "b": 20}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 4), st.integers(2, 3))
def test_whole_patients_and_equal_contents_and_never_too_many(seed, most, classes):
    """By brute force: of every patient and every content all images are in one part, or none."""
    generator = np.random.default_rng(seed)
    count = 30 * most * classes
    targets = np.arange(count) % classes
    patients = [f"p{n}" for n in generator.integers(0, count // most, count)]
    contents = np.zeros((count, 32), np.uint8)
    contents[:, 0] = np.arange(count) % 251
    contents[:, 1] = np.arange(count) // 251
    twins = generator.choice(count, 4, replace=False)
    contents[twins[0]], contents[twins[1]] = contents[twins[2]], contents[twins[3]]
    manifest = data(targets, patients=patients)
    found = per_class(manifest, (10, 5, 5), contents=contents, seed=seed)
    part = dict(zip(found.table["id"], found.table["split"], strict=True))
    for keys in (patients, [bytes(row) for row in contents]):
        by_key = {}
        for name, key in zip(manifest.table["id"], keys, strict=True):
            by_key.setdefault(key, set()).add(part.get(name, "out"))
        assert all(len(parts) == 1 for parts in by_key.values())
    for name, most_images in (("train", 10), ("val", 5), ("test", 5)):
        assert all(0 < n <= most_images for n in found.counts()[name].values())


def test_too_few_images_say_what_would_do():
    with pytest.raises(
        DataError,
        match="takes 120 images of 'a' for the train part, and 100 are.*"
        "--per-class 100,50,50 would fit",
    ):
        per_class(data([0, 1] * 200), (120, 50, 50))
    with pytest.raises(DataError, match="takes 300 images of 'a' for the test part.*fewer in all"):
        per_class(data([0, 1] * 200), (10, 10, 300))
    splits = ["train"] * 20 + ["val"] * 4 + ["test"] * 10
    with pytest.raises(DataError, match="50 images of 'a' for the val part, and 2 .*3,2,3 would"):
        per_class(data([0, 1] * 17, splits=splits), (3, 50, 3))
    with pytest.raises(DataError, match="a class or more"):
        per_class(data([0, 1] * 20), (5, 0, 5))
    with pytest.raises(DataError, match="several labels.*--train-fraction"):
        per_class(data(np.eye(2)[[0, 1] * 9]), (1, 1, 1))


def test_a_class_without_images_in_a_part_is_named():
    splits = ["train"] * 20 + ["val"] * 10 + ["test"] * 10
    targets = [0, 1] * 10 + [0] * 10 + [0, 1] * 5
    with pytest.raises(DataError, match="3 images of 'b' for the val part, and 0 .*add images"):
        per_class(data(targets, splits=splits), (5, 3, 3))


def test_patients_larger_than_a_part_are_named():
    patients = [f"p{i // 10}" for i in range(80)]
    with pytest.raises(DataError, match="every patient with images of .*more than the 2.*for more"):
        per_class(data([0] * 40 + [1] * 40, patients=patients), (2, 2, 2))

"""Splits: disjoint, balanced, the same for the same seed, and honest about what was done."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwise.data.load import DataOptions, load
from layerwise.data.manifest import Manifest, make_table
from layerwise.data.splits.assign import assign, by_patient, stratified
from layerwise.data.splits.partition import assert_disjoint, find_units
from layerwise.errors import DataError


def data(targets, patients=None, splits=None, labels=None):
    targets = np.asarray(targets, np.int64)
    count = max(2, int(targets.max()) + 1)
    labels = labels or tuple(f"class {k}" for k in range(count))
    table = make_table([f"{i}.png" for i in range(len(targets))], patients=patients, splits=splits)
    task = "binary" if len(labels) == 2 else "multiclass"
    return Manifest(name="made", task=task, labels=labels, table=table, targets=targets)


def content(numbers):
    """Digests that are equal where the numbers are."""
    rows = np.zeros((len(numbers), 32), np.uint8)
    rows[:, :4] = np.asarray(numbers, np.uint32)[:, None].view(np.uint8)
    return rows


def where(manifest, key):
    """The set of parts in which each key occurs."""
    found = {}
    for value, part in zip(key, manifest.table["split"], strict=True):
        found.setdefault(value, set()).add(part)
    return found


def test_stratified_to_the_image():
    targets = np.repeat([0, 1, 2], [200, 100, 40])
    manifest = assign(data(targets), val=0.15, test=0.25)
    assert [list(c.values()) for c in manifest.counts().values()] == [
        [120, 60, 24],
        [30, 15, 6],
        [50, 25, 10],
    ]
    same = assign(data(targets), val=0.15, test=0.25)
    other = assign(data(targets), val=0.15, test=0.25, seed=1)
    assert (same.table["split"] == manifest.table["split"]).all()
    assert (other.table["split"] != manifest.table["split"]).mean() > 0.2
    assert "at random, stratified by label, seed 0; now 204 train, 51 val, 85 test" in str(
        manifest.notes
    )


def test_chance_is_even():
    targets = np.zeros(40, int)
    targets[20:] = 1
    times = sum(
        (assign(data(targets), seed=s).table["split"] == "test").to_numpy() for s in range(200)
    )
    assert times.sum() == 200 * 6
    assert np.abs(times - 30).max() < 5 * np.sqrt(200 * 0.15 * 0.85)  # five deviations


def test_by_patient():
    generator = np.random.default_rng(0)
    patients = [f"p{k}" for k in generator.zipf(1.6, 600) % 150]
    targets = generator.random(600) < 0.3
    manifest = by_patient(data(targets, patients))
    assert all(len(parts) == 1 for parts in where(manifest, patients).values())
    shares = [len(manifest.indices(part)) / 600 for part in ("train", "val", "test")]
    assert np.abs(np.array(shares) - [0.7, 0.15, 0.15]).max() < 0.1
    assert "by patient" in manifest.notes[-1]
    with pytest.raises(DataError, match="--patient-from"):
        by_patient(data(targets))
    loose = stratified(data(targets, patients))
    assert any(len(parts) > 1 for parts in where(loose, patients).values())


def test_a_patient_that_gives_a_part_a_class_does_not_take_another_from_its_own():
    """Two patients have both classes, one only a, one only b: these two must go together."""
    patients = ["p2", "p4", "p2", "p3", "p1", "p1", "p4", "p2"]
    manifest = assign(data([1, 1, 1, 0, 1, 0, 0, 1], patients))
    assert all(min(counts.values()) > 0 for counts in manifest.counts().values())
    parts = where(manifest, patients)
    assert all(len(part) == 1 for part in parts.values())
    assert parts["p2"] == parts["p3"] and len(set(map(str, parts.values()))) == 3


def test_patients_of_several_classes_that_can_not_be_shared_out():
    """Each class has three patients, but no three parts of these five have every class."""
    with pytest.raises(DataError, match="most patients have images of several classes.*class 0"):
        assign(data([0, 1, 0, 2, 1, 2, 0, 1, 2], ["x", "x", "y", "y", "z", "z", "u", "v", "v"]))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(0, 30)),
        min_size=12,
        max_size=40,
    ),
    st.integers(0, 5),
)
def test_patients_and_contents_joined_over_any_steps(rows, seed):
    targets, people, contents = (np.array(column) for column in zip(*rows, strict=True))
    patients = [f"p{k}" if k else "" for k in people]
    labels = ("a", "b", "c")
    try:
        made = assign(data(targets, patients, labels=labels), contents=content(contents), seed=seed)
    except DataError as error:
        assert "are needed, one for each" in str(error)
        return
    named = where(made, patients)
    named.pop("", None)
    assert all(len(parts) == 1 for parts in named.values())
    assert all(len(parts) == 1 for parts in where(made, contents.tolist()).values())
    assert all(min(counts.values()) > 0 for counts in made.counts().values())
    assert set(made.table["split"]) == {"train", "val", "test"}


def test_the_promise_is_checked():
    parts = np.array(["train", "test", "test"], dtype=object)
    assert_disjoint(parts, ["a", "b", "b"], np.array(["", "", "c"]))
    with pytest.raises(AssertionError, match="a defect of Layerwise"):
        assert_disjoint(parts, ["a", "b", "c"], ["a", "a", "b"])


def test_equal_contents_are_told_apart_to_the_last_byte():
    rows = np.zeros((4, 32), np.uint8)
    rows[1, 31], rows[2, 0] = 1, 1
    assert find_units(np.array(list("abcd")), rows).tolist() == [0, 1, 2, 0]


def test_given_parts_are_kept():
    targets = np.tile([0, 1], 150)
    splits = ["train"] * 200 + ["test"] * 100
    manifest = assign(data(targets, splits=splits), val=0.2)
    assert (manifest.table["split"].to_numpy()[200:] == "test").all()
    assert [len(manifest.indices(p)) for p in ("train", "val", "test")] == [160, 40, 100]
    whole = data(targets, splits=["train"] * 200 + ["val"] * 60 + ["test"] * 40)
    assert assign(whole).table["split"].tolist() == whole.table["split"].tolist()
    assert assign(whole).notes == ()


@pytest.mark.parametrize(
    "train, val, why",
    [
        ((1341, 3875), (8, 8), "it has 16 images, and 50 are needed"),
        ((1000, 1000), (5, 60), "it has 5 images of class 0, and 10 are needed"),
        ((1000, 1000), (10, 40), None),
        ((30, 30), (5, 5), None),  # a tenth of a small set is enough
        ((30, 30), (3, 3), "it has 6 images, and 7 are needed"),
        ((60, 4), (8, 0), "it has 0 images of class 1, and 1 are needed"),
    ],
)
def test_a_validation_part_too_small_to_choose_on_is_not_used(train, val, why):
    targets = np.repeat([0, 1, 0, 1, 0, 1], [*train, *val, 20, 20])
    splits = ["train"] * sum(train) + ["val"] * sum(val) + ["test"] * 40
    manifest = assign(data(targets, splits=splits))
    if why is None:
        assert manifest.notes == () and len(manifest.indices("val")) == sum(val)
    else:
        assert why in manifest.notes[0] and "joined to the training part" in manifest.notes[0]
        taken = len(manifest.indices("val"))  # rounded by class
        assert abs(taken - 0.15 * (sum(train) + sum(val))) <= 1


def test_images_without_a_split_join_the_training_part():
    splits = [""] * 20 + ["train"] * 60 + ["val"] * 20 + ["test"] * 20
    manifest = assign(data(np.tile([0, 1], 60), splits=splits))
    assert len(manifest.indices("train")) == 80
    assert "20 images without a split" in manifest.notes[0]


@pytest.mark.parametrize(
    "targets, patients, said",
    [
        ([0] * 50 + [1] * 2, None, "class 'class 1' has 2 images.*3 are needed.*train, val, test"),
        ([0] * 50 + [1] * 9, [f"{i}" for i in range(50)] + ["x"] * 9, "has 1 patients"),
    ],
)
def test_too_few_of_a_class_is_named(targets, patients, said):
    with pytest.raises(DataError, match=said):
        assign(data(targets, patients))


def test_three_images_of_a_class_are_enough_for_three_parts():
    manifest = assign(data([0] * 100 + [1] * 3))
    assert [c["class 1"] for c in manifest.counts().values()] == [1, 1, 1]


def test_other_splits_that_can_not_be_used():
    with pytest.raises(DataError, match="the test part has no image of class 'class 1'"):
        assign(data([0, 1] * 50 + [0] * 10, splits=["train"] * 100 + ["test"] * 10))
    with pytest.raises(DataError, match="no training part"):
        assign(data([0, 1] * 50, splits=["val"] * 50 + ["test"] * 50))
    with pytest.raises(DataError, match="--val 0.7"):
        assign(data([0, 1] * 50), val=0.7, test=0.4)


def test_multi_label_shares_are_even():
    generator = np.random.default_rng(0)
    targets = (generator.random((2000, 3)) < [0.5, 0.1, 0.02]).astype(np.float32)
    targets[:50, 0] = np.nan
    table = make_table([str(i) for i in range(2000)])
    manifest = assign(
        Manifest(name="m", task="multilabel", labels=("a", "b", "c"), table=table, targets=targets)
    )
    total = (targets == 1).sum(axis=0)
    for part, share in (("val", 0.15), ("test", 0.15), ("train", 0.7)):
        rows = manifest.indices(part)
        assert abs(len(rows) - 2000 * share) <= 8
        assert np.abs(manifest.per_label(rows) - total * share).max() <= 5


def test_guangzhou_gets_a_validation_part_by_patient(shared_data):
    options = DataOptions(patient_from=r"(person\d+|(?:NORMAL2-)?IM-\d+)")
    given = load(shared_data / "guangzhou", options)
    manifest = assign(given)
    patients = manifest.table["patient"].tolist()
    assert all(len(parts) == 1 for parts in where(manifest, patients).values())
    assert manifest.counts()["test"] == {"NORMAL": 234, "PNEUMONIA": 390}
    val = manifest.counts()["val"]
    assert abs(val["NORMAL"] - 0.15 * 1341) <= 2 and abs(val["PNEUMONIA"] - 0.15 * 3875) <= 2
    assert "validation part is taken from the training part by patient" in manifest.notes[-1]

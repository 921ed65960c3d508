"""Fewer training images: Peng's own numbers, one inside the other, whole patients."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwise.data.manifest import Manifest, make_table
from layerwise.data.splits.subsample import subsample
from layerwise.errors import DataError


def data(targets, patients=None, splits=None, labels=("a", "b", "c")):
    targets = np.asarray(targets)
    ids = [f"{i}.png" for i in range(len(targets))]
    table = make_table(ids, patients=patients, splits=splits or ["train"] * len(ids))
    task = "multilabel" if targets.ndim == 2 else "multiclass"
    if targets.ndim == 1:
        labels = labels[: max(2, int(targets.max()) + 1)]
        task = "binary" if len(labels) == 2 else task
    dtype = np.float32 if task == "multilabel" else np.int64
    return Manifest(
        name="made", task=task, labels=labels, table=table, targets=targets.astype(dtype)
    )


def kept(manifest):
    return set(manifest.table["id"])


def test_the_counts_of_peng():
    """§3.2: "1) 5% Data, which contains 1,539 cases (88 positives and 1,451 negatives); 2) 10%
    Data, which consists of 3,080 cases (177 positives and 2903 negatives)", of §2.3's training set.
    """
    manifest = data(np.repeat([0, 1], [29_030, 1_777]))
    five, ten = subsample(manifest, 0.05), subsample(manifest, 0.1)
    assert five.counts() == {"train": {"a": 1_451, "b": 88}} and len(five) == 1_539
    assert ten.counts() == {"train": {"a": 2_903, "b": 177}} and len(ten) == 3_080
    assert kept(five) < kept(ten)


def test_only_the_training_part_is_thinned():
    splits = ["train", "train", "train", "val", "test"] * 20
    manifest = data([0, 1] * 50, splits=splits)
    few = subsample(manifest, 0.25)
    assert [len(few.indices(p)) for p in ("train", "val", "test")] == [14, 20, 20]  # 7 of 30 each
    assert "14 of 60 training images are kept (--train-fraction 0.25, seed 0)" in few.notes[-1]
    assert subsample(manifest, 1) is manifest


def test_chance_is_even_and_seeds_differ():
    manifest = data([0, 1] * 50)
    times = np.zeros(100)
    for seed in range(100):
        times[[int(name[:-4]) for name in kept(subsample(manifest, 0.2, seed=seed))]] += 1
    assert times.sum() == 100 * 20
    assert np.abs(times - 20).max() < 5 * np.sqrt(100 * 0.2 * 0.8)  # five deviations
    assert kept(subsample(manifest, 0.2)) != kept(subsample(manifest, 0.2, seed=1))


def test_golden():
    """The samples of published results must not change with the version."""
    few = subsample(data([0, 1] * 20), 0.2, seed=3)
    assert sorted(int(name[:-4]) for name in kept(few)) == [0, 12, 15, 17, 19, 22, 31, 38]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 25), st.integers(0, 60)),
        min_size=10,
        max_size=60,
    ),
    st.integers(0, 3),
)
def test_nested_whole_and_within_a_unit(rows, seed):
    targets, people, same = (np.array(column) for column in zip(*rows, strict=True))
    targets[:3] = 0, 1, 2
    patients = [f"p{k}-{t}" if k else "" for k, t in zip(people, targets, strict=True)]
    contents = np.zeros((len(same), 32), np.uint8)
    contents[:, 0], contents[:, 1] = same, targets
    manifest = data(targets, patients)
    before: set[str] = set()
    for fraction in (0.05, 0.1, 0.3, 0.5, 0.9):
        few = subsample(manifest, fraction, contents=contents, seed=seed)
        now = kept(few)
        assert before <= now
        before = now
        inside = np.array([f"{i}.png" in now for i in range(len(rows))])
        joined = joined_by(patients, [bytes(row) for row in contents])
        for unit in joined:
            assert len(set(inside[list(unit)].tolist())) == 1
        for k in range(3):  # rounded down to whole units, and one at least
            sizes = [len(unit) for unit in joined if targets[min(unit)] == k]
            has, wish = int(inside[targets == k].sum()), fraction * (targets == k).sum()
            assert 0 < has and wish - max(sizes) < has <= max(wish, max(sizes))


def joined_by(*keys):
    """What stays together, by joining sets until nothing changes."""
    units = [{i} for i in range(len(keys[0]))]
    for key in keys:
        for value in set(key) - {""}:
            rows = {i for i, v in enumerate(key) if v == value}
            units = [u for u in units if not u & rows] + [
                set().union(*(u for u in units if u & rows))
            ]
    return units


def test_several_labels_keep_their_shares():
    generator = np.random.default_rng(0)
    targets = (generator.random((6000, 4)) < [0.5, 0.2, 0.05, 0.01]).astype(np.float32)
    targets[generator.random(targets.shape) < 0.05] = np.nan
    patients = [f"p{k}" for k in generator.integers(0, 2500, 6000)]
    manifest = data(targets, patients, labels=tuple("abcd"))
    total = (targets == 1).sum(axis=0)
    for fraction in (0.05, 0.1, 0.25):
        few = subsample(manifest, fraction)
        each = few.per_label(few.indices("train"))
        bound = 2 + 2 * np.sqrt(fraction * (1 - fraction) * total)  # two deviations of pure chance
        assert (np.abs(each - fraction * total) <= bound).all()
        assert abs(len(few) / 6000 - fraction) < 0.005
        assert each.min() >= 1


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5, float("nan")])
def test_fractions_that_are_none(fraction):
    with pytest.raises(DataError, match=f"--train-fraction {fraction}: it is above 0"):
        subsample(data([0, 1] * 10), fraction)


def test_a_class_that_would_be_gone():
    """b is only in patients who also have the rarer c, and the first of these has no b."""
    patients = ["x"] * 3 + ["y"] * 9 + [f"p{i}" for i in range(20)]
    targets = [2, 0, 0] + [2] + [1] * 8 + [0] * 20
    losses = 0
    for seed in range(10):
        try:
            few = subsample(data(targets, patients), 0.1, seed=seed)
            assert few.counts()["train"]["b"] == 8
        except DataError as error:
            assert "leaves no training image of class 'b'; keep more" in str(error)
            losses += 1
    assert 0 < losses < 10

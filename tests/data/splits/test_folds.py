"""Folds: each image is tested once; patients and equal images stay together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwise.data.manifest import Manifest, make_table
from layerwise.data.splits.folds import fold_numbers, folds
from layerwise.errors import DataError


def data(targets, patients=None):
    targets = np.asarray(targets, np.int64)
    labels = tuple("abcdef"[: max(2, int(targets.max()) + 1)])
    table = make_table([f"{i}.png" for i in range(len(targets))], patients=patients)
    task = "binary" if len(labels) == 2 else "multiclass"
    return Manifest(name="made", task=task, labels=labels, table=table, targets=targets)


def content(numbers):
    """Digests that are equal where the numbers are."""
    rows = np.zeros((len(numbers), 32), np.uint8)
    rows[:, :4] = np.asarray(numbers, np.uint32)[:, None].view(np.uint8)
    return rows


def test_stratified_to_the_image():
    targets = np.repeat([0, 1, 2], [101, 53, 12])
    numbers = fold_numbers(data(targets), 5)
    for k, count in enumerate([101, 53, 12]):
        each = np.bincount(numbers[targets == k], minlength=5)
        assert each.sum() == count and each.max() - each.min() <= 1


def test_each_image_is_tested_once():
    manifest = data(np.tile([0, 0, 1], 60), [f"p{i // 4}" for i in range(180)])
    made = list(folds(manifest, 4, val=0.2))
    tested = np.sum([m.table["split"] == "test" for m in made], axis=0)
    assert len(made) == 4 and (tested == 1).all()
    for i, m in enumerate(made, 1):
        assert m.table.groupby("patient")["split"].nunique().max() == 1
        assert abs(len(m.indices("val")) - 0.2 * 180) <= 4  # the size of a patient
        assert abs(len(m.indices("test")) - 180 / 4) <= 4
        sizes = ", ".join(f"{len(m.indices(part))} {part}" for part in ("train", "val", "test"))
        how = "by patient, stratified by label, seed 0"
        assert m.notes == (f"fold {i} of 4, repeat 1: {how}; {sizes}",)
    only = list(folds(manifest, 4, val=0.2, only=2))
    assert [m.table["split"].tolist() for m in only] == [made[2].table["split"].tolist()]


def test_the_validation_parts_differ_too():
    made = list(folds(data(np.tile([0, 1], 100)), 5))
    chosen = [set(m.indices("val").tolist()) for m in made]
    assert all(len(a & b) < 0.5 * len(a) for a in chosen for b in chosen if a is not b)


def test_repeats_and_seeds_differ_and_repeat_themselves():
    manifest = data(np.tile([0, 1], 100))
    first = fold_numbers(manifest, 5)
    assert (fold_numbers(manifest, 5) == first).all()
    others = [fold_numbers(manifest, 5, repeat=r, seed=s) for r, s in ((1, 0), (2, 0), (0, 1))]
    for numbers in others:  # of independent folds four in five images are elsewhere
        assert 0.6 < (numbers != first).mean() < 0.95
    assert (others[0] != others[2]).mean() > 0.6  # repeat 1 of seed 0 is not repeat 0 of seed 1


def test_golden():
    """The folds of published results must not change with the version."""
    numbers = fold_numbers(data([0, 1] * 10), 4, seed=7, repeat=1)
    assert "".join(map(str, numbers)) == "31102300031022023111"


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 15), st.integers(0, 40)),
        min_size=10,
        max_size=50,
    ),
    st.integers(2, 4),
)
def test_patients_and_contents_stay_together(rows, count):
    targets, people, contents = (np.array(column) for column in zip(*rows, strict=True))
    targets[:2] = 0, 1
    patients = [f"p{k}" if k else "" for k in people]
    try:
        made = list(folds(data(targets, patients), count, contents=content(contents), val=0.1))
    except DataError as error:
        assert "are needed, one for each of" in str(error)
        return
    for manifest in made:
        parts = manifest.table["split"]
        for key in (patients, contents.tolist()):
            for value in set(key) - {""}:
                assert len({p for p, k in zip(parts, key, strict=True) if k == value}) == 1
        assert all(min(counts.values()) > 0 for counts in manifest.counts().values())
    tested = np.sum([m.table["split"] == "test" for m in made], axis=0)
    assert (tested == 1).all()


def test_what_can_not_be_folded():
    with pytest.raises(DataError, match="--folds 1: two or more"):
        fold_numbers(data([0, 1] * 10), 1)
    with pytest.raises(
        DataError, match="class 'b' has 3 images to share out, and 5 are needed.*fewer --folds"
    ):
        fold_numbers(data([0] * 20 + [1] * 3), 5)
    with pytest.raises(DataError, match=r"--val 0.6 with --folds 2: .* 0.5 below 1"):
        next(folds(data([0, 1] * 10), 2, val=0.6))

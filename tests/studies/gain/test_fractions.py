"""Sample fractions: what is kept, what stays whole, and which fractions are refused."""

import numpy as np
import pytest

from layerwise.data.manifest import Manifest, make_table
from layerwise.errors import DataError
from layerwise.studies.gain.fractions import (
    few_images,
    percent,
    smallest,
    training_parts,
)


def manifest(targets, patients=None, extra=8):
    """A manifest of a training part with these targets, and a few images for the others."""
    targets = np.asarray(targets)
    n = len(targets)
    rest = np.resize(targets, (2 * extra, *targets.shape[1:]))
    splits = ["train"] * n + ["val"] * extra + ["test"] * extra
    many = targets.ndim == 2
    labels = tuple("abcdef"[: targets.shape[1]]) if many else tuple("abcdef"[: targets.max() + 1])
    task = "multilabel" if many else "binary" if len(labels) == 2 else "multiclass"
    return Manifest(
        "made up",
        task,
        labels,
        make_table(
            [f"{i}" for i in range(len(splits))],
            patients=None if patients is None else [*patients, *[""] * (2 * extra)],
            splits=splits,
        ),
        np.concatenate([targets, rest]).astype(np.float32 if many else np.int64),
    )


@pytest.fixture
def uneven():
    """200 training images in two classes, 180 and 20, in a mixed order."""
    return manifest(np.random.default_rng(0).permutation([0] * 180 + [1] * 20))


def ids(found, split):
    return set(found.table["id"][found.table["split"] == split])


def test_counts_are_the_fractions_of_every_class_rounded_down(uneven):
    parts = training_parts(uneven, (0.07, 0.5, 1.0), 3, seed=4)
    assert set(parts) == {(f, r) for f in (0.07, 0.5, 1.0) for r in range(3)}
    for (fraction, _), found in parts.items():
        counted = found.per_label(found.indices("train"))
        assert counted.tolist() == [int(fraction * 180 + 1e-9), int(fraction * 20 + 1e-9)]


def test_what_is_left_out_keeps_its_row_and_everything_else_its_part(uneven):
    for found in training_parts(uneven, (0.1, 1.0), 2).values():
        assert found.table["id"].tolist() == uneven.table["id"].tolist()
        assert (found.targets == uneven.targets).all()
        assert ids(found, "val") == ids(uneven, "val")
        assert ids(found, "test") == ids(uneven, "test")
        assert ids(found, "train") | ids(found, "") == ids(uneven, "train")


def test_fractions_are_nested_in_a_repeat_and_repeats_differ(uneven):
    parts = training_parts(uneven, (0.1, 0.4, 1.0), 3)
    for repeat in range(3):
        small, middle, whole = (ids(parts[f, repeat], "train") for f in (0.1, 0.4, 1.0))
        assert small < middle < whole
    drawn = [frozenset(ids(parts[0.1, repeat], "train")) for repeat in range(3)]
    assert len(set(drawn)) == 3
    assert parts[1.0, 0] is parts[1.0, 2]


def test_patients_are_kept_or_left_out_as_a_whole():
    patients = [f"p{i // 4}" for i in range(160)]
    targets = [(i // 4) % 2 for i in range(160)]
    data = manifest(targets, patients)
    for found in training_parts(data, (0.2, 0.6), 2).values():
        kept, left = (
            set(found.table["patient"][found.table["split"] == s]) - {""} for s in ("train", "")
        )
        assert kept and left and not kept & left


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_a_fraction_out_of_range_is_named(uneven, fraction):
    with pytest.raises(DataError, match="--fractions.*above 0 and at most 1"):
        training_parts(uneven, (fraction,), 1)


def test_a_fraction_that_empties_a_class_is_named_with_what_works(uneven):
    with pytest.raises(DataError) as error:
        training_parts(uneven, (1.0, 0.04), 2)
    assert "--fractions 0.04" in str(error.value)
    assert "of b, which has 20" in str(error.value)
    assert "the smallest fraction that works here is 0.05" in str(error.value)
    training_parts(uneven, (0.05,), 2)


def test_the_smallest_fraction_is_that_of_trying_them_all():
    """Patients of several images and classes, so that nothing but trying tells."""
    generator = np.random.default_rng(3)
    patients = [f"p{i}" for i in generator.integers(0, 25, 90)]
    data = manifest(generator.choice(3, 90, p=[0.7, 0.2, 0.1]), patients)
    train = data.take(data.indices("train"))
    found = smallest(train, 2, seed=5)

    def works(fraction):
        try:
            training_parts(data, (fraction,), 2, seed=5)
        except DataError:
            return False
        return True

    tried = [percent / 100 for percent in range(1, 101) if works(percent / 100)]
    assert tried == [n / 100 for n in range(round(100 * tried[0]), 101)]  # none fails above
    assert found == tried[0] >= 0.1  # of two digits, so one of those that were tried


def test_each_label_keeps_images_with_it_and_without_it():
    targets = np.zeros((100, 2))
    targets[:, 0] = 1
    targets[:2, 0] = 0  # all but two have the first label
    targets[::3, 1] = 1
    targets[:2, 1] = 1
    targets[5, 1] = np.nan
    data = manifest(targets)
    with pytest.raises(DataError, match=r"no training image of not a, which has 2 "):
        training_parts(data, (0.05,), 3)


def test_a_label_that_no_training_image_has_is_no_reason_to_refuse():
    targets = np.zeros((60, 2))
    targets[::2, 0] = 1
    parts = training_parts(manifest(targets), (0.2,), 1)
    assert parts[0.2, 0].per_label(parts[0.2, 0].indices("train")).tolist() == [6, 0]


def test_few_images_are_said(uneven):
    said = few_images(training_parts(uneven, (0.1, 1.0), 2))
    assert said == [
        "At 10% of the training images few are left of some classes (b 2): what is learnt of these "
        "depends on which they are."
    ]


@pytest.mark.parametrize(
    ("fraction", "words"), [(0.05, "5%"), (1.0, "100%"), (0.005, "0.5%"), (1 / 3, "33.33%")]
)
def test_percent(fraction, words):
    assert percent(fraction) == words

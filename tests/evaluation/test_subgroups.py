"""Groups of images by columns of a table."""

import numpy as np
import pytest

from layerwise.errors import DataError
from layerwise.evaluation.subgroups import subgroups


def groups_of(column, texts, targets=None, patients=None, task="binary"):
    count = len(texts)
    targets = np.arange(count) % 2 if targets is None else targets
    patients = np.array([f"p{k}" for k in range(count)]) if patients is None else patients
    found = subgroups({column: texts}, task, targets, patients)
    return {group.value: np.flatnonzero(group.rows).tolist() for group in found}, found


def test_words_are_groups_in_order_and_blanks_are_unknown():
    assert groups_of("view", ["PA", "AP ", "", "PA"])[0] == {
        "AP": [1],
        "PA": [0, 3],
        "unknown": [2],
    }


def test_ages_are_in_bands_however_they_are_written():
    texts = ["17", "18", "039Y", "40", "64.5", "065Y", "006M", "89", ""]
    expected = {"0–17": [0, 6], "18–39": [1, 2], "40–64": [3, 4], "65 and over": [5, 7]}
    for column in ("age", "Patient Age", "age_at_exam"):
        assert groups_of(column, texts)[0] == {**expected, "unknown": [8]}
    assert list(groups_of("stage", ["1", "2", "1"])[0]) == ["1", "2"]  # no word "age"


def test_other_numbers_are_in_quarters():
    texts = [str(v) for v in range(1, 17)]
    found, _ = groups_of("dose", texts)
    assert [len(rows) for rows in found.values()] == [4, 4, 4, 4]
    assert list(found)[0] == "below 5" and list(found)[-1] == "13 and over"


def test_a_column_of_names_is_refused():
    with pytest.raises(DataError, match="--subgroup name: it has 21 values"):
        groups_of("name", [f"n{k}" for k in range(21)])


def test_small_is_counted_in_patients_of_the_smaller_side():
    texts = ["F"] * 40 + ["M"] * 40
    targets = np.array(([1] * 10 + [0] * 30) + [1] * 10 + [0] * 30)
    patients = np.array([f"p{k}" for k in range(80)])
    patients[40:42] = "twice"  # two of the ten positive images of M are of one patient
    _, (women, men) = groups_of("sex", texts, targets, patients)
    assert (women.least, women.small, women.patients) == (10, False, 40)
    assert (men.least, men.small, men.patients) == (9, True, 39)


def test_of_several_labels_the_one_with_most_on_its_smaller_side_counts():
    targets = np.array([[1, np.nan], [0, 1], [0, 1], [1, 0], [0, 0], [0, 0]], np.float32)
    _, (only,) = groups_of("site", ["A"] * 6, targets, task="multilabel")
    assert only.least == 2  # label 0: 2 with, 4 without; label 1: 2 with, 3 without
    _, (only,) = groups_of("site", ["A"] * 6, np.array([0, 0, 0, 1, 1, 2]), task="multiclass")
    assert only.least == 3  # the first class against the rest

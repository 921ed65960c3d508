"""Counts by part, by hand."""

import numpy as np

from layerwise.data.audit.imbalance import class_counts
from layerwise.data.manifest import Manifest, make_table


def made(counts, split="train", patients=None):
    targets = np.repeat(np.arange(len(counts)), counts)
    n = len(targets)
    table = make_table([f"{i}" for i in range(n)], splits=[split] * n, patients=patients)
    names = tuple("abcdef"[: len(counts)])
    task = "binary" if len(counts) == 2 else "multiclass"
    return Manifest("made", task, names, table, targets)


def kinds(manifest):
    return [(f.kind, f.severity) for f in class_counts(manifest)]


def test_balance_is_quiet_and_imbalance_graded():
    assert kinds(made([30, 10])) == []
    assert kinds(made([40, 10])) == [("class imbalance", "note")]
    assert kinds(made([99, 10])) == [("class imbalance", "note")]
    assert kinds(made([100, 10])) == [("class imbalance", "warning")]
    found = class_counts(made([100, 10, 50]))
    assert found[0].message == "classes are unequal in train: a 100, b 10, which is 10.0:1"


def test_few_images_and_few_patients():
    found = class_counts(made([12, 9], "test"))
    assert [f.message for f in found] == [
        "labels with fewer than 10 images or patients in test: b 9 images"
    ]
    assert found[0].images == tuple(str(i) for i in range(12, 21))
    few = made([12, 12], "", ["p", "q"] * 6 + [f"r{i}" for i in range(12)])
    assert [f.message for f in class_counts(few)] == [
        "labels with fewer than 10 images or patients in the data: a 12 images of 2 patients"
    ]
    assert kinds(made([20, 0])) == [("few images", "warning")]


def test_multi_label_counts_what_is_known():
    targets = np.full((500, 3), np.nan, np.float32)
    targets[:, 0] = np.arange(500) % 2
    targets[:, 1] = np.arange(500) < 20  # 480 without, 20 with: 24 to 1
    targets[:100, 2] = np.arange(100) < 50  # the rest is unknown
    table = make_table([f"{i}" for i in range(500)], splits=["val"] * 500)
    many = Manifest("made", "multilabel", ("a", "b", "c"), table, targets)
    assert [f.message for f in class_counts(many)] == [
        "labels with at least 10 images without them for each with them in val: b 24:1"
    ]

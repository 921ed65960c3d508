"""Leaks are found where they are, and nowhere else."""

import numpy as np
import pytest

from layerwise.data.audit import check, leaks
from layerwise.data.manifest import Manifest, make_table
from layerwise.errors import LeakError

PARTS = ["train", "train", "val", "val", "test", "test", ""]


def made(patients=None, targets=(0, 1, 0, 1, 0, 1, 0)):
    table = make_table([f"{i}.png" for i in range(7)], patients=patients, splits=PARTS)
    return Manifest(
        name="made", task="binary", labels=("a", "b"), table=table, targets=np.array(targets)
    )


def content(numbers):
    rows = np.zeros((len(numbers), 32), np.uint8)
    rows[:, 31] = numbers
    return rows


def test_nothing_to_find():
    clean = made(["p", "p", "q", "", "r", "", "p"])
    assert leaks(clean, content([1, 1, 2, 3, 4, 5, 1]))[0].severity == "warning"
    assert leaks(clean, content(range(7))) == []
    assert check(clean, content(range(7))) == ()
    assert leaks(made()) == []


def test_shared_images_and_patients():
    found = leaks(made(["p", "q", "q", "", "r", "p", ""]), content([1, 2, 3, 4, 3, 6, 7]))
    assert [(f.kind, f.severity, f.images) for f in found] == [
        ("shared patient", "leak", ("1.png", "2.png")),
        ("shared patient", "leak", ("0.png", "5.png")),
        ("shared content", "leak", ("2.png", "4.png")),
    ]
    assert found[0].message == "1 patients are in both train and val (q)"
    assert found[2].message == "1 images are in both val and test (2.png = 4.png)"


def test_refused_with_exit_code_3_unless_allowed():
    leaking = made(["p", "q", "q", "", "r", "p", ""])
    with pytest.raises(LeakError, match=r"in both train and val(.|\n)*--allow-leaks") as caught:
        check(leaking)
    assert caught.value.exit_code == 3
    notes = check(leaking, allow_leaks=True)
    assert len(notes) == 2 and all("allowed by --allow-leaks" in note for note in notes)


def test_contradicting_labels_are_a_warning():
    notes = check(made(), content([1, 1, 2, 3, 4, 5, 1]))
    assert notes == ("1 images occur with different labels (0.png = 1.png = 6.png)",)
    agree = made(targets=(0, 0, 0, 1, 0, 1, 0))
    assert check(agree, content([1, 1, 2, 3, 4, 5, 1])) == ()

"""The audit as a whole, and the gate that it is to `fit`."""

import numpy as np
import pytest

from layerwise.data.audit.check import audit, check
from layerwise.data.load import load
from layerwise.data.manifest import Manifest, make_table
from layerwise.data.splits.assign import assign
from layerwise.data.storage.headers import Headers, read_headers
from layerwise.data.storage.store import build_store
from layerwise.errors import LeakError

PARTS = ["train", "train", "val", "val", "test", "test", ""]


def made(patients=None, targets=(0, 1, 0, 1, 0, 1, 0), dates=None):
    names = [f"{i}.png" for i in range(7)]
    table = make_table(names, patients=patients, dates=dates, splits=PARTS)
    return Manifest(
        name="made", task="binary", labels=("a", "b"), table=table, targets=np.array(targets)
    )


def test_refused_with_exit_code_3_unless_allowed():
    leaking = made(["p", "q", "q", "", "r", "p", ""])
    found = audit(leaking)
    with pytest.raises(LeakError, match=r"in both train and val(.|\n)*--allow-leaks") as caught:
        check(leaking, found)
    assert caught.value.exit_code == 3
    assert str(caught.value).count("layerwise split --by patient") == 1
    notes = check(leaking, found, allow_leaks=True)
    assert len([note for note in notes if "allowed by --allow-leaks" in note]) == 2


def test_warnings_and_notes_are_no_reason_to_refuse():
    found = audit(made(dates=["2020", "2021", "2020", "2021", "2020", "2021", ""]))
    assert [f.severity for f in found] == ["warning"] * 4 + ["note"]
    notes = check(made(), found)
    assert notes[0].startswith("warning: labels with fewer than 10") and "; add images" in notes[0]
    assert "1 test image not after" in notes[-1] or "2 test images not after" in notes[-1]


def test_unreadable_files_are_named_with_what_is_wrong():
    headers = Headers(
        sizes=np.array([[8, 8]] * 6 + [[0, 0]]),
        grey=np.ones(7, bool),
        formats=np.array(["PNG"] * 6 + [""]),
        bits=np.array([8] * 6 + [0]),
        bytes=np.full(7, 9),
    )
    found = audit(made(), None, headers, damaged={"gone.png": "gone.png: an empty file"})
    odd = [f for f in found if f.kind == "unreadable"]
    assert [f.images for f in odd] == [("gone.png", "6.png")]
    assert "2 images can not be read (gone.png: an empty file, " in odd[0].message


def test_the_digits_are_quiet(tmp_path):
    digits = load("digits")
    store, digits = build_store(digits, size=(8, 8), channels=1, letterbox=False, folder=tmp_path)
    digits = assign(digits, contents=store.digests)
    found = audit(digits, store, read_headers(digits))
    assert [f for f in found if f.severity != "note"] == []
    assert {f.kind for f in found} <= {"repeated content"}


def test_a_manifest_without_images_is_audited():
    table = make_table([])
    empty = Manifest("none", "binary", ("a", "b"), table, np.zeros(0, np.int64))
    assert audit(empty) == []

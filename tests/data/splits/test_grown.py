"""Data that have grown: what had a part keeps it, and the new follow their patients."""

import hashlib

import numpy as np
import pytest

from layerwise.data.manifest import Manifest, make_table
from layerwise.data.splits.grown import keep_parts


def data(ids, *, patients=None, splits=None):
    """A manifest of two classes in turn; patients and parts "" where not given."""
    table = make_table(list(ids), patients=patients, splits=splits)
    return Manifest("d", "binary", ("a", "b"), table, np.arange(len(ids)) % 2)


def different(n):
    """(n, 32) contents that are all different."""
    return np.frombuffer(b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(n)), np.uint8)


def contents(n):
    return different(n).reshape(n, 32).copy()


def parts(manifest):
    return dict(zip(manifest.table["id"], manifest.table["split"], strict=True))


def test_what_had_a_part_keeps_it_whatever_comes_and_goes():
    before = data("abcde", splits=["train", "test", "val", "train", "test"])
    now = data("zbxadc")  # e is gone, z and x are new, the order is another
    kept = keep_parts(now, before, contents(6))
    found = parts(kept)
    assert {k: found[k] for k in "abcd"} == {"a": "train", "b": "test", "c": "val", "d": "train"}
    assert kept.settled
    assert kept.notes == ("4 images keep their parts, 2 are new, 1 are gone",)


def test_a_new_image_follows_its_patient_or_its_duplicate():
    before = data("abc", splits=["train", "test", "val"], patients=["p", "q", "r"])
    now = data("abcdefg", patients=["p", "q", "r", "q", "r", "s", "s"])
    inside = contents(7)
    inside[5] = inside[1]  # f, of the new patient s, is a copy of b: so all of s is tested
    found = parts(keep_parts(now, before, inside))
    assert (found["d"], found["e"], found["f"], found["g"]) == ("test", "val", "test", "test")


def test_new_images_are_drawn_by_their_own_name_in_the_shares_of_a_split():
    before = data("ab", splits=["train", "test"])
    names = [f"{i:05d}" for i in range(4000)]
    all_at_once = parts(keep_parts(data(["a", "b", *names]), before, contents(4002)))
    few = parts(keep_parts(data(["b", *names[:50], "a"]), before, contents(52)))
    assert all(all_at_once[name] == few[name] for name in names[:50])
    drawn = [all_at_once[name] for name in names]
    # 4000 draws of 0.15: a deviation of 0.0056; four of them either way
    for part, share in (("test", 0.15), ("val", 0.15), ("train", 0.70)):
        assert abs(drawn.count(part) / 4000 - share) < 0.03
    other = parts(keep_parts(data(["a", "b", *names]), before, contents(4002), seed=1))
    assert other != all_at_once


def test_of_a_new_patient_all_images_are_in_one_part():
    before = data("ab", splits=["train", "test"], patients=["p", "q"])
    ids = ["a", "b", *(f"{i}" for i in range(300))]
    patients = ["p", "q", *(f"new{i % 60}" for i in range(300))]
    kept = keep_parts(data(ids, patients=patients), before, contents(302))
    each = kept.table.groupby("patient")["split"].nunique()
    assert each.max() == 1 and set(kept.table["split"]) == {"train", "val", "test"}


@pytest.mark.parametrize("own_validation", [False, True])
def test_an_official_test_part_is_the_only_one(own_validation):
    rest = ["train", "val"] if own_validation else ["train", "train"]
    before = data("abc", splits=["val", "train", "test"])
    ids = ["a", "b", "c", "t", *(f"{i}" for i in range(200))]
    given = [*rest, "test", "test", *["train"] * 200]
    found = parts(keep_parts(data(ids, splits=given), before, contents(204)))
    assert (found["a"], found["b"], found["c"], found["t"]) == ("val", "train", "test", "test")
    drawn = {found[str(i)] for i in range(200)}
    # where the data bring a validation part, what they call training is training
    assert drawn == ({"train"} if own_validation else {"train", "val"})


def test_new_images_of_an_allowed_leak_do_not_leak_further():
    before = data("ab", splits=["train", "test"], patients=["p", "p"])
    found = parts(keep_parts(data("abc", patients=["p"] * 3), before, contents(3)))
    assert found == {"a": "train", "b": "test", "c": "test"}

"""The manifest: counts, groups, subsets, and its own file."""

import numpy as np
import pandas as pd
import pytest

from layerwise.data.load import DataOptions, load
from layerwise.data.manifest import Manifest, make_table
from layerwise.errors import DataError, OutputError


def small(**changes):
    values = {
        "name": "small",
        "task": "multiclass",
        "labels": ("a", "b", "c"),
        "table": make_table(
            ["1", "2", "3", "4"],
            paths=["/x/1", "/x/2", "/x/3", "/x/4"],
            patients=["p", "", "p", ""],
            splits=["train", "train", "test", ""],
        ),
        "targets": np.array([0, 1, 0, 2]),
    }
    return Manifest(**{**values, **changes})


def test_counts_indices_and_groups():
    manifest = small()
    assert manifest.counts() == {
        "train": {"a": 1, "b": 1, "c": 0},
        "test": {"a": 1, "b": 0, "c": 0},
        "unassigned": {"a": 0, "b": 0, "c": 1},
    }
    assert manifest.indices("train").tolist() == [0, 1]
    groups = manifest.groups()
    assert groups[0] == groups[2] and len(set(groups.tolist())) == 3
    assert manifest.patients_known
    assert not small(table=make_table(list("1234"))).patients_known


def test_take_and_with_labels():
    kept = small().with_labels(("c", "a"))
    assert kept.task == "binary" and kept.labels == ("c", "a")
    assert kept.table["id"].tolist() == ["1", "3", "4"] and kept.targets.tolist() == [1, 1, 0]
    assert small().take(np.array([3, 0])).table["id"].tolist() == ["4", "1"]
    with pytest.raises(DataError, match="'z'"):
        small().with_labels(("z",))


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"table": make_table(["1", "2", "2", "4"])}, "'2' stands there twice"),
        ({"targets": np.array([0, 1, 0])}, r"targets are int64 \(3,\)"),
        ({"targets": np.zeros(4)}, "float64"),
        ({"task": "binary"}, "binary needs 2 labels"),
        ({"labels": ("a", "a", "b")}, "repeat"),
        ({"table": make_table(list("1234"), splits=["dev", "", "", ""])}, "unknown split 'dev'"),
        ({"pixels": np.zeros((3, 2, 2), np.uint8)}, "3 pictures but 4 rows"),
    ],
)
def test_what_does_not_fit_is_refused(changes, said):
    with pytest.raises(DataError, match=said):
        small(**changes)


def same(a: Manifest, b: Manifest) -> None:
    assert a.labels == b.labels and a.task == b.task
    assert a.table.to_numpy().tolist() == b.table.to_numpy().tolist()
    np.testing.assert_array_equal(a.targets, b.targets)
    assert a.targets.dtype == b.targets.dtype


def test_written_and_read_back(tmp_path):
    files = [tmp_path / f"{name}.png" for name in "wxyz"]
    for file in files:
        file.touch()
    table = make_table(
        ["w,1", 'x"2', "y", "é"],
        paths=[str(file) for file in files],
        patients=["007", "", "nan", "p"],
        dates=["2020-01-01", "", "", ""],
        splits=["train", "val", "test", ""],
    )
    single = small(table=table, labels=("b", "a", "nan"))
    single.write(tmp_path / "out" / "manifest.csv")
    same(single, load(tmp_path / "out" / "manifest.csv"))
    many = np.array([[0, 1], [1, np.nan], [np.nan, 0], [0, 0]], np.float32)
    multi = small(table=table, task="multilabel", labels=("A", "B|C"), targets=many)
    multi.write(tmp_path / "multi.csv")
    same(multi, load(tmp_path / "multi.csv"))
    with pytest.raises(DataError, match="--positive.*is a manifest"):
        load(tmp_path / "multi.csv", DataOptions(positive="A"))
    files[2].unlink()
    with pytest.raises(DataError, match=r"1 images are gone.*y\.png"):
        load(tmp_path / "multi.csv")
    assert len(load(tmp_path / "multi.csv", DataOptions(skip_unreadable=True))) == 3


def test_columns_of_subgroups_are_kept(tmp_path):
    """They are written, read back when they are asked for, and go with their rows."""
    extra = pd.DataFrame({"Sex": ["F", "", "M", "F"], "Age": ["7", "80", "x,y", ""]}, dtype=object)
    for task, targets in (
        ("multiclass", np.array([0, 1, 2, 0])),
        ("multilabel", np.array([[0, 1, 0], [1, np.nan, 0], [0, 0, 1], [1, 1, 1]], np.float32)),
    ):
        made = small(task=task, labels=("b", "a", "c"), targets=targets, extra=extra)
        made.write(tmp_path / "manifest.csv")
        options = DataOptions(images=False, subgroup=("age", "Sex"))
        again = load(tmp_path / "manifest.csv", options)
        same(made, again)
        assert again.extra.to_dict("list") == {"age": extra["Age"].tolist(), "Sex": list(extra.Sex)}
        part = again.take(np.array([2, 0]))
        assert part.extra["Sex"].tolist() == ["M", "F"]
        assert load(tmp_path / "manifest.csv", DataOptions(images=False)).extra is None
        with pytest.raises(DataError, match="--subgroup site: .*split DATA --subgroup site"):
            load(tmp_path / "manifest.csv", DataOptions(images=False, subgroup=("site",)))


def test_pictures_of_an_array_are_found_again(tmp_path):
    digits = load("digits")
    part = digits.take(np.arange(300)[::-1]).with_labels(("5", "6"))
    part.write(tmp_path / "five.csv")
    again = load(tmp_path / "five.csv")
    same(part, again)
    assert (again.pixels == part.pixels).all() and again.name == "five"


def test_a_place_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="manifest.csv"):
        small().write(tmp_path / "file" / "manifest.csv")

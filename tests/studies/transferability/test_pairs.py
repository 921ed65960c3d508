"""Pairs of tasks: halves against all that there are, groups as named, and what is refused."""

from itertools import combinations

import numpy as np
import pytest

from layerwise.errors import DataError, LayerwiseError
from layerwise.studies.transferability.pairs import (
    fewer,
    make_tasks,
    part_of,
    random_halves,
    read_groups,
)
from layerwise.training.activations import state_digest

LETTERS = tuple("abcdef")


def every_partition(labels) -> set[frozenset[frozenset[str]]]:  # type: ignore[no-untyped-def]
    """All ways to halve, by brute force."""
    small = len(labels) // 2
    halves = (frozenset(half) for half in combinations(labels, small))
    return {frozenset({half, frozenset(labels) - half}) for half in halves}


@pytest.mark.parametrize("count", [4, 5, 6, 7])
def test_asked_for_enough_halves_one_gets_every_one_once(count):
    labels = "abcdefg"[:count]
    found = random_halves(labels, 100, 3)
    assert all(len(b) - len(a) == count % 2 for a, b in found)
    assert all(list(half) == sorted(half) for pair in found for half in pair)
    assert all(set(a) | set(b) == set(labels) and not set(a) & set(b) for a, b in found)
    as_sets = [frozenset(map(frozenset, pair)) for pair in found]
    assert len(as_sets) == len(set(as_sets))
    assert set(as_sets) == every_partition(labels)


def test_the_first_halves_are_the_same_however_many_are_asked_for():
    many = random_halves(LETTERS, 7, 0)
    assert [random_halves(LETTERS, n, 0) for n in range(8)] == [many[:n] for n in range(8)]
    assert random_halves(LETTERS, 7, 1) != many


@pytest.mark.parametrize("group", ["ab", "cd", "abc", "def", "b"])
def test_the_users_own_groups_are_no_random_halves(group):
    labels = "abcdef" if len(group) == 3 else "abcd"
    found = {frozenset(map(frozenset, pair)) for pair in random_halves(labels, 100, 0, but=group)}
    own = frozenset({frozenset(group), frozenset(labels) - frozenset(group)})
    assert found == every_partition(labels) - {own}


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_groups_are_read_in_the_order_of_the_data(tmp_path):
    path = write(tmp_path / "g.toml", '[groups]\nwild = ["d", "b", "f"]\ntame = ["c", "a", "e"]\n')
    found = read_groups(path, LETTERS)
    assert list(found.items()) == [("wild", ("b", "d", "f")), ("tame", ("a", "c", "e"))]


def test_classes_that_are_numbers_may_be_written_as_such(tmp_path):
    path = write(tmp_path / "g.toml", "[groups]\nodd = [1, 3]\neven = [0, 2]\n")
    assert read_groups(path, ["0", "1", "2", "3"])["odd"] == ("1", "3")


BAD_GROUPS = {
    "missing": ('[groups]\nx = ["a", "b"]\ny = ["c", "d", "e"]\n', "class 'f' is in neither"),
    "twice in one": (
        '[groups]\nx = ["a", "b", "a"]\ny = ["c", "d", "e", "f"]\n',
        "class 'a' stands there 2 times",
    ),
    "in both": (
        '[groups]\nx = ["a", "b", "c"]\ny = ["c", "d", "e", "f"]\n',
        "class 'c' stands there 2 times",
    ),
    "unknown": ('[groups]\nx = ["a", "g"]\ny = ["c", "d"]\n', "no class 'g'"),
    "three": ('[groups]\nx = ["a", "b"]\ny = ["c", "d"]\nz = ["e", "f"]\n', "3 groups (x, y, z)"),
    "one": ('[groups]\nx = ["a", "b", "c", "d", "e", "f"]\n', "1 groups (x)"),
    "lonely": ('[groups]\nx = ["a"]\ny = ["b", "c", "d", "e", "f"]\n', "'x' has fewer than two"),
    "no table": ('x = ["a"]\ny = ["b"]\n', "holds x, y"),
    "empty": ("", "holds nothing"),
    "a word": ('[groups]\nx = "a"\ny = ["b"]\n', "x is 'a'; write a list"),
    "no TOML": ("[groups", "not readable as TOML"),
}


@pytest.mark.parametrize("name", BAD_GROUPS)
def test_bad_groups_are_named(tmp_path, name):
    text, words = BAD_GROUPS[name]
    path = write(tmp_path / "g.toml", text)
    with pytest.raises(LayerwiseError) as error:
        read_groups(path, LETTERS)
    assert words in str(error.value)
    assert str(path) in str(error.value)


def test_a_groups_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LayerwiseError, match="can not be read"):
        read_groups(tmp_path / "none.toml", LETTERS)


def test_a_task_has_the_images_of_its_classes_and_their_parts(six_classes):
    work = six_classes()
    part = part_of(work, ("b", "e", "f"))
    manifest = work.manifest
    rows = [i for i, t in enumerate(manifest.targets) if manifest.labels[t] in "bef"]
    assert part.manifest.table["id"].tolist() == manifest.table["id"].iloc[rows].tolist()
    assert part.manifest.table["split"].tolist() == manifest.table["split"].iloc[rows].tolist()
    assert [part.manifest.labels[t] for t in part.manifest.targets] == [
        manifest.labels[manifest.targets[i]] for i in rows
    ]
    every = work.store.read(slice(None))
    assert np.array_equal(part.store.read(slice(None)), every[rows])
    assert part.outputs == 3
    assert part.data_key != work.data_key == part_of(work, manifest.labels).data_key


def test_a_task_of_two_classes_is_binary(six_classes):
    part = part_of(six_classes(), ("a", "d"))
    assert (part.manifest.task, part.outputs, part.manifest.labels) == ("binary", 1, ("a", "d"))


def test_fewer_images_leave_the_other_parts_and_lie_in_each_other(six_classes):
    work = six_classes()
    half, third = fewer(work, 1 / 2), fewer(work, 1 / 3)
    ids = [set(w.manifest.table["id"].iloc[w.rows("train")]) for w in (work, half, third)]
    assert ids[0] > ids[1] > ids[2]
    assert [len(i) for i in ids] == [72, 36, 24]
    assert set(np.bincount(half.manifest.targets[half.rows("train")])) == {6}  # of 12 a class
    for w in (half, third):
        for part in ("val", "test"):
            a, b = (x.manifest.table["id"].iloc[x.rows(part)].tolist() for x in (w, work))
            assert a == b
        everything = zip(work.manifest.table["id"], work.store.read(slice(None)), strict=True)
        pictures = dict(everything)
        for name, picture in zip(w.manifest.table["id"], w.store.read(slice(None)), strict=True):
            assert np.array_equal(picture, pictures[name])


def test_pairs_of_halves_and_groups(six_classes, tmp_path):
    work = six_classes()
    path = write(tmp_path / "g.toml", '[groups]\nx = ["a", "b"]\ny = ["c", "d", "e", "f"]\n')
    tasks = make_tasks(work, splits=2, groups=path)
    assert [(p.name, p.kind) for p in tasks.pairs] == [
        ("random 1", "random"),
        ("random 2", "random"),
        ("x / y", "groups"),
    ]
    assert set(tasks.spaces) == {"random 1 A", "random 1 B", "random 2 A", "random 2 B", "x", "y"}
    for pair in tasks.pairs:
        for side in (pair.a, pair.b):
            assert tasks.spaces[side.space].manifest.labels == side.labels
        assert set(pair.a.labels) | set(pair.b.labels) == set(work.manifest.labels)
        both = [(s.name, t.name) for s, t in pair.directions(both=True)]
        assert both == [(pair.a.name, pair.b.name), (pair.b.name, pair.a.name)]
        assert len(pair.directions(both=False)) == 1
    assert tasks.spaces["x"].manifest.task == "binary"


def test_given_weights_go_one_way_and_bases_do_not_know_them(six_classes):
    work = six_classes()
    state = work.blank().module.state_dict()
    work.weights, work.weights_name = state, "w.pth"
    work.weights_digest = state_digest(state)
    (pair,) = make_tasks(work, splits=0).pairs
    assert (pair.kind, pair.a.labels) == ("weights", ())
    assert len(pair.directions(both=True)) == 1
    spaces = make_tasks(work, splits=0).spaces
    assert spaces[pair.b.space].settings["weights"] == "none"
    assert spaces[pair.a.space].settings["weights"] == work.weights_digest
    assert spaces[pair.a.space].data_key == spaces[pair.b.space].data_key


def test_too_few_classes_are_refused_with_what_would_work(workspace):
    for task in ("multiclass", "binary"):
        with pytest.raises(DataError, match="at least 4.*--other.*--weights"):
            make_tasks(workspace(task), splits=1)


def test_several_labels_an_image_can_not_be_halved(workspace):
    with pytest.raises(DataError, match="several labels.*--splits 0 and name.*--other"):
        make_tasks(workspace("multilabel"), splits=1)


def test_no_pair_at_all_is_an_error(six_classes):
    with pytest.raises(LayerwiseError, match="no pair of tasks.*--splits 1"):
        make_tasks(six_classes(), splits=0)


def test_the_same_data_twice_is_no_pair(six_classes):
    with pytest.raises(DataError, match="nothing would be transferred"):
        make_tasks(six_classes(), splits=0, other=six_classes())


@pytest.mark.parametrize(("part", "word"), [("val", "validation"), ("test", "test")])
def test_a_class_without_images_of_a_part_is_named(six_classes, part, word):
    work = six_classes()
    split = work.manifest.table["split"].to_numpy(dtype=object)
    mine = (work.manifest.targets == 4) & (split == part)
    work.manifest = work.manifest.replace(split=np.where(mine, "train", split))
    with pytest.raises(DataError, match=f"class 'e' has no {word} image"):
        make_tasks(work, splits=1)


def test_more_halves_than_there_are_is_said(six_classes):
    work, said = six_classes(), []
    work.say = said.append
    assert len(make_tasks(work, splits=11).pairs) == 10
    assert said == [
        "6 classes have no more than 10 different random halves, so 10 are studied, not 11"
    ]

"""Contents and patients in two parts are found where they are, and nowhere else."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwise.data.audit.overlap import content_codes, shared_contents, shared_dates, shared_people
from layerwise.data.manifest import Manifest, make_table

PARTS = ["train", "train", "val", "val", "test", "test", ""]


def made(patients=None, targets=(0, 1, 0, 1, 0, 1, 0), studies=None, parts=PARTS):
    n = len(parts)
    table = make_table(
        [f"{i}.png" for i in range(n)], patients=patients, studies=studies, splits=list(parts)
    )
    return Manifest(
        name="made", task="binary", labels=("a", "b"), table=table, targets=np.array(targets)
    )


def content(numbers):
    rows = np.zeros((len(numbers), 32), np.uint8)
    rows[:, 31] = numbers
    return rows


def test_nothing_to_find():
    clean = made(["p", "p", "q", "", "r", "", "p"])
    assert shared_people(clean) == []
    assert shared_contents(clean, content(range(7))) == []
    assert shared_people(made()) == []


def test_shared_images_and_patients():
    found = shared_people(made(["p", "q", "q", "", "r", "p", ""]))
    found += shared_contents(made(), content([1, 2, 3, 4, 3, 6, 7]))
    assert [(f.kind, f.severity, f.images) for f in found] == [
        ("shared patient", "leak", ("1.png", "2.png")),
        ("shared patient", "leak", ("0.png", "5.png")),
        ("shared content", "leak", ("2.png", "4.png")),
    ]
    assert found[0].message == "1 patient is in both train and val (q)"
    assert found[2].message == "1 image is in both val and test (2.png = 4.png)"


def test_copies_within_a_part_are_a_note():
    same = made(targets=(0, 0, 1, 1, 0, 0, 0))
    found = shared_contents(same, content([5, 5, 1, 1, 2, 3, 4]))
    assert [(f.kind, f.severity, f.images) for f in found] == [
        ("repeated content", "note", ("0.png", "1.png")),
        ("repeated content", "note", ("2.png", "3.png")),
    ]
    assert found[0].message.startswith("1 image of train is a copy of another there (0.png = 1.png")


def test_contradicting_labels_are_a_warning():
    found = shared_contents(made(), content([1, 1, 2, 3, 4, 5, 1]))
    odd = [f for f in found if f.severity == "warning"]
    assert [f.message for f in odd] == [
        "1 image occurs with different labels (0.png = 1.png = 6.png)"
    ]
    agree = made(targets=(0, 0, 0, 1, 0, 1, 0))
    found = shared_contents(agree, content([1, 1, 2, 3, 4, 5, 1]))
    assert [f.kind for f in found] == ["repeated content"]


def test_unknown_labels_contradict_nothing():
    nan = np.nan
    targets = np.array([[1, nan], [1, 0], [0, nan], [nan, 1], [0, 0], [0, 1]], np.float32)
    table = make_table([f"{i}.png" for i in range(6)], splits=["train"] * 6)
    many = Manifest(name="m", task="multilabel", labels=("a", "b"), table=table, targets=targets)
    found = shared_contents(many, content([1, 1, 2, 2, 3, 3]))
    assert [f.images for f in found if f.kind == "contradicting labels"] == [("4.png", "5.png")]


def test_a_study_name_counts_within_its_patient_and_a_uid_everywhere():
    parts = ["train", "val", "test"]
    local = made(["p", "q", "r"], (0, 1, 0), ["study1"] * 3, parts)
    assert shared_people(local) == []
    alone = made(["", "", ""], (0, 1, 0), ["s1", "s2", "s1"], parts)
    assert [(f.kind, f.images) for f in shared_people(alone)] == [
        ("shared study", ("0.png", "2.png"))
    ]
    uid = made(["p", "q", "r"], (0, 1, 0), ["1.2.840.1", "1.2.840.1", "1.2.840.2"], parts)
    assert [f.message for f in shared_people(uid)] == [
        "1 study is in both train and val (1.2.840.1)"
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["train", "val", "test", ""]),
            st.sampled_from(["", "p", "q", "r"]),
            st.sampled_from(["", "1", "2"]),
            st.integers(0, 3),
        ),
        max_size=12,
    )
)
def test_shared_rows_are_those_of_a_comparison_of_all_pairs(rows):
    parts, patients, studies, contents = (
        (list(c) for c in zip(*rows, strict=True))
        if rows
        else (
            [],
            [],
            [],
            [],
        )
    )
    data = made(patients, np.zeros(len(rows), np.int64), studies, parts)
    found = shared_people(data) + shared_contents(data, content(contents))

    def same(kind, a, b):
        if kind == "patient":
            return patients[a] == patients[b] != ""
        if kind == "study":
            return studies[a] == studies[b] != "" and patients[a] == patients[b]
        return contents[a] == contents[b]

    for kind, (p, q) in itertools.product(
        ("patient", "study", "content"), (("train", "val"), ("train", "test"), ("val", "test"))
    ):
        expected = {
            f"{i}.png"
            for a, b in itertools.product(range(len(rows)), repeat=2)
            if parts[a] == p and parts[b] == q and same(kind, a, b)
            for i in (a, b)
        }
        ours = [
            set(f.images)
            for f in found
            if f.kind == f"shared {kind}" and f"{p} and {q}" in f.message
        ]
        assert ours == ([expected] if expected else [])


def test_codes_are_equal_where_digests_are():
    digests = np.random.default_rng(0).integers(0, 2, (200, 32)).astype(np.uint8)
    digests[:, 5:] = 0
    codes = content_codes(digests)
    equal = (digests[:, None] == digests[None]).all(axis=2)
    assert ((codes[:, None] == codes[None]) == equal).all()
    assert content_codes(np.zeros((0, 32), np.uint8)).shape == (0,)


def dated(dates, parts):
    n = len(dates)
    table = make_table([f"{i}" for i in range(n)], dates=dates, splits=parts)
    return Manifest("made", "binary", ("a", "b"), table, np.arange(n) % 2)


def test_a_split_by_date_is_quiet_and_days_of_a_series_are_not_compared():
    parts = ["train", "val", "test", "test"]
    assert shared_dates(dated(["2019-01-01", "2019-12-31", "2020-01-01", ""], parts)) == []
    assert shared_dates(dated(["", "", "", ""], parts)) == []
    assert shared_dates(dated(["day-00001", "day-00009", "day-00003", ""], parts)) == []
    assert shared_dates(dated(["3", "14", "5", "7"], parts)) == []  # days since something
    assert shared_dates(dated(["2019-01-01", "spring", "2018-01-01", ""], parts)) == []


def test_dates_among_each_other_are_a_note():
    parts = ["train", "val", "test", "test"]
    found = shared_dates(dated(["2019-01-01", "2020-05-01", "2019-01-01", "2021-01-01"], parts))
    assert [(f.kind, f.severity, f.images) for f in found] == [("shared dates", "note", ("2",))]
    assert found[0].message == (
        "train and val are dated 2019-01-01 to 2020-05-01, test 2019-01-01 to 2021-01-01: "
        "1 test image not after them, and 1 date in both"
    )


def test_a_split_that_is_nearly_by_date_is_a_warning():
    parts = ["train"] * 40 + ["test"] * 40
    dates = [f"20{10 + i // 10}-01-{1 + i % 10:02d}" for i in range(80)]
    dates[40] = "2011-07-01"
    found = shared_dates(dated(dates, parts))
    assert [(f.severity, f.images) for f in found] == [("warning", ("40",))]
    assert "seems to be by date" in found[0].message

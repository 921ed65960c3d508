"""Train before, test after: the day itself, patients on both sides, the day that is chosen."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwise.data.load import DataOptions, load
from layerwise.data.manifest import Manifest, make_table
from layerwise.data.splits.by_date import by_date
from layerwise.errors import DataError


def data(targets, dates, patients=None, labels=("a", "b")):
    ids = [f"{i}.png" for i in range(len(targets))]
    table = make_table(ids, patients=patients, dates=dates, splits=["test"] * len(ids))
    task = "binary" if len(labels) == 2 else "multiclass"
    targets = np.asarray(targets, np.int64)
    return Manifest(name="made", task=task, labels=labels, table=table, targets=targets)


def content(numbers):
    """Digests that are equal where the numbers are."""
    rows = np.zeros((len(numbers), 32), np.uint8)
    rows[:, :4] = np.asarray(numbers, np.uint32)[:, None].view(np.uint8)
    return rows


def parts(manifest):
    return dict(zip(manifest.table["id"], manifest.table["split"], strict=True))


def june(day):
    return f"2020-06-{day:02d}"


def test_an_image_of_the_day_is_tested():
    dates = [june(29)] * 4 + [june(30)] * 2 + ["2020-07-01"] * 2
    made = by_date(data([0, 1] * 4, dates), date="2020-06-30")
    where = parts(made)
    assert [where[f"{i}.png"] for i in range(4, 8)] == ["test"] * 4
    assert {where[f"{i}.png"] for i in range(4)} == {"train", "val"}
    assert made.counts()["val"] == {"a": 1, "b": 1}
    assert "split by date, before 2020-06-30 training, from that day on test" in made.notes


def test_training_and_validation_keep_their_ratio_whatever_the_day():
    """Peng et al.: a fifth of what is before is for validation, in both classes alike."""
    dates = np.repeat([june(1), june(2)], [1000, 300]).tolist()
    targets = np.tile([0] * 16 + [1] * 4, 65)
    made = by_date(data(targets, dates), date=june(2), val=0.16, test=0.2)
    assert made.counts() == {
        "train": {"a": 640, "b": 160},
        "val": {"a": 160, "b": 40},
        "test": {"a": 240, "b": 60},
    }


def test_a_patient_on_both_sides_stays_before_and_is_counted():
    dates = [june(1)] * 6 + [june(20)] * 6
    patients = ["p", "q", "", "", "", "", "p", "p", "r", "r", "", ""]
    targets = [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    made = by_date(data(targets, dates, patients), date=june(20))
    assert "6.png" not in parts(made) and "7.png" not in parts(made)
    assert parts(made)["0.png"] in ("train", "val") and parts(made)["8.png"] == "test"
    assert any("2 images from 2020-06-20 on are left out (1 a, 1 b)" in n for n in made.notes)
    same = content([0, 1, 2, 3, 4, 5, 6, 7, 2, 9, 10, 11])  # 8 is 2 again: its patient r goes too
    made = by_date(data(targets, dates, patients), date=june(20), contents=same)
    assert {i for i in range(12) if f"{i}.png" not in parts(made)} == {6, 7, 8, 9}


def test_images_without_a_date_are_left_out():
    made = by_date(data([0, 1] * 5, [june(1)] * 4 + ["", ""] + [june(9)] * 4), date=june(9))
    assert len(made) == 8 and "2 images without a date are left out" in made.notes


def best_share(dates, patients, targets, test, classes):
    """By trying every day: how close the test part can come, with every class on both sides."""
    frame = pd.DataFrame({"date": dates, "patient": patients, "target": targets})
    first = frame.groupby("patient")["date"].transform("min")
    found = []
    for day in sorted(set(dates))[1:]:
        before, after = frame[frame["date"] < day], frame[first >= day]
        twice = before.groupby("target")["patient"].nunique().reindex(range(classes)).fillna(0)
        if twice.min() >= 2 and after["target"].nunique() == classes:
            found.append(abs(len(after) / (len(before) + len(after)) - test))
    return min(found, default=None)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(1, 28), st.integers(0, 20)),
        min_size=8,
        max_size=50,
    ),
    st.sampled_from([0.15, 0.4]),
)
def test_the_day_that_is_chosen_is_the_best(rows, test):
    targets, days, people = (np.array(column) for column in zip(*rows, strict=True))
    dates, patients = [june(d) for d in days], [f"p{k}" for k in people]
    best = best_share(dates, patients, targets, test, 2)
    try:
        made = by_date(data(targets, dates, patients), test=test)
    except DataError as error:
        if best is not None:  # patients of both classes may not go into two parts
            assert "are needed, one for each of train, val" in str(error)
        return
    assert best is not None
    assert abs(len(made.indices("test")) / len(made) - test) == pytest.approx(best)
    table = made.table
    assert table.groupby("patient")["split"].nunique().max() == 1
    assert (
        table["date"][table["split"] != "test"].max()
        < table["date"][table["split"] == "test"].min()
    )


@pytest.mark.parametrize(
    "date, dates, said",
    [
        ("soon", None, "--date 'soon' can not be compared"),
        ("2020", None, "--date '2020' can not be compared with.*calendar days"),
        ("2019-01-01", None, "--date 2019-01-01 leaves no images before.*2020-06-01 to 2020-06-12"),
        ("2020-06-01", None, "leaves no images before for the training part"),
        ("2020-06-13", None, "leaves no images from that day on for the test part"),
        ("2020-06-12", None, "no image of class 'a' from that day on for the test part"),
        ("2020-06-02", None, "no image of class 'b' before for the training part"),
        (None, [june(3)] * 12, "made: all images are of one day"),
        (None, [""] * 12, "made: no image has a date"),
        (None, ["1.2.2020"] * 12, "made: these are no dates: 0.png: '1.2.2020'"),
    ],
)
def test_days_that_can_not_be_used(date, dates, said):
    with pytest.raises(DataError, match=said):
        by_date(data([0, 1] * 6, dates or [june(d) for d in range(1, 13)]), date=date)


def test_a_class_that_ends_before_any_good_day():
    dates = [june(1)] * 10 + [june(5)] * 10
    with pytest.raises(DataError, match="the day 2020-06-05 leaves no image of class 'b' from"):
        by_date(data([0, 1] * 5 + [0] * 10, dates))


def test_the_covid_table(shared_data):
    options = DataOptions(
        label_column=("finding",), only=("COVID-19", "Streptococcus"), date_column="offset"
    )
    table = shared_data / "covid-table" / "metadata.csv"
    given = load(table, options)
    made = by_date(given)
    assert any("17 images without a date are left out" in note for note in made.notes)
    by_patient = made.table.groupby("patient")["split"]
    assert by_patient.nunique().max() == 1
    with pytest.raises(DataError, match="May 9, 2019"):
        by_date(load(table, DataOptions(label_column=("finding",), only=options.only)))

"""Dates: read strictly, compared as days, refused by row where they can not be told."""

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwise.data.splits.dates import CALENDAR, NUMBER, RELATIVE, parse_dates
from layerwise.errors import DataError


@pytest.mark.parametrize(
    "text",
    [
        "2020-06-30",
        "20200630",
        " 2020-06-30 ",
        "2020-06-30 23:59",
        "2020-06-30T23:59:59.999Z",
        "2020-06-30T23:59:59+02:00",
        "20200630235959",
        "20200630235959.123",
        "June 30, 2020",
        "jun 30 2020",
        "30 June 2020",
        "30. Jun. 2020",
    ],
)
def test_the_ways_to_write_a_day(text):
    dates = parse_dates([text, "2020-01-01"])
    assert dates.kind == CALENDAR
    assert dates.days[0] - dates.days[1] == 181  # 31 + 29 + 31 + 30 + 31 + 29
    assert dates.text(int(dates.days[0])) == "2020-06-30" and dates.day(text) == dates.days[0]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.dates(), min_size=1, max_size=8))
def test_days_are_ordered_as_dates(days):
    dates = parse_dates([day.isoformat() for day in days])
    assert [datetime.date.fromordinal(int(d)) for d in dates.days] == days


def test_numbers_and_relative_days():
    dates = parse_dates(["2019", "2020", "", "2018.0"])
    assert dates.kind == NUMBER and dates.days.tolist() == [2019, 2020, 0, 2018]
    assert dates.known.tolist() == [True, True, False, True] and dates.text(2019) == "2019"
    assert parse_dates(["-3", "+4", "0"]).days.tolist() == [-3, 4, 0]
    dates = parse_dates(["day-00012", "day-10012"])
    assert dates.kind == RELATIVE and dates.days.tolist() == [12, 10012]
    assert dates.text(12) == "day-00012" and dates.day("day-12") == 12


@pytest.mark.parametrize(
    "texts, said",
    [
        (["", " "], "no image has a date; name the column with --date-column"),
        (["2020-06-30", "03/09/20"], r"these are no dates: row 2: '03/09/20'; write"),
        (["30.06.2020"], "30.06.2020.*write dates as 2020-06-30"),
        (["2020-06-31"], "row 1: '2020-06-31'"),
        (["June 31, 2020"], "row 1: 'June 31, 2020'"),
        (["Mayor 3, 2020"], "Mayor"),
        (["2019-02-29"], "no dates"),
        (["20201301"], "no dates"),
        (["2020-06-30 later"], "no dates"),
        (["12345678901"], "no dates"),
        (["٢٠٢٠-٠٦-٣٠"], "no dates"),
        (["3.5"], "no dates"),
        (
            ["2020-06-30", "2020", "", "2021", "2020"],
            "of 2 kinds.*calendar days: row 1: '2020-06-30'; whole numbers: row 2: '2020', row 4",
        ),
        (["day-00001", "5"], "of 2 kinds"),
    ],
)
def test_what_is_refused_and_where(texts, said):
    with pytest.raises(DataError, match=said):
        parse_dates(texts)


def test_rows_are_called_by_their_names():
    with pytest.raises(DataError, match=r"no dates: b.png: 'x'"):
        parse_dates(["2020", "x"], ["a.png", "b.png"])


@pytest.mark.parametrize("text", ["soon", "2020", "day-00003", ""])
def test_a_day_of_another_kind(text):
    with pytest.raises(DataError, match="--date.*calendar days; write it like 2020-06-30"):
        parse_dates(["2020-06-30"]).day(text)


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text):
    try:
        assert parse_dates([text]).known.all()
    except DataError:
        pass

"""Dates as tables have them → whole days that can be compared. What is ambiguous is refused."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from layerwise.data.sources.options import some
from layerwise.errors import DataError

CALENDAR, NUMBER, RELATIVE = "calendar days", "whole numbers", "days of a series"
EXAMPLES = {CALENDAR: "2020-06-30", NUMBER: "2020 or 14", RELATIVE: "day-00014"}
_TIME = r"(?:[T ]?\d{2}:?\d{2}(?::?\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?"
_PATTERNS = {
    CALENDAR: re.compile(rf"(\d{{4}})-(\d\d)-(\d\d){_TIME}|(\d{{4}})(\d\d)(\d\d){_TIME}", re.A),
    NUMBER: re.compile(r"([+-]?\d{1,7})(?:\.0*)?", re.A),
    RELATIVE: re.compile(r"day-(-?\d{1,9})", re.A),
}
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_MONTH = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_NAMED = (  # month, day, year by group: the American and the other order, told apart by the name
    (re.compile(rf"{_MONTH} (\d{{1,2}}),? (\d{{4}})", re.A | re.I), (1, 2, 3)),
    (re.compile(rf"(\d{{1,2}})\.? {_MONTH},? (\d{{4}})", re.A | re.I), (2, 1, 3)),
)


@dataclass(frozen=True)
class Dates:
    """Days of one kind.

    Attributes:
        kind: `CALENDAR`, `NUMBER` (years or offsets) or `RELATIVE` (day-00014).
        days: (N,) int64, later is greater; 0 where not known.
        known: (N,) bool.
    """

    kind: str
    days: NDArray[np.int64]
    known: NDArray[np.bool_]

    def text(self, day: int) -> str:
        """A day as it is written."""
        if self.kind == CALENDAR:
            return date.fromordinal(day).isoformat()
        return f"day-{day:05d}" if self.kind == RELATIVE else str(day)

    def day(self, text: str) -> int:
        """The day that a text of the same kind names.

        Raises:
            DataError: It is no date, or one of another kind.
        """
        found = _read(text.strip())
        if found is None or found[0] != self.kind:
            raise DataError(
                f"--date {text!r} can not be compared with the dates of the images, which are "
                f"{self.kind}; write it like {EXAMPLES[self.kind]}"
            )
        return found[1]


def parse_dates(texts: Sequence[str], names: Sequence[str] | None = None) -> Dates:
    """Read the dates of all images.

    Three kinds, of which all must be one: calendar dates (2020-06-30 or 20200630, a time of the
    day may follow and is dropped; or with an English month, June 30, 2020), whole numbers (years,
    or days from something), and day-00014 as the DICOM source writes them. Anything else is
    refused: 03/09/20 may be March or September.

    Args:
        texts: (N,) "" where not known.
        names: (N,) what the rows are called in an error; by default row 1, row 2, ….

    Raises:
        DataError: No date at all, texts that are none, or several kinds; rows are named.
    """
    where: dict[str, int] = {}  # each distinct text is read once
    codes = np.array([where.setdefault(text, len(where)) for text in texts], np.int64)
    read = {text: _read(text.strip()) for text in where}
    if not any(text.strip() for text in where):
        raise DataError(
            "no image has a date; name the column with --date-column, or split --by patient"
        )
    first = {code: i for i, code in reversed(list(enumerate(codes.tolist())))}

    def rows(of: Sequence[str]) -> str:
        """Some texts, and where each stands first."""
        at = [(first[where[text]], text) for text in of]
        return some([f"{names[i] if names else f'row {i + 1}'}: {t!r}" for i, t in sorted(at)])

    bad = [text for text, day in read.items() if day is None and text.strip()]
    if bad:
        raise DataError(
            f"these are no dates: {rows(bad)}; write dates as {EXAMPLES[CALENDAR]}: "
            "days and months in another order can not be told apart; or name another column with "
            "--date-column"
        )
    kinds = sorted({day[0] for day in read.values() if day is not None})
    if len(kinds) > 1:
        each = [rows([t for t, d in read.items() if d is not None and d[0] == k]) for k in kinds]
        said = "; ".join(f"{k}: {r}" for k, r in zip(kinds, each, strict=True))
        raise DataError(
            f"the dates are of {len(kinds)} kinds and can not be compared ({said}); write all of "
            f"them as {EXAMPLES[CALENDAR]}, or name another column with --date-column"
        )
    known = np.array([day is not None for day in read.values()])[codes]
    days = np.array([0 if day is None else day[1] for day in read.values()], np.int64)[codes]
    return Dates(kinds[0], days, known)


def _read(text: str) -> tuple[str, int] | None:
    """Kind and day of one text; None where it is no date."""
    if match := _PATTERNS[CALENDAR].fullmatch(text):
        year, month, day = (int(part) for part in match.groups() if part)
        try:
            return CALENDAR, date(year, month, day).toordinal()
        except ValueError:  # the 31st of June
            return None
    for pattern, (m, d, y) in _NAMED:
        if match := pattern.fullmatch(text):
            month = _MONTHS.index(match[m][:3].lower()) + 1
            try:
                return CALENDAR, date(int(match[y]), month, int(match[d])).toordinal()
            except ValueError:
                return None
    for kind in (NUMBER, RELATIVE):
        if match := _PATTERNS[kind].fullmatch(text):
            return kind, int(match[1])
    return None

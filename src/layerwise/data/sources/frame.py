"""A table's file as text: CSV and TSV in any usual encoding, packed or not, and Parquet.

Written for files that people really have: from spreadsheets (semicolons, a byte order mark, UTF-16,
Windows' letters, a first line "sep=;"), with line breaks inside quotes, with lines that are too
short. What was guessed is said; what can not be meant is refused with its line.
"""

import csv
import gzip
import io
import itertools
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from layerwise.data.sources.options import some
from layerwise.errors import DataError

TABLES = (".csv", ".tsv", ".parquet", ".csv.gz", ".tsv.gz")
LONGEST = 2**24  # characters of one line, and of one field; a longer one is no table
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_CHUNK = 50_000  # rows turned into columns at a time


def is_table(path: Path) -> bool:
    """Whether a file's name ends like a table's."""
    return path.name.lower().endswith(TABLES)


def table_stem(path: Path) -> str:
    """The file's name without its ending, or both of them (train.csv.gz is train)."""
    return re.sub(r"\.(csv|tsv|parquet)(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def read_heading(path: Path) -> list[str]:
    """The names of the columns, without reading the rest; raises as `read_frame` does."""
    return [str(name) for name in _read(path, [], rest=False).columns]


def read_frame(path: Path, notes: list[str] | None = None) -> pd.DataFrame:
    """A table with every value as text, "" where missing.

    Args:
        path: A .csv, .tsv or .parquet file; the first two may be packed (.gz).
        notes: What was guessed is added here.

    Returns:
        Columns of str objects under their stripped names. The index holds the line of the file on
        which each row begins (of a Parquet file, which has no lines, the row counted from 2, as
        if there were a heading).

    Raises:
        DataError: It is no table, names a column twice, or a row has too few or too many values;
            the message names the line.
    """
    return _read(path, [] if notes is None else notes, rest=True)


def _read(path: Path, notes: list[str], *, rest: bool) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".parquet":
            return _parquet(path)
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            head = raw.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
            raw.seek(0)
            if head.startswith((b"<!doctype", b"<html", b"<?xml")):
                raise ValueError("it is a web page, whatever its name: download the file itself")
            if head.startswith((b"pk\x03\x04", b"\xd0\xcf\x11\xe0")):
                raise ValueError("it is a spreadsheet or an archive, whatever its name")
            # A real .gz is told by its first bytes, so that a renamed one is read all the same.
            opened = gzip.GzipFile(fileobj=raw) if packed else raw
            return _text(path, opened, notes, rest)
    except (OSError, EOFError, zlib.error, ValueError, ImportError, MemoryError) as error:
        # pandas' and arrow's errors are these too
        raise DataError(
            f"{path}: can not be read as a table ({error or 'out of memory'}); mend the file, or "
            "save it again as CSV in UTF-8"
        ) from error


def _parquet(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except ImportError as error:  # an installation that only serves
        raise DataError(
            f"{path}: a Parquet table needs pyarrow, which is not installed here; pip install "
            "pyarrow, or save the table as CSV"
        ) from error
    names = [str(name).strip() for name in frame.columns]
    _refuse_repeated(path, names)
    text = frame.astype(object).where(frame.notna(), "").map(str)
    text.columns, text.index = pd.Index(names, dtype=object), pd.RangeIndex(2, len(text) + 2)
    return text


def _text(
    path: Path, raw: "BinaryIO | gzip.GzipFile", notes: list[str], rest: bool
) -> pd.DataFrame:
    """Parse an opened CSV or TSV file; without `rest` its heading alone."""
    start = raw.read(3)
    raw.seek(0)
    encoding = next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")
    if encoding == "utf-16":
        notes.append("the table is read as UTF-16")
    lossless = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    odd: list[int] = []
    with io.TextIOWrapper(raw, encoding, errors=lossless, newline="") as stream:
        frame = _parse(path, _lines(path, stream, odd), notes, rest)
    if odd:
        notes.append(
            f"{len(odd)} lines are not UTF-8 and are read as Windows-1252 (the first: line "
            f"{odd[0]})"
        )
    return frame


def _parse(path: Path, lines: Iterator[str], notes: list[str], rest: bool) -> pd.DataFrame:
    """From lines to columns, without `rest` to empty ones."""
    first, skipped = next(lines, ""), 0
    told = re.fullmatch(r'"?sep=(.)"?\s*', first)
    if told:  # a spreadsheet says so itself
        first, skipped = next(lines, ""), 1
    separator = told[1] if told else _separator(first, path)
    if separator != _usual(path):
        called = _SEPARATORS.get(separator, repr(separator))
        notes.append(f"the columns are taken to be separated by {called}")
    rows = _rows(path, itertools.chain([first] if first else [], lines), separator, skipped)
    header = next(rows, None)
    if header is None:
        raise DataError(f"{path}: can not be read as a table (it is empty); write it again")
    names = [name.strip() for name in header[1]]
    while len(names) > 1 and not names[-1]:
        names.pop()  # the heading of NIH's table ends in a comma
    names = [name or f"(column {k})" for k, name in enumerate(names, 1)]
    _refuse_repeated(path, names)
    return _columns(path, names, rows if rest else iter(()))


def _lines(path: Path, stream: io.TextIOWrapper, odd: list[int]) -> Iterator[str]:
    """The lines of the file; bytes that are no UTF-8 become Windows-1252, their lines in `odd`."""
    number = 0
    while line := stream.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise DataError(
                f"{path}: line {number} has more than {LONGEST:,} characters: this is no table; "
                "name a .csv, .tsv or .parquet file"
            )
        if not line.isascii():
            try:
                line.encode()
            except UnicodeEncodeError:
                odd.append(number)
                line = re.sub("[\ud800-\udfff]+", _windows, line)
        if "\0" in line:
            raise DataError(
                f"{path}: line {number} holds a NUL character: this is no text, or UTF-16 without "
                "its mark; save the table again as CSV in UTF-8"
            )
        yield line


def _windows(escaped: re.Match[str]) -> str:
    """Bytes that were no UTF-8 as Windows-1252; the five that it leaves open as Latin-1."""
    raw = escaped[0].encode("utf-8", "surrogateescape")
    return "".join(
        bytes([b]).decode("latin-1" if b in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else "cp1252")
        for b in raw
    )


def _usual(path: Path) -> str:
    return "\t" if ".tsv" in path.name.lower() else ","


def _separator(first: str, path: Path) -> str:
    """What parts the heading into most columns; of equals the usual one."""
    order = sorted(_SEPARATORS, key=lambda s: s != _usual(path))
    unquoted = re.sub(r'"[^"]*"', "", first)
    return max(order, key=unquoted.count)


def _rows(
    path: Path, lines: Iterator[str], separator: str, skipped: int
) -> Iterator[tuple[int, list[str]]]:
    """(line on which it begins, values) of every row that is not blank."""
    before = csv.field_size_limit(LONGEST)  # of the whole process, so it is put back
    try:
        reader = csv.reader(lines, delimiter=separator, strict=True)
        while True:
            begins = reader.line_num + 1 + skipped
            try:
                values = next(reader, None)
            except csv.Error as error:
                raise DataError(
                    f"{path}: line {begins}: {error}; mend the quotes of that line"
                ) from error
            if values is None:
                return
            if values and (values[0] or any(values)):
                yield begins, values
    finally:
        csv.field_size_limit(before)


def _columns(path: Path, names: list[str], rows: Iterator[tuple[int, list[str]]]) -> pd.DataFrame:
    """The rows as columns; equal values share one object where many are, to save memory."""
    width = len(names)
    parts: list[list[np.ndarray[tuple[int], np.dtype[np.object_]]]] = [[] for _ in names]
    lines: list[int] = []
    ragged: list[str] = []
    chunk: list[list[str]] = []

    def flush() -> None:
        for k, column in enumerate(zip(*chunk, strict=True)):
            own = dict(zip(column, column, strict=True))
            values = np.empty(len(column), dtype=object)
            values[:] = column if 2 * len(own) > len(column) else list(map(own.get, column))
            parts[k].append(values)
        chunk.clear()

    for line, values in rows:
        if len(values) != width:
            if len(values) < width or any(values[width:]):
                ragged.append(f"line {line} has {len(values)}")
                continue
            values = values[:width]  # commas at the end of a line, nothing between them
        chunk.append(values)
        lines.append(line)
        if len(chunk) == _CHUNK:
            flush()
    if ragged:
        raise DataError(
            f"{path}: {len(ragged)} rows do not have {width} values as the heading has "
            f"({some(ragged)}); mend these lines: a value with a comma in it must stand in quotes"
        )
    flush()
    whole = {
        name: np.concatenate(part) if part else np.empty(0, dtype=object)
        for name, part in zip(names, parts, strict=True)
    }
    index = pd.Index(np.asarray(lines, np.int64))
    return pd.DataFrame(whole, index=index, dtype=object)


def _refuse_repeated(path: Path, names: list[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(
            f"{path}: several columns are called {some([repr(n) for n in twice])}; rename them, so "
            "that each has its own name"
        )

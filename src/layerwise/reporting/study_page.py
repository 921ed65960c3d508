"""What a study writes: its page, its figures as SVG, the data of both as CSV, `results.json`."""

import base64
import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from layerwise.config import write_json
from layerwise.reporting import text
from layerwise.reporting.page import render_page, write_page
from layerwise.reporting.plain import finite, part_counts

_FOLDED = 30  # rows: a longer table is folded
_OPENING = re.compile(r"<svg\b[^>]*>")
_VARIABLE = re.compile(r"var\(--[\w-]+,\s*([^()]+)\)")


@dataclass(frozen=True)
class Figure:
    """A figure of a study.

    Attributes:
        name: The stem of its files: `figure2` gives figure2.svg and figure2.csv.
        title: Above it.
        svg: As `drawing.to_svg` makes it.
        rows: The data drawn. Values are numbers, words, None, lists or intervals
            ({"value", "low", "high"} and maybe "sd"), which become columns of their own.
        sentences: What it shows, derived from the numbers.
    """

    name: str
    title: str
    svg: str
    rows: Sequence[Mapping[str, Any]]
    sentences: Sequence[str] = ()


@dataclass(frozen=True)
class Table:
    """A table of a study.

    Attributes:
        name: The stem of its file: `table1` gives table1.csv.
        title: Above it.
        columns: Key → heading, in order.
        rows: As in `Figure`; keys that are no column are left out. A row with the key "mark"
            stands out, with that word ("recommended").
        sentences: What it shows, derived from the numbers.
    """

    name: str
    title: str
    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]
    sentences: Sequence[str] = ()


@dataclass(frozen=True)
class StudyPage:
    """The page of a study, in words.

    Attributes:
        title: Of the page.
        answer: What was found; the first sentence says what to do.
        figures: In order.
        tables: In order.
        notes: What was guessed, left out, or limits what the study can say.
        saved: What sharing of work has saved.
        reproduce: Commands.
        metric: The validation metric in the list of runs; "" takes the first that they have.
        kind: What it is the page of, under our name.
    """

    title: str
    answer: Sequence[str]
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    saved: Sequence[str] = ()
    reproduce: Sequence[str] = field(default=())
    metric: str = ""
    kind: str = "study"


def write_study(
    out: Path,
    results: Mapping[str, Any],
    page: StudyPage,
    name: str = "results.json",
    report: str = "report.html",
) -> None:
    """Write report.html, an SVG and a CSV a figure, a CSV a table, and results.json, which is last.

    Args:
        out: The folder.
        results: What `results.json` holds; NaN becomes null there.
        page: What the page says beside it.
        name: Of the results' file, where it is another.
        report: Of the page's file, where it is another.

    Raises:
        OutputError: A file can not be written.
    """
    names = [f.name for f in page.figures] + [t.name for t in page.tables]
    if len(set(names)) < len(names):
        raise ValueError(f"two of these would be one file: {names}")
    for figure in page.figures:
        write_page(out / f"{figure.name}.svg", standalone(figure.svg))
        write_page(out / f"{figure.name}.csv", csv_text(figure.rows))
    for table in page.tables:
        write_page(out / f"{table.name}.csv", csv_text(table.rows, list(table.columns)))
    write_page(out / report, render(results, page))
    write_json(out / name, finite(results))


def render(results: Mapping[str, Any], page: StudyPage) -> str:
    """The page as text; it opens offline and asks for nothing (see `page`)."""
    data = results.get("data") or {}
    runs = results.get("runs") or () if page.kind == "study" else ()
    metric = page.metric or next(iter(_validated(runs)), "")
    return render_page(
        "study.html",
        ("report.css", "study.css"),
        title=page.title,
        kind=page.kind,
        data_name=data.get("name", ""),
        labels=data.get("labels") or [],
        counts=part_counts(data.get("counts") or {}),
        seconds=text.duration(results.get("seconds")),
        seed=results.get("seed"),
        answer=page.answer,
        figures=[
            {
                "name": each.name,
                "title": each.title,
                "svg": Markup(each.svg),
                "sentences": each.sentences,
                "csv": data_address(csv_text(each.rows)),
            }
            for each in page.figures
        ],
        tables=[_shown(each) for each in page.tables],
        metric=_lower(text.NAMES.get(metric, metric)),
        runs=[_run(run, metric) for run in runs],
        told={key: any(run.get(key) for run in runs) for key in ("treatment", "task")},
        folded=len(runs) > _FOLDED,
        saved=page.saved,
        notes=page.notes,
        reproduce=page.reproduce or [results.get("command", "")],
    )


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as CSV, UTF-8: plain numbers, an empty field where there is none.

    An interval under "x" becomes x, x_low and x_high, and x_sd where it has a standard deviation.

    Args:
        rows: As in `Figure`.
        columns: The keys that are written; None: all, as they come.
    """
    keys = columns if columns is not None else list(dict.fromkeys(k for r in rows for k in r))
    flat = []
    for key in keys:
        parts = [value for row in rows if isinstance(value := row.get(key), Mapping)]
        flat.append((key, key, ""))
        if parts:
            flat += [(f"{key}_{side}", key, side) for side in ("low", "high")]
        if any("sd" in part for part in parts):
            flat.append((f"{key}_sd", key, "sd"))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([name for name, _, _ in flat])
    for row in rows:
        writer.writerow([_field(row.get(key), side) for _, key, side in flat])
    return out.getvalue()


def data_address(words: str) -> Markup:
    """A CSV as an address that holds it: the page needs no file beside it."""
    return Markup("data:text/csv;charset=utf-8;base64," + base64.b64encode(words.encode()).decode())


def standalone(svg: str) -> str:
    """A figure of the page as a file for papers: on white, its colours fixed, its size in points.

    Programs that draw SVG for print know no CSS variables.
    """
    opening = _OPENING.match(svg)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    if opening is None or box is None:
        raise ValueError("not an SVG of drawing.to_svg")
    head = re.sub(r'\s(?:style|class)="[^"]*"', "", opening[0])
    head = f'{head[:-1]} width="{box[1]}pt" height="{box[2]}pt">'
    paper = f'\n <rect width="{box[1]}" height="{box[2]}" fill="#ffffff"/>'
    rest = _VARIABLE.sub(r"\1", svg[opening.end() :])
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}{paper}{rest}\n'


def _field(value: Any, side: str) -> Any:  # noqa: ANN401 - any value of a row
    """One field of a CSV."""
    if isinstance(value, Mapping):
        value = value.get(side or "value")
    elif side:
        value = None
    value = finite(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ";".join(str(_field(each, "")) for each in value)
    return "" if value is None else value


def _shown(table: Table) -> dict[str, Any]:
    """A table as the page shows it."""
    numeric = {key: _numeric([row.get(key) for row in table.rows]) for key in table.columns}
    return {
        "name": table.name,
        "title": table.title,
        "sentences": table.sentences,
        "csv": data_address(csv_text(table.rows, list(table.columns))),
        "headings": [(heading, numeric[key]) for key, heading in table.columns.items()],
        "caption": _caption(table),
        "folded": len(table.rows) > _FOLDED,
        "rows": [
            (
                row.get("mark") or "",
                [(*_cell(row.get(key)), numeric[key]) for key in table.columns],
            )
            for row in table.rows
        ],
    }


def _caption(table: Table) -> str:
    """What a reader has to know of the numbers."""
    spans = any(isinstance(row.get(key), Mapping) for row in table.rows for key in table.columns)
    return f"{table.title}{', with 95% intervals' if spans else ''}"


def _lower(name: str) -> str:
    """A metric's name within a sentence: "accuracy", but "AUROC"."""
    return name if name[:2].isupper() or name[1:2].isdigit() else name[:1].lower() + name[1:]


def _numeric(values: Sequence[Any]) -> bool:
    """Whether a column is one of numbers."""
    there = [value for value in values if value is not None]
    return bool(there) and all(
        isinstance(value, (int, float, Mapping)) and not isinstance(value, bool) for value in there
    )


def _cell(value: Any) -> tuple[str, str, str]:  # noqa: ANN401 - any value of a row
    """(text, its interval in text, what it sorts by) of one cell."""
    value = finite(value)
    if isinstance(value, Mapping):
        found = value.get("value")
        return text.number(found), text.limits(value), _key(found)
    if value is None:
        return "—", "", ""
    if isinstance(value, bool):
        return {True: "yes", False: "no"}[value], "", ""
    if isinstance(value, (int, float)):
        return _number(value), "", _key(value)
    if isinstance(value, list):
        return ", ".join(_cell(each)[0] for each in value), "", ""
    return str(value), "", str(value)


def _number(value: float) -> str:
    """A number as narrow as it can be read: 1,259; 2.23 M; 12.5; 0.031."""
    if isinstance(value, int):
        words = text.quantity(value) if abs(value) >= 1e5 else f"{value:,}"
    elif abs(value) >= 10:
        words = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"
    else:
        words = text.number(value)
    return words.replace("-", "−") if abs(value) >= 0.001 else words  # not in 1.0e-04


def _run(run: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """A row of the list of runs."""
    score = finite((run.get("validation") or {}).get(metric) or {})
    row = {key: str(run.get(key) or "") for key in ("name", "treatment", "task", "state")}
    row["reason"] = str(run.get("reason") or run.get("failure") or "")
    row["score"], row["limits"] = text.number(score.get("value")), text.limits(score)
    row["score_key"] = _key(score.get("value"))
    for key, write in (("parameters", text.quantity), ("seconds", text.duration)):
        value = finite(run.get(key)) or None
        row[key], row[f"{key}_key"] = write(value), _key(value)
    return row


def _validated(runs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The validation metrics of the first run that has some."""
    return next((run["validation"] for run in runs if run.get("validation")), {})


def _key(value: float | None) -> str:
    """What a column sorts by; empty sorts last."""
    return "" if value is None or not math.isfinite(value) else repr(float(value))

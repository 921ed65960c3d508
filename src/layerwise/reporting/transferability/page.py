"""The page of `layerwise study transferability`: Figures 2 and 3, Table 1, and what they say."""

from collections.abc import Mapping
from typing import Any

from layerwise.reporting.study_page import Figure, StudyPage, Table
from layerwise.reporting.transferability.answer import answer, notes
from layerwise.reporting.transferability.contrasts import figure3, figure3_rows
from layerwise.reporting.transferability.figures import figure2, figure2_rows
from layerwise.reporting.transferability.findings import Curves, kinds, span
from layerwise.reporting.transferability.losses import (
    decomposition,
    decomposition_rows,
    overfitting,
    overfitting_rows,
)
from layerwise.reporting.transferability.results import saved_sentences
from layerwise.reporting.transferability.terms import kind_name
from layerwise.reporting.transferability.words import (
    decomposition_words,
    figure2_words,
    figure3_words,
    overfitting_words,
    table1_words,
)


def transferability_page(results: Mapping[str, Any]) -> StudyPage:
    """Everything that the page says and draws; what was not measured is left out.

    Args:
        results: As `transferability_results.results_of_study` makes them; only "curves" must be
            there.
    """
    curves: Curves = results["curves"]
    name = (results.get("data") or {}).get("name")
    found = results.get("saved")
    measured = bool(curves.get("means"))
    return StudyPage(
        title=f"Which layers transfer: {name}" if name else "Which layers transfer",
        answer=answer(curves),
        figures=_figures(curves) if measured else (),
        tables=_tables(curves) if measured else (),
        notes=[*_about(results), *map(str, results.get("notes") or ()), *notes(curves)],
        saved=saved_sentences(found) if found else (),
        reproduce=[str(results["command"])] if results.get("command") else (),
        metric=str(curves.get("metric") or ""),
    )


def _figures(curves: Curves) -> list[Figure]:
    measured = kinds(curves)
    out = [
        Figure(
            "figure2",
            "Figure 2: accuracy by layer",
            figure2(curves),
            figure2_rows(curves),
            figure2_words(curves),
        )
    ]
    if rows := figure3_rows(curves):
        title = "Figure 3: other tasks and random filters"
        out.append(Figure("figure3", title, figure3(curves), rows, figure3_words(curves)))
    if any(kind.total for kind in measured):
        out.append(
            Figure(
                "decomposition",
                "What the loss of AnB is made of",
                decomposition(curves),
                decomposition_rows(curves),
                decomposition_words(curves),
            )
        )
    fits = curves.get("overfitting") or {}
    if fits.get("rows") or fits.get("bases"):
        out.append(
            Figure(
                "overfitting",
                "How much the networks overfit",
                overfitting(curves),
                overfitting_rows(curves),
                overfitting_words(curves),
            )
        )
    return out


def _tables(curves: Curves) -> list[Table]:
    out = []
    boosts = [row for row in curves.get("table1") or () if row.get("over_base")]
    if boosts:
        columns = {
            "tasks": "Tasks",
            "layers": "Layers",
            "over_base": "AnB+ over the base",
            "over_selffer": "over BnB+",
            "over_longer": "over the base trained twice as long",
        }
        there = {key: head for key, head in columns.items() if any(row.get(key) for row in boosts)}
        there = {"tasks": "Tasks", **there}
        rows = [
            {**row, "tasks": kind_name(curves, row["kind"]), "layers": f"{row['layers']}"}
            for row in boosts
        ]
        title = "Table 1: boost of AnB+ over its controls"
        out.append(Table("table1", title, there, rows, table1_words(curves)))
    columns = {
        "tasks": "Tasks",
        "treatment": "Treatment",
        "layer": "Layer",
        "cut": "Copied up to",
        "accuracy": str(curves.get("metric") or "accuracy").capitalize(),
        "difference_to_base": "Difference to the base",
    }
    rows = [
        {
            **row,
            "tasks": kind_name(curves, row["kind"]),
            "accuracy": span(row["accuracy"]),
            "difference_to_base": None
            if row["treatment"] == "base"
            else span(row["difference_to_base"]),
        }
        for row in curves["means"]
    ]
    return [*out, Table("means", "All means", columns, rows)]


def _about(results: Mapping[str, Any]) -> list[str]:
    """What limits the study: how it was asked for, and what failed."""
    asked, out = results.get("study") or {}, []
    if asked.get("quick"):
        out.append(
            "A quick study: few layers, few epochs or a part of the images. It shows what the full "
            "one would look at, and its networks may not be trained to their end."
        )
    if asked.get("repeats") == 1:
        out.append(
            "Each network was trained once: the intervals hold what other images would change, not "
            "what other random weights would. --repeats 3 brings both."
        )
    failed = [run for run in results.get("runs") or () if run.get("state") == "failed"]
    if failed:
        first = failed[0]
        out.append(
            f"{len(failed)} of {len(results['runs'])} runs failed and stand in no figure; the "
            f"first is {first.get('name')}: {first.get('reason') or 'no reason is known'}."
        )
    return out

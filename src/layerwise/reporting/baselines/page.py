"""The page of a study of baselines: answer, sheet, scores, what augmentation changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from layerwise.data.balance import describe
from layerwise.reporting.baselines.figures import changes, scores
from layerwise.reporting.baselines.results import (
    difference_entry,
    failures,
    saved,
    saved_sentences,
)
from layerwise.reporting.baselines.shapes import Shapes, sheet_rows
from layerwise.reporting.baselines.sheet import sheet
from layerwise.reporting.baselines.words import answer, form_words
from layerwise.reporting.study_page import Figure, StudyPage, Table
from layerwise.reporting.text import NAMES
from layerwise.studies.baselines.lineup import BASE, Form
from layerwise.studies.baselines.plan import BaselinesPlan
from layerwise.studies.baselines.runs import BaselinesStudy, Made
from layerwise.studies.baselines.scores import METRICS, Cell, Difference, Scores

HEADINGS = NAMES | {"recall": "Recall"}


@dataclass(frozen=True)
class Finished:
    """A study of baselines that is over.

    Attributes:
        study: What was to be compared.
        plan: What the time has left of it.
        every: What became of each model in each form.
        scores: Theirs.
        drawn: Matrices and curves of every cell.
        quick: Whether it is the small form of a larger study.
    """

    study: BaselinesStudy
    plan: BaselinesPlan
    every: Sequence[Made]
    scores: Scores
    drawn: Sequence[tuple[Cell, Shapes]]
    quick: bool = False


def baselines_page(done: Finished, command: str) -> StudyPage:
    """The page in words and figures.

    Args:
        done: The study.
        command: That makes it again.
    """
    figures = [_sheet(done), _scores(done)]
    if done.scores.changes:
        figures.append(_changes(done))
    tables = [_table(done.scores)]
    for name, title, family in (
        ("changes-table", "What augmentation and balancing change", done.scores.changes),
        ("behind", f"Against the best, {done.scores.best.name}", done.scores.behind),
    ):
        if family:
            tables.append(_differences(name, title, family))
    return StudyPage(
        title=f"Baselines on {done.study.work.manifest.name}",
        answer=answer(done.scores),
        figures=figures,
        tables=tables,
        notes=_notes(done),
        saved=saved_sentences(saved(done.every)),
        reproduce=[command],
        metric="auroc",
    )


def _sheet(done: Finished) -> Figure:
    rows: dict[str, dict[str, tuple[Cell, Shapes]]] = {}
    for cell, shapes in done.drawn:
        rows.setdefault(cell.made.entrant.name, {})[cell.made.form.name] = (cell, shapes)
    task = done.study.work.manifest.task
    several = task != "binary"
    said = [
        "Rows of a matrix are the truth and columns the decision, with counts of the test part and "
        "their share of the row."
        if task != "multilabel"
        else "Rows of a matrix are labels: of the images that have it those found and missed, of "
        "the others the false alarms and those left alone.",
        "Discs on the curves are the decisions, at thresholds chosen on validation; numbers are "
        "the areas, AUROC and AUPRC."
        if not several
        else "Curves are means over the labels, each against the rest; numbers are the areas, "
        "AUROC and AUPRC.",
    ]
    if done.plan.repeats > 1:
        said.append("Of networks, counts and curves are means over the repeats.")
    words = f"Decisions, ROC and precision–recall curves of {', '.join(rows)}."
    svg = sheet(list(rows.items()), words, wide=task == "multilabel")
    return Figure("sheet", "Every model on one sheet", svg, sheet_rows(done.drawn), said)


def _scores(done: Finished) -> Figure:
    cells = done.scores.cells
    said = [
        "Lines are 95% intervals, by resampling patients"
        + (" and repeats." if done.plan.repeats > 1 else ".")
        + " They are those of each model alone: whether two differ is in the tables, since "
        "differences are paired."
    ]
    rows = [_row(cell) for cell in cells]
    return Figure("scores", "Scores on the test part", scores(cells), rows, said)


def _changes(done: Finished) -> Figure:
    family = done.scores.changes
    said = [
        "To the right of 0 the augmented form is better. Lines are 95% intervals of the paired "
        f"difference; a filled disc is beyond noise after Holm's correction for all {len(family)} "
        "tests of this figure."
    ]
    rows = [_flat(one) for one in family]
    title = "What augmentation and balancing change"
    return Figure("changes", title, changes(family), rows, said)


def _table(found: Scores) -> Table:
    rows = []
    for cell in found.cells:
        row = _row(cell)
        if cell is found.best:
            row["mark"] = "best on validation"
        rows.append(row)
    columns = {"model": "Model", "form": "Form", "validation": "AUROC, validation"}
    columns |= {metric: HEADINGS[metric] for metric in METRICS}
    columns |= {"seconds": "Seconds a run", "parameters": "Parameters"}
    said = [
        "Accuracy, precision, recall and F1 are those of decisions at a threshold that maximises "
        "balanced accuracy on validation, one for each run."
    ]
    return Table("table", "All scores", columns, rows, said)


def _row(cell: Cell) -> dict[str, Any]:
    outcomes = cell.made.outcomes
    return {
        "model": cell.made.entrant.name,
        "form": cell.made.form.name,
        "validation": cell.validation,
        **cell.test,
        "seconds": sum(one.seconds for one in outcomes) / len(outcomes),
        "parameters": outcomes[0].parameters or None,
    }


def _differences(name: str, title: str, family: Sequence[Difference]) -> Table:
    """A row a pair, a column a metric; beyond noise where p is below 0.05."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for one in family:
        row = rows.setdefault((one.cell, one.other), {"cell": one.cell})
        row[one.metric] = {side: one.interval[side] for side in ("value", "low", "high")}
        row[f"{one.metric}_p"] = one.interval["p_holm"]
    columns = {"cell": "Model"}
    for metric in METRICS:
        columns |= {metric: HEADINGS[metric], f"{metric}_p": "p (Holm)"}
    said = [
        f"Paired differences on the test part; p-values are corrected for all {len(family)} tests "
        "of this table by Holm's method."
    ]
    return Table(name, title, columns, list(rows.values()), said)


def _flat(one: Difference) -> dict[str, Any]:
    entry = difference_entry(one)
    interval = dict(entry.pop("difference"))
    tests = {"p": interval.pop("p"), "p_holm": interval.pop("p_holm")}
    beyond = entry.pop("beyond_noise")
    return {**entry, "difference": interval, **tests, "beyond_noise": beyond}


def _notes(done: Finished) -> list[str]:
    """How it was measured, and where that limits what it says."""
    study, plan = done.study, done.plan
    work = study.work

    def described(form: Form) -> str:
        targets = work.manifest.targets[work.rows("train")]
        return describe(form.balance, targets, work.manifest.labels, form.augment)

    out = []
    if done.quick:
        out.append(
            "This is the quick form: little time, and one repeat, so that its intervals know "
            "nothing of what another seed would give."
        )
    out += [f"{one.name} is left out: {one.reason}." for one in plan.left_out]
    out += failures(done.every)
    out += form_words(study.forms, described)
    side = work.image_size[0]
    if plan.networks:
        steps = [
            f"{name} {recipe['lr']:g}"
            for name, recipe in ((_name(study, key), plan.recipes[key]) for key in plan.networks)
        ]
        out.append(
            f"Every network learns for {plan.epochs} epochs of pictures of {side}×{side}; kept is "
            f"the epoch that is best on validation. Rates: {', '.join(steps)}."
        )
        if plan.repeats == 1:
            out.append(
                "Every network was trained once: the intervals are those of these test images, and "
                "another seed would give other numbers; --repeats 3 shows how much."
            )
    for made in done.every:
        outcome = made.outcomes[0] if made.outcomes else None
        if outcome is None or made.form.name != BASE or made.entrant.kind != "classic":
            continue
        if outcome.details["images"] < outcome.details["of"]:
            out.append(
                f"{made.entrant.name[0].upper()}{made.entrant.name[1:]} learns from "
                f"{outcome.details['images']:,} of the {outcome.details['of']:,} training images."
            )
    out.append(
        "The best model is the one with the highest validation AUROC; the test part chose nothing."
    )
    return [*out, *study.notes]


def _name(study: BaselinesStudy, key: str) -> str:
    return next(entrant.name for entrant in study.entrants if entrant.key == key)

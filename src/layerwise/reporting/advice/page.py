"""The page of an advice: the answer, the matrix, the reasons, the profile, the test."""

from collections.abc import Mapping
from typing import Any

from layerwise.reporting.advice.figures import matrix, profile
from layerwise.reporting.advice.results import interval, profile_rows
from layerwise.reporting.advice.words import CAVEAT, DOING, STRATEGY, answer, reasons, ways_rows
from layerwise.reporting.study_page import Figure, StudyPage, Table
from layerwise.studies.advice.study import Advice


def advice_page(advice: Advice, command: str) -> StudyPage:
    """The page in words and figures.

    Args:
        advice: What was found.
        command: That makes it again.
    """
    why = reasons(advice)
    rows = profile_rows(advice)
    said = answer(advice)
    figures = [
        Figure(
            "matrix",
            "Size and similarity",
            matrix(advice.size, advice.like, advice.quadrant, f"The matrix. {said[0]}"),
            _matrix_rows(advice),
            why,
        ),
        Figure(
            "profile",
            "What linear models make of the features, cut by cut",
            profile(rows, f"Probes and LogME at every cut. {why[1]}"),
            rows,
            [
                "Lines are 95% intervals, by resampling validation images by patient. LogME is of "
                "the training images; it tells which features suit these labels best, and can not "
                "be compared with that of other data.",
                CAVEAT,
            ],
        ),
    ]
    tables = [_strategies(advice)]
    if advice.tested.compared:
        tables.append(_neighbours(advice))
    return StudyPage(
        title=f"How to train on {advice.prepared.work.manifest.name}",
        answer=said,
        figures=figures,
        tables=tables,
        notes=advice.prepared.notes,
        reproduce=[command],
        metric="auroc",
    )


def _matrix_rows(advice: Advice) -> list[Mapping[str, Any]]:
    """What the matrix is drawn from: both measures, in borders, and the size."""
    return [
        {
            "measure": name,
            "borders": part,
            "decides": name == advice.like.decided_by,
            "images": advice.size.images,
            "label": advice.size.label,
            "quadrant": advice.quadrant,
        }
        for name, part in advice.like.parts.items()
    ]


def _strategies(advice: Advice) -> Table:
    columns = {
        "strategy": "Strategy",
        "frozen": "Frozen up to",
        "rate": "Rate of new layers",
        "copied": "Rate of the uppermost copied block",
    }
    return Table(
        "strategies",
        "The three strategies for these data",
        columns,
        ways_rows(advice.ways, advice.advised),
        [
            "Every block further down learns at nine tenths of the rate of the one above. "
            "advised.json, beside this page, has the advised one as a plan for all images: "
            "layerwise fit DATA --plan advised.json --out …"
        ],
    )


def _neighbours(advice: Advice) -> Table:
    scores = advice.tested.scores
    rows: list[dict[str, Any]] = []
    for one in advice.tested.compared:
        rows.append(
            {
                "neighbour": DOING[one.strategy],
                "auroc": interval(scores[one.strategy]),
                "difference": one.difference,
                "p": one.adjusted,
                "verdict": one.verdict,
            }
        )
    own = interval(scores[advice.advised.strategy])
    rows.insert(0, {"neighbour": DOING[advice.advised.strategy], "auroc": own, "mark": "advised"})
    columns = {
        "neighbour": "Strategy",
        "auroc": "Validation AUROC",
        "difference": "Advised less this",
        "p": "p (Holm)",
        "verdict": "The advised one is",
    }
    title = f"The quick test: {STRATEGY[advice.advised.strategy]}, against its neighbours"
    return Table("test", title, columns, rows)

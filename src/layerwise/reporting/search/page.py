"""The page of a search: `results.json` in, figures, tables and sentences out."""

from collections.abc import Mapping
from typing import Any

from layerwise.reporting.search import figures as figures
from layerwise.reporting.search import words as words
from layerwise.reporting.search.results import BEST, PLAN
from layerwise.reporting.study_page import Figure, StudyPage, Table
from layerwise.reporting.text import NAMES
from layerwise.studies.search.space import Dimension, Space
from layerwise.studies.search.trials import RANDOM

Row = Mapping[str, Any]


def search_page(results: Row, space: Space, out: str = "OUT") -> StudyPage:
    """The page of a search.

    Args:
        results: As `results_of_search` gives it.
        space: What was searched.
        out: Its folder, as commands name it.
    """
    study, best = results["study"], results["best"]
    drawn: list[Figure | None] = [_history(results)]
    if space.searched:
        drawn = [_importance(results), _parallel(results, space.searched), *drawn]
    return StudyPage(
        title=f"Which settings of {_network(study['model'])} are best on {results['data']['name']}",
        answer=words.answer(results),
        figures=[figure for figure in drawn if figure is not None],
        tables=(_trials(results), _space(results)),
        notes=[*words.noted(results), *results["notes"]],
        saved=words.saved_sentences(results),
        reproduce=(
            results["command"],
            f"layerwise study search --recipe {out}/{BEST} --out AGAIN",
            f"layerwise fit DATA --plan {out}/{PLAN} --out REPORT",
            f"layerwise export {out}/{best['run']} --out BUNDLE",
        ),
        metric=study["metric"],
    )


def _importance(results: Row) -> Figure | None:
    """What mattered; None where nothing can be said."""
    rows, said = results["curves"]["importance"], words.of_importance(results)
    if not rows:
        return None
    svg = figures.importance(rows, " ".join(said))
    return Figure("importance", "What mattered", svg, rows, said)


def _parallel(results: Row, searched: tuple[Dimension, ...]) -> Figure:
    rows, metric = results["curves"]["trials"], results["study"]["metric"]
    said = words.of_parallel(results)
    best = results["best"]["number"]
    svg = figures.parallel(searched, rows, metric, best, " ".join(said))
    return Figure("parallel", "Which values go together", svg, [_flat(r) for r in rows], said)


def _history(results: Row) -> Figure:
    rows, metric = results["curves"]["trials"], results["study"]["metric"]
    said = words.of_history(results)
    best = results["best"]["number"]
    svg = figures.history(rows, metric, best, RANDOM, " ".join(said))
    data = [
        {
            "trial": row["number"],
            "state": row["state"],
            "score": row["score"],
            "best_so_far": row["best_so_far"],
            "curve": row["curve"],
        }
        for row in rows
    ]
    return Figure("history", "How the search went", svg, data, said)


def _flat(row: Row) -> dict[str, Any]:
    """A trial with each field in a column of its own."""
    score = None if row["score"] is None else row["score"]["value"]
    return {"trial": row["number"], "state": row["state"], **row["values"], "score": score}


def _trials(results: Row) -> Table:
    metric, best = results["study"]["metric"], results["best"]["number"]
    order = sorted(
        results["curves"]["trials"],
        key=lambda row: (
            -(row["score"]["value"] if row["score"] else -1),
            -max(row["curve"], default=-1),
            row["number"],
        ),
    )
    rows = [
        {
            "trial": row["number"],
            "state": row["state"],
            "score": row["score"],
            "behind": row["behind_best"],
            **{name: words.value_word(value) for name, value in row["values"].items()},
            "parameters": row["parameters"],
            "epochs": len(row["curve"]),
            "mark": "best" if row["number"] == best else "",
        }
        for row in order
    ]
    names = results["best"]["values"]
    columns = {
        "trial": "Trial",
        "state": "State",
        "score": NAMES[metric],
        "behind": "Behind the best",
        **{name: name for name in names},
        "parameters": "Parameters",
        "epochs": "Epochs",
    }
    said = [
        "Intervals are 95%, by resampling the validation part (patients, where they are known); "
        "how far a trial is behind the best is paired: the same resampled images for both."
    ]
    return Table("trials", "All trials, the best first", columns, rows, said)


def _network(name: str) -> str:
    """A network as it stands in a title."""
    return "the custom network" if name == "custom" else name


def _space(results: Row) -> Table:
    rows = [
        {
            "field": d["name"],
            "part": d["part"],
            "values": ", ".join(map(words.value_word, d["choices"]))
            or f"{words.value_word(d['low'])} to {words.value_word(d['high'])}",
            "scale": "choices" if d["choices"] else "logarithmic" if d["log"] else "linear",
            "best": words.value_word(results["best"]["values"][d["name"]]),
        }
        for d in results["study"]["space"]
    ]
    columns = {
        "field": "Field",
        "part": "Of",
        "values": "Values",
        "scale": "Scale",
        "best": "Best trial",
    }
    return Table("space", "What was searched", columns, rows)

"""The page of an ensemble study, and its `results.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

from layerwise import __version__
from layerwise.reporting.combined.figures import gains, worth
from layerwise.reporting.combined.words import answer
from layerwise.reporting.plain import finite
from layerwise.reporting.study_page import Figure, StudyPage, Table
from layerwise.reporting.text import NAMES
from layerwise.studies.combined.comparison import METRICS, SCORE, Compared, Contribution, Tried
from layerwise.studies.finished import Finished

HEADINGS = NAMES | {"recall": "Recall"}


def results_of_ensemble(
    found: Compared,
    runs: Sequence[Finished],
    notes: Sequence[str],
    tested: Sequence[str],
    command: str,
    seconds: float,
) -> dict[str, Any]:
    """Everything that was measured; JSON-able, NaN as None.

    Args:
        found: The comparison.
        runs: The finished runs, in any order.
        notes: What was left out.
        tested: Ids of the runs that had to be tested for it.
        command: As the user typed it.
        seconds: Wall-clock time.
    """
    work = runs[0].work
    by = {run.id: run for run in runs}
    results = {
        "layerwise": __version__,
        "command": command,
        "seed": work.seed,
        "seconds": round(seconds, 1),
        "data": {
            "name": work.manifest.name,
            "fingerprint": work.data_key,
            "labels": list(work.manifest.labels),
            "counts": work.manifest.counts(),
        },
        "runs": [_run(by[member.id], found) for member in found.members],
        "curves": {
            "best": _tried(found.best),
            "ways": [_tried(way) for way in found.ways],
            "chosen": found.chosen.way,
            "helps": found.helps(),
            "contributions": [_contribution(one) for one in found.contributions],
            "draws": found.draws,
        },
        "tested_now": list(tested),
        "notes": list(notes),
    }
    return dict(finite(results))


def ensemble_page(
    found: Compared, names: Mapping[str, str], data: str, notes: Sequence[str], command: str
) -> StudyPage:
    """The page in words and figures.

    Args:
        found: The comparison.
        names: Of the runs, by id; no two alike.
        data: The name of the data.
        notes: What was left out.
        command: That makes it again.
    """
    figures = [_gains(found)]
    if found.contributions:
        figures.append(_worth(found, names))
    return StudyPage(
        title=f"Ensembles of {len(found.members)} runs on {data}",
        answer=answer(found, names),
        figures=figures,
        tables=[_ways(found), _members(found, names)],
        notes=[
            "Runs, weights and the way of putting together are chosen on validation; cross-fitted "
            "scores answer each fifth of the patients by what is chosen on the others, the best "
            "run alone included. That a run's own epochs were chosen on validation is not undone "
            "by it, for the ensemble as for the best run.",
            "The test part chose nothing. Who looks at many ensembles and keeps the best by it "
            "needs new images.",
            *notes,
        ],
        reproduce=[command],
        metric=SCORE,
    )


def run_names(runs: Sequence[Finished]) -> dict[str, str]:
    """What the runs are called, by id: model and transfer, with the id where that is not enough."""
    plain = {run.id: f"{_short(run)}, {run.outcome.run.name}" for run in runs}
    every = list(plain.values())
    return {i: n if every.count(n) == 1 else f"{n} ({i[:6]})" for i, n in plain.items()}


def _short(run: Finished) -> str:
    return run.work.model.rpartition(":")[2]


def _gains(found: Compared) -> Figure:
    said = [
        "To the right of 0 the ensemble is better than the best run alone. Lines are 95% intervals "
        "of the paired difference; p-values are corrected for all ways and metrics by Holm's "
        "method."
    ]
    rows = [
        {
            "way": way.way,
            "validation_cross_fitted": way.unseen_gain or None,
            "test": _without_tests(way.test_gain[SCORE]),
            "p": way.test_gain[SCORE]["p"],
            "p_holm": way.test_gain[SCORE]["p_holm"],
        }
        for way in found.ways
    ]
    return Figure("gains", "What combining brings", gains(found.ways), rows, said)


def _worth(found: Compared, names: Mapping[str, str]) -> Figure:
    said = [
        "To the right of 0 the ensemble is worse without the run; the weights of the others are "
        "chosen anew without it. The number beside a name is its share."
    ]
    rows = [
        {
            "run": names[one.id],
            "id": one.id,
            "weight": one.weight,
            "validation_cross_fitted": one.unseen or None,
            "test": _without_tests(one.test),
            "p": one.test["p"],
            "p_holm": one.test["p_holm"],
        }
        for one in found.contributions
    ]
    title = f"What each run is worth in the {found.chosen.way} ensemble"
    return Figure("contributions", title, worth(found.contributions, names), rows, said)


def _ways(found: Compared) -> Table:
    rows = []
    for way in (found.best, *found.ways):
        row: dict[str, Any] = {
            "way": "best run alone" if way.way == "best" else way.way,
            "runs": len(way.weights),
            "seen": way.seen,
            "unseen": way.unseen or None,
            **way.test,
        }
        if way is found.chosen:
            row["mark"] = "chosen on validation"
        rows.append(row)
    columns = {"way": "Way", "runs": "Runs", "seen": "AUROC, validation, chosen by it"}
    columns |= {"unseen": "AUROC, validation, cross-fitted"}
    columns |= {metric: HEADINGS[metric] for metric in METRICS}
    said = ["Scores without a remark are those of the test part, at thresholds of validation."]
    return Table("ways", "All ways", columns, rows, said)


def _members(found: Compared, names: Mapping[str, str]) -> Table:
    rows = []
    for member in found.members:
        validation, test = found.alone[member.id]
        row: dict[str, Any] = {
            "run": names[member.id],
            "validation": validation,
            "test": test,
            "parameters": member.parameters,
        }
        row |= {way.way: way.weights.get(member.id, 0.0) for way in found.ways}
        rows.append(row)
    columns = {"run": "Run", "validation": "AUROC, validation", "test": "AUROC, test"}
    columns |= {"parameters": "Parameters"}
    columns |= {way.way: f"Share, {way.way}" for way in found.ways}
    return Table("members", "The runs alone, and their shares", columns, rows)


def _run(run: Finished, found: Compared) -> dict[str, Any]:
    validation, test = found.alone[run.id]
    return {
        "id": run.id,
        "name": run.outcome.run.name,
        "kind": run.outcome.run.kind,
        "model": run.work.model,
        "treatment": "member" if run.id in found.chosen.weights else "",
        "task": "",
        "seed": run.work.seed,
        "transfer": run.transfer.to_dict(),
        "state": "done",
        "seconds": run.outcome.seconds,
        "parameters": run.outcome.parameters,
        "folder": str(run.folder),
        "validation": {SCORE: validation},
        "test": {SCORE: test},
    }


def _tried(way: Tried) -> dict[str, Any]:
    return {
        "way": way.way,
        "weights": dict(way.weights),
        "threshold": way.threshold,
        "validation": {"seen": way.seen, "cross_fitted": way.unseen or None},
        "test": dict(way.test),
        "gain": {"cross_fitted": way.unseen_gain or None, **way.test_gain},
    }


def _contribution(one: Contribution) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": one.id, "weight": one.weight}
    entry |= {"cross_fitted": one.unseen or None, "test": one.test}
    return {**entry, "beyond_noise": one.beyond_noise}


def _without_tests(interval: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in interval.items() if k not in ("p", "p_holm")}

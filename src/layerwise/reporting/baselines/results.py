"""`results.json` of a study of baselines: its runs, its scores and differences, its curves."""

from collections.abc import Sequence
from typing import Any

from layerwise import __version__
from layerwise.evaluation.intervals import bootstrap
from layerwise.evaluation.metrics import Threshold
from layerwise.evaluation.predictions import Predictions
from layerwise.reporting.baselines.shapes import Shapes, grid
from layerwise.reporting.plain import finite
from layerwise.studies.baselines.plan import BaselinesPlan
from layerwise.studies.baselines.runs import BaselinesStudy, Made
from layerwise.studies.baselines.scores import METRICS, Cell, Difference, Scores, threshold_of
from layerwise.studies.engine import Done
from layerwise.studies.workspace import Workspace

DRAWS = 200  # resamples of one run's own scores; the curves have more


def results_of_baselines(
    study: BaselinesStudy,
    plan: BaselinesPlan,
    every: Sequence[Made],
    scores: Scores,
    drawn: Sequence[tuple[Cell, Shapes]],
    command: str,
    seconds: float,
) -> dict[str, Any]:
    """Everything that was measured; JSON-able, NaN as None.

    Args:
        study: What was to be compared.
        plan: What the time has left of it.
        every: What became of each model in each form.
        scores: Theirs.
        drawn: Matrices and curves of every cell.
        command: As the user typed it.
        seconds: Wall-clock time of this sitting.
    """
    work = study.work
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
        "study": {
            "models": [vars(entrant) for entrant in study.entrants],
            "forms": [vars(form) for form in study.forms],
            "image_size": list(work.image_size),
            "epochs": plan.epochs,
            "repeats": plan.repeats,
            "recipes": plan.recipes,
            "left_out": [vars(one) for one in plan.left_out],
        },
        "runs": _runs(study, every),
        "curves": curves_of(scores, drawn),
        "saved": saved(every),
        "notes": list(study.notes),
    }
    return dict(finite(results))


def curves_of(scores: Scores, drawn: Sequence[tuple[Cell, Shapes]]) -> dict[str, Any]:
    """What the figures are drawn from, see docs/baselines.md."""
    shapes = {cell.name: each for cell, each in drawn}
    return {
        "cells": [cell_entry(cell, shapes[cell.name]) for cell in scores.cells],
        "best": scores.best.name,
        "changes": [difference_entry(one) for one in scores.changes],
        "behind": [difference_entry(one) for one in scores.behind],
        "grid": grid().tolist(),
        "draws": scores.draws,
    }


def cell_entry(cell: Cell, shapes: Shapes) -> dict[str, Any]:
    """A model in a form, as the files have it."""
    return {
        "name": cell.name,
        "model": cell.made.entrant.name,
        "form": cell.made.form.name,
        "runs": [outcome.run.id for outcome in cell.made.outcomes],
        "thresholds": [_list(one) for one in cell.thresholds],
        "validation": {"auroc": cell.validation},
        "test": dict(cell.test),
        "confusion": {
            "rows": list(shapes.rows),
            "columns": list(shapes.columns),
            "counts": shapes.counts.tolist(),
        },
        "roc": shapes.roc.tolist(),
        "precision_recall": shapes.precision.tolist(),
    }


def difference_entry(one: Difference) -> dict[str, Any]:
    """A difference as the files have it."""
    return {
        "cell": one.cell,
        "other": one.other,
        "metric": one.metric,
        "difference": one.interval,
        "beyond_noise": one.beyond_noise,
    }


def saved(every: Sequence[Made]) -> dict[str, Any]:
    """What other studies had done before."""
    taken = {d.run.id: d.outcome for made in every for d in made.done if d.taken and d.outcome}
    return {
        "taken": len(taken),
        "taken_seconds": round(sum(outcome.seconds for outcome in taken.values()), 1),
    }


def saved_sentences(found: dict[str, Any]) -> list[str]:
    """The same in words."""
    if not found["taken"]:
        return []
    return [
        f"{found['taken']} runs were taken over from other studies, which had made them in "
        f"{found['taken_seconds']:.0f} s."
    ]


def failures(every: Sequence[Made]) -> list[str]:
    """A sentence for every run that failed."""
    return [
        f"{done.planned.name} failed and is left out: {done.failure}"
        for made in every
        for done in made.done
        if done.outcome is None
    ]


def _runs(study: BaselinesStudy, every: Sequence[Made]) -> list[dict[str, Any]]:
    return [_entry(study, made, done) for made in every for done in made.done]


def _entry(study: BaselinesStudy, made: Made, done: Done) -> dict[str, Any]:
    classic = made.entrant.kind == "classic"
    work = study.work if classic else study.networks[made.entrant.key]
    outcome = done.outcome
    entry: dict[str, Any] = {
        "id": None if outcome is None else done.run.id,
        "name": done.planned.name,
        "kind": done.run.kind,
        "model": made.entrant.key if classic else work.model,
        "treatment": made.form.name,
        "task": made.entrant.name,
        "seed": done.planned.seed,
        "transfer": done.run.settings.get("transfer"),
        "state": "failed" if outcome is None else "done",
        "reason": done.failure,
        "seconds": 0.0 if outcome is None else outcome.seconds,
        "parameters": None if outcome is None else outcome.parameters,
        "epochs": None if outcome is None else outcome.details.get("epochs"),
        "validation": {},
        "test": {},
    }
    if outcome is not None:
        threshold = threshold_of(work.manifest, outcome, study.work.seed)
        entry["threshold"] = _list(threshold)
        entry["validation"] = _scored(work, outcome.validation, threshold, study.work.seed)
        entry["test"] = _scored(work, outcome.parts["test"], threshold, study.work.seed)
        if classic:
            entry["learnt_from"] = outcome.details
    return entry


def _scored(work: Workspace, said: Predictions, threshold: Threshold, seed: int) -> dict[str, Any]:
    """One run's own scores with their intervals."""
    found = bootstrap(
        work.manifest.task,
        said.targets,
        said.scores,
        threshold,
        said.groups,
        draws=DRAWS,
        seed=seed,
    )
    return {metric: found[metric] for metric in METRICS}


def _list(threshold: Threshold) -> Any:  # noqa: ANN401 - a number, a list of them, or None
    return list(threshold) if isinstance(threshold, (list, tuple)) else threshold

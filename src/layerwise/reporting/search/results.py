"""`results.json` of a search: its trials, what they reached, what mattered, and the one test."""

from collections.abc import Mapping
from typing import Any

from layerwise import __version__
from layerwise.config import to_mapping
from layerwise.evaluation.estimates import Estimate, estimate, within_noise
from layerwise.evaluation.intervals import bootstrap
from layerwise.evaluation.predictions import Predictions
from layerwise.reporting.plain import finite
from layerwise.studies.search.running import TREATMENT, Made, Searched
from layerwise.studies.search.trials import importances
from layerwise.studies.workspace import Workspace

DRAWS = 500  # resamples of every trial's own score
BEST = "best.toml"  # the best trial as a recipe of this command
PLAN = "best.json"  # the same as a plan of `layerwise fit`


def results_of_search(found: Searched, command: str, seconds: float) -> dict[str, Any]:
    """Everything that was measured; JSON-able, NaN as None.

    Beside keys that end in "seconds" it holds nothing of how, when or in how many sittings the
    trials were made.

    Args:
        found: What became of the search.
        command: As the user typed it.
        seconds: Wall-clock time of this sitting.
    """
    study, work, best = found.study, found.study.work, found.best
    metric, ended = study.asked.metric, found.plan.ended
    scores = {one.trial.number: _estimate(work, one, metric) for one in found.made if one.outcome}
    trials = _trials(found, scores)
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
            "model": work.model,
            "weights": work.weights_name,
            "image_size": list(work.image_size),
            "metric": metric,
            "pruner": study.asked.pruner,
            "epochs": found.plan.epochs,
            "trials": study.asked.trials,
            "space": study.space.to_list(),
            "combinations": study.space.size,
            "ended": None if ended is None else ended.why,
            "budget_seconds": study.request.seconds,
        },
        "runs": [_run(found, one) for one in found.made],
        "curves": {
            "trials": trials,
            "importance": [
                {"name": name, "share": {"value": value, "low": low, "high": high}}
                for name, (value, low, high) in importances(
                    study.space, [one.trial for one in found.made], work.seed
                ).items()
            ],
        },
        "best": {
            "number": best.trial.number,
            "id": best.run.id,
            "run": f"runs/{best.run.id}",
            "values": best.trial.values,
            "arguments": dict(best.settings.arguments),
            "transfer": best.settings.transfer.to_dict(),
            "recipe": to_mapping(best.settings.recipe),
            metric: _sides(scores[best.trial.number]),
            "parameters": None if best.outcome is None else best.outcome.parameters,
        },
        "test": _test(work, found.said),
        "saved": {
            "equal": len(found.made) - len({one.run.id for one in found.made}),
            "taken": sum(
                one.outcome is not None and work.runs.taken(one.run) for one in found.made
            ),
        },
        "notes": list(study.prepared.notes),
    }
    return dict(finite(results))


def _trials(found: Searched, scores: Mapping[int, Estimate]) -> list[dict[str, Any]]:
    """Every trial, with the best score by then and how far the best of all is ahead of it."""
    rows, highest = [], None
    best = scores[found.best.trial.number]
    for one in found.made:
        trial, own = one.trial, scores.get(one.trial.number)
        if trial.score is not None:
            highest = trial.score if highest is None else max(highest, trial.score)
        ahead = None if own is None or one is found.best else best - own
        rows.append(
            {
                "number": trial.number,
                "state": trial.state,
                "values": trial.values,
                "score": None if own is None else _sides(own),
                "curve": list(trial.curve),
                "best_so_far": highest,
                "behind_best": None if ahead is None else _sides(ahead),
                "within_noise": None if ahead is None else within_noise(ahead.interval()),
                "parameters": None if one.outcome is None else one.outcome.parameters,
                "id": one.run.id,
                "reason": trial.notes.get("reason", ""),
                "trial_seconds": trial.notes.get("seconds"),
            }
        )
    return rows


def _run(found: Searched, one: Made) -> dict[str, Any]:
    """A trial as studies list their runs."""
    work, outcome, trial = found.study.work, one.outcome, one.trial
    failed = trial.state == "failed"
    entry = {
        "id": None if failed else one.run.id,
        "name": f"trial {trial.number}",
        "kind": "trained",
        "model": work.model,
        "arguments": dict(one.settings.arguments),
        "treatment": TREATMENT,
        "task": "",
        "seed": work.seed,
        "transfer": one.settings.transfer.to_dict(),
        "state": trial.state,
        "reason": trial.notes.get("reason", ""),
        "seconds": trial.notes.get("seconds") if outcome is None else outcome.seconds,
        "parameters": None if outcome is None else outcome.parameters,
        "epochs": len(trial.curve) if outcome is None else outcome.details.get("epochs"),
        "validation": {},
        "test": {},
    }
    if outcome is not None:
        metrics = dict.fromkeys(("auroc", found.study.asked.metric))
        entry["validation"] = {name: _sides(_estimate(work, one, name)) for name in metrics}
    if one is found.best:
        test = _test(work, found.said)
        entry["test"] = {name: test[name] for name in entry["validation"]}
    return entry


def _estimate(work: Workspace, one: Made, metric: str) -> Estimate:
    """A trial's metric on validation; all of them on the same resamples."""
    assert one.outcome is not None
    said, task = one.outcome.validation, work.manifest.task
    return estimate(
        metric,
        task,
        said.targets,
        [said.scores],
        said.groups,
        threshold=None if task == "multiclass" else 0.5,
        draws=DRAWS,
        seed=work.seed,
    )


def _sides(one: Estimate) -> dict[str, float]:
    found = one.interval()
    return {side: found[side] for side in ("value", "low", "high")}


def _test(work: Workspace, said: Predictions) -> dict[str, Any]:
    """The one look at the test part."""
    task = work.manifest.task
    return bootstrap(
        task,
        said.targets,
        said.scores,
        None if task == "multiclass" else 0.5,
        said.groups,
        labels=work.manifest.labels,
        seed=work.seed,
    )

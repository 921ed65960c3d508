"""`results.json` of a transferability study: its runs, its curves, and what sharing saved."""

from collections.abc import Mapping
from typing import Any

from layerwise import __version__
from layerwise.evaluation.intervals import bootstrap
from layerwise.evaluation.predictions import Predictions
from layerwise.reporting.plain import finite
from layerwise.studies.engine import Done
from layerwise.studies.transferability.experiment import BASE, Place
from layerwise.studies.transferability.results import curves_of
from layerwise.studies.transferability.study import Study
from layerwise.studies.workspace import Workspace

DRAWS = 200  # resamples of one run's own scores; the curves have more


def results_of_study(
    study: Study, done: Mapping[Place, Done], command: str, seconds: float, draws: int = 1000
) -> dict[str, Any]:
    """Everything that was measured; JSON-able, NaN as None.

    Beside "seconds" it holds nothing of how, when or in how many sittings the runs were made.

    Args:
        study: What was to be measured.
        done: What became of each run.
        command: As the user typed it.
        seconds: Wall-clock time of this sitting.
        draws: Resamples of every number of the curves.
    """
    work = study.prepared.work
    tasks, scope, plan = study.tasks, study.scope, study.plan
    results = {
        "layerwise": __version__,
        "command": command,
        "seed": scope.seed,
        "seconds": round(seconds, 1),
        "data": {
            "name": work.manifest.name,
            "fingerprint": work.data_key,
            "labels": list(work.manifest.labels),
            "counts": work.manifest.counts(),
        },
        "study": {
            "model": work.model,
            "image_size": list(work.image_size),
            "treatments": list(scope.treatments),
            "repeats": scope.repeats,
            "both_directions": scope.both,
            "quick": bool(plan.request.get("quick")),
            "fraction": plan.fraction,
            "recipe": plan.training,
            "epochs": scope.recipe.epochs,
        },
        "runs": _runs(study, done),
        "curves": curves_of(tasks, scope, done, study.smaller, draws),
        "saved": saved(study, done),
        "notes": list(study.notes),
    }
    return dict(finite(results))


def _runs(study: Study, done: Mapping[Place, Done]) -> list[dict[str, Any]]:
    """Every run once, bases first."""
    rows, seen = [], set()
    for place, one in done.items():
        if one.outcome is not None:
            if one.run.id in seen:
                continue
            seen.add(one.run.id)
        rows.append(_entry(study.tasks.spaces[one.planned.task], place, one))
    return rows


def _entry(work: Workspace, place: Place, one: Done) -> dict[str, Any]:
    outcome = one.outcome
    entry: dict[str, Any] = {
        "id": None if outcome is None else one.run.id,
        "name": place.name,
        "kind": "trained",
        "model": work.model,
        "treatment": place.treatment,
        "task": place.target,
        "source": place.source,
        "cut": place.cut,
        "repeat": place.repeat,
        "fraction": place.fraction,
        "seed": one.planned.seed,
        "transfer": one.run.settings.get("transfer", one.planned.transfer.to_dict()),
        "state": "failed" if outcome is None else "done",
    }
    if outcome is None:
        return {
            **entry,
            "reason": one.failure,
            "seconds": 0.0,
            "parameters": None,
            "epochs": None,
            "validation": {},
            "test": {},
        }
    return {
        **entry,
        "seconds": outcome.seconds,
        "parameters": outcome.parameters,
        "epochs": outcome.details.get("epochs"),
        "validation": _scores(work, outcome.validation),
        "test": _scores(work, outcome.parts["test"]),
    }


def _scores(work: Workspace, said: Predictions) -> dict[str, Any]:
    """Every metric of one run with its interval, decided at ½."""
    task = work.manifest.task
    return bootstrap(
        task,
        said.targets,
        said.scores,
        None if task == "multiclass" else 0.5,
        said.groups,
        draws=DRAWS,
        seed=work.seed,
    )


def saved(study: Study, done: Mapping[Place, Done]) -> dict[str, Any]:
    """What did not have to be trained or computed, counted from the plan alone.

    Each direction by itself would train the bases of both its tasks, and the controls of its
    target. Of a run on frozen layers an epoch costs only what lies above the cut.
    """
    scope, tasks = study.scope, study.tasks
    directions = scope.directions(tasks)
    bases = sum(place.treatment == BASE for place in done)
    alone = scope.repeats * sum(1 + bool(source.labels) for source, _ in directions)
    frozen = sum(one.planned.transfer.freeze != "none" for one in done.values())
    taken = sum(one.taken for one in done.values())
    seconds = sum(one.outcome.seconds for one in done.values() if one.taken and one.outcome)
    return {
        "bases": bases,
        "bases_alone": alone,
        "frozen": frozen,
        "runs": len(done),
        "taken": taken,
        "taken_seconds": round(seconds, 1),
    }


def saved_sentences(found: Mapping[str, Any]) -> list[str]:
    """The same in words."""
    out = []
    if found["bases_alone"] > found["bases"]:
        out.append(
            f"{found['bases']} base networks served where every direction by itself would have "
            f"trained {found['bases_alone']}."
        )
    if found["frozen"]:
        out.append(
            f"{found['frozen']} of {found['runs']} runs learnt on activations of their frozen "
            "layers that were computed once, not in every epoch."
        )
    if found["taken"]:
        out.append(
            f"{found['taken']} runs were taken over from other studies, which had trained them in "
            f"{found['taken_seconds']:.0f} s."
        )
    return out

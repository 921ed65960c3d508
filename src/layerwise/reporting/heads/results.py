"""`results.json` of a heads study: its runs, its curves, and what sharing saved."""

import math
from typing import Any

from layerwise import __version__
from layerwise.config import to_mapping
from layerwise.evaluation.estimates import estimate
from layerwise.evaluation.predictions import Predictions
from layerwise.reporting.plain import finite
from layerwise.studies.engine import Done
from layerwise.studies.gain.fractions import percent
from layerwise.studies.heads.experiment import SVM, Compared, places
from layerwise.studies.heads.scores import METRIC, RANKING, Findings
from layerwise.studies.heads.study import HeadsStudy
from layerwise.studies.study import Outcome
from layerwise.studies.workspace import Workspace

DRAWS = 200  # resamples of one run's own scores; the curves have more


def results_of_heads(
    study: HeadsStudy, compared: Compared, found: Findings, command: str, seconds: float
) -> dict[str, Any]:
    """Everything that was measured; JSON-able, NaN as None.

    Beside keys that end in "seconds" it holds nothing of how, when or in how many sittings the
    runs were made.

    Args:
        study: What was to be compared.
        compared: What became of each run.
        found: Their scores.
        command: As the user typed it.
        seconds: Wall-clock time of this sitting.
    """
    work, design = study.work, study.design
    cut = design.cut
    values = math.prod(cut.shape)
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
            "arguments": dict(work.arguments),
            "weights": work.weights_name,
            "imagenet": study.imagenet,
            "image_size": list(work.image_size),
            "cut": cut.name,
            "shape": list(cut.shape),
            "base_parameters": cut.parameters,
            "svm_values": values if design.flattened else cut.channels,
            "fractions": list(design.fractions),
            "repeats": design.repeats,
            "folds": design.folds,
            "penalties": list(design.penalties),
            "recipe": to_mapping(design.recipe),
        },
        "runs": _runs(study, compared),
        "recommended": found.recommended,
        "best": found.best,
        "curves": {
            "heads": list(found.heads),
            "pairs": list(found.pairs),
            "epochs": list(found.epochs),
            "sizes": list(found.sizes),
            "grid": list(found.grid),
        },
        "saved": saved(compared),
        "notes": list(study.notes),
    }
    return dict(finite(results))


def saved(compared: Compared) -> dict[str, Any]:
    """What did not have to be computed again, counted from the plan and the runs' folders alone."""
    runs = list(compared.trained.values())
    taken = {done.run.id: done for done in runs if done.taken and done.outcome is not None}
    return {
        "sharing": len(runs) + len(compared.svms) + sum(map(len, compared.points)),
        "taken": len(taken),
        "taken_seconds": round(sum(d.outcome.seconds for d in taken.values() if d.outcome), 1),
    }


def saved_sentences(found: dict[str, Any]) -> list[str]:
    """The same in words."""
    out = [
        f"{found['sharing']} classifiers answered on activations that were computed once: the base "
        "is frozen, and all heads read the same."
    ]
    if found["taken"]:
        out.append(
            f"{found['taken']} runs were taken over from other studies, which had trained them in "
            f"{found['taken_seconds']:.0f} s."
        )
    return out


def _runs(study: HeadsStudy, compared: Compared) -> list[dict[str, Any]]:
    """The SVMs, then every trained run, smaller sets after larger ones."""
    rows = []
    for repeat, svm in enumerate(compared.svms):
        rows.append(_solved(study, svm, repeat))
    for place in places(study.design):
        head, fraction, repeat = place
        rows.append(_trained(study, compared.trained[place], head, fraction, repeat))
    return rows


def _solved(study: HeadsStudy, svm: Outcome, repeat: int) -> dict[str, Any]:
    name = SVM if study.design.repeats == 1 else f"{SVM}, repeat {repeat + 1}"
    return {
        "id": svm.run.id,
        "name": name,
        "kind": svm.run.kind,
        "model": study.work.model,
        "treatment": SVM,
        "task": percent(1.0) + " of the images",
        "seed": study.work.seed + repeat,
        "transfer": svm.run.settings["transfer"],
        "state": "done",
        "reason": "",
        "seconds": svm.seconds,
        "parameters": svm.parameters,
        "epochs": None,
        "fraction": 1.0,
        "repeat": repeat,
        "validation": _scored(study.work, svm.validation),
        "test": _scored(study.work, svm.parts["test"]),
    }


def _trained(
    study: HeadsStudy, done: Done, head: str, fraction: float, repeat: int
) -> dict[str, Any]:
    work, outcome = study.work, done.outcome
    name = f"{head}, {percent(fraction)} of the images"
    if study.design.repeats > 1:
        name += f", repeat {repeat + 1}"
    return {
        "id": None if outcome is None else done.run.id,
        "name": name,
        "kind": "trained",
        "model": work.model,
        "treatment": head,
        "task": f"{percent(fraction)} of the images",
        "seed": done.planned.seed,
        "transfer": done.run.settings["transfer"],
        "state": "failed" if outcome is None else "done",
        "reason": done.failure,
        "seconds": 0.0 if outcome is None else outcome.seconds,
        "parameters": None if outcome is None else outcome.parameters,
        "epochs": None if outcome is None else outcome.details.get("epochs"),
        "fraction": fraction,
        "repeat": repeat,
        "validation": {} if outcome is None else _scored(work, outcome.validation),
        "test": {} if outcome is None else _scored(work, outcome.parts["test"]),
    }


def _scored(work: Workspace, said: Predictions) -> dict[str, Any]:
    """One run's own scores with their intervals."""
    out: dict[str, Any] = {}
    for metric in (METRIC, RANKING):
        found = estimate(
            metric,
            work.manifest.task,
            said.targets,
            [said.scores],
            said.groups,
            draws=DRAWS,
            seed=work.seed,
        ).interval()
        out[metric] = {side: found[side] for side in ("value", "low", "high")}
    return out

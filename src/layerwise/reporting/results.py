"""`results.json` of a fit: what was found, as plain values, in the form that CLI.md fixes."""

from typing import Any

from layerwise import __version__
from layerwise.evaluation.intervals import bootstrap, paired_difference
from layerwise.reporting.plain import finite as finite  # where it was first
from layerwise.studies.automatic import Fitted
from layerwise.studies.profile import probe_transfer
from layerwise.studies.study import Outcome
from layerwise.studies.workspace import Workspace
from layerwise.training.transfer import Transfer


def results_of(fitted: Fitted, command: str, seconds: float) -> dict[str, Any]:
    """Everything that was tried and the test of what was chosen; JSON-able, NaN as None.

    Args:
        fitted: What `fit` found.
        command: As the user typed it.
        seconds: Wall-clock time of this sitting.
    """
    work = fitted.work
    runs = [floor_entry(work, outcome) for outcome in fitted.floors]
    for probe in fitted.probes:
        transfer = probe_transfer(probe.cut.name, work.weights_name)
        runs.append(run_entry(work, probe.outcome, transfer, fitted.chosen))
    for planned, outcome in fitted.trained:
        if outcome is None:
            runs.append(left_out_entry(work, planned.name, planned.transfer, planned.left_out))
        else:
            runs.append(run_entry(work, outcome, planned.transfer, fitted.chosen))
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
        "runs": runs,
        "chosen": fitted.chosen.run.id,
        "threshold": fitted.threshold,
        "test": fitted.test,
    }
    return dict(finite(results))


def run_entry(
    work: Workspace, outcome: Outcome, transfer: Transfer, chosen: Outcome | None = None
) -> dict[str, Any]:
    """A finished run as `results.json` has it.

    With `chosen`, also how much higher the chosen run's validation AUROC is, as a paired interval.
    """
    entry = {
        "id": outcome.run.id,
        "name": outcome.run.name,
        "kind": outcome.run.kind,
        "model": work.model,
        "transfer": transfer.to_dict(),
        "state": "done",
        "seconds": outcome.seconds,
        "parameters": outcome.parameters,
        "epochs": outcome.details.get("epochs"),
        "validation": on_validation(work, outcome),
    }
    if chosen is not None and chosen.run.id != outcome.run.id:
        one, other = chosen.validation, outcome.validation
        entry["difference_to_chosen"] = paired_difference(
            "auroc",
            work.manifest.task,
            one.targets,
            one.scores,
            other.scores,
            one.groups,
            draws=500,
            seed=work.seed,
        )
    return entry


def floor_entry(work: Workspace, outcome: Outcome) -> dict[str, Any]:
    """A baseline as `results.json` has it: no network, no transfer."""
    return {
        "id": outcome.run.id,
        "name": outcome.run.name,
        "kind": "floor",
        "model": outcome.run.name,
        "transfer": None,
        "state": "done",
        "seconds": outcome.seconds,
        "parameters": 0,
        "validation": on_validation(work, outcome),
    }


def left_out_entry(work: Workspace, name: str, transfer: Transfer, reason: str) -> dict[str, Any]:
    """A planned run that was not trained, and why."""
    return {
        "id": None,
        "name": name,
        "kind": "trained",
        "model": work.model,
        "transfer": transfer.to_dict(),
        "state": "left out",
        "reason": reason,
        "seconds": 0.0,
        "parameters": None,
        "validation": {},
    }


def on_validation(work: Workspace, outcome: Outcome) -> dict[str, Any]:
    """Validation metrics with intervals; decisions at ½, the threshold being chosen only later."""
    said = outcome.validation
    threshold = None if work.manifest.task == "multiclass" else 0.5
    return bootstrap(
        work.manifest.task,
        said.targets,
        said.scores,
        threshold,
        said.groups,
        draws=500,
        seed=work.seed,
    )

"""`layerwise runs`: what ran in a folder, how it ended, its scores, its cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output
from layerwise.cli.table import aligned

SHOWN = ("auroc", "auprc", "accuracy")  # on validation, decisions at ½
KINDS = {"floor": 0, "probe": 1, "trained": 2}


def runs(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="What --out named.", show_default=False)
    ],
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """What ran, how it ended, its scores on validation, its cost.

    A star marks the run that was chosen. A run that stopped goes on when the command that began
    it is repeated.
    """
    output = Output(json=json, quiet=quiet)
    found = read_runs(folder)
    output.text(_table(found))
    states = [run["state"] for run in found]
    seconds = sum(run["seconds"] or 0 for run in found)
    output.text(
        "\n"
        + ", ".join(f"{states.count(s)} {s}" for s in sorted(set(states)))
        + f"; {seconds:,.0f} s of work in all. Scores are of the validation part."
    )
    output.result({"folder": str(folder), "runs": found})


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """Every run below a folder, JSON-able: baselines, probes by size, then what was trained.

    Args:
        folder: As `--out` named it; or one `runs/` folder.

    Raises:
        LayerwiseError: There is no such folder, or no run in it.
    """
    from layerwise.config import read_json
    from layerwise.errors import LayerwiseError

    if not folder.is_dir():
        raise LayerwiseError(f"{folder}: no such folder; name the one that --out named")
    places = sorted({file.parent for file in folder.glob("*/run.json")})
    places += sorted({file.parent for file in folder.glob("**/runs/*/run.json")} - set(places))
    summary = folder / "results.json"
    results = read_json(summary) if summary.is_file() else {}
    found = [_run(place, folder, results.get("chosen")) for place in places]
    found += [_left_out(run) for run in results.get("runs", []) if run["state"] == "left out"]
    if not found:
        raise LayerwiseError(
            f"{folder}: no runs in it; name the folder that --out of layerwise fit or demo named"
        )
    # A folder may hold several studies; within one the cheap things come first.
    return sorted(
        found,
        key=lambda r: (r["study"], KINDS.get(r["kind"], 3), r["parameters"] or 0, r["name"]),
    )


def _run(place: Path, folder: Path, chosen: str | None) -> dict[str, Any]:
    """One run from its folder."""
    from layerwise.config import read_json

    settings = read_json(place / "run.json")
    result = place / "result.json"
    done = read_json(result) if result.is_file() else {}
    study = place.parent.parent.relative_to(folder) if place.parent != folder else Path()
    return {
        "id": place.name,
        "study": "" if study == Path() else study.as_posix(),
        "name": settings["name"],
        "kind": settings["kind"],
        "state": "done" if done else "stopped",
        "chosen": place.name == chosen,
        "seconds": done.get("seconds"),
        "parameters": done.get("parameters"),
        "epochs": done.get("details", {}).get("epochs") if done else _epochs(place),
        "validation": _scores(place) if done else {},
    }


def _left_out(run: dict[str, Any]) -> dict[str, Any]:
    """A planned run that was not trained; it has no folder."""
    return {
        "id": None,
        "study": "",
        "name": run["name"],
        "kind": run["kind"],
        "state": "left out",
        "reason": run["reason"],
        "chosen": False,
        "seconds": 0.0,
        "parameters": None,
        "epochs": None,
        "validation": {},
    }


def _epochs(place: Path) -> int | None:
    """How many epochs of an unfinished run are behind it, by its log."""
    import json

    log = place / "log.jsonl"
    if not log.is_file():
        return None
    lines = log.read_text(encoding="utf-8").splitlines()
    seen = 0
    for line in lines:
        try:
            seen = json.loads(line)["epoch"] + 1
        except json.JSONDecodeError:  # cut off by a kill
            break
    return seen


def _scores(place: Path) -> dict[str, float | None]:
    """Metrics of what a run says of the validation part; None where undefined."""
    import math

    from layerwise.evaluation.metrics import Task, measure
    from layerwise.evaluation.predictions import Predictions

    said = Predictions.load(place / "validation.npz")
    task: Task = "multiclass"
    if said.targets.ndim == 2:
        task = "multilabel"
    elif said.scores.shape[1] == 1:
        task = "binary"
    values = measure(task, said.targets, said.scores, None)
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _table(found: list[dict[str, Any]]) -> str:
    """One line a run; of several studies, their names between."""
    rows: list[list[Any]] = [["run", "", "state", "epochs", *SHOWN, "seconds", "parameters", "id"]]
    for run in found:
        values = [run["validation"].get(name) for name in SHOWN]
        rows.append(
            [
                f"{run['study']}: {run['name']}" if run["study"] else run["name"],
                "*" if run["chosen"] else "",
                run["state"],
                "" if run["epochs"] is None else run["epochs"],
                *("" if value is None else f"{value:.3f}" for value in values),
                "" if run["seconds"] is None else f"{run['seconds']:,.1f}",
                f"{run['parameters']:,}" if run["parameters"] else "",
                run["id"] or "",
            ]
        )
    return aligned(rows)

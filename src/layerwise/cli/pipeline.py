"""`layerwise pipeline`: from data to a running server, step by step, as a TOML file says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output
from layerwise.errors import LayerwiseError

if TYPE_CHECKING:
    from layerwise.serving.pipeline.steps import Pipeline, Planned


def pipeline(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="A TOML file.", show_default=False)
    ],
    out: Annotated[
        flags.Place, typer.Option(help="The folder of the pipeline. Default: `out` of the recipe.")
    ] = None,
    from_step: Annotated[
        flags.Text,
        typer.Option("--from", metavar="STEP", help="Do this step and those after it anew."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and why, and do nothing.")
    ] = False,
    write_workflow: Annotated[
        flags.Place,
        typer.Option(
            metavar="FILE", help="Write a GitHub workflow that runs this recipe, and do nothing."
        ),
    ] = None,
    cache: flags.Cache = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Audit, split, fit, verify, evaluate, promote, deploy; no step twice with the same inputs.

    Killed at any moment, the same command goes on where it was. Ends with 3 where the audit
    refuses the data; a bundle that is not promoted is an answer and no error, unless [promote]
    says require = true, which ends with 4.
    """
    started = time.monotonic()
    output = Output(json=json, quiet=quiet)
    from layerwise.cli.pipeline_steps import Steps
    from layerwise.cli.study_flags import read_toml
    from layerwise.data.storage.rows import check_writable
    from layerwise.serving.pipeline.recipe import recipe_of
    from layerwise.serving.pipeline.steps import Pipeline, Refusal

    said = recipe_of(read_toml(recipe), str(recipe))
    place = out or (Path(said.out) if said.out else None)
    steps = Steps(said, str(recipe), place or Path(), flags.cache_folder(cache), output)
    if place is None:
        raise LayerwiseError(f'{recipe}: say where the work is done: --out DIR, or out = "DIR"')
    work = Pipeline(steps.all(), place)
    if write_workflow is not None:
        _write_workflow(write_workflow, recipe, place, output)
        return
    if dry_run:
        planned = work.plan(from_step)
        output.text(_planned(planned))
        output.result(_summary(recipe, place, planned, {}, started, dry_run=True))
        return
    check_writable(place)
    try:
        work.run(output.say, from_step, said.keep)
    except Refusal as refusal:  # a decision is no error, unless the recipe wants it to be one
        if refusal.exit_code:
            raise
        output.warn(str(refusal))
    finally:  # what was done is said, whatever ended it
        if work.done:
            _say(work, recipe, place, started, output, (said.promote or {}).get("registry"))


def _say(
    work: Pipeline,
    recipe: Path,
    place: Path,
    started: float,
    output: Output,
    registry: str | None,
) -> None:
    """The table of what was done, and the summary."""
    from layerwise.cli.pipeline_words import found
    from layerwise.cli.table import aligned

    state = work.state()
    rows = [["step", "state", "seconds", "found"]]
    for done in work.done:
        record = state[done.name]
        seconds = f"{record['seconds']:.1f}" if done.run and record["seconds"] is not None else ""
        shown = record["state"] if done.run else f"{record['state']} before"
        rows.append([done.name, shown, seconds, found(done.name, record["results"])])
    output.text(aligned(rows))
    if not any(done.run for done in work.done):
        output.text("nothing to do: no step's inputs have changed")
        _warn_if_replaced(registry, state.get("promote", {}).get("results", {}), output)
    output.result(_summary(recipe, place, work.done, state, started, dry_run=False))


def _warn_if_replaced(registry: str | None, made: dict[str, Any], output: Output) -> None:
    """A champion that is not the one which was made here is said, and stays."""
    if registry is None or not made.get("promoted"):
        return
    from layerwise.serving.registry.registry import open_registry

    champion = open_registry(registry).champion()
    if champion != made["champion"]:
        output.warn(
            f"the champion of {registry} is {champion} by now: it was replaced or rolled back, and "
            "stays; --from promote compares again"
        )


def _summary(
    recipe: Path,
    place: Path,
    planned: list[Planned],
    state: dict[str, Any],
    started: float,
    *,
    dry_run: bool,
) -> dict[str, Any]:
    """What --json gives."""
    from layerwise import __version__

    steps = []
    for step in planned:
        record = state.get(step.name, {})
        known = {
            name: record.get(name) for name in ("state", "key", "folder", "results", "message")
        }
        seconds = record.get("seconds") if step.run else 0.0
        entry = {"name": step.name, "run": step.run, "why": step.why}
        steps.append(entry if dry_run else {**entry, **known, "seconds": seconds})
    return {
        "layerwise": __version__,
        "command": "pipeline",
        "recipe": str(recipe),
        "out": str(place),
        "dry_run": dry_run,
        "nothing_to_do": all(step.run is False for step in planned),
        "steps": steps,
        "bundle": state.get("fit", {}).get("results", {}).get("id"),
        "seconds": round(time.monotonic() - started, 2),
    }


def _planned(planned: list[Planned]) -> str:
    """What would be done, for a person."""
    from layerwise.cli.table import aligned

    words = {True: "would run", False: "done", None: "not known yet"}
    return aligned([["step", "", "why"], *[[p.name, words[p.run], p.why] for p in planned]])


def _write_workflow(path: Path, recipe: Path, place: Path, output: Output) -> None:
    """A workflow for this recipe; a file that is there stays."""
    from layerwise.serving.pipeline.workflow import workflow_for

    if path.exists():
        raise LayerwiseError(f"--write-workflow {path}: is there already; remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(workflow_for(recipe, place), encoding="utf-8")
    output.text(f"workflow: {path}")
    output.result({"command": "pipeline", "recipe": str(recipe), "workflow": str(path)})

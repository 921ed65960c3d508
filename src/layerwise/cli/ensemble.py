"""`layerwise study ensemble`: whether combining the runs already trained helps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerwise.cli import flags
from layerwise.cli.export import WAYS, bundle_of
from layerwise.cli.output import Output
from layerwise.errors import LayerwiseError

if TYPE_CHECKING:
    from layerwise.studies.combined.comparison import Member
    from layerwise.studies.finished import Finished


def ensemble(
    run: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of finished runs, OUT/runs/ID; or of a fit or a study, OUT, for all of "
            "its runs that have a network.",
            show_default=False,
        ),
    ],
    out: flags.Out,
    combine: Annotated[
        str | None,
        typer.Option(metavar="WAY", help="Only this way: mean, weighted or greedy. Default: all."),
    ] = None,
    export: Annotated[
        bool, typer.Option("--export", help="Write the chosen ensemble as OUT/bundle.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(help="Where the data are now, if the fit found them elsewhere."),
    ] = None,
    cache: flags.Cache = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Whether combining finished runs helps, and by how much; nothing is trained.

    Puts the runs together in three ways, chosen and cross-fitted on validation, and compares them
    with the best run alone on the test part. Writes results.json, report.html and figures as SVG
    and CSV under --out.
    """
    started = time.monotonic()
    if combine is not None and combine not in WAYS:
        raise LayerwiseError(f"--combine {combine!r} is unknown; it is one of {', '.join(WAYS)}")
    if (out / "plan.json").exists():
        raise LayerwiseError(
            f"--out {out} holds a fit or another study; name another folder for this one"
        )
    output = Output(json=json, quiet=quiet)
    command = " ".join(flags.command_line())
    output.say("layerwise study ensemble: loading PyTorch")  # which takes seconds
    from layerwise.data.storage.rows import check_writable
    from layerwise.reporting.combined.page import ensemble_page, results_of_ensemble, run_names
    from layerwise.reporting.study_page import write_study
    from layerwise.studies.combined.comparison import compare
    from layerwise.studies.combined.folders import run_folders
    from layerwise.studies.finished import open_runs

    check_writable(out)
    folders, notes = run_folders(run)
    output.say(f"{len(folders)} runs")
    found = open_runs(folders, flags.cache_folder(cache), output.say, output.track, data)
    names = run_names(found)
    members, tested = _members(found, names, output)
    if tested:
        notes.append(
            f"{len(tested)} of the runs had not been tested before, and have been now: their "
            "answers for the test part are kept beside them."
        )
    output.say("comparing")
    work = found[0].work
    some: Any = WAYS if combine is None else (combine,)
    compared = compare(work.manifest.task, members, some, seed=work.seed)
    taken = time.monotonic() - started
    results = results_of_ensemble(compared, found, notes, tested, command, taken)
    page = ensemble_page(compared, names, work.manifest.name, notes, command)
    results["bundle"] = None
    if export:
        by = {one.id: one for one in found}
        chosen = [by[name] for name in compared.chosen.weights]
        if len(chosen) > 1:  # weights are chosen among all runs, in the same order as above
            every = [by[member.id] for member in compared.members]
            bundle = bundle_of(every, compared.chosen.way, out, output)
        else:
            bundle = bundle_of(chosen, None, out, output)
        results["bundle"] = bundle["bundle"]
    write_study(out, results, page)
    output.text(_summary(results, names, page.answer[0]))
    if results["bundle"]:
        output.text(f"bundle: {results['bundle']}")
    else:
        words = " ".join(str(one.folder) for one in found)
        way = compared.chosen.way
        output.text(f"for a bundle: --export, or layerwise export {words} --combine {way}")
    output.text(f"report: {out / 'report.html'}")
    output.result(results)


def _members(
    found: list[Finished], names: dict[str, str], output: Output
) -> tuple[list[Member], list[str]]:
    """The runs with what they say of the test part, and the ids of those tested just now."""
    from layerwise.evaluation.predictions import Predictions
    from layerwise.studies.combined.comparison import Member

    members, tested = [], []
    for one in found:
        kept = one.folder / "test.npz"
        if kept.is_file():
            said = Predictions.load(kept)
        else:
            said, _ = one.on_test(one.network())
            tested.append(one.id)
            output.say(f"tested once: {names[one.id]}")
        outcome = one.outcome
        members.append(Member(one.id, names[one.id], outcome.parameters, outcome.validation, said))
    return members, tested


def _summary(results: dict[str, Any], names: dict[str, str], answer: str) -> str:
    """The ways as a table, and the answer."""
    from layerwise.cli.table import aligned

    curves = results["curves"]
    rows: list[list[object]] = [["", "runs", "validation, cross-fitted", "test", "less the best"]]
    for way in (curves["best"], *curves["ways"]):
        unseen, gain = way["validation"]["cross_fitted"], way["gain"].get("auroc")
        label = way["way"] + (" *" if way["way"] == curves["chosen"] else "")
        if way["way"] == "best":
            label = f"best alone: {names[next(iter(way['weights']))]}"
        rows.append(
            [
                label,
                len(way["weights"]),
                _number(unseen),
                _number(way["test"]["auroc"]),
                ""
                if gain is None or gain["low"] is None
                else f"{gain['value']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})",
            ]
        )
    return f"AUROC\n{aligned(rows)}\n{answer}"


def _number(interval: dict[str, Any] | None) -> str:
    value = None if interval is None else interval["value"]
    return "" if value is None else f"{value:.4f}"

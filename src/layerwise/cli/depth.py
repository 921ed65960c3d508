"""`layerwise study depth`: how much of a pretrained network is worth keeping."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerwise.cli import flags, study_flags
from layerwise.cli.live import study_board
from layerwise.cli.output import Output
from layerwise.errors import LayerwiseError

if TYPE_CHECKING:
    from layerwise.studies.depth.truncation import Searched
    from layerwise.training.recipe import Recipe

METRICS = ("auprc", "auroc")
TIME, QUICK_TIME = "30m", "8m"
REPEATS, QUICK_REPEATS = 3, 1

Cuts = Annotated[
    list[str],
    typer.Option(
        metavar="CUT", help="End a network here, and search no further; repeatable. Or a preset."
    ),
]
Time = Annotated[
    flags.Text, typer.Option("--time", help="Like 90s, 10m, 2h. Default: 30m; with --quick 8m.")
]
Metric = Annotated[str, typer.Option(help="What quality is: auprc or auroc.")]


def depth(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="A folder, a table, a MedMNIST .npz, or digits.")],
    out: flags.Out,
    budget: Time = None,
    cuts: Cuts = [],  # noqa: B006 - Typer copies it
    metric: Metric = "auprc",
    repeats: study_flags.Repeats = None,
    epochs: study_flags.Epochs = None,
    quick: study_flags.Quick = False,
    model: flags.Model = "timm:mobilenetv2_100",
    model_arg: flags.ModelArg = [],  # noqa: B006
    weights: flags.Weights = "pretrained",
    keep: flags.Keep = "all",
    workers: study_flags.Workers = 0,
    recipe: study_flags.Recipe = None,
    seed: flags.Seed = 0,
    threads: flags.Threads = 0,
    image_size: flags.ImageSize = None,
    letterbox: flags.Letterbox = False,
    augment: flags.Augment = "auto",
    balance: flags.Balance = [],  # noqa: B006
    vertical_flip: flags.VerticalFlip = False,
    labels: flags.Labels = None,
    label_column: flags.LabelColumn = [],  # noqa: B006
    path_column: flags.PathColumn = None,
    patient_column: flags.PatientColumn = None,
    patient_from: flags.PatientFrom = None,
    study_column: flags.StudyColumn = None,
    date_column: flags.DateColumn = None,
    split_column: flags.SplitColumn = None,
    multi_label: flags.MultiLabel = False,
    only: flags.Only = [],  # noqa: B006
    positive: flags.Positive = None,
    uncertain: flags.Uncertain = "zeros",
    label_set: flags.LabelSet = None,
    view: flags.View = None,
    keep_identifiers: flags.KeepIdentifiers = False,
    skip_unreadable: flags.SkipUnreadable = False,
    allow_leaks: flags.AllowLeaks = False,
    cache: flags.Cache = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """How much of a pretrained network to keep: Peng et al. 2021, section 4, on your images.

    Probes every cut, trains the full network and truncated ones at cuts that are searched within
    the time, with hybrids and partial freezing beside them; weighs quality against measured cost.
    Writes results.json, report.html, depth.svg, cost.svg, similarity.svg and runs/ under --out.
    The same command again goes on where it stopped.
    """
    started = time.monotonic()
    if metric not in METRICS:
        raise LayerwiseError(f"--metric {metric!r} is unknown; it is {' or '.join(METRICS)}")
    seconds = flags.parse_time(budget or (QUICK_TIME if quick else TIME))
    output = Output(json=json, quiet=quiet)
    command = " ".join(flags.command_line())
    output.say(f"layerwise study depth {data}: loading PyTorch")  # which takes seconds
    from layerwise.data.storage.rows import check_writable
    from layerwise.studies.depth.plan import DepthSettings
    from layerwise.studies.depth.truncation import search

    def recipe_of(preset: str, base: Recipe) -> Recipe:
        return study_flags.training_recipe(context, preset, base)

    training = dict(context.meta.get(study_flags.TRAINING, {}))
    request = study_flags.request_of(context, seconds=seconds, shared=True)
    check_writable(out)
    settings = DepthSettings(
        metric=metric,  # type: ignore[arg-type]
        cuts=tuple(cuts),
        repeats=repeats or (QUICK_REPEATS if quick else REPEATS),
        epochs=epochs or training.get("epochs"),
        workers=study_flags.worker_count(workers, request.threads),
        training=training,
    )
    searched = search(request, settings, recipe_of, output.say, output.track, study_board(output))
    results = finish(searched, out, command, started)
    output.text(_summary(results, out))
    output.result(results)


def finish(searched: Searched, out: Path, command: str, started: float) -> dict[str, Any]:
    """Measure, choose and test; write everything under `out`, and give results.json."""
    from layerwise.reporting.depth.page import depth_page
    from layerwise.reporting.depth.results import results_of_depth
    from layerwise.reporting.study_page import write_study
    from layerwise.studies.depth.findings import findings

    found = findings(searched)
    searched.work.say("writing the figures and the report")
    results = results_of_depth(found, command, time.monotonic() - started)
    write_study(out, results, depth_page(results))
    return results


def _summary(results: dict[str, Any], out: Path) -> str:
    """The answer, and where the report and the recommended run lie."""
    from layerwise.reporting.depth.words import answer

    run = out / results["recommended"]["run"]
    return "\n".join(
        [
            *answer(results),
            f"report: {out / 'report.html'}",
            f"for a bundle: layerwise export {run}",
        ]
    )

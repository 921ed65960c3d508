"""`layerwise study transferability`: how general the features of each layer are."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from layerwise.cli import flags, study_flags
from layerwise.cli.live import study_board
from layerwise.cli.output import Output

if TYPE_CHECKING:
    from layerwise.studies.board import Board
    from layerwise.studies.transferability.study import Study
    from layerwise.training.recipe import Recipe

Splits = Annotated[
    Optional[int],  # noqa: UP007, UP045 - Typer reads these when a command is defined
    typer.Option(
        min=0,
        help="Pairs of random halves of the classes. Default: 2; with --other or --weights 0.",
    ),
]
Groups = Annotated[
    flags.Place,
    typer.Option(metavar="FILE.toml", help="Two named groups of the classes, as a pair too."),
]
Other = Annotated[
    flags.Text, typer.Option(metavar="DATA2", help="Transfer between DATA and this data set.")
]
Treatments = Annotated[
    list[str], typer.Option(help='Only this one, like AnB or "random filters"; repeatable.')
]
Cuts = Annotated[list[str], typer.Option(help="Only up to this layer; repeatable.")]
Both = Annotated[
    Optional[bool],  # noqa: UP007, UP045
    typer.Option(
        "--both-directions/--one-direction",
        help="From B to A too, or from A to B alone. Default: both; with --quick one.",
    ),
]


def transferability(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="A folder, a table, a MedMNIST .npz, or digits.")],
    out: flags.Out,
    splits: Splits = None,
    groups: Groups = None,
    other: Other = None,
    treatments: Treatments = [],  # noqa: B006 - Typer copies it
    cuts: Cuts = [],  # noqa: B006
    repeats: study_flags.Repeats = None,
    epochs: study_flags.Epochs = None,
    both_directions: Both = None,
    quick: study_flags.Quick = False,
    model: Annotated[
        flags.Text,
        typer.Option(help="Default: caffenet-32 for pictures up to 64 px, else a MobileNetV2."),
    ] = None,
    model_arg: flags.ModelArg = [],  # noqa: B006
    weights: flags.Weights = "none",
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
    """How general the features of each layer are: Yosinski et al. 2014, on your images.

    Trains BnB, BnB+, AnB, AnB+ and random filters at every layer, between halves or groups of the
    classes, two data sets, or from given weights. Writes results.json, report.html, figure2.svg,
    figure3.svg, table1.csv and runs/ under --out. The same command again goes on where it stopped.
    """
    started = time.monotonic()
    output = Output(json=json, quiet=quiet)
    command = flags.command_line()
    output.say(f"layerwise study transferability {data}: loading PyTorch")  # which takes seconds
    from layerwise.data.storage.rows import check_writable
    from layerwise.studies.transferability.plan import Asked
    from layerwise.studies.transferability.study import prepare_study

    asked = Asked(
        model=model,
        splits=splits,
        groups=groups,
        other=other,
        treatments=tuple(treatments),
        cuts=tuple(cuts),
        repeats=repeats,
        epochs=epochs,
        both=both_directions,
        quick=quick,
    )

    def recipe_of(preset: str, defaults: Recipe) -> Recipe:
        return study_flags.training_recipe(context, preset, defaults)

    request = study_flags.request_of(context)
    check_writable(out)
    count = study_flags.worker_count(workers, request.threads)
    study = prepare_study(request, asked, recipe_of, output.say, output.track, workers=count)
    results = finish_study(study, study_board(output), out, " ".join(command), started)
    output.text(_summary(results, out))
    output.result(results)


def finish_study(
    study: Study, board: Board, out: Path, command: str, started: float
) -> dict[str, Any]:
    """Train what is left, write everything under `out`, and give results.json; for the demo too."""
    from layerwise.reporting.study_page import write_study
    from layerwise.reporting.transferability.page import transferability_page
    from layerwise.reporting.transferability.results import results_of_study

    done = study.run(board)
    study.prepared.work.say("writing the figures and the report")
    results = results_of_study(study, done, command, time.monotonic() - started)
    write_study(out, results, transferability_page(results))
    return results


def _summary(results: dict[str, Any], out: Path) -> str:
    """AnB by layer for the first kind of pairs, and where the report lies."""
    curves = results["curves"]
    kind = curves["pairs"][0]["kind"]
    lines = []
    for row in curves["means"]:
        if row["kind"] == kind and row["treatment"] in ("base", "AnB"):
            found = row["accuracy"]
            name = f"AnB to {row['cut']}" if row["cut"] else "base"
            lines.append(
                f"{name:<24}{found['value']:.3f}  (95% {found['low']:.3f} to {found['high']:.3f})"
            )
    return "\n".join([*lines, f"report: {out / 'report.html'}"])

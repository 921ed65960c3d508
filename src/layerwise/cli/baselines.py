"""`layerwise study baselines`: what a network has to beat."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerwise.cli import flags, study_flags
from layerwise.cli.live import study_board
from layerwise.cli.output import Output

if TYPE_CHECKING:
    from layerwise.data.balance import Balance
    from layerwise.training.recipe import Recipe

TIME, QUICK_TIME = "30m", "5m"

Models = Annotated[
    flags.Text,
    typer.Option(
        metavar="LIST",
        help="Like svm,lenet5,vgg16: dummy, random-forest, svm, and any network; or classic, "
        "networks, all. Default: all, without networks for which the time is too short.",
        show_default=False,
    ),
]
Time = Annotated[
    flags.Text,
    typer.Option(
        "--time", help="Like 90s, 10m, 2h. Default: 30m; with --quick 5m; with --epochs none."
    ),
]
Transfer = Annotated[
    flags.Text,
    typer.Option(metavar="MODEL", help="A pretrained network beside the baselines, fine-tuned."),
]
Weights = Annotated[str, typer.Option(help="Of --transfer: a file, a run's folder, or pretrained.")]
ModelArgs = Annotated[
    list[str],
    typer.Option(
        "--model-arg", metavar="KEY=VALUE", help="For the network of --transfer; repeatable."
    ),
]


def baselines(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="A folder, a table, a MedMNIST .npz, or digits.")],
    out: flags.Out,
    models: Models = None,
    transfer: Transfer = None,
    weights: Weights = "pretrained",
    model_args: ModelArgs = [],  # noqa: B006 - Typer copies it
    budget: Time = None,
    epochs: study_flags.Epochs = None,
    repeats: study_flags.Repeats = None,
    quick: study_flags.Quick = False,
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
    """What a network has to beat: Buluttekin 2020 §4.1, on your images.

    A dummy, a tuned random forest and SVM, LeNet-5, AlexNet, VGG16 and CBR, each without and with
    augmentation and balancing. Writes results.json, report.html, figures as SVG and CSV, plan.json
    and runs/ under --out. The same command again goes on where it stopped.
    """
    started = time.monotonic()
    output = Output(json=json, quiet=quiet)
    training = dict(context.meta.get(study_flags.TRAINING, {}))
    length = epochs or training.get("epochs")
    seconds = None
    if budget or not length:
        seconds = flags.parse_time(budget or (QUICK_TIME if quick else TIME))
    command = " ".join(flags.command_line())
    output.say(f"layerwise study baselines {data}: loading PyTorch")  # which takes seconds
    from layerwise.data.storage.rows import check_writable
    from layerwise.reporting.baselines.page import Finished, baselines_page
    from layerwise.reporting.baselines.results import results_of_baselines
    from layerwise.reporting.baselines.shapes import shapes_of
    from layerwise.reporting.study_page import write_study
    from layerwise.studies.baselines.runs import Asked
    from layerwise.studies.baselines.scores import scores_of
    from layerwise.studies.baselines.study import prepare_baselines

    def recipe_of(preset: str, defaults: Recipe) -> Recipe:
        return study_flags.training_recipe(context, preset, defaults)

    request = study_flags.request_of(context, model="lenet5", weights="none", arguments={})
    check_writable(out)
    asked = Asked(
        models=models,
        transfer=transfer,
        weights=weights,
        arguments=tuple(model_args),
        seconds=seconds,
        epochs=length,
        repeats=repeats,
        balance=_balance(context, request.balance),
        quick=quick,
    )
    count = study_flags.worker_count(workers, request.threads)
    study = prepare_baselines(request, asked, recipe_of, output.say, output.track, count, started)
    plan, every = study.run(study_board(output))
    output.say("scoring")
    manifest = study.work.manifest
    scores = scores_of(
        every,
        manifest,
        study.work.seed,
        threads=study.work.threads,
        progress=output.track("scoring"),
    )
    drawn = [(cell, shapes_of(cell, manifest)) for cell in scores.cells]
    taken = time.monotonic() - started
    results = results_of_baselines(study, plan, every, scores, drawn, command, taken)
    output.say("writing the figures and the report")
    page = baselines_page(Finished(study, plan, every, scores, drawn, quick), command)
    write_study(out, results, page)
    output.text(_summary(results, page.answer[0]))
    output.text(f"report: {out / 'report.html'}")
    output.result(results)


def _balance(context: typer.Context, came_to: Balance) -> Balance | None:
    """What was asked for by a flag or a recipe file; None: nothing was."""
    source = context.get_parameter_source("balance")
    told = source is not None and source.name != "DEFAULT"
    told = told or "balance" in context.meta.get(study_flags.TRAINING, {})
    return came_to if told else None


def _summary(results: dict[str, Any], answer: str) -> str:
    """The scores as a table, and the answer."""
    from layerwise.cli.table import aligned
    from layerwise.reporting.text import NAMES
    from layerwise.studies.baselines.scores import METRICS

    best = results["curves"]["best"]
    rows: list[list[object]] = [["model", "", *(NAMES[m].split(" ")[0] for m in METRICS)]]
    for cell in results["curves"]["cells"]:
        values = [cell["test"][metric]["value"] for metric in METRICS]
        rows.append(
            [
                cell["name"],
                "*" if cell["name"] == best else "",
                *("" if value is None else f"{value:.3f}" for value in values),
            ]
        )
    return f"{aligned(rows)}\n{answer}"

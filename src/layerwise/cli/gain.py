"""`layerwise study gain`: what transfer learning gains over random initialisation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerwise.cli import flags, study_flags
from layerwise.cli.live import study_board
from layerwise.cli.output import Output
from layerwise.errors import LayerwiseError

if TYPE_CHECKING:
    from layerwise.training.recipe import Recipe

Models = Annotated[
    list[str], typer.Option("--model", help="timm:NAME, torchvision:NAME, or ours; repeatable.")
]
ManyWeights = Annotated[
    list[str],
    typer.Option(
        "--weights",
        help="What transfer starts from: a file, a run's folder, or pretrained (the default); one "
        "for all, or one a --model in order.",
    ),
]
ModelArgs = Annotated[
    list[str],
    typer.Option(
        "--model-arg",
        metavar="[MODEL:]KEY=VALUE",
        help="For the constructor of all networks, or of one; repeatable.",
    ),
]
Source = Annotated[
    flags.Text,
    typer.Option(metavar="DATA2", help="Train every network on these first, as its weights."),
]
Fractions = Annotated[
    str, typer.Option(metavar="LIST", help="Of the training part, like 0.05,0.1,1 or 5%,10%,100%.")
]
LeastSteps = Annotated[
    int,
    typer.Option(min=0, help="Fractions of fewer steps get more epochs. 0: the same epochs."),
]


def gain(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="A folder, a table, a MedMNIST .npz, or digits.")],
    out: flags.Out,
    models: Models = ["timm:mobilenetv2_100"],  # noqa: B006 - Typer copies it
    weights: ManyWeights = [],  # noqa: B006
    model_args: ModelArgs = [],  # noqa: B006
    source: Source = None,
    fractions: Fractions = "0.05,0.1,1",
    repeats: study_flags.Repeats = None,
    epochs: study_flags.Epochs = None,
    least_steps: LeastSteps = 0,
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
    """What transfer learning gains over random initialisation: Peng et al. 2021 §3, on your images.

    Trains every --model from its weights and from random ones, on fractions of the training part,
    several times. Writes results.json, report.html, figures as SVG and CSV, plan.json and runs/
    under --out. The same command again goes on where it stopped.
    """
    started = time.monotonic()
    output = Output(json=json, quiet=quiet)
    parts = parse_fractions(fractions)
    output.say(f"layerwise study gain {data}: loading PyTorch")  # which takes seconds
    from layerwise.data.storage.rows import check_writable
    from layerwise.reporting.gain.page import gain_page
    from layerwise.reporting.gain.results import results_of_gain
    from layerwise.reporting.study_page import write_study
    from layerwise.studies.gain.scores import scores_of
    from layerwise.studies.gain.study import Asked, prepare_gain

    def recipe_of(preset: str, defaults: Recipe) -> Recipe:
        return study_flags.training_recipe(context, preset, defaults)

    asked = Asked(
        models=tuple(models),
        weights=tuple(weights),
        arguments=tuple(model_args),
        source=source,
        fractions=parts,
        repeats=repeats,
        least_steps=least_steps,
        quick=quick,
    )
    first = models[0] if models else ""
    request = study_flags.request_of(context, model=first, weights="none", arguments={})
    check_writable(out)
    count = study_flags.worker_count(workers, request.threads)
    study = prepare_gain(request, asked, recipe_of, output.say, output.track, count)
    gained = study.run(study_board(output))
    output.say("scoring")
    scores = scores_of(
        gained, study.work.seed, threads=study.work.threads, progress=output.track("scoring")
    )
    command = " ".join(flags.command_line())
    results = results_of_gain(study, gained, scores, command, time.monotonic() - started)
    output.say("writing the figures and the report")
    page = gain_page(study, gained, scores, command, quick)
    write_study(out, results, page)
    output.text(_summary(results, page.answer[0]))
    output.text(f"report: {out / 'report.html'}")
    output.result(results)


def parse_fractions(text: str) -> tuple[float, ...]:
    """The numbers of "0.05,0.1,1" or "5%,10%,100%".

    Raises:
        LayerwiseError: One is no number.
    """
    found = []
    for word in text.split(","):
        number = word.strip()
        try:
            found.append(float(number.rstrip("%")) / (100 if number.endswith("%") else 1))
        except ValueError as error:
            raise LayerwiseError(
                f"--fractions {text!r}: {number!r} is not a number; write 0.05,0.1,1 or 5%,10%,100%"
            ) from error
    return tuple(found)


def _summary(results: dict[str, Any], answer: str) -> str:
    """The means as a table, and the answer."""
    from layerwise.cli.table import aligned
    from layerwise.studies.gain.fractions import percent
    from layerwise.studies.gain.scores import MEAN

    rows: list[list[object]] = [["network", "images", "metric", "RI", "TL", "TL − RI (95%)", ""]]
    for bar in results["curves"]["bars"]:
        gain, sides = bar["gain"], [bar[side]["value"] for side in ("RI", "TL")]
        if bar["label"] != MEAN or None in (*sides, gain["low"]):
            continue
        span = f"{gain['value']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"
        rows.append(
            [
                bar["network"],
                percent(bar["fraction"]),
                bar["metric"],
                *(f"{value:.3f}" for value in sides),
                span,
                "beyond noise" if bar["beyond_noise"] else "within noise",
            ]
        )
    return f"{aligned(rows)}\n{answer}"

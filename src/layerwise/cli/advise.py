"""`layerwise advise`: which strategy of transfer suits these data, and whether it holds."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from layerwise.cli import flags, study_flags
from layerwise.cli.live import study_board
from layerwise.cli.output import Output

TIME = "100s"

Time = Annotated[str, typer.Option("--time", help="For everything, like 90s, 10m. Default: 100s.")]


def advise(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="A folder, a table, a MedMNIST .npz, or digits.")],
    out: flags.Out,
    model: flags.Model = "timm:mobilenetv2_100",
    model_arg: flags.ModelArg = [],  # noqa: B006 - Typer copies it
    weights: flags.Weights = "pretrained",
    budget: Time = TIME,
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
    """Train everything, some layers, or a classifier alone? By size and similarity, and tested.

    Places the data on the size–similarity matrix of Marcelino 2018, with both sides measured; says
    which strategy suits them, with its cut and rates; and tests it against its two neighbours.
    Writes advice.json, report.html, matrix.svg and advised.json (a plan for `fit`) under --out.
    The same command again goes on where it stopped.
    """
    started = time.monotonic()
    seconds = flags.parse_time(budget)
    output = Output(json=json, quiet=quiet)
    command = " ".join(flags.command_line())
    output.say(f"layerwise advise {data}: loading PyTorch")  # which takes seconds
    from layerwise.data.storage.rows import check_writable
    from layerwise.reporting.advice.page import advice_page
    from layerwise.reporting.advice.results import results_of_advice
    from layerwise.reporting.advice.words import reasons
    from layerwise.reporting.study_page import write_study
    from layerwise.studies.advice.study import advise as measured
    from layerwise.studies.advice.study import fit_plan
    from layerwise.studies.plan import write_plan

    request = study_flags.request_of(context, seconds=seconds, shared=True)
    check_writable(out)
    advice = measured(request, output.say, output.track, study_board(output), started)
    why = reasons(advice)
    write_plan(fit_plan(advice, request, tuple(why)), out / "advised.json")
    output.say("writing the figures and the report")
    results = results_of_advice(advice, command, time.monotonic() - started)
    write_study(out, results, advice_page(advice, command), "advice.json")
    output.text("\n".join([*results["answer"], "", "Why:", *why, ""]))
    output.text(f"report: {out / 'report.html'}")
    output.result(results)

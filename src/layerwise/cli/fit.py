"""`layerwise fit`: the main job."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output

if TYPE_CHECKING:
    from layerwise.studies.automatic import Fitted
    from layerwise.studies.prepare import Request


def fit(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="A folder, a table, a MedMNIST .npz, or digits.")],
    out: flags.Out,
    model: flags.Model = "timm:mobilenetv2_100",
    model_arg: flags.ModelArg = [],  # noqa: B006 - Typer copies it
    weights: flags.Weights = "pretrained",
    keep: flags.Keep = "all",
    budget: Annotated[str, typer.Option("--time", help="Like 90s, 10m, 2h.")] = "10m",
    plan: Annotated[
        flags.Place, typer.Option(help="Follow this plan.json instead of making one.")
    ] = None,
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
    """Measure which layers to keep, freeze, fine-tune or cut off; train, test, explain, bundle.

    Writes plan.json, results.json, predictions.csv, report.html, bundle/ and runs/ under --out.
    The same command again goes on where it stopped.
    """
    started = time.monotonic()
    seconds = flags.parse_time(budget)
    preset = flags.parse_augment(augment)
    method = flags.parse_balance(balance)
    arguments = flags.parse_pairs(model_arg)
    output = Output(json=json, quiet=quiet)
    output.say(f"layerwise fit {data}: loading PyTorch")  # which takes seconds
    from layerwise.studies.prepare import Request

    request = Request(
        data=data,
        out=out,
        cache=flags.cache_folder(cache),
        options=flags.data_options(context.params),
        model=model,
        arguments=arguments,
        weights=weights,
        keep=keep,
        image_size=image_size,
        letterbox=letterbox,
        augment=preset,
        balance=method,
        vertical_flip=vertical_flip,
        seconds=seconds,
        seed=seed,
        threads=flags.thread_count(threads),
        allow_leaks=allow_leaks,
        skip_unreadable=skip_unreadable,
    )
    fitted = fit_request(request, output, plan)
    finish(fitted, output, flags.command_line(), out, started)


def fit_request(request: Request, output: Output, plan: Path | None) -> Fitted:
    """The main job up to the test, shared with `layerwise demo`."""
    from layerwise.data.storage.rows import check_writable
    from layerwise.studies.automatic import run_automatic

    check_writable(request.out)
    return run_automatic(request, output.say, output.track, plan_file=plan)


def finish(
    fitted: Fitted,
    output: Output,
    command: list[str],
    out: Path,
    started: float,
    comparison: list[dict[str, Any]] | None = None,
) -> None:
    """Write results, predictions, bundle and report, and say the answer."""
    from layerwise.cli.deliver import deliver
    from layerwise.reporting.results import results_of

    results = results_of(fitted, " ".join(command), time.monotonic() - started)
    output.say("writing the bundle and the report")
    deliver(fitted, results, out, command, comparison)
    test = results["test"]
    for name in ("auroc", "auprc", "accuracy", "balanced_accuracy"):
        found = test[name]
        if found["value"] is not None:
            low, high = found["low"], found["high"]
            output.text(f"test {name:<18}{found['value']:.3f}  (95% {low:.3f} to {high:.3f})")
    output.text(f"chosen: {fitted.chosen.run.name}\nreport: {out / 'report.html'}")
    output.result(results)

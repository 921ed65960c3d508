"""`layerwise study search`: hyper-parameters of a network, by trials that learn from each other."""

from __future__ import annotations

import json as text
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from layerwise.cli import flags, study_flags
from layerwise.cli.live import study_board
from layerwise.cli.output import Output
from layerwise.errors import LayerwiseError

if TYPE_CHECKING:
    from layerwise.studies.search.running import Searched
    from layerwise.training.recipe import Recipe

METRICS = ("auroc", "auprc", "accuracy", "balanced_accuracy", "f1")
PRUNERS = ("median", "none")
# Flags of the command that are no part of the best trial's recipe, or are written there otherwise.
_OWN = {"out", "recipe", "json", "quiet", "cache", "space", "trials", "pruner", "model"}
_OWN |= {"model_arg", "weights", "keep", "freeze", "seed", "threads", "image_size"}

Space = Annotated[
    flags.Place,
    typer.Option(metavar="FILE.toml", help="What is searched: [model], [transfer], [training]."),
]
Trials = Annotated[
    Optional[int],  # noqa: UP007, UP045 - Typer reads these when a command is defined
    typer.Option(min=1, help="At most so many. Default: 50 and, while time is left, more."),
]
Time = Annotated[str, typer.Option("--time", help="For everything: like 90s, 10m, 2h.")]
Metric = Annotated[
    str, typer.Option(help=f"Chooses epochs, prunes and ranks trials: {', '.join(METRICS)}.")
]
Prune = Annotated[str, typer.Option("--pruner", help="Bad trials end early: median, or none.")]
Weights = Annotated[
    flags.Text,
    typer.Option(
        help="A file, a run's folder, pretrained, or none. Default: pretrained, where there are."
    ),
]
Freeze = Annotated[
    flags.Text, typer.Option(metavar="CUT", help="Layers up to this cut do not learn, or all.")
]


def search(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="A folder, a table, a MedMNIST .npz, or digits.")],
    out: flags.Out,
    space: Space = None,
    trials: Trials = None,
    budget: Time = "30m",
    epochs: study_flags.Epochs = None,
    metric: Metric = "auroc",
    pruner: Prune = "median",
    model: flags.Model = "custom",
    model_arg: flags.ModelArg = [],  # noqa: B006 - Typer copies it
    weights: Weights = None,
    keep: flags.Keep = "all",
    freeze: Freeze = None,
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
    """The hyper-parameters of a network, searched for by Optuna: Buluttekin 2020, section 4.2.2.

    Without --space the custom network's number of layers, units and kernel size, and its learning
    rate, momentum, decay and mini-batch size. Writes results.json, report.html, best.toml,
    best.json, search.db, importance.svg, parallel.svg, history.svg and runs/ under --out. The same
    command again goes on where it stopped; with more --trials or --time it goes on from its end.
    """
    started = time.monotonic()
    for flag, value, known in (("metric", metric, METRICS), ("pruner", pruner, PRUNERS)):
        if value not in known:
            raise LayerwiseError(f"--{flag} {value!r} is unknown; it is one of {', '.join(known)}")
    seconds = flags.parse_time(budget)
    output = Output(json=json, quiet=quiet)
    output.say(f"layerwise study search {data}: loading PyTorch")  # which takes seconds
    from layerwise.data.storage.rows import check_writable
    from layerwise.studies.search.running import run_search
    from layerwise.studies.search.study import Asked, prepare_search

    def recipe_of(preset: str, base: Recipe) -> Recipe:
        return study_flags.training_recipe(context, preset, base)

    training = dict(context.meta.get(study_flags.TRAINING, {}))
    asked = Asked(
        space=space,
        trials=trials,
        epochs=epochs or training.get("epochs"),
        metric=metric,
        pruner=pruner,
        freeze=freeze,
        training=training,
    )
    request = study_flags.request_of(
        context, seconds=seconds, shared=True, weights=weights or "auto"
    )
    check_writable(out)
    study = prepare_search(request, asked, recipe_of, output.say, output.track, started)
    found = run_search(study, study_board(output))
    results = finish(found, out, best_recipe(context, found), started)
    output.text(_summary(results, out))
    output.result(results)


def finish(found: Searched, out: Path, recipe: str, started: float) -> dict[str, Any]:
    """Write everything under `out`, and give results.json."""
    from layerwise.reporting.search.page import search_page
    from layerwise.reporting.search.results import BEST, PLAN, results_of_search
    from layerwise.reporting.study_page import write_study
    from layerwise.studies.plan import write_plan
    from layerwise.studies.search.running import fit_plan

    found.study.work.say("writing the figures and the report")
    command = " ".join(flags.command_line())
    results = results_of_search(found, command, time.monotonic() - started)
    (out / BEST).write_text(recipe, encoding="utf-8")
    write_plan(fit_plan(found), out / PLAN)
    write_study(out, results, search_page(results, found.study.space, str(out)))
    return results


def best_recipe(context: typer.Context, found: Searched) -> str:
    """The best trial as a recipe of this command, which then has one trial: that one again."""
    from layerwise.training.recipe import Recipe

    settings, request, work = found.best.settings, found.study.request, found.study.work
    inside = set(Recipe.__dataclass_fields__)  # in [training]
    kept: dict[str, Any] = {}
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        if name in _OWN | inside or source is None or source.name == "DEFAULT":
            continue
        word = next((w for w in parameter.opts if w.startswith("--")), name)
        kept[word.removeprefix("--").replace("-", "_")] = context.params[name]
    kept |= {
        "model": work.model,
        "model_arg": [f"{key}={value}" for key, value in settings.arguments.items()],
        "weights": request.weights,
        "keep": settings.transfer.keep,
        "freeze": settings.transfer.freeze,
        "seed": work.seed,
        "threads": work.threads,
        "image_size": work.image_size[0],
        "trials": 1,
    }
    lines = [
        f"# Trial {found.best.trial.number}, the best of {len(found.made)}; trained again, to the "
        "same bits:",
        "# layerwise study search --recipe best.toml --out again",
        *(f"{name} = {_toml(value)}" for name, value in kept.items()),
        "",
        f"[{study_flags.TRAINING}]",
        *(f"{name} = {_toml(value)}" for name, value in asdict(settings.recipe).items()),
    ]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:  # noqa: ANN401 - a flag's value
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, (int, float)):
        return repr(value)
    return text.dumps(str(value), ensure_ascii=False)


def _summary(results: dict[str, Any], out: Path) -> str:
    """The best trials as a table, and the answer."""
    from layerwise.cli.table import aligned
    from layerwise.reporting.search.words import answer, value_word
    from layerwise.reporting.text import NAMES, with_interval

    metric, names = results["study"]["metric"], list(results["best"]["values"])
    done = [row for row in results["curves"]["trials"] if row["score"] is not None]
    done.sort(key=lambda row: -row["score"]["value"])
    rows: list[list[object]] = [["trial", *names, f"validation {NAMES[metric]}"]]
    rows += [
        [row["number"], *(value_word(row["values"][n]) for n in names), with_interval(row["score"])]
        for row in done[:5]
    ]
    run = out / results["best"]["run"]
    return "\n".join(
        [
            aligned(rows),
            *answer(results),
            f"report: {out / 'report.html'}",
            f"again: layerwise study search --recipe {out / 'best.toml'} --out AGAIN",
            f"for a bundle: layerwise export {run} --out BUNDLE",
        ]
    )

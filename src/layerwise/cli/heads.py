"""`layerwise study heads`: three classifiers on the same frozen features."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from layerwise.cli import flags, study_flags
from layerwise.cli.gain import parse_fractions
from layerwise.cli.live import study_board
from layerwise.cli.output import Output
from layerwise.errors import LayerwiseError

if TYPE_CHECKING:
    from layerwise.training.recipe import Recipe

Cut = Annotated[
    flags.Text,
    typer.Option(metavar="CUT", help="Where the frozen base ends. Default: all of it."),
]
PerClass = Annotated[
    flags.Text,
    typer.Option(
        metavar="TRAIN,VAL,TEST", help="Use so many images of each class, like 100,50,50."
    ),
]
Fractions = Annotated[
    flags.Text,
    typer.Option(
        metavar="LIST", help="Of the training part, for the learning curves: 0.1,0.25,0.5,1."
    ),
]
Folds = Annotated[int, typer.Option(min=2, help="Of the linear SVM's cross-validation.")]
Repeats = Annotated[int, typer.Option(min=1, help="How often all is trained, with other seeds.")]
Penalties = Annotated[
    Optional[list[float]],  # noqa: UP007, UP045 - Typer reads it
    typer.Option("--C", metavar="C", help="Of the SVM's grid; repeatable. Default: 0.01 to 100."),
]


def heads(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="A folder, a table, a MedMNIST .npz, or digits.")],
    out: flags.Out,
    cut: Cut = None,
    per_class: PerClass = None,
    fractions: Fractions = None,
    folds: Folds = 10,
    penalties: Penalties = None,
    repeats: Repeats = 1,
    epochs: study_flags.Epochs = None,
    model: flags.Model = "timm:mobilenetv2_100",
    model_arg: flags.ModelArg = [],  # noqa: B006 - Typer copies it
    weights: flags.Weights = "pretrained",
    workers: study_flags.Workers = 0,
    recipe: study_flags.Recipe = None,
    seed: flags.Seed = 0,
    threads: flags.Threads = 0,
    image_size: flags.ImageSize = None,
    letterbox: flags.Letterbox = False,
    balance: flags.Balance = [],  # noqa: B006
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
    """Which classifier to put on frozen features: Marcelino 2018, sections 5 and 6, on your images.

    A fully connected head, one on global average pooling and a linear SVM answer on the same
    activations, by epoch and by number of training images. Writes results.json, report.html,
    figures as SVG and CSV, tables, plan.json and runs/ under --out. The same command again goes on
    where it stopped.
    """
    started = time.monotonic()
    output = Output(json=json, quiet=quiet)
    counts = None if per_class is None else parse_counts(per_class)
    parts = None if fractions is None else parse_fractions(fractions)
    output.say(f"layerwise study heads {data}: loading PyTorch")  # which takes seconds
    from layerwise.data.storage.rows import check_writable
    from layerwise.models.solved.grid import PENALTIES
    from layerwise.reporting.heads.page import heads_page
    from layerwise.reporting.heads.results import results_of_heads
    from layerwise.reporting.study_page import write_study
    from layerwise.studies.heads.scores import findings
    from layerwise.studies.heads.study import Asked, prepare_heads, refuse_augmentation

    def recipe_of(defaults: Recipe) -> Recipe:
        return study_flags.training_recipe(context, "none", defaults)

    refuse_augmentation(context.meta.get(study_flags.TRAINING, {}))
    asked = Asked(
        cut=cut,
        per_class=counts,
        fractions=parts,
        repeats=repeats,
        folds=folds,
        penalties=tuple(sorted(set(penalties or PENALTIES))),
    )
    request = study_flags.request_of(context, augment="none", shared=True)
    check_writable(out)
    count = study_flags.worker_count(workers, request.threads)
    study = prepare_heads(request, asked, recipe_of, output.say, output.track, count)
    compared = study.run(study_board(output))
    output.say("scoring")
    found = findings(study.work, compared)
    command = " ".join(flags.command_line())
    results = results_of_heads(study, compared, found, command, time.monotonic() - started)
    output.say("writing the figures and the report")
    page = heads_page(results)
    write_study(out, results, page)
    output.text(_summary(results, page.answer))
    output.text(f"report: {out / 'report.html'}")
    output.result(results)


def parse_counts(text: str) -> tuple[int, int, int]:
    """The numbers of "100,50,50": images a class for train, val and test.

    Raises:
        LayerwiseError: They are not three whole numbers above 0.
    """
    words = [word.strip() for word in text.split(",")]
    if len(words) != 3 or not all(word.isdigit() and int(word) > 0 for word in words):
        raise LayerwiseError(
            f"--per-class {text!r}: write three whole numbers above 0, images a class for "
            "training, validation and test, like 100,50,50"
        )
    train, val, test = map(int, words)
    return train, val, test


def _summary(results: dict[str, Any], answer: Any) -> str:  # noqa: ANN401 - sentences
    """The heads as a table, and the answer."""
    from layerwise.cli.table import aligned
    from layerwise.reporting.text import limits, number

    rows: list[list[object]] = [
        ["head", "parameters", "training", "validation (95%)", "gap", "", "test (95%)"]
    ]
    for row in results["curves"]["heads"]:
        spans = {
            part: f"{number(row[f'{part}_accuracy']['value'])} ({limits(row[f'{part}_accuracy'])})"
            for part in ("val", "test")
        }
        rows.append(
            [
                row["head"],
                f"{row['parameters']:,}",
                number(row["train_accuracy"]["value"]),
                spans["val"],
                number(row["gap"]["value"]),
                "overfits" if row["overfits"] else "",
                spans["test"],
            ]
        )
    return "\n".join([aligned(rows), *answer])

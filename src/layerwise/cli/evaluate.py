"""`layerwise evaluate`: what a bundle scores on labelled data. It needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output
from layerwise.errors import LayerwiseError

if TYPE_CHECKING:
    from layerwise.data.load import DataOptions
    from layerwise.serving.labelled import Part

PARTS = ("test", "validation", "train", "all")

WhichPart = Annotated[str, typer.Option("--part", help="test, validation, train or all.")]
Rename = Annotated[
    list[str],
    typer.Option(metavar="OLD=NEW", help="A label of DATA that the bundle calls NEW; repeatable."),
]
Draws = Annotated[int, typer.Option(min=100, help="Resamples behind every interval.")]


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="The folder of a bundle.", show_default=False)],
    data: Annotated[
        str, typer.Argument(help="Labelled images: anything DATA may be.", show_default=False)
    ],
    out: flags.Out,
    part: WhichPart = "test",
    subgroup: flags.SubgroupColumn = [],  # noqa: B006 - Typer copies it
    rename: Rename = [],  # noqa: B006
    labels: flags.Labels = None,
    label_column: flags.LabelColumn = [],  # noqa: B006
    path_column: flags.PathColumn = None,
    patient_column: flags.PatientColumn = None,
    patient_from: flags.PatientFrom = None,
    study_column: flags.StudyColumn = None,
    date_column: flags.DateColumn = None,
    split_column: flags.SplitColumn = None,
    multi_label: flags.MultiLabel = False,
    positive: flags.Positive = None,
    only: flags.Only = [],  # noqa: B006
    uncertain: flags.Uncertain = "zeros",
    label_set: flags.LabelSet = None,
    view: flags.View = None,
    keep_identifiers: flags.KeepIdentifiers = False,
    skip_unreadable: flags.SkipUnreadable = False,
    draws: Draws = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.")] = 0,
    threads: flags.Threads = 0,
    cache: flags.Cache = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Every metric of a bundle on labelled data, with its interval.

    Writes results.json, report.html, predictions.csv and the figures.
    """
    given = dict(locals())
    import shlex
    import time

    from layerwise.data.storage.rows import check_writable
    from layerwise.reporting.evaluated.page import evaluation_page, how_well
    from layerwise.reporting.evaluated.results import results_of_evaluation
    from layerwise.reporting.study_page import write_study
    from layerwise.serving.bundle import Bundle

    started, output = time.monotonic(), Output(json=json, quiet=quiet)
    check_part(part)
    model = Bundle.load(bundle, flags.thread_count(threads))
    check_writable(out)
    found = _measure(model, given, output)
    command = flags.command_line()
    seconds = time.monotonic() - started
    results = results_of_evaluation(found, " ".join(command), seconds, seed, draws)
    for warning in results["warnings"]:
        output.warn(warning)
    _write_predictions(out / "predictions.csv", model, found.said)
    write_study(out, results, evaluation_page(found, results, [shlex.join(command)]))
    output.text(f"{how_well(results, model.info.task)}\n{out / 'report.html'}")
    output.result(results)


def data_options(given: dict[str, Any]) -> DataOptions:
    """The flags that go with DATA, with the columns of --subgroup."""
    from dataclasses import replace

    return replace(flags.data_options(given), subgroup=tuple(given["subgroup"]))


def check_part(part: str) -> Part:
    """One of the parts."""
    if part not in PARTS:
        raise LayerwiseError(f"--part {part!r} is unknown; it is one of {', '.join(PARTS)}")
    return cast("Part", part)


def _measure(model: Any, given: dict[str, Any], output: Output) -> Any:  # noqa: ANN401 - see below
    """A `Bundle` and the flags → `Measured`."""
    from layerwise.config import cache_folder, to_mapping
    from layerwise.evaluation.subgroups import subgroups
    from layerwise.reporting.evaluated.results import Measured
    from layerwise.serving.labelled import labelled, parse_rename, predictions

    images = labelled(
        model.info,
        given["data"],
        data_options(given),
        part=check_part(given["part"]),
        rename=parse_rename(given["rename"]),
        cache=cache_folder(given["cache"]),
        say=output.say,
        progress=output.track("decoding"),
    )
    for note in images.notes:
        output.say(note)
    said = predictions(model, images, output.track("predicting"))
    manifest, info = images.manifest, model.info
    return Measured(
        task=info.task,
        labels=info.labels,
        threshold=info.threshold,
        bundle={
            "id": model.id,
            "name": info.name,
            "provenance": info.provenance,
            "preprocessing": to_mapping(info.preprocessing),
        },
        said=said,
        subgroups=subgroups(images.columns, info.task, said.targets, said.groups),
        data={
            "name": manifest.name,
            "fingerprint": images.fingerprint,
            "labels": list(info.labels),
            "counts": manifest.counts(),
        },
        part=images.part,
        fitted=images.fitted,
        notes=images.notes,
        warnings=images.warnings,
    )


def _write_predictions(path: Path, model: Any, said: Any) -> None:  # noqa: ANN401 - as above
    """One row an image: id, label, a probability a label, decision."""
    import csv

    from layerwise.cli.predict import table

    names = model.info.labels
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "label", *names, "decision"])
        rows = table(model, said.ids.tolist(), said.scores)
        for (name, each, chosen), target in zip(rows, said.targets, strict=True):
            if model.info.task == "multilabel":
                truth = "|".join(
                    label for label, has in zip(names, target, strict=True) if has == 1
                )
            else:
                truth = names[int(target)]
            writer.writerow([name, truth, *(f"{p:.6f}" for p in each), "|".join(chosen)])
    part.replace(path)

"""`layerwise quantise`: a bundle in 8-bit integers, with its cost measured. It needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output


def quantise(
    bundle: Annotated[Path, typer.Argument(help="The folder of a bundle.", show_default=False)],
    data: Annotated[
        str,
        typer.Argument(
            help="Labelled images with a validation part: the data of the fit.",
            show_default=False,
        ),
    ],
    out: flags.Out,
    pictures: Annotated[
        int, typer.Option(min=1, help="Validation pictures that give the ranges of activations.")
    ] = 128,
    limit: Annotated[
        float, typer.Option(min=0, help="How much AUROC may be lost on the validation part.")
    ] = 0.005,
    even_if_slower: Annotated[
        bool,
        typer.Option(
            "--even-if-slower",
            help="Write it also where this processor is not faster with it, for its size.",
        ),
    ] = False,
    seconds: Annotated[float, typer.Option(min=0, help="For a comparison of speed.")] = 30.0,
    labels: flags.Labels = None,
    label_column: flags.LabelColumn = [],  # noqa: B006 - Typer copies it
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
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    threads: flags.Threads = 0,
    cache: flags.Cache = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """A bundle in 8-bit integers, written only where it is faster and nearly as good; measured.

    Writes bundle/ under --out. Ranges and threshold come from the validation part of DATA.
    """
    given = dict(locals())
    from layerwise import __version__
    from layerwise.config import cache_folder
    from layerwise.data.storage.rows import check_writable
    from layerwise.serving.labelled import labelled
    from layerwise.serving.quantise import quantise as write
    from layerwise.serving.verify import verify

    output = Output(json=json, quiet=quiet)
    info = verify(bundle).info
    check_writable(out)
    images = labelled(
        info,
        data,
        flags.data_options(given),
        part="validation",
        cache=cache_folder(cache),
        say=output.say,
        progress=output.track("decoding"),
    )
    for note in images.notes:
        output.say(note)
    if not images.fitted:
        output.warn(
            "these are not the data that the bundle was fitted on: ranges and threshold are now "
            "those of these data"
        )
    found = write(
        bundle,
        images,
        out / "bundle",
        pictures=pictures,
        limit=limit,
        even_if_slower=even_if_slower,
        seconds=seconds,
        threads=flags.thread_count(threads),
        seed=seed,
        say=output.say,
    )
    summary = {"layerwise": __version__, "command": "quantise", **found}
    summary["bundle"] = str(out / "bundle")
    output.text(text(summary))
    output.result(summary)


def text(found: dict[str, Any]) -> str:
    """What a person is told, the bad news as plainly as the good."""
    difference, size, times = found["auroc_difference"], found["bytes"], found["speedup"]
    lines = [f"{size['after'] / size['before']:.0%} of the size: {size['after']:,} bytes"]
    before, after = (found["latency"][name]["median_ms"] for name in ("before", "after"))
    one = f"{after:.2f} ms a picture instead of {before:.2f}"
    if times["low"] is not None and times["low"] > 1:
        lines.append(f"{times['value']:.2f} times as fast: {one}")
    elif times["high"] is not None and times["high"] < 1:
        lines.append(
            f"SLOWER on this processor, {1 / times['value']:.2f} times as long: {one}. Unless its "
            "size matters more, serve the bundle as it was"
        )
    else:
        lines.append(f"no faster and no slower on this processor beyond noise: {one}")
    if difference["value"] is not None:
        low, high = difference["low"], difference["high"]
        span = "" if low is None else f" (95% {low:+.4f} to {high:+.4f})"
        lines.append(f"AUROC on validation {difference['value']:+.4f}{span}")
        if high is not None and high < 0:
            lines[-1] += ": worse, beyond noise"
    lines.append(f"rounded: {found['rounded']}; ranges of activations {found['ranges']}")
    lines.append(
        f"another decision for {found['disagree']} of {found['validation_images']} validation "
        "images, each bundle at its own threshold"
    )
    auroc = found["test"].get("auroc")
    if auroc and auroc["value"] is not None:
        lines.append(f"test auroc {auroc['value']:.3f}")
        difference = found["test_auroc_difference"] or {}
        if difference.get("low") is not None:
            lines[-1] += (
                f": {difference['value']:+.4f} (95% {difference['low']:+.4f} to "
                f"{difference['high']:+.4f})"
            )
    lines.append(f"bundle: {found['bundle']}")
    return "\n".join(lines)

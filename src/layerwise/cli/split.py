"""`layerwise split`: which images are trained on, chosen on and tested on, as a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output

if TYPE_CHECKING:
    from layerwise.data.manifest import Manifest

Fraction = Optional[float]  # noqa: UP007, UP045 - Typer reads it
Number = Optional[int]  # noqa: UP007, UP045


def split(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="A folder, a table, a MedMNIST .npz, or digits.")],
    out: flags.Out,
    by: Annotated[
        flags.Text,
        typer.Option(
            metavar="WAY",
            help="random, patient, date, or given (keep the parts DATA has). Default: patient "
            "where patients are known, else random.",
        ),
    ] = None,
    date: Annotated[
        flags.Text, typer.Option(metavar="D", help="--by date: the first day of the test part.")
    ] = None,
    val: Annotated[
        Fraction, typer.Option(metavar="F", help="Validation's share. Default: 0.15.")
    ] = None,
    test: Annotated[Fraction, typer.Option(metavar="F", help="Test's. Default: 0.15.")] = None,
    train_fraction: Annotated[
        Fraction, typer.Option(metavar="F", help="Keep only so much of the training part.")
    ] = None,
    folds: Annotated[Number, typer.Option(metavar="K", help="K folds, each tested once.")] = None,
    fold: Annotated[Number, typer.Option(metavar="I", help="Only fold I, from 1 on.")] = None,
    repeats: Annotated[int, typer.Option(metavar="R", help="Make the folds R times.")] = 1,
    seed: flags.Seed = 0,
    images: Annotated[
        bool,
        typer.Option("--images/--no-images", help="With --no-images no file is looked at."),
    ] = True,
    labels: flags.Labels = None,
    label_column: flags.LabelColumn = [],  # noqa: B006 - Typer copies it
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
    subgroup: flags.SubgroupColumn = [],  # noqa: B006
    keep_identifiers: flags.KeepIdentifiers = False,
    skip_unreadable: flags.SkipUnreadable = False,
    allow_leaks: flags.AllowLeaks = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Share the images out to training, validation and test; no patient and no image in two.

    Writes manifest.csv under --out, which every command takes as DATA. With --folds a folder for
    each: fold-1/manifest.csv and so on, and repeat-1/fold-1/manifest.csv with --repeats.
    """
    output = Output(json=json, quiet=quiet)
    import dataclasses

    from layerwise import __version__
    from layerwise.data.load import load
    from layerwise.data.sources.options import some
    from layerwise.data.splits.contents import read_contents
    from layerwise.data.splits.request import SplitRequest, make_splits
    from layerwise.data.storage.rows import check_writable

    request = SplitRequest(
        by, date, val, test, folds, fold, repeats, train_fraction, seed, allow_leaks
    )
    check_writable(out)
    options = dataclasses.replace(
        flags.data_options(context.params), images=images, subgroup=tuple(subgroup)
    )
    manifest = load(data, options)
    output.say(f"{len(manifest):,} images, labels {', '.join(manifest.labels)}")
    contents = None
    if images:
        contents, manifest = read_contents(
            manifest, skip_unreadable=skip_unreadable, progress=output.track("reading files")
        )
    else:
        manifest = manifest.replace(
            note="files were not looked at (--no-images): equal images may be in two parts"
        )
    written = []
    said: set[str] = set()
    for place, made in make_splits(manifest, contents, request):
        made.write(out / place / "manifest.csv")
        for note in made.notes:
            if note not in said:
                output.say(note)
        said.update(made.notes)
        written.append(_summary(out / place / "manifest.csv", made))
        output.text(_table(made, place))
    names = [entry["manifest"] for entry in written]
    older = [str(path) for path in _manifests(out) if str(path) not in names]
    if older:
        output.warn(f"of an earlier command, and not of this split: {some(older)}")
    output.text(f"{'manifest' if len(names) == 1 else 'manifests'}: {some(names)}")
    output.result({"layerwise": __version__, "command": "split", "seed": seed, "splits": written})


def _manifests(out: Path) -> list[Path]:
    """Every manifest that this command may ever have written to a folder."""
    places = ("", "fold-*/", "repeat-*/fold-*/")
    return sorted(path for place in places for path in out.glob(f"{place}manifest.csv"))


def _summary(path: Path, made: Manifest) -> dict[str, Any]:
    """One manifest in the JSON summary."""
    from layerwise.data.manifest import SPLITS

    return {
        "manifest": str(path),
        "images": {part: len(made.indices(part)) for part in SPLITS},
        "counts": made.counts(),
        "patients": {
            part: len(set(made.table["patient"].iloc[made.indices(part)]) - {""}) for part in SPLITS
        }
        if made.patients_known
        else None,
        "notes": list(made.notes),
    }


def _table(made: Manifest, place: str) -> str:
    """Counts by split and label."""
    from layerwise.cli.table import aligned
    from layerwise.data.manifest import SPLITS

    counts = made.counts()
    heading = [place or "split", "images", *made.labels]
    rows = [[p, len(made.indices(p)), *counts[p].values()] for p in SPLITS if p in counts]
    if len(made.labels) <= 8:
        return aligned([heading, *rows])
    turned = zip(*[heading, *rows], strict=True)  # many labels: one a line
    return aligned(list(turned))

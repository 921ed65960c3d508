"""`layerwise split`: which images are trained on, chosen on and tested on, as a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from layerwise.data.manifest import Manifest

WAYS = ("random", "patient", "date", "given")
SHARE = 0.15  # of validation and of test, where no flag says another

Fraction = Optional[float]  # noqa: UP007, UP045 - Typer reads it
Number = Optional[int]  # noqa: UP007, UP045


@dataclass(frozen=True)
class Wish:
    """What the flags ask for."""

    by: str | None
    date: str | None
    val: float | None
    test: float | None
    folds: int | None
    fold: int | None
    repeats: int
    train_fraction: float | None
    seed: int
    allow_leaks: bool


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
    wish = Wish(by, date, val, test, folds, fold, repeats, train_fraction, seed, allow_leaks)
    check(wish)
    output = Output(json=json, quiet=quiet)
    import dataclasses

    from layerwise import __version__
    from layerwise.data.contents import read_contents
    from layerwise.data.load import load
    from layerwise.data.rows import check_writable

    check_writable(out)
    options = dataclasses.replace(flags.data_options(context.params), images=images)
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
    for place, made in _made(manifest, contents, wish):
        made.write(out / place / "manifest.csv")
        for note in made.notes:
            if note not in said:
                output.say(note)
        said.update(made.notes)
        written.append(_summary(out / place / "manifest.csv", made))
        output.text(_table(made, place))
    output.text("\n".join(f"manifest: {entry['manifest']}" for entry in written))
    output.result({"layerwise": __version__, "command": "split", "seed": seed, "splits": written})


def check(wish: Wish) -> None:
    """Refuse flags that make no sense, alone or together, before anything is read."""
    from layerwise.data.splits import check_fractions
    from layerwise.errors import DataError

    def refuse(message: str) -> None:
        raise DataError(message)

    if wish.by is not None and wish.by not in WAYS:
        refuse(f"--by {wish.by} is unknown; it is one of {', '.join(WAYS)}")
    if wish.date is not None and wish.by != "date":
        refuse(f"--date {wish.date} goes with --by date; add that, or leave --date out")
    if wish.date is not None and wish.test is not None:
        refuse("--test and --date: the date says what is tested; leave one of them out")
    check_fractions(_or(wish.val), _or(wish.test))
    if wish.train_fraction is not None and not 0 < wish.train_fraction < 1:
        refuse(
            f"--train-fraction {wish.train_fraction:g}: it is above 0 and below 1, like 0.05 for 5%"
        )
    if wish.folds is None:
        if wish.fold is not None or wish.repeats != 1:
            flag = "--fold" if wish.fold is not None else "--repeats"
            refuse(f"{flag} goes with --folds K; add it, or leave {flag} out")
        return
    if wish.folds < 2:
        refuse(f"--folds {wish.folds}: two or more are needed, usual are 5 and 10")
    if wish.fold is not None and not 1 <= wish.fold <= wish.folds:
        refuse(f"--fold {wish.fold}: with --folds {wish.folds} it is one of 1 to {wish.folds}")
    if wish.repeats < 1:
        refuse(f"--repeats {wish.repeats}: one or more")
    if wish.by in ("date", "given"):
        refuse(f"--folds and --by {wish.by}: folds are made by patient or at random")
    if wish.test is not None:
        refuse("--test and --folds: each fold is tested once; leave --test out")


def _or(fraction: float | None) -> float:
    """The flag, or what is usual."""
    return SHARE if fraction is None else fraction


def _made(
    manifest: Manifest, contents: NDArray[np.uint8] | None, wish: Wish
) -> Iterator[tuple[str, Manifest]]:
    """Each manifest that is asked for, and the folder it goes to ("" for the only one)."""
    by = wish.by
    if by is None:
        by = "patient" if manifest.patients_known else "random"
        why = "patients are known" if by == "patient" else "no patients are known"
        manifest = manifest.replace(note=f"split --by {by}, because {why}")
    if by != "given" and (manifest.table["split"] != "").any():
        manifest = manifest.replace(
            note="the parts that the data came with are not kept (--by given keeps them)"
        )
    for place, made in _split(manifest, contents, wish, by):
        yield place, _finished(made, manifest, contents, wish, by)


def _split(
    manifest: Manifest, contents: NDArray[np.uint8] | None, wish: Wish, by: str
) -> Iterator[tuple[str, Manifest]]:
    """The splits before the training part is thinned."""
    from layerwise.data import splits
    from layerwise.data.by_date import by_date
    from layerwise.data.folds import folds

    val, test, seed = _or(wish.val), _or(wish.test), wish.seed
    if wish.folds is None:
        if by == "date":
            made = by_date(
                manifest, date=wish.date, contents=contents, val=val, test=test, seed=seed
            )
        else:
            ways = {
                "given": splits.assign,
                "patient": splits.by_patient,
                "random": splits.stratified,
            }
            made = ways[by](manifest, contents=contents, val=val, test=test, seed=seed)
        yield "", made
        return
    if by == "patient":
        splits.require_patients(manifest)
    for repeat in range(wish.repeats):
        each = folds(
            manifest,
            wish.folds,
            groups=None if by == "patient" else splits.alone(manifest),
            contents=contents,
            val=val,
            seed=seed,
            repeat=repeat,
            only=None if wish.fold is None else wish.fold - 1,
        )
        for i, made in enumerate(each, wish.fold or 1):
            place = "" if wish.fold is not None else f"fold-{i}"
            if wish.repeats > 1:
                place = f"repeat-{repeat + 1}/fold-{i}"
            yield place, made


def _finished(
    made: Manifest, whole: Manifest, contents: NDArray[np.uint8] | None, wish: Wish, by: str
) -> Manifest:
    """Thinned where that is asked for, and free of leaks."""
    from layerwise.data.contents import contents_for
    from layerwise.data.splits import shared_patients
    from layerwise.data.subsample import subsample
    from layerwise.errors import LeakError

    if wish.train_fraction is not None:
        inside = None if contents is None else contents_for(made, whole, contents)
        made = subsample(made, wish.train_fraction, contents=inside, seed=wish.seed)
    shared = shared_patients(made)
    if not shared:
        return made
    message = f"{len(shared)} patients are in two parts ({', '.join(shared[:10])}"
    message += ", …)" if len(shared) > 10 else ")"
    if not wish.allow_leaks:
        raise LeakError(
            f"{made.name}: --by {by}: {message}, so scores would deceive; split --by patient, or "
            "go on all the same with --allow-leaks"
        )
    return made.replace(note=f"leak, allowed by --allow-leaks: {message}")


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

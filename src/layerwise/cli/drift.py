"""`layerwise drift`: whether a bundle still sees and says what it was made of. Without torch."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output
from layerwise.cli.predict import find, images_of
from layerwise.errors import DataError, LayerwiseError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from layerwise.data.manifest import Manifest
    from layerwise.data.pictures.arrays import Pictures
    from layerwise.serving.bundle import Bundle, Image
    from layerwise.serving.drift import Limits
    from layerwise.serving.statistics import Statistics

DRIFTED = 4
"""The exit code of --fail-on-drift."""
MEASURES = ("psi", "js", "ks")


def drift(
    bundle: Annotated[Path, typer.Argument(help="The folder of a bundle.", show_default=False)],
    now: Annotated[
        list[str],
        typer.Argument(
            metavar="STATISTICS|DATA",
            help="What `layerwise serve` keeps under --statistics; or images, as of `layerwise "
            "predict`, which are run through the bundle.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for drift.html, drift.json and figures.", show_default=False),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only hours from here on: 2026-03-01, 2026-03-01T14:00."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only hours before this one. Both are UTC.")
    ] = None,
    measure: Annotated[
        str, typer.Option(help="psi (population stability index), js (Jensen–Shannon) or ks.")
    ] = "psi",
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="The distance that matters, beyond chance. Default: psi 0.1, js 0.133, ks 0.125.",
            show_default=False,
        ),
    ] = None,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="The change of a share of decisions that matters.")
    ] = 0.05,
    broken: Annotated[
        float,
        typer.Option(min=0, max=1, help="The same of a share of pictures that look broken."),
    ] = 0.01,
    alpha: Annotated[
        float,
        typer.Option(min=0.0001, max=0.5, help="The chance of a false alarm, over everything."),
    ] = 0.05,
    per_patient: Annotated[
        float, typer.Option(min=1, help="Pictures of one patient, on average; they count as one.")
    ] = 1.0,
    fail_on_drift: Annotated[
        bool, typer.Option("--fail-on-drift", help="Exit code 4 where something has drifted.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 32,
    label_column: flags.LabelColumn = [],  # noqa: B006 - Typer copies it
    path_column: flags.PathColumn = None,
    multi_label: flags.MultiLabel = False,
    skip_unreadable: flags.SkipUnreadable = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Compare what a server counted, or images, with what its bundle was made of.

    Says of every quantity of the pictures and of the scores whether it has drifted, by how much,
    and what chance alone would give over so many pictures.
    """
    started = time.monotonic()
    from layerwise import __version__
    from layerwise.serving.bundle import Bundle
    from layerwise.serving.drift import THRESHOLDS, Limits
    from layerwise.serving.statistics import Statistics

    if measure not in MEASURES:
        raise LayerwiseError(f"--measure {measure!r} is unknown; it is one of psi, js, ks")
    matters = THRESHOLDS[measure] if threshold is None else threshold
    limits = Limits(measure, matters, share, broken, alpha, per_patient)
    output = Output(json=json, quiet=quiet)
    hours = _time(since, "--since"), _time(until, "--until")
    model = Bundle.load(bundle)
    if model.info.statistics is None:
        raise LayerwiseError(
            f"{bundle} carries no statistics of its training, so nothing can be compared; export "
            "it again (`layerwise export`, `layerwise fit`)"
        )
    before = Statistics.from_json(model.info.statistics, f"{bundle}: statistics")
    options = {
        "label_column": tuple(label_column),
        "path_column": path_column,
        "multi_label": multi_label,
        "skip_unreadable": skip_unreadable,
    }
    after, quality, notes = _after(model, before, now, hours, batch, options, output)
    found = _compared(before, after, limits, model)
    results: dict[str, Any] = {
        "layerwise": __version__,
        "command": " ".join(flags.command_line()),
        "seconds": round(time.monotonic() - started, 1),
        "bundle": {"name": model.info.name, "id": model.id},
        "data": {"name": ", ".join(Path(name).name for name in now), "labels": model.info.labels},
        "since": since,
        "until": until,
        "limits": vars(limits),
        "reference": {"images": before.images, "answers": before.answers},
        "images": after.images,
        **found,
        "quality": quality,
        "notes": notes,
    }
    _tell(results, out, output)
    if fail_on_drift and results["drifted"]:
        raise typer.Exit(DRIFTED)


def _time(text: str | None, flag: str) -> datetime | None:
    """A day or a time, UTC where it says nothing else."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise LayerwiseError(
            f"{flag} {text!r} is no time; write 2026-03-01 or 2026-03-01T14:00"
        ) from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _after(
    model: Bundle,
    before: Statistics,
    now: list[str],
    hours: tuple[datetime | None, datetime | None],
    batch: int,
    options: dict[str, Any],
    output: Output,
) -> tuple[Statistics, dict[str, Any] | None, list[str]]:
    """What was counted, the scores where labels are known, and notes."""
    from layerwise.serving.hourly import is_hourly, read

    if len(now) == 1 and is_hourly(Path(now[0])):
        return read(Path(now[0]), model.id, *hours), None, []
    if any(hours):
        raise LayerwiseError(
            "--since and --until choose hours of a server's statistics; images have none. Leave "
            "them out, or name the folder of `layerwise serve --statistics`"
        )
    manifest, notes = _labelled(model, now, options)
    images = find(now, **options) if manifest is None else images_of(manifest)
    after, scores, read_ = _run(model, before, images, batch, options["skip_unreadable"], output)
    if len(read_) < len(images):
        notes.append(f"{len(images) - len(read_):,} images could not be read and are left out.")
    quality = None if manifest is None else _quality(model, manifest, scores, read_)
    return after, quality, notes


def _labelled(
    model: Bundle, now: list[str], options: dict[str, Any]
) -> tuple[Manifest | None, list[str]]:
    """DATA with the bundle's labels, where it has them."""
    from layerwise.data.load import DataOptions, load
    from layerwise.serving.labelled import matched

    if len(now) > 1:
        return None, []
    try:
        return matched(load(now[0], DataOptions(**options, rare=True)), model.info, {}), []
    except LayerwiseError:
        note = "No labels were compared: the pictures have none, or others than the bundle's."
        return None, [note]


def _run(
    model: Bundle,
    before: Statistics,
    images: list[tuple[str, Image | Pictures]],
    batch: int,
    skip: bool,
    output: Output,
) -> tuple[Statistics, NDArray[np.float32], list[int]]:
    """Statistics of images and of what the bundle says of them, its scores, and which were read."""
    import numpy as np

    from layerwise.data.pictures.arrays import Pictures

    after, progress = before.beside(), output.track("predicting")
    waiting: list[NDArray[np.uint8]] = []
    sizes: list[tuple[int, int] | None] = []
    scores = [np.empty((0, model.info.outputs), np.float32)]
    good: list[int] = []
    for k, (_, image) in enumerate(images):
        try:
            picture = image[0] if isinstance(image, Pictures) else image
            waiting.append(model.prepare(picture))
            sizes.append(_size(picture))
            good.append(k)
        except DataError as error:
            if not skip:
                raise DataError(f"{error}. With --skip-unreadable it is left out") from error
        if waiting and (len(waiting) == batch or k + 1 == len(images)):
            pixels = np.stack(waiting)
            scores.append(model.run(pixels))
            after.add(pixels, scores[-1], model.decide(scores[-1]), sizes)
            waiting, sizes = [], []
            progress(k + 1, len(images))
    if not good:
        raise DataError(f"none of the {len(images)} images can be read; check the files")
    return after, np.concatenate(scores), good


def _size(picture: Any) -> tuple[int, int]:  # noqa: ANN401 - a path or an array
    """Height and width of a file, or of an array."""
    import numpy as np

    from layerwise.data.pictures.images import header

    if isinstance(picture, np.ndarray):
        return int(picture.shape[0]), int(picture.shape[1])
    found = header(picture)
    return found.height, found.width


def _quality(
    model: Bundle, manifest: Manifest, scores: NDArray[np.float32], rows: list[int]
) -> dict[str, Any]:
    """The metrics of these images beside those of the bundle's test part."""
    import numpy as np

    from layerwise.evaluation.intervals import bootstrap
    from layerwise.reporting.plain import finite

    own = manifest.take(np.array(rows, np.int64))
    found = bootstrap(own.task, own.targets, scores, model.info.threshold, own.groups())
    return {"now": finite(found), "test": model.info.scores}


def _compared(
    before: Statistics, after: Statistics, limits: Limits, model: Bundle
) -> dict[str, Any]:
    """The quantities, judged; JSON-able."""
    from layerwise.serving.drift import as_json, checks, compare, prevalence

    found = compare(before, after, limits)
    truly: dict[str, Any] | None = None
    if model.info.task == "binary":
        label = model.info.labels[1]
        known = prevalence(after.decided[label], model.info.scores)
        truly = None if known is None else {"label": label, **known}
    return {
        "drifted": any(one.verdict == "drifted" for one in found),
        "checks": checks(found),
        "prevalence": truly,
        "quantities": [as_json(one) for one in found],
    }


def _tell(results: dict[str, Any], out: Path | None, output: Output) -> None:
    """The answer in words; drift.html, drift.json and figures."""
    from layerwise.reporting.drift.words import answer

    output.text("\n".join(answer(results)))
    if out is not None:
        from layerwise.reporting.drift.page import drift_page
        from layerwise.reporting.study_page import write_study

        write_study(out, results, drift_page(results), "drift.json", "drift.html")
        output.text(f"report: {out / 'drift.html'}")
    output.result(results)

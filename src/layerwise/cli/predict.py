"""`layerwise predict`: what a bundle says of images. It needs no torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from layerwise.data.manifest import Manifest
    from layerwise.data.pictures.arrays import Pictures
    from layerwise.serving.bundle import Bundle, Image

DATA_ENDINGS = (".csv", ".tsv", ".parquet", ".csv.gz", ".tsv.gz", ".npz")


def predict(
    bundle: Annotated[Path, typer.Argument(help="The folder of a bundle.", show_default=False)],
    images: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders (searched to the bottom), or anything DATA accepts: a "
            "table, a MedMNIST .npz, a manifest, digits.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder for predictions.csv, or a .csv file. Without it the table goes to "
            "standard output.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 32,
    label_column: flags.LabelColumn = [],  # noqa: B006 - Typer copies it
    path_column: flags.PathColumn = None,
    multi_label: flags.MultiLabel = False,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="List damaged images and leave them out.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="A JSON summary on standard output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only errors and results.")] = False,
) -> None:
    """Class probabilities and decisions for images.

    A decision is made at the threshold that the bundle carries.
    """
    from layerwise import __version__
    from layerwise.serving.bundle import Bundle

    output = Output(json=json, quiet=quiet)
    model = Bundle.load(bundle)
    found = find(
        images,
        skip_unreadable=skip_unreadable,
        label_column=tuple(label_column),
        path_column=path_column,
        multi_label=multi_label,
    )
    ids, scores, unreadable = _predict(model, found, batch, skip_unreadable, output)
    for message in unreadable:
        output.warn(f"left out: {message}")
    rows = list(table(model, ids, scores))
    summary: dict[str, Any] = {
        "layerwise": __version__,
        "command": "predict",
        "bundle": model.info.name,
        "labels": list(model.info.labels),
        "threshold": model.info.threshold,
        "images": len(ids),
        "unreadable": unreadable,
    }
    if out is None:
        output.text(as_csv(model, rows))
        summary["predictions"] = [_as_json(model, row) for row in rows]
    else:
        path = out if out.suffix.lower() == ".csv" else out / "predictions.csv"
        _write(path, as_csv(model, rows))
        output.say(f"{len(ids)} images → {path}")
        summary["out"] = str(path)
    output.result(summary)


def find(images: list[str], **options: Any) -> list[tuple[str, Image | Pictures]]:  # noqa: ANN401
    """Every image that the arguments name, as (id, file or array); options as of `DataOptions`.

    The id is the file's path below the folder that was named, the path as given for a file that
    was named itself, the manifest's own id for DATA.

    Raises:
        DataError: Something is not there, or a folder is empty.
    """
    from layerwise.data.sources.folder import files_below
    from layerwise.errors import DataError

    found: list[tuple[str, Image | Pictures]] = []
    for name in images:
        path = Path(name).expanduser()
        if path.is_dir():
            files = files_below(path)
            if not files:
                raise DataError(f"{name}: an empty folder; name one with images in it")
            several = len(images) > 1  # then two folders may hold the same names
            found += [(str(f) if several else f.relative_to(path).as_posix(), f) for f in files]
        elif path.name.lower().endswith(DATA_ENDINGS) or (name == "digits" and not path.exists()):
            found += _from_data(name, options)
        elif path.is_file():
            found.append((name, path))
        else:
            raise DataError(f"{name}: no such file or folder; check the path")
    return found


def _from_data(name: str, options: dict[str, Any]) -> list[tuple[str, Image | Pictures]]:
    """The images of a table, an .npz, a manifest or digits."""
    from layerwise.data.load import DataOptions, load

    return images_of(load(name, DataOptions(**options)))


def images_of(manifest: Manifest) -> list[tuple[str, Image | Pictures]]:
    """The images of a manifest, as `find` gives them."""
    import numpy as np

    from layerwise.data.pictures.arrays import Pictures

    ids = manifest.table["id"].tolist()
    pixels = manifest.pixels
    if isinstance(pixels, Pictures):  # read one by one when their turn comes
        return [(name, pixels.take(np.array([k]))) for k, name in enumerate(ids)]
    if pixels is not None:
        return list(zip(ids, pixels, strict=True))
    return [(i, Path(p)) for i, p in zip(ids, manifest.table["path"].tolist(), strict=True)]


def _predict(
    model: Bundle, found: list[tuple[str, Image | Pictures]], batch: int, skip: bool, output: Output
) -> tuple[list[str], NDArray[np.float32], list[str]]:
    """Ids and probabilities of what can be read, and a message for each image that can not."""
    import numpy as np

    from layerwise.data.pictures.arrays import Pictures
    from layerwise.errors import DataError

    ids: list[str] = []
    waiting: list[NDArray[np.uint8]] = []
    scores = [np.empty((0, model.info.outputs), np.float32)]
    unreadable: list[str] = []
    progress = output.track("predicting")
    for done, (name, image) in enumerate(found, 1):
        try:
            picture = image[0] if isinstance(image, Pictures) else image
            waiting.append(model.prepare(picture))  # (H, W, C)
            ids.append(name)
        except DataError as error:
            if not skip:
                raise DataError(
                    f"{error}. With --skip-unreadable such images are listed and left out"
                ) from error
            unreadable.append(str(error))
        if len(waiting) == batch or (waiting and done == len(found)):
            scores.append(model.run(np.stack(waiting)))  # (n, 1 | K)
            waiting.clear()
            progress(done, len(found))
    if not ids:
        raise DataError(f"none of the {len(found)} images can be read; the first: {unreadable[0]}")
    return ids, np.concatenate(scores), unreadable


def table(
    model: Bundle, ids: list[str], scores: NDArray[np.float32]
) -> Iterator[tuple[str, list[float], list[str]]]:
    """(id, a probability a label, the labels decided for) of each image.

    Args:
        model: The bundle that gave the scores.
        ids: N names.
        scores: (N, 1) for binary, whose two labels then get both, or (N, K).
    """
    labels, decisions = model.info.labels, model.decide(scores)
    for name, row, decision in zip(ids, scores.astype(float), decisions, strict=True):
        each = [1 - row[0], row[0]] if model.info.task == "binary" else row
        chosen = decision.nonzero()[0] if decision.ndim else [decision]
        yield name, [float(p) for p in each], [labels[k] for k in chosen]


def as_csv(model: Bundle, rows: list[tuple[str, list[float], list[str]]]) -> str:
    """Columns: id, one probability a label, decision (multilabel: the labels, joined by "|")."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", *model.info.labels, "decision"])
    for name, each, chosen in rows:
        writer.writerow([name, *(f"{p:.6f}" for p in each), "|".join(chosen)])
    return text.getvalue()


def _as_json(model: Bundle, row: tuple[str, list[float], list[str]]) -> dict[str, Any]:
    """One image of the summary."""
    name, each, chosen = row
    probabilities = {k: round(p, 6) for k, p in zip(model.info.labels, each, strict=True)}
    decision = chosen if model.info.task == "multilabel" else chosen[0]
    return {"id": name, "probabilities": probabilities, "decision": decision}


def _write(path: Path, text: str) -> None:
    """Write the table whole or not at all."""
    from layerwise.errors import OutputError

    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path}: can not be written ({error.strerror}); name another place with --out"
        ) from error

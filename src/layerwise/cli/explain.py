"""`layerwise explain`: where in its pictures a bundle sees a reason. It needs no torch."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from layerwise.data.pictures.arrays import Pictures
    from layerwise.serving.bundle import Bundle, Image

BATCH = 16  # pictures at a time


def explain(
    bundle: Annotated[Path, typer.Argument(help="The folder of a bundle.", show_default=False)],
    images: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders (searched to the bottom), or anything DATA accepts.",
            show_default=False,
        ),
    ],
    out: flags.Out,
    label: Annotated[
        str | None,
        typer.Option(
            help="The label to explain. Default: the one decided for, of several the likeliest.",
            show_default=False,
        ),
    ] = None,
    heat: Annotated[
        bool, typer.Option("--heat", help="Also the heat alone, as a grey NAME.heat.png.")
    ] = False,
    size: Annotated[
        int, typer.Option(min=16, max=16384, help="Longest side of a picture, in pixels.")
    ] = 1024,
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
    """Grad-CAM pictures: where a bundle sees the reason for a label, one PNG an image."""
    from layerwise import __version__
    from layerwise.cli.predict import find
    from layerwise.serving.bundle import Bundle

    output = Output(json=json, quiet=quiet)
    model = Bundle.load(bundle)
    number = _number(bundle, model, label)
    found = find(
        images,
        skip_unreadable=skip_unreadable,
        label_column=tuple(label_column),
        path_column=path_column,
        multi_label=multi_label,
    )
    made, unreadable = _explain(model, found, number, out, heat, size, skip_unreadable, output)
    for message in unreadable:
        output.warn(f"left out: {message}")
    output.say(f"{len(made)} pictures → {out}")
    output.result(
        {
            "layerwise": __version__,
            "command": "explain",
            "bundle": model.info.name,
            "cut": (model.info.explanation or {}).get("cut"),
            "out": str(out),
            "explanations": made,
            "unreadable": unreadable,
        }
    )


def _number(folder: Path, model: Bundle, label: str | None) -> int | None:
    """The label's number, None for the decided one; refuses what can not be explained."""
    from layerwise.errors import BundleError, LayerwiseError

    if not model.explains:
        why = (model.info.explanation or {}).get("why") or "it was written without an explanation"
        raise BundleError(
            f"{folder} can not explain its answers: {why}. Fit or export it again with this "
            "version of Layerwise, or use `layerwise predict`"
        )
    if label is not None and label not in model.info.labels:
        known = ", ".join(model.info.labels)
        raise LayerwiseError(f"--label {label!r}: the bundle's labels are {known}")
    return None if label is None else model.info.labels.index(label)


def _explain(
    model: Bundle,
    found: list[tuple[str, Image | Pictures]],
    number: int | None,
    out: Path,
    heat: bool,
    size: int,
    skip: bool,
    output: Output,
) -> tuple[list[dict[str, Any]], list[str]]:
    """A PNG of each picture that can be read; what is said of it, and what can not be read."""
    import numpy as np

    from layerwise.data.pictures.arrays import Pictures
    from layerwise.errors import DataError

    made: list[dict[str, Any]] = []
    unreadable: list[str] = []
    waiting: list[tuple[str, Image, NDArray[np.uint8]]] = []  # id, source, (H, W, C)
    taken: set[str] = set()
    progress = output.track("explaining")
    for done, (name, image) in enumerate(found, 1):
        try:
            source = image[0] if isinstance(image, Pictures) else image
            waiting.append((name, source, model.prepare(source)))
        except DataError as error:
            if not skip:
                raise DataError(
                    f"{error}. With --skip-unreadable such images are listed and left out"
                ) from error
            unreadable.append(str(error))
        if len(waiting) == BATCH or (waiting and done == len(found)):
            pixels = np.stack([prepared for *_, prepared in waiting])
            scores, numbers, maps = _looked_at(model, pixels, number)
            for (name, source, _), row, k, warm in zip(waiting, scores, numbers, maps, strict=True):
                file = _free(name, taken)
                paths = _draw(out / file, source, warm, model, size, heat)
                made.append({"id": name, **_said(model, row, int(k)), **paths})
            waiting.clear()
            progress(done, len(found))
    if not made:
        raise DataError(f"none of the {len(found)} images can be read; the first: {unreadable[0]}")
    return made, unreadable


def _looked_at(
    model: Bundle, pixels: NDArray[np.uint8], number: int | None
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Probabilities, the labels that are explained, and their heat maps."""
    import numpy as np

    if number is None:
        scores = model.run(pixels)
        several = model.info.task == "multilabel"
        numbers = scores.argmax(axis=1) if several else model.decide(scores)
    else:
        numbers = np.full(len(pixels), number)
    scores, maps = model.explain(pixels, np.asarray(numbers, np.int64))
    return scores, numbers, maps


def _said(model: Bundle, row: NDArray[np.float32], number: int) -> dict[str, Any]:
    """What the bundle says of one picture, as far as the explained label goes."""
    binary = model.info.task == "binary"
    probability = float(row[0] if number else 1 - row[0]) if binary else float(row[number])
    return {"label": model.info.labels[number], "probability": round(probability, 6)}


def _free(name: str, taken: set[str]) -> str:
    """A relative file name for a picture's id: inside of the folder, and no other picture's."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", ".", "..")]
    whole = PurePosixPath(*parts) if parts else PurePosixPath("picture")
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        whole = PurePosixPath(whole.name)
    stems = [whole.with_suffix(""), whole]  # a.jpg → a.png, or a.jpg.png beside an a.png
    stems += [PurePosixPath(f"{whole.with_suffix('')}-{k}") for k in range(2, len(taken) + 3)]
    file = next(f"{stem}.png" for stem in stems if f"{stem}.png" not in taken)
    taken |= {file, file.removesuffix(".png") + ".heat.png"}
    return file


def _draw(
    path: Path,
    source: Image,
    warm: NDArray[np.float32],
    model: Bundle,
    size: int,
    heat: bool,
) -> dict[str, str]:
    """Write the picture with its heat laid over it; the files by what they are."""
    import numpy as np

    from layerwise.data.pictures.images import decode, resize
    from layerwise.evaluation.overlay import overlay, place

    array = source if isinstance(source, np.ndarray) else decode(source, enough=(size, size))
    height, width = array.shape[:2]
    array = array[..., 0] if array.shape[2:] == (1,) else array
    if max(height, width) > size:
        factor = size / max(height, width)
        height, width = max(1, round(height * factor)), max(1, round(width * factor))
        array = resize(array, (height, width), letterbox=False)
    placed = place(warm, (height, width), model.info.preprocessing.letterbox)
    files = {"picture": path}
    _save(path, overlay(array, placed))
    if heat:
        files["heat"] = path.with_suffix(".heat.png")
        _save(files["heat"], np.asarray((placed * 255).round(), np.uint8))
    return {what: str(file) for what, file in files.items()}


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a PNG whole or not at all."""
    from PIL import Image

    from layerwise.errors import OutputError

    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(part, "PNG")
        part.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path}: can not be written ({error.strerror or error}); name another place with --out"
        ) from error

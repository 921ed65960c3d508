"""Everything that is checked of a bundle before ONNX Runtime sees any of it.

A bundle comes from somewhere. So names, sizes and digests are checked, and no byte is used that was
not: what is parsed are the bytes that were digested, not the file read a second time.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from layerwise.errors import BundleError
from layerwise.models.onnx_session import INPUT
from layerwise.serving.card import (
    ACTIVATION,
    CARD,
    COPY,
    EXPLAIN,
    HEAT,
    LABEL,
    MODEL,
    OUTPUT,
    README,
    BundleInfo,
    File,
    read_card,
)
from layerwise.serving.operators import parse_graph
from layerwise.serving.sizes import Shape, check_sizes

MEGABYTE = 1 << 20
LIMITS = {CARD: 4 * MEGABYTE, README: MEGABYTE}
LIMIT = 2048 * MEGABYTE - 1
"""Of any other file: no larger graph can be read, whoever wrote it (protobuf's own bound)."""


@dataclass(frozen=True)
class Verified:
    """A bundle in which every file is what its card says.

    Attributes:
        info: What the card says.
        id: The first 12 hexadecimal digits of the card's sha256, which names the whole bundle.
        version: Of the Layerwise that wrote it.
        format: Of the card.
        files: Every file but the card.
        graphs: The bytes of `model.onnx` and, where there is one, of `explain.onnx`.
    """

    info: BundleInfo
    id: str
    version: str
    format: int
    files: dict[str, File]
    graphs: dict[str, bytes]


def verify(folder: str | Path) -> Verified:
    """Check a bundle without running anything of it.

    Raises:
        BundleError: Naming the file that is missing, altered or hostile, and what to do.
    """
    folder = Path(folder)
    for name in (CARD, MODEL):
        if not os.path.lexists(folder / name):
            raise BundleError(
                f"{folder} is no bundle: {name} is missing. Give the folder `bundle` that "
                "`layerwise fit` wrote under --out."
            )
    content, digest, _ = _read(folder / CARD, LIMITS[CARD], keep=True)
    card = read_card(content, folder / CARD)
    _refuse_unlisted(folder, set(card.files))
    graphs = {}
    for name, file in sorted(card.files.items()):
        path, limit = folder / name, LIMITS.get(name, LIMIT)
        if file.bytes is not None and file.bytes > limit:
            raise BundleError(
                f"{folder / CARD}: {name} of {file.bytes} bytes is more than a bundle may have "
                f"({limit}). {COPY}"
            )
        graph = name in (MODEL, EXPLAIN)
        found, sha256, size = _read(path, limit, keep=graph, wanted=file.bytes)
        if sha256 != file.sha256 or file.bytes not in (None, size):
            raise BundleError(
                f"{path} is damaged or not the one that {CARD} describes (its sha256 differs). "
                f"{COPY}"
            )
        if graph:
            graphs[name] = found
    check_graphs(card.info, graphs, folder)
    return Verified(card.info, digest[:12], card.version, card.format, card.files, graphs)


def check_graphs(info: BundleInfo, graphs: Mapping[str, bytes], folder: Path) -> None:
    """The graphs are of allowed parts, of bounded sizes, and fit the card and each other.

    Args:
        info: What the card says.
        graphs: The bytes of `model.onnx` and, where there is one, of `explain.onnx`.
        folder: Where they lie, for the error.

    Raises:
        BundleError: Naming the file, and what in it is not allowed.
    """
    how = info.preprocessing
    where = str(folder / MODEL)
    model = parse_graph(graphs[MODEL], where)
    pixels = {INPUT: ("UINT8", (1, *how.size, how.channels))}
    outputs: dict[str, tuple[str, Shape | None]] = {OUTPUT: ("FLOAT", (1, info.outputs))}
    if EXPLAIN in graphs or len(model.graph.output) > 1:
        outputs[ACTIVATION] = ("FLOAT", None)
    shapes = check_sizes(model, pixels, outputs, where)
    if EXPLAIN in graphs:
        where = str(folder / EXPLAIN)
        inputs = {ACTIVATION: ("FLOAT", shapes[ACTIVATION]), LABEL: ("INT64", (1,))}
        heat: dict[str, tuple[str, Shape | None]] = {HEAT: ("FLOAT", (1, *how.size))}
        check_sizes(parse_graph(graphs[EXPLAIN], where), inputs, heat, where)


def _refuse_unlisted(folder: Path, listed: set[str]) -> None:
    """Nothing lies in a bundle that its card does not name."""
    there = {entry.name for entry in os.scandir(folder)}
    for name in sorted(listed - there):
        raise BundleError(f"{folder / name} is missing, {CARD} lists it. {COPY}")
    for name in sorted(there - listed - {CARD}):
        raise BundleError(
            f"{folder / name} does not belong to the bundle ({CARD} does not list it). Remove it, "
            "or copy the bundle alone into a new folder."
        )


def _read(
    path: Path, limit: int, *, keep: bool, wanted: int | None = None
) -> tuple[bytes, str, int]:
    """A file's bytes (if they are to be kept), its sha256 and its size; a plain file only."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        what = "a link" if path.is_symlink() else error.strerror
        raise BundleError(f"{path} can not be read ({what}). {COPY}") from error
    about = os.fstat(number)
    if not stat.S_ISREG(about.st_mode):
        os.close(number)
        raise BundleError(f"{path} is no plain file. {COPY}")
    with open(number, "rb") as file:
        if about.st_size > limit:
            raise BundleError(
                f"{path} has {about.st_size} bytes, more than the {limit} that it may have. {COPY}"
            )
        if wanted is not None and about.st_size != wanted:
            raise BundleError(
                f"{path} is damaged: it has {about.st_size} bytes, {CARD} says {wanted}. {COPY}"
            )
        digest, kept, left = hashlib.sha256(), [], limit + 1
        while left > 0 and (part := file.read(min(MEGABYTE, left))):
            digest.update(part)
            left -= len(part)
            if keep:
                kept.append(part)
    return b"".join(kept), digest.hexdigest(), limit + 1 - left

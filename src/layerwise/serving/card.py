"""What `bundle.json` says: the files, the labels, the preprocessing, the threshold, the origin."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from layerwise import __version__
from layerwise.config import content_key, from_mapping, to_mapping
from layerwise.data.pictures.images import DECODE_VERSION
from layerwise.errors import BundleError, LayerwiseError

CARD = "bundle.json"
MODEL = "model.onnx"
EXPLAIN = "explain.onnx"
README = "README.md"

OUTPUT = "probabilities"
"""The name of the graph's first output."""
ACTIVATION = "activation"
"""Of its second one, where the bundle explains; and of the explaining graph's first input."""
LABEL, HEAT = "label", "heat"
"""The explaining graph's second input and its output."""

FORMAT = 2
"""The format that is written. Format 1 (version 0.1.0) named the digest of the graph only."""
READS = (1, 2)
AGAIN = "Write the bundle again: `layerwise fit` with the same --out."
COPY = "Copy the whole folder again, or write the bundle again."

SIDE = 16_384
"""Pixels of a picture's side, at most."""
DEPTH = 32  # of lists and tables in each other
MOST_FILES = 32
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class Preprocessing:
    """How a file becomes the pixels that the graph takes; the rest is inside the graph."""

    size: tuple[int, int]
    """(height, width)."""
    channels: int
    """1 (grey) or 3 (RGB)."""
    letterbox: bool
    """Whether the aspect ratio is kept."""
    decode: int = DECODE_VERSION
    """The version of the decoder the network was trained with."""


@dataclass(frozen=True)
class BundleInfo:
    """What `bundle.json` says beside the format, the version and the files."""

    name: str
    """What the model is called where it is shown."""
    task: Literal["binary", "multiclass", "multilabel"]
    labels: tuple[str, ...]
    """Names; for binary (negative, positive)."""
    preprocessing: Preprocessing
    threshold: float | Sequence[float] | None = None
    """At or above it a probability is a decision: one for binary, one a label for multilabel
    (None: 0.5), None for multiclass, which takes the most probable label."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Run, transfer, model, weights, their digest and licence, data fingerprint, seed, versions."""
    scores: dict[str, Any] = field(default_factory=dict)
    """Test metrics with their intervals, as in `results.json`."""
    explanation: dict[str, Any] | None = None
    """`cut` (a name, or None: no explanation), `exact`, `why`."""
    statistics: dict[str, Any] | None = None
    """Of the training part's pictures and the validation part's scores, for drift."""
    quantised: dict[str, Any] | None = None
    """What 8-bit integers cost and bring, as `layerwise quantise` measured it."""

    @property
    def outputs(self) -> int:
        """Probabilities an image: 1 for binary, else one a label."""
        return 1 if self.task == "binary" else len(self.labels)

    def check(self, where: str | Path) -> None:
        """Check that the fields fit together.

        Raises:
            BundleError: Naming the field and `where` it stands.
        """
        labels, threshold, shape = self.labels, self.threshold, self.preprocessing
        limits = [threshold] if isinstance(threshold, (int, float)) else threshold
        if len(labels) < 2 - (self.task == "multilabel") or len(set(labels)) < len(labels):
            raise BundleError(f"{where}: labels {list(labels)} are too few or repeat. {AGAIN}")
        if self.task == "binary" and len(labels) != 2:
            raise BundleError(f"{where}: binary needs 2 labels, not {len(labels)}. {AGAIN}")
        if limits is not None and (
            self.task == "multiclass"
            or isinstance(threshold, (int, float)) != (self.task == "binary")
            or len(limits) != self.outputs
            or not all(isinstance(t, (int, float)) and -1 <= t <= 2 for t in limits)  # no NaN
        ):
            raise BundleError(f"{where}: threshold {threshold} does not fit {self.task}. {AGAIN}")
        if shape.channels not in (1, 3) or min(shape.size) < 1 or max(shape.size) > SIDE:
            raise BundleError(f"{where}: preprocessing {to_mapping(shape)} is impossible. {AGAIN}")


@dataclass(frozen=True)
class File:
    """A file of a bundle, as its card names it."""

    sha256: str
    bytes: int | None
    """None where the card is of format 1, which does not say."""


@dataclass(frozen=True)
class Card:
    """A whole `bundle.json`."""

    info: BundleInfo
    files: dict[str, File]
    """Every other file of the bundle."""
    version: str
    """The version of Layerwise that wrote it."""
    format: int


def card_of(info: BundleInfo, files: Mapping[str, File]) -> dict[str, Any]:
    """The content of `bundle.json`, as plain JSON-able values; `read_card` reads it back."""
    listed = {name: to_mapping(files[name]) for name in sorted(files)}
    return sealed({"format": FORMAT, "layerwise": __version__, "files": listed, **to_mapping(info)})


def sealed(card: Mapping[str, Any]) -> dict[str, Any]:
    """A card with the digest of all else that it says, by which a change of it is noticed."""
    rest = {key: value for key, value in card.items() if key != "seal"}
    return {**rest, "seal": content_key(rest)}


def read_card(content: bytes, where: str | Path) -> Card:
    """Check what a `bundle.json` says.

    Args:
        content: Of the file.
        where: The file, for the error.

    Raises:
        BundleError: It is damaged, of an unknown format, or says what can not be.
    """
    card = _parse(content, where)
    if not isinstance(card, dict) or card.get("format") not in READS:
        found = card.get("format") if isinstance(card, dict) else card
        raise BundleError(
            f"{where}: format {str(found)[:40]!r} is unknown, this version of Layerwise "
            f"({__version__}) reads {' and '.join(map(str, READS))}. Update Layerwise, or write "
            "the bundle again with this version."
        )
    if card["format"] > 1:
        as_written = json.dumps(card, indent=1) + "\n"
        if card != sealed(card) or content != as_written.encode():
            raise BundleError(f"{where} was changed or damaged (its seal is another). {COPY}")
    version = card.get("layerwise")
    if not isinstance(version, str):
        raise BundleError(f"{where}: 'layerwise' is missing. {AGAIN}")
    if card["format"] == 1:
        files = {MODEL: _file(where, MODEL, {"sha256": card.get("sha256"), "bytes": None}, 1)}
    else:
        files = _files(where, card.get("files"))
    own = ("format", "layerwise", *(("sha256",) if card["format"] == 1 else ("files", "seal")))
    rest = {key: value for key, value in card.items() if key not in own}
    return Card(_read_info(where, rest, version), files, version, card["format"])


def _parse(content: bytes, where: str | Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Strict JSON: no key twice, no NaN, no abyss of brackets."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(pairs) != len(dict(pairs)):
            raise ValueError("a key stands there twice")
        return dict(pairs)

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    def finite(word: str) -> float:
        if not math.isfinite(float(word)):
            raise ValueError(f"{word[:20]} is too large")
        return float(word)

    try:
        card = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=once,
            parse_constant=refuse,
            parse_float=finite,
        )
    except RecursionError as error:
        raise BundleError(f"{where}: too deep to be the card of a bundle. {COPY}") from error
    except ValueError as error:  # of JSON, of UTF-8, of `once`, of `refuse`
        raise BundleError(f"{where}: not readable as JSON ({error}). {COPY}") from error
    level: list[Any] = [card]
    for _ in range(DEPTH):
        inner = [v for v in level if isinstance(v, (dict, list))]
        level = [v for some in inner for v in (some.values() if isinstance(some, dict) else some)]
        if not level:
            return card
    raise BundleError(f"{where}: more than {DEPTH} levels deep. {COPY}")


def _files(where: str | Path, listed: object) -> dict[str, File]:
    """The files that a card of format 2 lists."""
    if not isinstance(listed, dict) or not 0 < len(listed) <= MOST_FILES:
        raise BundleError(f"{where}: 'files' must list 1 to {MOST_FILES} files. {AGAIN}")
    files = {name: _file(where, name, entry, 2) for name, entry in listed.items()}
    if MODEL not in files:
        raise BundleError(f"{where}: 'files' does not list {MODEL}. {AGAIN}")
    return files


def _file(where: str | Path, name: str, entry: object, format: int) -> File:
    """One of them. A name is that of a file beside the card: no folder, nothing hidden."""
    if not NAME.fullmatch(name) or name == CARD:
        raise BundleError(
            f"{where}: {name[:100]!r} can not be a file of a bundle: names are letters, digits, "
            "dots, dashes and underscores, without folders. Do not use this bundle; get it from "
            "where it was made."
        )
    if not isinstance(entry, dict) or set(entry) != {"sha256", "bytes"}:
        raise BundleError(f"{where}: {name} must have 'sha256' and 'bytes'. {AGAIN}")
    sha256, size = entry["sha256"], entry["bytes"]
    if not isinstance(sha256, str) or not DIGEST.fullmatch(sha256):
        raise BundleError(f"{where}: 'sha256' of {name} is missing or no digest. {AGAIN}")
    if format > 1 and (type(size) is not int or size < 0):
        raise BundleError(f"{where}: 'bytes' of {name} is no number of bytes. {AGAIN}")
    return File(sha256, size)


def _read_info(where: str | Path, rest: dict[str, Any], version: str) -> BundleInfo:
    """The card's content as `BundleInfo`, checked."""
    threshold = rest.pop("threshold", None)  # of several types, which `check` tells apart
    try:
        info = from_mapping(BundleInfo, {**rest, "threshold": None}, str(where))
    except (LayerwiseError, TypeError) as error:  # TypeError: a task that is no text
        raise BundleError(f"{error}. {AGAIN}") from error
    if not isinstance(threshold, (int, float, list, type(None))) or isinstance(threshold, bool):
        raise BundleError(f"{where}: threshold {threshold!r} is no number. {AGAIN}")
    info = BundleInfo(**{**vars(info), "threshold": threshold})
    for name in ("provenance", "scores", "explanation", "statistics", "quantised"):
        optional = name not in ("provenance", "scores")
        value = rest.get(name, None if optional else {})
        if not isinstance(value, dict) and not (optional and value is None):
            raise BundleError(f"{where}: {name} is no table. {AGAIN}")
    info.check(where)
    if info.preprocessing.decode != DECODE_VERSION:
        raise BundleError(
            f"{where}: trained on pictures decoded as version {info.preprocessing.decode}, this "
            f"Layerwise decodes as {DECODE_VERSION}: its scores would differ. Install layerwise "
            f"{version}, which wrote it, or fit again."
        )
    return info

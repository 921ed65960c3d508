"""What `bundle.json` says: the labels, the preprocessing, the threshold, where it comes from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from layerwise import __version__
from layerwise.config import from_mapping, read_json, to_mapping
from layerwise.data.pictures.images import DECODE_VERSION
from layerwise.errors import BundleError, LayerwiseError

FORMAT = 1
AGAIN = "Write the bundle again: `layerwise fit` with the same --out."


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
    """What `bundle.json` says beside the format, the version and the digest of the graph."""

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
    """Run, transfer, model, weights and their digest, data fingerprint, seed."""
    scores: dict[str, Any] = field(default_factory=dict)
    """Test metrics with their intervals, as in `results.json`."""

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
            or not all(isinstance(t, (int, float)) and math.isfinite(t) for t in limits)
        ):
            raise BundleError(f"{where}: threshold {threshold} does not fit {self.task}. {AGAIN}")
        if shape.channels not in (1, 3) or min(shape.size) < 1:
            raise BundleError(f"{where}: preprocessing {to_mapping(shape)} is impossible. {AGAIN}")


def card_of(info: BundleInfo, sha256: str) -> dict[str, Any]:
    """The content of `bundle.json`, as plain JSON-able values; `read_card` reads it back."""
    return {"format": FORMAT, "layerwise": __version__, "sha256": sha256, **to_mapping(info)}


def read_card(path: Path) -> tuple[BundleInfo, str, str]:
    """Read and check a `bundle.json`.

    Returns:
        The info, the sha256 of the graph it belongs to, and the version that wrote it.

    Raises:
        BundleError: It is damaged, of an unknown format, or says what can not be.
    """
    try:
        card = read_json(path)
    except LayerwiseError as error:
        raise BundleError(str(error)) from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        found = card.get("format") if isinstance(card, dict) else card
        raise BundleError(
            f"{path}: format {found!r} is unknown, this version of Layerwise ({__version__}) "
            f"reads {FORMAT}. Update Layerwise, or write the bundle again with this version."
        )
    for key in ("sha256", "layerwise"):
        if not isinstance(card.get(key), str):
            raise BundleError(f"{path}: {key!r} is missing. {AGAIN}")
    return _read_info(path, card), card["sha256"], card["layerwise"]


def _read_info(path: Path, card: dict[str, Any]) -> BundleInfo:
    """The card's content as `BundleInfo`, checked."""
    rest = {k: v for k, v in card.items() if k not in ("format", "layerwise", "sha256")}
    threshold = rest.pop("threshold", None)  # of several types, which `check` tells apart
    try:
        info = from_mapping(BundleInfo, {**rest, "threshold": None}, str(path))
    except LayerwiseError as error:
        raise BundleError(f"{error}. {AGAIN}") from error
    if not isinstance(threshold, (int, float, list, type(None))) or isinstance(threshold, bool):
        raise BundleError(f"{path}: threshold {threshold!r} is no number. {AGAIN}")
    info = BundleInfo(**{**vars(info), "threshold": threshold})
    for name in ("provenance", "scores"):
        if not isinstance(rest.get(name, {}), dict):
            raise BundleError(f"{path}: {name} is no table. {AGAIN}")
    info.check(path)
    if info.preprocessing.decode != DECODE_VERSION:
        raise BundleError(
            f"{path}: trained on pictures decoded as version {info.preprocessing.decode}, this "
            f"Layerwise decodes as {DECODE_VERSION}: its scores would differ. Install layerwise "
            f"{card['layerwise']}, which wrote it, or fit again."
        )
    return info

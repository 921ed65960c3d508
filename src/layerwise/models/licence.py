"""The licence of pretrained weights, as far as those who offer them say it."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torchvision

from layerwise.models.registry import offered_weights

UNKNOWN = "unknown"
HEADER = 100_000_000  # bytes; the safetensors format allows no longer header
DIGEST = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt|safetensors)$")


@dataclass(frozen=True)
class Licence:
    """A licence, and who says so.

    Attributes:
        name: As its source spells it ("apache-2.0"), or "unknown", or "none needed".
        source: A sentence: where it was found, or why it is not known.
    """

    name: str
    source: str


def licence_of(weights: str, file: str | Path | None = None) -> Licence:
    """The licence of the weights that a run started from.

    Args:
        weights: As results name them: "none", "MODEL, pretrained", "run ID" or a file's name.
        file: Where a user's own file lies, if it still does.
    """
    if weights == "none":
        return Licence("none needed", "all weights were learnt from a random start")
    if weights.endswith(", pretrained"):
        spec = offered_weights(weights.removesuffix(", pretrained"))
        kind, _, name = (spec or "").partition(":")
        found = _of_timm(name) if kind == "timm" else _of_torchvision(name) if kind else None
        return found or Licence(UNKNOWN, f"nothing is known of {weights}")
    if weights.startswith("run ") or (file is not None and Path(file).is_dir()):
        return Licence(UNKNOWN, f"the weights of {weights}; see what that one started from")
    path = None if file is None else Path(file).expanduser()
    if path is None or not path.is_file() or path.name != weights:  # another run's source
        return Licence(UNKNOWN, f"a file, {weights}, which says none")
    return _of_file(path, weights)


def _of_timm(name: str) -> Licence:
    """What timm's configuration of a network says of its weights."""
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    full = f"{config.architecture or name}.{config.tag}" if config and config.tag else name
    if config is None or not config.license:
        return Licence(UNKNOWN, f"timm's configuration of {full} names none")
    return Licence(str(config.license), f"timm's configuration of {full}")


def _of_torchvision(name: str) -> Licence:
    """What torchvision says of the weights that are taken for a network: its oldest ones."""
    return _of_entry(next(iter(torchvision.models.get_model_weights(name))))


def _of_entry(entry: Any) -> Licence:  # noqa: ANN401 - an enum of torchvision
    said = entry.meta.get("license")
    if said:
        return Licence(str(said), f"torchvision's description of {entry}")
    return Licence(
        UNKNOWN,
        f"torchvision's description of {entry} names none (the library itself is BSD-3-Clause)",
    )


def _of_file(path: Path, shown: str) -> Licence:
    """Of a user's own file: what it says itself, or what its digest tells."""
    said = _said_inside(path) if path.suffix == ".safetensors" else None
    if said:
        return Licence(said, f"the header of {shown}")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return Licence(UNKNOWN, f"a file, {shown}, which can not be read any more")
    return known_by_digest(digest) or Licence(UNKNOWN, f"a file, {shown}, which says none")


def _said_inside(path: Path) -> str | None:
    """The licence in a safetensors file's header."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= HEADER else {}
        about = header.get("__metadata__") or {}
        said = about.get("license") or about.get("licence")
    except (OSError, ValueError, AttributeError):
        return None
    return str(said)[:100] if said else None


def known_by_digest(sha256: str) -> Licence | None:
    """The licence of a file of timm's or torchvision's, whose names carry the digest's beginning.

    Args:
        sha256: Of the file, 64 hexadecimal digits.
    """
    found = next((found for start, found in _published() if sha256.startswith(start)), None)
    if found is None:
        return None
    return Licence(found.name, f"{found.source}, the file being that one by its sha256")


@cache
def _published() -> tuple[tuple[str, Licence], ...]:
    """The beginning of the digest of every published file, and its licence."""
    return tuple(_published_by_timm()) + tuple(_published_by_torchvision())


def _published_by_timm() -> Iterator[tuple[str, Licence]]:
    for name in timm.list_pretrained():
        config = timm.get_pretrained_cfg(name)
        if config is not None and (match := DIGEST.search(str(config.url or ""))):
            yield match[1], _of_timm(name)


def _published_by_torchvision() -> Iterator[tuple[str, Licence]]:
    for name in torchvision.models.list_models(module=torchvision.models):
        for entry in torchvision.models.get_model_weights(name):
            if match := DIGEST.search(entry.url):
                yield match[1], _of_entry(entry)

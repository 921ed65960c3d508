"""What is wrong with the data: findings, each with a severity and a remedy; leaks stop `fit`."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from layerwise.data.manifest import Manifest
from layerwise.errors import LeakError

SHOWN = 5  # examples that a finding names


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: "shared content", "shared patient", "contradicting labels", ….
        severity: A "leak" makes scores deceive; a "warning" is for the reader to weigh; a "note"
            is good to know.
        message: What it is, with counts and examples.
        remedy: What the user can do about it.
        images: Ids of the images concerned.
    """

    kind: str
    severity: Literal["leak", "warning", "note"]
    message: str
    remedy: str
    images: tuple[str, ...]


def leaks(manifest: Manifest, digests: NDArray[np.uint8] | None = None) -> list[Finding]:
    """Images and patients that stand in two splits, and equal images with different labels.

    Args:
        manifest: The data, with their splits as they will be used.
        digests: (N, 32) uint8 content digests, `ImageStore.digests`; None if not known.
    """
    found = []
    split = manifest.table["split"].tolist()
    patients = manifest.table["patient"].tolist()
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        if digests is not None:
            found += _shared(manifest, _contents(digests), split, (first, second), "content")
        found += _shared(manifest, patients, split, (first, second), "patient")
    if digests is not None:
        found += _contradictions(manifest, _contents(digests))
    return found


def check(
    manifest: Manifest, digests: NDArray[np.uint8] | None = None, *, allow_leaks: bool = False
) -> tuple[str, ...]:
    """Refuse data that leak from one split into another.

    Args:
        manifest: As for `leaks`.
        digests: As for `leaks`.
        allow_leaks: Go on all the same.

    Returns:
        What was found, as notes for the report.

    Raises:
        LeakError: An image or a patient is in two splits, and that was not allowed.
    """
    found = leaks(manifest, digests)
    refused = [finding.message for finding in found if finding.severity == "leak"]
    if refused and not allow_leaks:
        raise LeakError(
            f"{manifest.name}: scores on these data would deceive:\n  "
            + "\n  ".join(refused)
            + "\nmake another split with layerwise split --by patient, remove the images, or go on "
            "all the same with --allow-leaks (the report will say so)"
        )
    return tuple(
        f"leak, allowed by --allow-leaks: {f.message}" if f.severity == "leak" else f.message
        for f in found
    )


def _shared(
    manifest: Manifest,
    keys: list[str],
    split: list[str],
    parts: tuple[str, str],
    kind: Literal["content", "patient"],
) -> list[Finding]:
    """Keys ("" is none) that occur in both parts, as one finding or none."""
    members: dict[str, tuple[list[int], list[int]]] = {}
    for i, (key, part) in enumerate(zip(keys, split, strict=True)):
        if key and part in parts:
            members.setdefault(key, ([], []))[parts.index(part)].append(i)
    both = {key: sides for key, sides in members.items() if sides[0] and sides[1]}
    if not both:
        return []
    ids = manifest.table["id"]
    if kind == "patient":
        examples = ", ".join(list(both)[:SHOWN])
        message = f"{len(both)} patients are in both {parts[0]} and {parts[1]} ({examples}"
    else:
        pairs = [f"{ids.iloc[a[0]]} = {ids.iloc[b[0]]}" for a, b in list(both.values())[:SHOWN]]
        message = f"{len(both)} images are in both {parts[0]} and {parts[1]} ({', '.join(pairs)}"
    message += ", …)" if len(both) > SHOWN else ")"
    images = tuple(ids.iloc[i] for sides in both.values() for side in sides for i in side)
    remedy = (
        "make another split with layerwise split --by patient"
        if kind == "patient"
        else "remove one of each pair, or make another split with layerwise split"
    )
    return [Finding(f"shared {kind}", "leak", message, remedy, images)]


def _contradictions(manifest: Manifest, contents: list[str]) -> list[Finding]:
    """Images of equal content that are labelled differently."""
    same: dict[str, list[int]] = {}
    for i, content in enumerate(contents):
        same.setdefault(content, []).append(i)
    odd = [rows for rows in same.values() if len(rows) > 1 and _differ(manifest.targets[rows])]
    if not odd:
        return []
    ids = manifest.table["id"]
    pairs = [" = ".join(ids.iloc[i] for i in rows[:3]) for rows in odd[:SHOWN]]
    message = f"{len(odd)} images occur with different labels ({', '.join(pairs)}"
    message += ", …)" if len(odd) > SHOWN else ")"
    images = tuple(ids.iloc[i] for rows in odd for i in rows)
    remedy = "look at them, correct the labels, or remove the images"
    return [Finding("contradicting labels", "warning", message, remedy, images)]


def _differ(targets: NDArray[np.generic]) -> bool:
    """Whether any two rows of targets disagree; unknown (NaN) agrees with everything."""
    known = targets.astype(np.float64)
    low, high = np.nanmin, np.nanmax
    for column in known.reshape(len(known), -1).T:
        values = column[~np.isnan(column)]
        if len(values) and low(values) != high(values):
            return True
    return False


def _contents(digests: NDArray[np.uint8]) -> list[str]:
    return [row.tobytes().hex() for row in digests]

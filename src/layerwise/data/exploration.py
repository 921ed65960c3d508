"""What the data are, counted from the manifest and the headers alone: no picture is decoded.

The table of counts and the density of widths and heights are those of Buluttekin 2020, chapter 3
(Table 3.1, Figure 3.6). Everything is done on whole columns, so a million rows take seconds.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from layerwise.data.manifest import SPLITS, UNASSIGNED, Manifest
from layerwise.data.splits.dates import Dates, parse_dates
from layerwise.data.storage.headers import Headers
from layerwise.errors import DataError

BINS = 32  # of the density, on either axis, at most
WIDE = 8  # sizes that differ by more than this factor are binned by their logarithm
SQUARE = 0.02  # width and height that differ by no more than this share of the height are square
SMALL = 64  # pixels of a side: smaller pictures are not augmented unless asked
USUAL = 224  # pixels of a side that most pretrained networks take
COMMON = 8  # sizes that are listed one by one


def members(manifest: Manifest) -> NDArray[np.bool_]:
    """(N, K) bool: which images have which label (for multi-label: where it is 1)."""
    if manifest.task == "multilabel":
        return np.asarray(manifest.targets == 1)
    return np.asarray(manifest.targets[:, None] == np.arange(len(manifest.labels)))


def parts_of(manifest: Manifest) -> dict[str, NDArray[np.int64]]:
    """Rows of each part there is: train, val, test and those of none ("unassigned")."""
    found = {part or UNASSIGNED: manifest.indices(part) for part in (*SPLITS, "")}
    return {part: rows for part, rows in found.items() if len(rows)}


def count(manifest: Manifest) -> dict[str, Any]:
    """The table of counts, JSON-able.

    Args:
        manifest: The data, with the splits they came with.

    Returns:
        images; parts, by name: images, patients (None where none is known), labels (images of
        each), imbalance (most frequent label over the rarest), dates (first and last, or None);
        labels, by name: images, share (of those for which the label is known), patients, unknown;
        imbalance; dates (None without any; else kind, images, and the problem where they can not
        be compared); patients (None where none is known): count, images_without, images_each (min,
        median, max), with_images (how many patients have 1, 2, … 8 images), several_labels (how
        many have images of different labels; None for multi-label). Multi-label also has
        labels_an_image (how many images have 0, 1, 2, … labels) and together (K × K: how many
        images have both labels).
    """
    has = members(manifest)  # (N, K)
    people = _people(manifest)  # (N,), −1 where unknown
    parts = parts_of(manifest)
    totals = has.sum(axis=0)  # (K,)
    unknown = np.zeros(len(manifest.labels), np.int64)
    if manifest.task == "multilabel":
        unknown = np.isnan(manifest.targets).sum(axis=0)
    known = np.maximum(len(manifest) - unknown, 1)
    dates, told = _dates(manifest)
    out: dict[str, Any] = {
        "images": len(manifest),
        "parts": {
            part: {
                "images": len(rows),
                "patients": _distinct(people[rows]),
                "labels": _named(manifest, has[rows].sum(axis=0)),
                "imbalance": _ratio(has[rows].sum(axis=0)),
                "dates": _span(dates, rows),
            }
            for part, rows in parts.items()
        },
        "labels": {
            label: {
                "images": int(totals[k]),
                "share": float(totals[k] / known[k]),
                "patients": _distinct(people[has[:, k]]) if (people >= 0).any() else None,
                "unknown": int(unknown[k]),
            }
            for k, label in enumerate(manifest.labels)
        },
        "imbalance": _ratio(totals),
        "dates": told,
        "patients": _patients(people, has, manifest.task == "multilabel"),
    }
    if manifest.task == "multilabel":
        each = np.bincount(has.sum(axis=1))
        out["labels_an_image"] = each.tolist()
        both = has.astype(np.float64)  # (N, K); sums of ones are exact
        out["together"] = (both.T @ both).astype(np.int64).tolist()
    return out


def _people(manifest: Manifest) -> NDArray[np.int64]:
    """(N,) a number for each patient, −1 where it is not known."""
    codes, names = pd.factorize(manifest.table["patient"])
    blank = np.flatnonzero(np.asarray(names) == "")
    return np.asarray(np.where(np.isin(codes, blank), -1, codes), dtype=np.int64)


def _distinct(people: NDArray[np.int64]) -> int | None:
    """How many patients; None where none is known."""
    found = int(np.count_nonzero(np.bincount(people[people >= 0])))
    return found or None


def _named(manifest: Manifest, numbers: NDArray[np.int64]) -> dict[str, int]:
    return dict(zip(manifest.labels, numbers.tolist(), strict=True))


def _ratio(totals: NDArray[np.int64]) -> float:
    """The most frequent over the rarest, as in `fingerprint`; one that is absent counts as 1."""
    return float(totals.max() / max(1, totals.min()))


def _dates(manifest: Manifest) -> tuple[Dates | None, dict[str, Any] | None]:
    """The dates, and what is to be said of them: kind and images, or why they can not be read."""
    texts = manifest.table["date"].tolist()
    if not any(texts):
        return None, None
    try:
        dates = parse_dates(texts, manifest.table["id"].tolist())
    except DataError as error:
        return None, {"kind": None, "images": 0, "problem": str(error)}
    return dates, {"kind": dates.kind, "images": int(dates.known.sum()), "problem": None}


def _span(dates: Dates | None, rows: NDArray[np.int64]) -> list[str] | None:
    """First and last day; None where none is known."""
    if dates is None or not dates.known[rows].any():
        return None
    known = dates.days[rows][dates.known[rows]]
    return [dates.text(int(known.min())), dates.text(int(known.max()))]


def _patients(
    people: NDArray[np.int64], has: NDArray[np.bool_], multilabel: bool
) -> dict[str, Any] | None:
    """How many patients, how many images each, and who has images of different labels."""
    known = people >= 0
    if not known.any():
        return None
    each = np.bincount(people[known])
    each = each[each > 0]  # (patients,) images
    several = None
    if not multilabel:
        label = has.argmax(axis=1)[known]
        pairs = np.unique(people[known] * has.shape[1] + label)
        several = int((np.bincount(pairs // has.shape[1]) > 1).sum())
    return {
        "count": len(each),
        "images_without": int((~known).sum()),
        "images_each": {
            "min": int(each.min()),
            "median": float(np.median(each)),
            "max": int(each.max()),
        },
        "with_images": np.bincount(each)[1:].tolist()[:COMMON],
        "several_labels": several,
    }


@dataclass(frozen=True, eq=False)
class Sizes:
    """Widths and heights of the pictures whose headers could be read, in pixels."""

    widths: NDArray[np.float64]  # (Bx + 1,) edges of the bins; the last bin holds its right edge
    heights: NDArray[np.float64]  # (By + 1,)
    density: NDArray[np.int64]  # (By, Bx) images in each bin
    by_label: tuple[NDArray[np.int64], NDArray[np.int64]]  # (K, Bx) and (K, By)
    logarithmic: bool  # the bins are even in the logarithm
    facts: dict[str, Any]  # JSON-able, see `size_up`


def size_up(manifest: Manifest, headers: Headers) -> Sizes | None:
    """The density of widths and heights, and what files the pictures are in.

    Args:
        manifest: The data.
        headers: Of the same rows.

    Returns:
        None where no header could be read. `facts` holds: images, distinct (different sizes),
        width and height (min, q25, median, q75, max each), aspect (width over height: min, median,
        max), portrait, square and landscape (images), common (the most frequent sizes as [width,
        height, images]), below_224 (pictures with a side shorter than that, the usual size for
        networks), files (format, channels "grey" or "colour", bits, images, labels: images
        of each) and labels, by name: width, height and aspect (medians; None without images).
    """
    rows = np.flatnonzero(headers.sizes[:, 0] > 0)
    if not len(rows):
        return None
    height, width = headers.sizes[rows].T  # (n,) each
    has = members(manifest)[rows]
    wide = bool(max(width.max() / width.min(), height.max() / height.min()) > WIDE)
    widths, heights = _edges(width, wide), _edges(height, wide)
    density = np.histogram2d(height, width, (heights, widths))[0].astype(np.int64)
    each = [has[:, k] for k in range(has.shape[1])]
    by_width = np.stack([np.histogram(width[own], widths)[0] for own in each])
    by_height = np.stack([np.histogram(height[own], heights)[0] for own in each])
    aspect = width / height
    square = np.abs(width - height) <= SQUARE * height
    pairs, many = np.unique(np.stack([width, height]), axis=1, return_counts=True)
    order = np.argsort(-many, kind="stable")[:COMMON]
    facts = {
        "images": len(rows),
        "distinct": pairs.shape[1],
        "width": _spread(width),
        "height": _spread(height),
        "aspect": _spread(aspect),
        "portrait": int(((aspect < 1) & ~square).sum()),
        "square": int(square.sum()),
        "landscape": int(((aspect > 1) & ~square).sum()),
        "below_224": int((np.minimum(width, height) < USUAL).sum()),
        "common": [[*pairs[:, i].tolist(), int(many[i])] for i in order],
        "files": _files(manifest, headers.take(rows), has),
        "labels": {
            label: {
                "width": float(np.median(width[own])) if own.any() else None,
                "height": float(np.median(height[own])) if own.any() else None,
                "aspect": float(np.median(aspect[own])) if own.any() else None,
            }
            for label, own in zip(manifest.labels, each, strict=True)
        },
    }
    return Sizes(widths, heights, density, (by_width, by_height), wide, facts)


def _edges(values: NDArray[np.int64], wide: bool) -> NDArray[np.float64]:
    """(B + 1,) edges of at most 32 bins; even ones are never narrower than a pixel."""
    low, high = int(values.min()), int(values.max()) + 1
    bins = min(BINS, high - low)
    if wide:
        return np.geomspace(low, high, bins + 1)
    return np.linspace(low, high, bins + 1)


def _spread(values: NDArray[Any]) -> dict[str, float]:
    names = ("min", "q25", "median", "q75", "max")
    return dict(zip(names, np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist(), strict=True))


def _files(manifest: Manifest, headers: Headers, has: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Kinds of file, the most frequent first."""
    kinds = {"format": headers.formats, "grey": headers.grey, "bits": headers.bits}
    which = pd.DataFrame(kinds).groupby(list(kinds)).ngroup().to_numpy()  # (n,)
    found: list[dict[str, Any]] = []
    for number in range(int(which.max()) + 1):
        rows = np.flatnonzero(which == number)
        found.append(
            {
                "format": str(headers.formats[rows[0]]),
                "channels": "grey" if headers.grey[rows[0]] else "colour",
                "bits": int(headers.bits[rows[0]]),
                "images": len(rows),
                "bytes": float(np.median(headers.bytes[rows])),
                "labels": _named(manifest, has[rows].sum(axis=0)),
            }
        )
    return sorted(found, key=lambda kind: -kind["images"])


def draw_rows(manifest: Manifest, per_label: int, seed: int) -> dict[str, NDArray[np.int64]]:
    """Rows drawn at random for the sample sheets: for each label at most `per_label`, no row twice.

    Args:
        manifest: The data.
        per_label: How many of each label.
        seed: Other seeds, other rows. The rows of a label do not depend on the other labels.
    """
    has = members(manifest)
    out = {}
    for k, label in enumerate(manifest.labels):
        own = np.flatnonzero(has[:, k])
        out[label] = np.random.default_rng([seed, k]).permutation(own)[:per_label]
    return out


def suited_preset(side: float, channels: int) -> str:
    """The augmentation that pictures call for where the user names none.

    Args:
        side: The shorter side of the middle picture, before it was resized: a digit of 28 pixels
            is no photograph, and its mirror image no digit.
        channels: 1 where all pictures are grey.
    """
    if side < SMALL:
        return "none"
    return "radiograph" if channels == 1 else "natural"

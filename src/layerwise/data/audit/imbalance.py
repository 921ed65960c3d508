"""Findings about how many images, and patients, each label has in each part."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from layerwise.data.audit.findings import SHOWN, Finding, examples, number
from layerwise.data.manifest import SPLITS, Manifest

RATIO = 10.0  # the most frequent class over the rarest, from which it is a warning
MILD = 4.0  # … and from which it is a note
FEW = 10  # images (or patients) of a class in a part, below which its scores mean little


def class_counts(manifest: Manifest) -> list[Finding]:
    """One class far more frequent than another, and classes with hardly any image, part by part.

    For multi-label data each label is held against the images known not to have it.
    """
    found = []
    people = _people(manifest)
    for part in (*SPLITS, ""):
        rows = manifest.indices(part)
        if len(rows):
            where = f"in {part}" if part else "in the data"
            found += _ratio(manifest, rows, where) + _few(manifest, rows, people[rows], where)
    return found


def _ratio(manifest: Manifest, rows: NDArray[np.int64], where: str) -> list[Finding]:
    """At most one finding on imbalance."""
    counts = manifest.per_label(rows)
    if manifest.task == "multilabel":
        absent = (manifest.targets[rows] == 0).sum(axis=0)
        ratios = absent / np.maximum(counts, 1)
        order = [k for k in np.argsort(-ratios, kind="stable") if ratios[k] >= RATIO]
        if not order:
            return []
        worst = [f"{manifest.labels[k]} {ratios[k]:,.0f}:1" for k in order[:SHOWN]]
        message = (
            f"labels with at least {RATIO:.0f} images without them for each with them {where}: "
            f"{examples(worst, len(order))}"
        )
    else:
        present = np.flatnonzero(counts)
        if len(present) < 2:
            return []
        most, least = present[counts[present].argmax()], present[counts[present].argmin()]
        ratio = counts[most] / counts[least]
        if ratio < MILD:
            return []
        message = (
            f"classes are unequal {where}: {manifest.labels[most]} {counts[most]:,}, "
            f"{manifest.labels[least]} {counts[least]:,}, which is {ratio:.1f}:1"
        )
        if ratio < RATIO:
            return [Finding("class imbalance", "note", message, _BALANCE, ())]
    return [Finding("class imbalance", "warning", message, _BALANCE, ())]


_BALANCE = "judge by AUROC and AUPRC rather than accuracy; consider --balance"


def _people(manifest: Manifest) -> NDArray[np.int64]:
    """(N,) a number for the patient of each image, or for the image where none is known."""
    codes = pd.factorize(manifest.table["patient"])[0].astype(np.int64)
    unknown = (manifest.table["patient"] == "").to_numpy()
    return np.where(unknown, len(codes) + np.arange(len(codes)), codes)


def _few(
    manifest: Manifest, rows: NDArray[np.int64], groups: NDArray[np.int64], where: str
) -> list[Finding]:
    """At most one finding on labels with too few images or patients."""
    counts = manifest.per_label(rows)
    told, images = [], []
    ids = manifest.table["id"].to_numpy(dtype=object)[rows]
    targets = manifest.targets[rows]
    for k, label in enumerate(manifest.labels):
        has = targets[:, k] == 1 if manifest.task == "multilabel" else targets == k
        people = len(np.unique(groups[has]))
        if people < FEW:
            of = f" of {number(people, 'patient')}" if people < counts[k] else ""
            told.append(f"{label} {number(int(counts[k]), 'image')}{of}")
            images += ids[has].tolist()
    if not told:
        return []
    message = f"labels with fewer than {FEW} images or patients {where}: {examples(told)}"
    remedy = "add images of them, or leave the labels out: their scores will mean little"
    return [Finding("few images", "warning", message, remedy, tuple(images))]

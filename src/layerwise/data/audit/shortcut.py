"""The shortcut probe: does something that is not the picture predict the label?

Where classes come from different hospitals, the size, the file type or the border of a picture may
give its class away, and a network will learn that. A small classification tree looks at these
alone, in five folds by patient; its AUROC on the held-out images says how much they tell.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.data.audit.findings import Finding
from layerwise.data.audit.quality import Looks
from layerwise.data.audit.thumbnails import drawn
from layerwise.data.manifest import Manifest
from layerwise.data.storage.headers import Headers

LIMIT = 0.75  # AUROC from which it is a warning …
LOWER = 0.65  # … if its interval begins above this
FEWEST = 20  # images with a label, and without, for it to be judged
MOST = 5_000  # images looked at, drawn at random
FOLDS = 5
LEAVES = 16  # of the tree
RESAMPLES = 200  # of patients, for the interval
SMALLEST = 64  # pixels of a side: in smaller pictures the border is a part of what is shown

TOGETHER = "size, type and border together"
PARTLY = ("file size", "the border")  # what is shown has its part in these

REMEDY = (
    "a network may learn that instead: see where the images of each label come from; take them "
    "from one source, or crop, resize and re-encode all alike, and compare every score with this"
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Probe:
    """How well one group of features predicts one label."""

    feature: str  # "image width", …, or "all of these together"
    label: str
    auroc: float  # of held-out images
    low: float  # 95% interval, by patient
    high: float


def shortcuts(
    manifest: Manifest, headers: Headers | None, looks: Looks | None, seed: int = 0
) -> list[Finding]:
    """A warning for each group of features that predicts a label too well, the best one first.

    "Too well" is an AUROC of 0.75 or more whose interval begins above 0.65.

    Args:
        manifest: The data.
        headers: What `read_headers` returned for the same rows, None if not read.
        looks: What `look` returned for the same rows; None without pictures, or where borders say
            nothing (pictures below 64 pixels, letterboxed ones).
        seed: Of the draw, the folds and the resamples.
    """
    told = probes(manifest, headers, looks, seed)
    above = [p for p in told if p.auroc >= LIMIT and p.low > LOWER]
    if any(p.feature != TOGETHER for p in above):
        above = [p for p in above if p.feature != TOGETHER]
    groups: dict[str, list[Probe]] = {}
    for probe in sorted(above, key=lambda p: -p.auroc):
        groups.setdefault(probe.feature, []).append(probe)
    found = []
    for feature, good in groups.items():
        each = [f"{p.label} with AUROC {p.auroc:.2f} ({p.low:.2f}–{p.high:.2f})" for p in good]
        partly = " (the picture has a part in it)" if feature in PARTLY else ""
        message = f"{feature}{partly} alone predicts {', '.join(each)}"
        found.append(Finding("shortcut", "warning", message, REMEDY, ()))
    return found


def probes(
    manifest: Manifest, headers: Headers | None, looks: Looks | None, seed: int = 0
) -> list[Probe]:
    """What every group of features tells about every label; arguments as for `shortcuts`."""
    groups = _features(headers, looks)
    if not groups or len(manifest) < 2 * FEWEST:
        return []
    rows = drawn(len(manifest), MOST, seed)
    table = manifest.table.iloc[rows]
    own = "image:" + table["id"]  # as `Manifest.groups`, for these rows alone
    names = table["patient"].where(table["patient"] != "", own).to_numpy(dtype=str)
    patient = np.unique(names, return_inverse=True)[1]
    people = int(patient.max()) + 1
    random = np.random.default_rng(seed)
    fold = random.permutation(people)[patient] % FOLDS
    # How often each image's patient is drawn, (R, n).
    draws = random.multinomial(people, np.full(people, 1 / people), RESAMPLES)[:, patient]
    out = []
    for feature, values in groups.items():
        for label, known, truth, score in _held_out(manifest, rows, values[rows], fold):
            auroc = weighted_auroc(truth, score, np.ones((1, len(truth))))[0]
            drawn_ones = weighted_auroc(truth, score, draws[:, known])
            low, high = np.nanquantile(drawn_ones, [0.025, 0.975])
            out.append(Probe(feature, label, float(auroc), float(low), float(high)))
    return out


def _features(headers: Headers | None, looks: Looks | None) -> dict[str, Floats]:
    """Groups of features (N, F) by name, those that differ between pictures, and all together."""
    groups: dict[str, NDArray[Any]] = {}
    if headers is not None:
        height, width = headers.sizes.T.astype(np.float64)
        groups["image height"], groups["image width"] = height, width
        groups["aspect ratio"] = width / np.maximum(height, 1)
        groups["grey or colour mode"] = headers.grey
        groups["bit depth"] = headers.bits
        kinds = np.unique(headers.formats)
        groups["file type"] = headers.formats[:, None] == kinds
        groups["file size"] = headers.bytes
    if looks is not None:
        groups["the border"] = looks.borders
    columns = {name: np.asarray(v, np.float64).reshape(len(v), -1) for name, v in groups.items()}
    told = {name: v for name, v in columns.items() if len(v) and (v != v[0]).any()}
    if len(told) > 1:
        told[TOGETHER] = np.hstack(list(told.values()))
    return told


def _held_out(
    manifest: Manifest, rows: NDArray[np.int64], values: Floats, fold: NDArray[np.int64]
) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.bool_], Floats]]:
    """For each label that can be judged: name, images (M,), truth (M,) and held-out scores (M,)."""
    targets = manifest.targets[rows]
    if manifest.task != "multilabel":
        everything = np.arange(len(rows))
        scores = _scores(values, targets, fold, len(manifest.labels))
        first = 1 if manifest.task == "binary" else 0
        for k in range(first, len(manifest.labels)):
            truth = targets == k
            if min(truth.sum(), (~truth).sum()) >= FEWEST:
                yield manifest.labels[k], everything, truth, scores[:, k]
        return
    for k, label in enumerate(manifest.labels):
        known = np.flatnonzero(~np.isnan(targets[:, k]))
        truth = targets[known, k] == 1
        if min(truth.sum(), (~truth).sum()) >= FEWEST:
            scores = _scores(values[known], truth.astype(np.int64), fold[known], 2)
            yield label, known, truth, scores[:, 1]


def _scores(
    values: Floats, targets: NDArray[np.int64], fold: NDArray[np.int64], classes: int
) -> Floats:
    """(n, K) the probabilities that a tree, which has not seen the image, gives."""
    from sklearn.tree import DecisionTreeClassifier

    out = np.zeros((len(values), classes))
    for held in np.unique(fold):
        test = fold == held
        if test.all():
            continue
        least = max(5, int((~test).sum()) // 100)
        tree = DecisionTreeClassifier(
            max_leaf_nodes=LEAVES, min_samples_leaf=least, class_weight="balanced", random_state=0
        )
        tree.fit(values[~test], targets[~test])
        out[np.ix_(test, tree.classes_)] = tree.predict_proba(values[test])
    return out


def weighted_auroc(truth: NDArray[np.bool_], score: Floats, weights: NDArray[Any]) -> Floats:
    """(R,) the area under the ROC curve for each row of weights (R, n); NaN without both classes.

    The chance that a positive scores above a negative, ties counting one half (Bamber 1975).
    """
    values, place = np.unique(score, return_inverse=True)
    spots = np.zeros((len(score), len(values)), np.float32)  # trees give few different scores
    spots[np.arange(len(score)), place] = 1
    weights = np.asarray(weights, np.float32)  # counts, so exact
    positive = (weights * truth) @ spots  # (R, V)
    negative = (weights * ~truth) @ spots
    below = np.cumsum(negative, axis=1) - negative / 2
    total = positive.sum(axis=1, dtype=np.float64) * negative.sum(axis=1, dtype=np.float64)
    area = (positive.astype(np.float64) * below).sum(axis=1)
    return np.where(total > 0, area / np.maximum(total, 1), np.nan)

"""The statistics that a bundle carries: of its training pictures and its validation answers."""

from typing import Any

import numpy as np

from layerwise.data.manifest import Manifest
from layerwise.data.storage.headers import read_headers
from layerwise.data.storage.store import ImageStore
from layerwise.evaluation.metrics import Threshold
from layerwise.evaluation.operating import decide
from layerwise.evaluation.predictions import Predictions
from layerwise.serving.statistics import reference

MOST = 3000  # training pictures that are looked at
CHUNK = 64


def statistics_of(
    manifest: Manifest, store: ImageStore, validation: Predictions, threshold: Threshold
) -> dict[str, Any]:
    """What a bundle carries for `layerwise drift`, JSON-able.

    All training pictures are looked at, or the same 3,000 of them every time.

    Args:
        manifest: The data, with their parts.
        store: Their pictures, row by row.
        validation: What the model says of the validation part.
        threshold: Of its decisions.
    """
    rows = manifest.indices("train")
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:MOST])
    sizes = read_headers(manifest.take(rows)).sizes  # (n, 2)
    chunks = (store.read(rows[start : start + CHUNK]) for start in range(0, len(rows), CHUNK))
    decisions = decide(manifest.task, validation.scores, threshold)
    made = reference(
        manifest.task,
        manifest.labels,
        chunks,
        [(int(height), int(width)) for height, width in sizes],
        validation.scores,
        decisions,
    )
    return made.to_json()

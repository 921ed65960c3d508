"""Results as plain values, for JSON and for the tables of a page. No torch here."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def finite(value: Any) -> Any:  # noqa: ANN401 - any JSON-able value
    """The same in plain Python values, with None in place of numbers that JSON does not know."""
    if isinstance(value, (np.generic, np.ndarray)):
        return finite(value.tolist())
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def part_counts(counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Images by split and label."""
    labels = list(dict.fromkeys(label for split in counts.values() for label in split))
    names = {"train": "training", "val": "validation", "test": "test", "": "not used"}
    rows = []
    for split, by_label in counts.items():
        total = sum(by_label.values())
        each = [
            (f"{by_label.get(la, 0):,}", f"{100 * by_label.get(la, 0) / total:.0f}%")
            if total
            else ("0", "")
            for la in labels
        ]
        rows.append((names.get(split, split), each, f"{total:,}"))
    return {"labels": labels, "rows": rows}

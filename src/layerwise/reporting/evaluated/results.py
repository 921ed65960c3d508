"""What a bundle scores on labelled data, as `results.json` has it. No torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerwise import __version__
from layerwise.evaluation.intervals import bootstrap
from layerwise.evaluation.metrics import METRICS, Task, Threshold
from layerwise.evaluation.operating import reliability
from layerwise.evaluation.predictions import Predictions
from layerwise.evaluation.subgroups import SMALL, Subgroup
from layerwise.reporting.evidence import Evidence
from layerwise.reporting.figures import calibration_pairs
from layerwise.reporting.plain import finite

WHERE = {
    "test": "the test part",
    "validation": "the validation part",
    "train": "the training part",
    "all": "all images",
}


@dataclass(frozen=True)
class Measured:
    """What was measured, before anything is computed of it.

    Attributes:
        task: Of the bundle, as are the next three.
        labels: Its labels.
        threshold: Where it decides.
        bundle: Its name, id, provenance and preprocessing, JSON-able.
        said: What it says of the images.
        subgroups: Of the images.
        data: As `results.json` has it: name, fingerprint, labels, counts.
        part: "test", "validation", "train" or "all".
        fitted: Whether the bundle was fitted on these data.
        notes: What was found or decided.
        warnings: Why the scores may deceive.
    """

    task: Task
    labels: Sequence[str]
    threshold: Threshold
    bundle: Mapping[str, Any]
    said: Predictions
    subgroups: Sequence[Subgroup]
    data: Mapping[str, Any]
    part: str
    fitted: bool
    notes: Sequence[str]
    warnings: Sequence[str]

    @property
    def evidence(self) -> Evidence:
        """What the figures are drawn from."""
        said = self.said
        return Evidence(
            self.task,
            self.labels,
            said.targets,
            said.scores,
            self.threshold,
            said.groups,
            where=WHERE[self.part],
        )


def results_of_evaluation(
    found: Measured, command: str, seconds: float, seed: int, draws: int
) -> dict[str, Any]:
    """Every metric with its interval; JSON-able, NaN as None.

    Args:
        found: What was measured.
        command: As the user typed it.
        seconds: Wall-clock time.
        seed: Of the resamples.
        draws: How many resamples.
    """
    said = found.said
    how: dict[str, Any] = {"draws": draws, "seed": seed}
    test = bootstrap(
        found.task,
        said.targets,
        said.scores,
        found.threshold,
        said.groups,
        labels=list(found.labels),
        **how,
    )
    origin = found.bundle["provenance"]
    name = str(found.bundle["name"])
    run = {
        "id": origin.get("run") or found.bundle["id"],
        "name": name,
        "kind": "bundle",
        "model": origin.get("model") or name,
        "transfer": origin.get("transfer"),
        "state": "done",
        "seconds": seconds,
        "parameters": None,
        "validation": test if found.part == "validation" else {},
    }
    results = {
        "layerwise": __version__,
        "command": command,
        "seed": seed,
        "seconds": round(seconds, 1),
        "data": dict(found.data),
        "bundle": {key: found.bundle[key] for key in ("id", "name")},
        "part": found.part,
        "fitted_on_these_data": found.fitted,
        "images": len(said.ids),
        "patients": len(np.unique(said.groups)),
        "runs": [run],
        "chosen": run["id"],
        "threshold": found.threshold,
        "test": test,
        "calibration": _calibration(found.evidence),
        "subgroups": [_subgroup(found, one, how) for one in found.subgroups],
        "notes": list(found.notes),
        "warnings": [*found.warnings, *_small(found.subgroups)],
    }
    return dict(finite(results))


def _subgroup(found: Measured, one: Subgroup, how: Mapping[str, Any]) -> dict[str, Any]:
    """One subgroup's metrics, resampled within it."""
    said, rows = found.said, one.rows
    metrics = bootstrap(
        found.task, said.targets[rows], said.scores[rows], found.threshold, said.groups[rows], **how
    )
    return {
        "column": one.column,
        "value": one.value,
        "images": one.images,
        "patients": one.patients,
        "small": one.small,
        "counts": _counts(found, rows),
        **{name: metrics[name] for name in METRICS},
    }


def _counts(found: Measured, rows: Any) -> dict[str, int]:  # noqa: ANN401 - a mask
    targets = found.said.targets[rows]
    if found.task == "multilabel":
        each = [int((targets[:, k] == 1).sum()) for k in range(len(found.labels))]
    else:
        each = [int((targets == k).sum()) for k in range(len(found.labels))]
    return dict(zip(found.labels, each, strict=True))


def _calibration(evidence: Evidence) -> dict[str, Any]:
    """Whether probabilities come true: the error, and ten bins."""
    truth, score, what = calibration_pairs(evidence)
    bins = reliability(truth, score)
    sides = ("score", "rate", "low", "high", "count")
    return {
        "what": what,
        "error": bins["error"],
        "bins": [{side: bins[side][k] for side in sides} for k in range(len(bins["count"]))],
    }


def _small(subgroups: Sequence[Subgroup]) -> list[str]:
    """A warning where groups are too small to tell anything."""
    small = [f"{one.name} ({one.images} images)" for one in subgroups if one.small]
    if not small:
        return []
    return [
        f"Too few to tell: {', '.join(small)}. A group needs {SMALL} patients with a label and "
        f"{SMALL} without it; intervals of fewer are narrower than they should be."
    ]

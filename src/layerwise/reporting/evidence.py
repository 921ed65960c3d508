"""What a report is made of, beside `results.json`: arrays, pictures and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from layerwise.evaluation.metrics import Task, Threshold

Interval = Mapping[str, float | None]
"""{"value", "low", "high"}; None or NaN where not defined."""


@dataclass(frozen=True)
class ProfilePoint:
    """One cut of the depth profile: what a linear layer on top of it reaches."""

    cut: str  # the module's name
    channels: int  # of its output
    stride: int  # of its output, in pixels of the input
    parameters: int  # below the cut
    macs: int  # multiply–adds below the cut, one image
    auroc: Interval  # on validation
    chosen: bool  # the chosen run cuts or freezes here


@dataclass(frozen=True)
class Explanation:
    """A picture of the test part, what was decided, and where that came from."""

    id: str
    image: npt.NDArray[np.uint8]  # (H, W) or (H, W, 3)
    heat: npt.NDArray[np.floating[Any]]  # (H, W), from 0 to 1
    truth: str  # the label's name
    decision: str  # the label's name
    probability: float  # of the decision
    right: bool


@dataclass(frozen=True)
class Evidence:
    """Everything a report shows that `results.json` does not hold."""

    task: Task
    labels: Sequence[str]
    targets: npt.NDArray[Any]  # test: (N,) or (N, K) with NaN
    scores: npt.NDArray[Any]  # test: (N, 1) or (N, K)
    threshold: Threshold
    groups: npt.NDArray[Any] | None = None  # test: (N,) patients
    validation_targets: npt.NDArray[Any] | None = None
    validation_scores: npt.NDArray[Any] | None = None
    profile: Sequence[ProfilePoint] = ()  # from the pixels up
    explanations: Sequence[Explanation] = ()
    notes: Sequence[str] = ()  # what was guessed, changed or left out
    fingerprint: Mapping[str, Any] = field(default_factory=dict)  # of the data, any nesting
    plan: Mapping[str, Any] = field(default_factory=dict)  # plan.json
    floors: Mapping[str, Mapping[str, Mapping[str, Interval]]] = field(default_factory=dict)
    """{"validation": {"dummy": {metric: interval}}, "test": {...}}. A floor's test metrics may
    hold "difference": the paired difference of AUROC, chosen network − floor."""
    reproduce: Sequence[str] = ()  # shell commands
    samples: Sequence[tuple[str, npt.NDArray[np.uint8]]] = ()  # (label, picture)
    where: str = "the test part"  # what was measured, within a sentence
    transfer_comparison: Sequence[Mapping[str, Any]] | None = None
    """Rows {"name", "cut", "accuracy": interval}, one name a curve (AnB, AnB+, …); a row whose
    cut is None (random initialisation) is a level line."""

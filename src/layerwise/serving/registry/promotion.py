"""Whether a new bundle may take the champion's place: a paired non-inferiority test, and why.

Both bundles are measured on the same images. A difference is new − champion, turned so that more
is better, with the percentile interval of a bootstrap that draws patients and scores both bundles
on each draw: what makes an image hard cancels.

Four rules, and all must hold. That none can be met in the place of another makes no false
promotion more likely (an intersection–union test: Berger 1982), so nothing is corrected here.

1. Labels. Task and labels are those of the champion, in its order.
2. Not inferior. The lower end of the interval of the difference lies above −margin. With 95%
   intervals a bundle that is worse by just the margin is promoted once in forty times (one-sided
   2.5%), and less often where it is worse by more. This asks the new bundle to show that it is not
   worse: too few images refuse it.
3. No subgroup falls. A subgroup blocks if its difference is below −limit and its interval lies
   below 0. Here the burden is turned round, because no small group could ever show that it is not
   worse: it blocks where a fall past the limit was measured and is more than noise. In a group
   with many patients that is a fall past the limit. Groups with too few patients to tell anything
   (`subgroups.SMALL`) do not block; they are named. The intervals are not corrected for the number
   of groups: a harm that is overlooked weighs more than a second look (ICH E9, 1998, §6.4, says so
   of safety). The price is that of G groups in which nothing changed at most G · 2.5% block by
   chance, and only those whose noise alone exceeds the limit. The decision says how many were
   looked at, and gives Holm's p-values beside.
4. What was asked for: the fall of sensitivity or of specificity at each bundle's own threshold
   (the lower end of its interval above −limit), and floors (the lower end of the new bundle's own
   interval at or above the floor), which are all that a first bundle has to meet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.errors import LayerwiseError
from layerwise.evaluation.estimates import Estimate, holm, task_estimates
from layerwise.evaluation.metrics import METRICS, Task, Threshold
from layerwise.evaluation.predictions import Predictions
from layerwise.evaluation.subgroups import Subgroup
from layerwise.serving.registry import reasons

LOWER_IS_BETTER = ("brier",)


@dataclass(frozen=True)
class Rules:
    """What a new bundle has to show."""

    metric: str = "auroc"
    """One of `metrics.METRICS`."""
    margin: float = 0.01
    """How much worse still counts as not worse."""
    alpha: float = 0.05
    """1 less the level of every interval: 0.05 for 95%."""
    subgroup_limit: float = 0.05
    """How far a subgroup may fall."""
    recall_limit: float | None = None
    """How far sensitivity may fall; None: not looked at."""
    specificity_limit: float | None = None
    """How far specificity may fall; None: not looked at."""
    floors: Mapping[str, float] = field(default_factory=dict)
    """By metric, what the new bundle must reach by itself (the Brier score: not exceed)."""
    draws: int = 2000
    seed: int = 0

    @property
    def level(self) -> str:
        """Of the intervals: 95%."""
        return f"{100 * (1 - self.alpha):g}%"

    def __post_init__(self) -> None:
        """Refuse what makes no sense; LayerwiseError naming the flag."""
        for flag, metric in [("--metric", self.metric), *(("--floor", m) for m in self.floors)]:
            if metric not in METRICS:
                raise LayerwiseError(
                    f"{flag} {metric!r} is unknown; it is one of {', '.join(METRICS)}"
                )
        if not 0.001 <= self.alpha <= 0.5:
            raise LayerwiseError(f"--alpha {self.alpha} is not from 0.001 to 0.5; write 0.05")
        limits = {
            "--margin": self.margin,
            "--subgroup-limit": self.subgroup_limit,
            "--recall-limit": self.recall_limit,
            "--specificity-limit": self.specificity_limit,
        }
        for flag, limit in limits.items():
            if limit is not None and not 0 <= limit < 1:
                raise LayerwiseError(f"{flag} {limit} is not from 0 to below 1; write 0.01")


@dataclass(frozen=True)
class Judged:
    """A bundle and what it says of the images."""

    id: str
    name: str
    task: Task
    labels: tuple[str, ...]
    threshold: Threshold
    said: Predictions | None
    """None where it can not be asked: its labels are others."""


@dataclass(frozen=True)
class Check:
    """One rule, applied."""

    rule: str
    passed: bool
    reason: str
    """A sentence with its numbers."""
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What follows for a new bundle, and why.

    Attributes:
        checks: Every rule that was applied.
        warnings: What could not be told.
        new: The new bundle: id, name, threshold, metrics with intervals; JSON-able.
        champion: The same of the champion, or None.
        rules: What was asked.
    """

    checks: Sequence[Check]
    warnings: Sequence[str]
    new: Mapping[str, Any]
    champion: Mapping[str, Any] | None
    rules: Rules

    @property
    def promoted(self) -> bool:
        """Whether every rule holds."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> list[str]:
        """The sentences, those that refuse first."""
        ordered = sorted(self.checks, key=lambda check: check.passed)
        return [check.reason for check in ordered]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able but for NaN."""
        return {
            "promoted": self.promoted,
            "reasons": self.reasons,
            "warnings": list(self.warnings),
            "checks": [asdict(check) for check in self.checks],
            "rules": {**asdict(self.rules), "floors": dict(self.rules.floors)},
            "new": dict(self.new),
            "compared_with": None if self.champion is None else dict(self.champion),
        }


def decide(
    new: Judged, champion: Judged | None, subgroups: Sequence[Subgroup], rules: Rules
) -> Decision:
    """Apply the rules.

    Args:
        new: The bundle that may become champion.
        champion: The present one, on the same images in the same order; None: there is none.
        subgroups: Of these images.
        rules: What is asked.
    """
    if champion is not None and (new.task, new.labels) != (champion.task, champion.labels):
        check = Check("labels", False, reasons.other_labels(_about(new), _about(champion)))
        return Decision([check], [], _about(new), _about(champion), rules)
    ours = _estimates(new, rules)
    checks = [_floor(metric, ours[metric], rules) for metric in rules.floors]
    if champion is None:
        checks.insert(0, Check("first", True, reasons.first(bool(checks))))
        return Decision(checks, [], _about(new, ours, rules), None, rules)
    theirs = _estimates(champion, rules)
    checks.insert(0, _not_inferior(new, ours, theirs, rules))
    for metric, limit in (
        ("recall", rules.recall_limit),
        ("specificity", rules.specificity_limit),
    ):
        if limit is not None:
            checks.append(_limited(metric, limit, ours[metric], theirs[metric], rules))
    check, warnings = _subgroups(new, champion, subgroups, rules)
    return Decision(
        [*checks, check],
        warnings,
        _about(new, ours, rules),
        _about(champion, theirs, rules),
        rules,
    )


def interval_of(estimate: Estimate, alpha: float) -> dict[str, float]:
    """A value with the percentile interval of its draws, at the level 1 − alpha."""
    draws = estimate.draws[~np.isnan(estimate.draws)]
    if not len(draws) or np.isnan(estimate.value):
        return {"value": estimate.value, "low": float("nan"), "high": float("nan")}
    low, high = np.quantile(draws, [alpha / 2, 1 - alpha / 2])
    return {"value": estimate.value, "low": float(low), "high": float(high)}


def _estimates(
    judged: Judged,
    rules: Rules,
    rows: NDArray[np.bool_] | slice = slice(None),
    metrics: Sequence[str] = METRICS,
) -> dict[str, Estimate]:
    """Metrics of a bundle with their draws; equal seeds and images, so that they are paired."""
    said = judged.said
    assert said is not None
    return task_estimates(
        metrics,
        judged.task,
        said.targets[rows],
        [said.scores[rows]],
        said.groups[rows],
        thresholds=[judged.threshold],
        draws=rules.draws,
        seed=rules.seed,
    )


def _gain(metric: str, new: Estimate, champion: Estimate) -> Estimate:
    """How much better the new one is."""
    return champion - new if metric in LOWER_IS_BETTER else new - champion


def _not_inferior(
    new: Judged, ours: Mapping[str, Estimate], theirs: Mapping[str, Estimate], rules: Rules
) -> Check:
    """The second rule."""
    metric = rules.metric
    gain = interval_of(_gain(metric, ours[metric], theirs[metric]), rules.alpha)
    assert new.said is not None
    numbers = {
        "metric": metric,
        "new": ours[metric].value,
        "champion": theirs[metric].value,
        "difference": gain,
        "margin": rules.margin,
        "patients": len(np.unique(new.said.groups)),
        "times": _times(gain, rules.margin),
    }
    passed = bool(gain["low"] > -rules.margin)
    return Check("not inferior", passed, reasons.not_inferior(numbers, rules.level), numbers)


def _times(gain: Mapping[str, float], margin: float) -> float | None:
    """How many times as many patients would show it, the gain being what it is; None: no number.

    An interval's width falls with the root of the number of patients.
    """
    if not -margin < gain["value"] or gain["low"] > -margin or np.isnan(gain["low"]):
        return None
    return float(((gain["value"] - gain["low"]) / (gain["value"] + margin)) ** 2)


def _limited(metric: str, limit: float, new: Estimate, champion: Estimate, rules: Rules) -> Check:
    """A limit that was asked for."""
    gain = interval_of(_gain(metric, new, champion), rules.alpha)
    numbers = {
        "metric": metric,
        "new": new.value,
        "champion": champion.value,
        "difference": gain,
        "limit": limit,
    }
    passed = bool(gain["low"] > -limit)
    return Check(f"{metric} kept", passed, reasons.limited(numbers, rules.level), numbers)


def _floor(metric: str, new: Estimate, rules: Rules) -> Check:
    """A floor that was asked for."""
    floor, found = rules.floors[metric], interval_of(new, rules.alpha)
    lower = metric in LOWER_IS_BETTER
    passed = bool(found["high"] <= floor if lower else found["low"] >= floor)
    numbers = {"metric": metric, "floor": floor, "new": found, "lower_is_better": lower}
    said = reasons.floor(numbers, rules.level)
    return Check(f"floor of {metric}", passed, said, numbers)


def _subgroups(
    new: Judged, champion: Judged, groups: Sequence[Subgroup], rules: Rules
) -> tuple[Check, list[str]]:
    """The rule of subgroups, and what it can not tell."""
    metric = rules.metric
    found: list[dict[str, Any]] = []
    for group in groups:
        ours, theirs = (
            _estimates(one, rules, group.rows, [metric])[metric] for one in (new, champion)
        )
        gain = _gain(metric, ours, theirs)
        found.append(
            {
                "column": group.column,
                "value": group.value,
                "images": group.images,
                "patients": group.patients,
                "small": group.small,
                "new": ours.value,
                "champion": theirs.value,
                "difference": interval_of(gain, rules.alpha),
                "p": gain.p(),
            }
        )
    told = [one for one in found if not one["small"] and np.isfinite(one["p"])]
    for one, p in zip(told, holm([one["p"] for one in told]), strict=True):
        one["p_holm"] = p
    for one in found:
        fall = one["difference"]
        one["falls"] = "p_holm" in one and bool(fall["value"] < -rules.subgroup_limit)
        one["blocks"] = one["falls"] and bool(fall["high"] < 0)
    numbers = {
        "metric": metric,
        "limit": rules.subgroup_limit,
        "looked_at": len(told),
        "groups": found,
    }
    passed = not any(one["blocks"] for one in found)
    said, warnings = reasons.subgroups(numbers, rules.level)
    return Check("subgroups", passed, said, numbers), warnings


def _about(
    judged: Judged, estimates: Mapping[str, Estimate] | None = None, rules: Rules | None = None
) -> dict[str, Any]:
    """A bundle in the record."""
    about: dict[str, Any] = {
        "id": judged.id,
        "name": judged.name,
        "task": judged.task,
        "labels": list(judged.labels),
        "threshold": judged.threshold,
    }
    if estimates is not None and rules is not None:
        about["metrics"] = {m: interval_of(e, rules.alpha) for m, e in estimates.items()}
    return about

"""Whether an ensemble of finished runs is better than the best of them, and who contributes.

Everything is chosen on the validation part: the best run alone, the weights, the way of putting
together. Scores on the pictures by which one has chosen flatter, so they are *cross-fitted*: the
patients are shared out into folds, and each fold is answered by what is chosen on the others. The
best run alone is chosen in the same way there, or it would be flattered and the ensemble not.
Then everything is scored on the test part, which chooses nothing; differences are paired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerwise.evaluation.estimates import Estimate, estimate, holm, task_estimates
from layerwise.evaluation.metrics import Task, Threshold
from layerwise.evaluation.operating import choose_threshold
from layerwise.evaluation.predictions import Predictions
from layerwise.studies.ensemble import (
    TIE,
    WAYS,
    Choice,
    Way,
    aligned,
    auroc,
    choose,
    cross_fitted,
    mean_of,
)
from layerwise.studies.gain.scores import DRAWS, LEVEL, p_value

METRICS = ("auroc", "auprc", "accuracy", "precision", "recall", "f1")
SCORE = "auroc"  # by which everything is chosen

Interval = dict[str, Any]


@dataclass(frozen=True)
class Member:
    """A finished run.

    Attributes:
        id: Of the run.
        name: In words.
        parameters: Of its network.
        validation: What it says of the validation part.
        test: And of the test part.
    """

    id: str
    name: str
    parameters: int
    validation: Predictions
    test: Predictions


@dataclass(frozen=True)
class Tried:
    """The best run alone, or runs put together in one way.

    Attributes:
        way: "best", or one of `WAYS`.
        weights: By the runs' ids; only those above 0, of sum 1.
        threshold: Chosen on validation; None for several classes.
        seen: AUROC on validation, which chose the weights: too good.
        unseen: The cross-fitted AUROC as an interval; empty where there are too few patients.
        unseen_gain: That less the cross-fitted best alone, likewise.
        test: Every metric on the test part.
        test_gain: That less the best alone, with "p" and "p_holm" (all ways and metrics).
    """

    way: str
    weights: Mapping[str, float]
    threshold: Threshold
    seen: float
    unseen: Interval
    unseen_gain: Interval
    test: Mapping[str, Interval]
    test_gain: Mapping[str, Interval]


@dataclass(frozen=True)
class Contribution:
    """What an ensemble loses without one of its members, the others' weights chosen anew.

    Attributes:
        id: Of the run.
        weight: Its share in the whole ensemble.
        unseen: AUROC with it less that without it, cross-fitted; empty where not known.
        test: The same on the test part, with "p" and "p_holm" (all members).
    """

    id: str
    weight: float
    unseen: Interval
    test: Interval

    @property
    def beyond_noise(self) -> bool:
        """Whether it is more than noise explains, after Holm."""
        return bool(self.test["p_holm"] < LEVEL)


@dataclass(frozen=True)
class Compared:
    """Everything that is drawn and said.

    Attributes:
        members: All runs, the best on validation first.
        alone: AUROC of each by itself, by id: on validation and on test.
        best: The best of them alone.
        ways: What was tried.
        chosen: The way with the highest cross-fitted AUROC.
        contributions: To that ensemble, the largest on the test part first.
        draws: Resamples of every interval.
    """

    members: tuple[Member, ...]
    alone: Mapping[str, tuple[Interval, Interval]]
    best: Tried
    ways: tuple[Tried, ...]
    chosen: Tried
    contributions: tuple[Contribution, ...]
    draws: int

    def helps(self) -> bool:
        """Whether the chosen ensemble is better than the best run by more than noise, on test."""
        gain = self.chosen.test_gain[SCORE]
        return bool(gain["p_holm"] < LEVEL and gain["value"] > 0)


@dataclass(frozen=True)
class _Put:
    """Runs put together, with the resamples of their scores."""

    weights: dict[str, float]
    validation: Predictions
    test: Predictions
    unseen: Estimate | None


def compare(
    task: Task,
    members: Sequence[Member],
    ways: Sequence[Way] = WAYS,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Compared:
    """Put runs together in every way, and score them beside the best alone.

    Args:
        task: "binary", "multiclass" or "multilabel".
        members: Two or more, of the same pictures.
        ways: That are tried.
        draws: Resamples of every interval.
        seed: Of folds and resamples.

    Raises:
        LayerwiseError: The runs have not answered for the same pictures, or are too few.
    """
    aligned({member.id: member.test for member in members})
    members = sorted(members, key=lambda m: -_auroc(task, m.validation))
    base = _put(task, members, "best", draws, seed)
    alone = _scored(task, base, draws, seed)
    put = {way: _put(task, members, way, draws, seed) for way in ways}
    scored = {way: _scored(task, one, draws, seed) for way, one in put.items()}
    gaps: dict[tuple[str, str], Estimate] = {
        (way, metric): scored[way][1][metric] - alone[1][metric]
        for way in ways
        for metric in METRICS
    }
    values: dict[tuple[str, str], float] = {key: p_value(gap) for key, gap in gaps.items()}
    adjusted = dict(zip(values, holm(list(values.values())), strict=True))

    def tried(way: str, one: _Put, found: tuple[Threshold, dict[str, Estimate]]) -> Tried:
        gain = None
        if one.unseen is not None and base.unseen is not None and way != "best":
            gain = one.unseen - base.unseen
        return Tried(
            way,
            one.weights,
            found[0],
            _auroc(task, one.validation),
            _interval(one.unseen),
            _interval(gain),
            {metric: each.interval() for metric, each in found[1].items()},
            {
                metric: gaps[way, metric].interval()
                | {"p": values[way, metric], "p_holm": adjusted[way, metric]}
                for metric in (METRICS if way != "best" else ())
            },
        )

    every = [tried(way, put[way], scored[way]) for way in ways]
    chosen = every[0]
    for one in every[1:]:  # of equal ones the first
        if one.unseen and one.unseen["value"] > chosen.unseen["value"] + TIE:
            chosen = one
    way = next(way for way in ways if way == chosen.way)
    contributions = _contributions(task, members, way, put[way], draws, seed)
    each = {
        m.id: (
            _estimate(task, m.validation, draws, seed).interval(),
            _estimate(task, m.test, draws, seed).interval(),
        )
        for m in members
    }
    best = tried("best", base, alone)
    return Compared(tuple(members), each, best, tuple(every), chosen, contributions, draws)


def _put(task: Task, members: Sequence[Member], way: Choice, draws: int, seed: int) -> _Put:
    """Weights of a way, what is said with them, and the cross-fitted score."""
    validation = {m.id: m.validation for m in members}
    tests = [m.test for m in members]
    unseen: Predictions | None
    if len(members) == 1:
        weights, unseen = np.ones(1), members[0].validation
    else:
        scores = aligned(validation)
        weights = choose(task, scores, members[0].validation.targets, way)
        unseen = cross_fitted(task, validation, way, seed=seed)
    return _Put(
        {m.id: float(w) for m, w in zip(members, weights, strict=True) if w > 0},
        mean_of(list(validation.values()), weights),
        mean_of(tests, weights),
        None if unseen is None else _estimate(task, unseen, draws, seed),
    )


def _scored(task: Task, put: _Put, draws: int, seed: int) -> tuple[Threshold, dict[str, Estimate]]:
    """The threshold chosen on validation, and every metric on the test part."""
    said, test = put.validation, put.test
    threshold = choose_threshold(task, said.targets, said.scores, said.groups, seed=seed)
    return threshold, task_estimates(
        METRICS,
        task,
        test.targets,
        [test.scores],
        test.groups,
        thresholds=[threshold],
        draws=draws,
        seed=seed,
    )


def _contributions(
    task: Task, members: Sequence[Member], way: Way, whole: _Put, draws: int, seed: int
) -> tuple[Contribution, ...]:
    """With each member less without it; the others' weights are chosen anew."""
    if len(whole.weights) < 2:
        return ()
    on_test = _estimate(task, whole.test, draws, seed)
    found = []
    for member in members:
        if member.id not in whole.weights:
            continue
        rest = _put(task, [m for m in members if m is not member], way, draws, seed)
        unseen = None
        if whole.unseen is not None and rest.unseen is not None:
            unseen = whole.unseen - rest.unseen
        found.append((member, unseen, on_test - _estimate(task, rest.test, draws, seed)))
    values = [p_value(test) for _, _, test in found]
    out = [
        Contribution(
            member.id,
            whole.weights[member.id],
            _interval(unseen),
            test.interval() | {"p": p, "p_holm": adjusted},
        )
        for (member, unseen, test), p, adjusted in zip(found, values, holm(values), strict=True)
    ]
    return tuple(sorted(out, key=lambda one: -one.test["value"]))


def _estimate(task: Task, said: Predictions, draws: int, seed: int) -> Estimate:
    return estimate(
        SCORE,
        task,
        said.targets,
        [said.scores],
        said.groups,
        threshold=None if task == "multiclass" else 0.5,
        draws=draws,
        seed=seed,
    )


def _interval(found: Estimate | None) -> Interval:
    return {} if found is None else found.interval()


def _auroc(task: Task, said: Predictions) -> float:
    return auroc(task, said.targets, said.scores)

"""`advice.json`: quadrant, strategy, reasons, what was measured, and the test of the advice."""

from typing import Any

from layerwise import __version__
from layerwise.config import to_mapping
from layerwise.evaluation.estimates import Estimate
from layerwise.reporting.advice.words import (
    CAVEAT,
    STRATEGY,
    answer,
    check_sentences,
    reasons,
)
from layerwise.reporting.plain import finite
from layerwise.studies.advice.distance import Distance
from layerwise.studies.advice.matrix import ERROR_LEFT, LARGE, SHIFT
from layerwise.studies.advice.measure import Profile
from layerwise.studies.advice.quick import Checked
from layerwise.studies.advice.strategies import Way, rates
from layerwise.studies.advice.study import Advice
from layerwise.studies.profile import probe_transfer
from layerwise.studies.study import Outcome
from layerwise.training.transfer import Transfer

NUMBERS = {"all": 1, "some": 2, "none": 3}  # as the paper counts its strategies


def results_of_advice(advice: Advice, command: str, seconds: float) -> dict[str, Any]:
    """Everything that was measured and decided; JSON-able, NaN as None.

    Args:
        advice: What was found.
        command: As the user typed it.
        seconds: Wall-clock time of this sitting.
    """
    work = advice.prepared.work
    results = {
        "layerwise": __version__,
        "command": command,
        "seed": work.seed,
        "seconds": round(seconds, 1),
        "data": {
            "name": work.manifest.name,
            "fingerprint": work.data_key,
            "labels": list(work.manifest.labels),
            "counts": work.manifest.counts(),
        },
        "model": work.model,
        "weights": work.weights_name,
        "answer": answer(advice),
        "quadrant": advice.quadrant,
        "strategy": NUMBERS[advice.advised.strategy],
        "reasons": reasons(advice),
        "caveat": CAVEAT,
        "size": {
            "images": advice.size.images,
            "label": advice.size.label,
            "each": advice.size.each,
            "border": LARGE,
            "large": advice.size.large,
            "near": advice.size.near,
        },
        "similarity": _similarity(advice),
        "strategies": [_strategy(advice, way) for way in advice.ways],
        "test": _test(advice.tested),
        "profile": profile_rows(advice),
        "looked_at": {
            "image_size": list(work.image_size),
            "train": len(advice.work.rows("train")),
            "validation": len(advice.work.rows("val")),
        },
        "runs": _runs(advice),
        "notes": list(advice.prepared.notes),
    }
    return dict(finite(results))


def _similarity(advice: Advice) -> dict[str, Any]:
    like, found = advice.like, advice.plan.distance
    return {
        "similar": like.similar,
        "near": like.near,
        "far": like.far,
        "decided_by": like.decided_by,
        "error_left": {**like.error_left, "border": ERROR_LEFT},
        "probe": _best(advice.source),
        "random_filters": _best(advice.random),
        "shift": None if like.shift is None else {**like.shift, "border": SHIFT},
        "batch_norms": _layers(found),
    }


def _layers(found: Distance) -> dict[str, Any]:
    return {
        "images": found.images,
        "layers": [to_mapping(layer) for layer in found.layers],
        "why_not": found.why_not,
    }


def _best(profile: Profile) -> dict[str, Any]:
    """The best probe of a network, and the highest evidence."""
    evidence = [value for value in profile.logme if value is not None]
    highest = profile.logme.index(max(evidence))
    return {
        "cut": profile.probes[profile.best].cut.name,
        "auroc": interval(profile.scores[profile.best]),
        "logme": max(evidence),
        "logme_cut": profile.probes[highest].cut.name,
    }


def interval(score: Estimate) -> dict[str, float]:
    """Of an estimate, without its repeats: there is one."""
    found = score.interval()
    return {side: found[side] for side in ("value", "low", "high")}


def _strategy(advice: Advice, way: Way) -> dict[str, Any]:
    cuts = [probe.cut for probe in advice.source.probes]
    return {
        "strategy": NUMBERS[way.strategy],
        "name": STRATEGY[way.strategy],
        "advised": way is advice.advised,
        "frozen_to": way.cut or None,
        "transfer": way.transfer.to_dict(),
        "recipe": to_mapping(way.recipe),
        "rates": {"classifier": way.recipe.lr}
        if way.strategy == "none"
        else rates(way.recipe, cuts, way.cut),
    }


def _test(tested: Checked) -> dict[str, Any]:
    return {
        "verdict": tested.verdict,
        "why_not": tested.test.why_not,
        "sentences": check_sentences(tested),
        "metric": "auroc",
        "train": None if tested.work is None else len(tested.work.rows("train")),
        "validation": None if tested.work is None else len(tested.work.rows("val")),
        "neighbours": [
            {
                "strategy": NUMBERS[one.strategy],
                "difference": one.difference,
                "p": one.p,
                "p_holm": one.adjusted,
                "advised_is": one.verdict,
            }
            for one in tested.compared
        ],
    }


def profile_rows(advice: Advice) -> list[dict[str, Any]]:
    """One row a cut: probe and LogME of the source's features, and of random filters."""
    untrained = {
        probe.cut.name: (score, evidence)
        for probe, score, evidence in zip(
            advice.random.probes, advice.random.scores, advice.random.logme, strict=True
        )
    }
    rows = []
    source = advice.source
    for probe, score, evidence in zip(source.probes, source.scores, source.logme, strict=True):
        other = untrained.get(probe.cut.name)
        rows.append(
            {
                "cut": probe.cut.name,
                "parameters": probe.cut.parameters,
                "auroc": interval(score),
                "logme": evidence,
                "random_auroc": None if other is None else interval(other[0]),
                "random_logme": None if other is None else other[1],
            }
        )
    return rows


def _runs(advice: Advice) -> list[dict[str, Any]]:
    """The probes, those of random filters, and the runs of the quick test."""
    work = advice.work
    rows = []
    for profile, source, what in (
        (advice.source, work.weights_name, "probe"),
        (advice.random, "none", "probe, random filters"),
    ):
        for probe, score in zip(profile.probes, profile.scores, strict=True):
            transfer = probe_transfer(probe.cut.name, source)
            rows.append(_run(work.model, probe.outcome, transfer, what, score, work.seed))
    tested = advice.tested
    for run, done in zip(tested.test.runs, tested.done, strict=False):
        if done.outcome is None:
            rows.append(
                {
                    "id": None,
                    "name": done.run.name,
                    "kind": "trained",
                    "model": work.model,
                    "treatment": STRATEGY[run.strategy],
                    "transfer": run.transfer.to_dict(),
                    "state": "failed",
                    "reason": done.failure,
                    "seconds": 0.0,
                    "parameters": None,
                    "validation": {},
                }
            )
            continue
        score = tested.scores[run.strategy]
        what = STRATEGY[run.strategy]
        rows.append(_run(work.model, done.outcome, run.transfer, what, score, work.seed))
    return rows


def _run(
    model: str, outcome: Outcome, transfer: Transfer, what: str, score: Estimate, seed: int
) -> dict[str, Any]:
    return {
        "id": outcome.run.id,
        "name": outcome.run.name,
        "kind": outcome.run.kind,
        "model": model,
        "treatment": what,
        "task": "quick test" if outcome.run.kind == "trained" else "profile",
        "seed": seed,
        "transfer": transfer.to_dict(),
        "state": "done",
        "seconds": outcome.seconds,
        "parameters": outcome.parameters,
        "epochs": outcome.details.get("epochs"),
        "validation": {"auroc": interval(score)},
    }

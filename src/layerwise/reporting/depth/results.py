"""`results.json` of a depth study: its runs, what they cost, what to take, and the test."""

from collections.abc import Mapping
from typing import Any

from layerwise import __version__
from layerwise.evaluation.estimates import Estimate
from layerwise.evaluation.intervals import bootstrap
from layerwise.evaluation.predictions import Predictions
from layerwise.reporting.plain import finite
from layerwise.reporting.results import left_out_entry, run_entry
from layerwise.studies.depth.findings import BATCHES, COSTS, METRICS, Findings, Point
from layerwise.studies.depth.front import standings
from layerwise.studies.depth.stages import TREATMENTS
from layerwise.studies.latency import Latency, speedup
from layerwise.studies.profile import probe_transfer
from layerwise.studies.study import Outcome
from layerwise.studies.workspace import Workspace
from layerwise.training.transfer import Transfer

DRAWS = 500  # resamples of one run's own scores; the curves have more


def results_of_depth(found: Findings, command: str, seconds: float) -> dict[str, Any]:
    """Everything that was measured; JSON-able, NaN as None.

    What was measured in seconds stands under keys that end in "seconds", and nothing else in it
    depends on the clock.

    Args:
        found: What the study found.
        command: As the user typed it.
        seconds: Wall-clock time of this sitting.
    """
    work, plan = found.work, found.searched.plan
    runs = _runs(found)
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
        "study": {
            "model": work.model,
            "weights": work.weights_name,
            "keep": work.keep,
            "image_size": list(work.image_size),
            "metric": found.metric,
            "epochs": plan.recipe.epochs,
            "repeats": plan.settings.repeats,
            "budget_seconds": plan.setup.budget_seconds,
        },
        "runs": runs,
        "curves": {
            "probes": _probes(found),
            "candidates": [_candidate(found, point) for point in found.points],
            "pareto": {cost: [found.points[i].name for i in found.fronts[cost]] for cost in COSTS},
            "similarity": [
                {"network": network, **vars(one)}
                for network, layers in found.similarity.items()
                for one in layers
            ],
            "alternatives": _alternatives(found),
        },
        "best": found.points[found.best].name,
        "recommended": _recommended(found),
        "test": _test(found),
        "stages": [
            {
                "name": stage.name,
                "runs": [run.transfer.name for run in stage.runs],
                "left_out": [vars(one) for one in stage.left_out],
            }
            for stage in plan.stages
        ],
        "saved": {
            "probes": len(found.searched.probes),
            "taken": sum(d.taken for c in found.searched.candidates for d in c.done),
        },
        "notes": [*plan.setup.reasons, *plan.reasons, *found.searched.prepared.notes],
    }
    return dict(finite(results))


def _runs(found: Findings) -> list[dict[str, Any]]:
    """Every run: probes, then the trained ones in the order of their stages, then what is not."""
    work, searched = found.work, found.searched
    said = {
        outcome.run.id: one
        for tested in found.tested
        for outcome, one in zip(tested.point.outcomes, tested.said, strict=True)
    }
    out = []

    def add(outcome: Outcome, transfer: Transfer, treatment: str, seed: int) -> None:
        entry = run_entry(work, outcome, transfer)
        entry |= {"treatment": treatment, "task": work.manifest.name, "seed": seed}
        own = said.get(outcome.run.id)
        out.append({**entry, "test": {} if own is None else _scores(work, own)})

    for probe in searched.probes:
        transfer = probe_transfer(probe.cut.name, work.weights_name)
        add(probe.outcome, transfer, "probe", work.seed)
    for candidate in searched.candidates:
        for done, outcome in zip(candidate.done, candidate.outcomes, strict=True):
            treatment = TREATMENTS[candidate.kind]
            add(outcome, candidate.transfer, treatment, done.planned.seed)
    for run, failure in searched.stages.failed:
        entry = left_out_entry(work, run.transfer.name, run.transfer, failure)
        out.append(
            {
                **entry,
                "state": "failed",
                "treatment": TREATMENTS[run.kind],
                "task": work.manifest.name,
                "seed": run.seed,
            }
        )
    return out


def _scores(work: Workspace, said: Predictions) -> dict[str, Any]:
    """Every metric of one run with its interval, decided at ½."""
    threshold = None if work.manifest.task == "multiclass" else 0.5
    return bootstrap(
        work.manifest.task,
        said.targets,
        said.scores,
        threshold,
        said.groups,
        draws=DRAWS,
        seed=work.seed,
    )


def _probes(found: Findings) -> list[dict[str, Any]]:
    points = {point.cut: point for point in found.points if point.kind == "probe"}
    return [
        {
            "cut": probe.cut.name,
            "parameters": probe.cut.parameters,
            "macs": probe.cut.macs,
            "stride": probe.cut.stride,
            **_quality(points[probe.cut.name].quality),
        }
        for probe in found.searched.probes
    ]


def _candidate(found: Findings, point: Point) -> dict[str, Any]:
    full = found.points[0]
    ids = [outcome.run.id for outcome in point.outcomes]
    return {
        "name": point.name,
        "kind": point.kind,
        "cut": point.cut,
        "preset": point.preset or None,
        "copy": point.transfer.copy,
        "freeze": point.transfer.freeze,
        "id": ids[0],
        "repeats": len(ids),
        **_quality(point.quality),
        "parameters": point.parameters,
        "macs": point.macs,
        "latency": _latency(point.latency, full.latency) if point.latency else None,
        "difference_to_best": _plain(point.standing.difference),
        "inside_best": point.standing.inside,
        "equal_to_best": point.standing.equal,
        "good_enough": point.standing.enough,
        "difference_to_full": _plain(point.to_full.difference),
        "inside_full": point.to_full.inside,
        "equal_to_full": point.to_full.equal,
    }


def _latency(own: Mapping[int, Latency], full: Mapping[int, Latency]) -> dict[str, Any]:
    """Seconds a batch, and how many times as fast as the full network it is."""
    out: dict[str, Any] = {}
    for batch in BATCHES:
        one = own[batch]
        sides = {"value": one.median_ms, "low": one.low_ms, "high": one.high_ms}
        out[f"batch{batch}_seconds"] = {k: round(v / 1000, 7) for k, v in sides.items()}
        # A ratio of times is as uncertain as they are, and named so.
        out[f"speedup_of_batch{batch}_seconds"] = speedup(full[batch], one)
    return out


def _alternatives(found: Findings) -> list[dict[str, Any]]:
    """What differs at the same cut: probe, partial freezing and hybrids against truncated TL."""
    out = []
    metric = found.metric
    for plain in (point for point in found.points if point.kind == "truncated"):
        for other in found.points:
            if other.cut != plain.cut or other is plain:
                continue
            difference = (other.quality[metric] - plain.quality[metric]).interval()
            out.append(
                {
                    "cut": plain.cut,
                    "kind": other.kind,
                    "name": other.name,
                    "level": {"hybrid": other.transfer.copy, "frozen": other.transfer.freeze}.get(
                        other.kind
                    ),
                    metric: other.quality[metric].interval(),
                    "difference_to_truncated": _plain(difference),
                }
            )
    return out


def _recommended(found: Findings) -> dict[str, Any]:
    """The smallest good enough network, and its first run, which can be exported."""
    point = found.points[found.recommended]
    return {
        "name": point.name,
        "kind": point.kind,
        "cut": point.cut,
        "id": point.outcomes[0].run.id,
        "run": f"runs/{point.outcomes[0].run.id}",
        "transfer": point.transfer.to_dict(),
    }


def _test(found: Findings) -> dict[str, Any]:
    """The recommended network and the full one on the test part, and their paired difference."""
    rows = [
        {"name": one.point.name, "kind": one.point.kind, "cut": one.point.cut}
        | _quality(one.quality)
        for one in found.tested
    ]
    out: dict[str, Any] = {"networks": rows, "difference": None}
    if len(found.tested) > 1:
        own, full = found.tested
        out["difference"] = {
            metric: _plain((own.quality[metric] - full.quality[metric]).interval())
            for metric in METRICS
        }
        standing = standings([own.quality[found.metric], full.quality[found.metric]], 1)[0]
        out["inside_full"] = standing.inside
    return out


def _quality(quality: Mapping[str, Estimate]) -> dict[str, Any]:
    return {metric: estimate.interval() for metric, estimate in quality.items()}


def _plain(interval: Mapping[str, Any]) -> dict[str, Any]:
    return {side: interval[side] for side in ("value", "low", "high")}

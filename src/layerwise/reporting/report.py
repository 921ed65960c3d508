"""The report of a fit: one HTML file that says first what to do (see `page`)."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from layerwise.evaluation.overlay import overlay
from layerwise.reporting import curves, figures, text
from layerwise.reporting.evidence import Evidence, Explanation, Interval, ProfilePoint
from layerwise.reporting.page import is_small, picture_address, render_page, write_page
from layerwise.reporting.plain import part_counts

__all__ = ["Evidence", "Explanation", "ProfilePoint", "write_report"]


def write_report(path: Path, results: Mapping[str, Any], evidence: Evidence) -> None:
    """Write the report.

    Args:
        path: The HTML file; replaced in one step.
        results: What `results.json` holds (CLI contract); None stands for NaN. A run that was
            left out has "reason"; a run may have "difference_to_chosen", the interval of its
            paired difference of validation AUROC.
        evidence: The arrays, pictures and words that go with it.

    Raises:
        OutputError: The file can not be written.
    """
    write_page(path, render(results, evidence))


def render(results: Mapping[str, Any], evidence: Evidence) -> str:
    """The page as text."""
    return render_page(
        "template.html",
        name=results.get("data", {}).get("name", "data"),
        command=results.get("command", ""),
        seconds=text.duration(results.get("seconds")),
        seed=results.get("seed"),
        answer=text.answer(results, evidence),
        tiles=_tiles(results.get("test") or {}, evidence.task),
        thresholds=text.thresholds(evidence),
        tried=_tried(results, evidence),
        draw=_figures(evidence),
        transfers_best=text.transfers_best(evidence.transfer_comparison or ()),
        profile=[
            (p.cut, p.channels, p.stride, text.quantity(p.parameters), text.quantity(p.macs))
            + (text.with_interval(p.auroc), p.chosen)
            for p in evidence.profile
        ],
        per_label=_per_label(results.get("test") or {}, evidence),
        metrics=text.NAMES,
        explanations=[
            (title, [_explained(e) for e in evidence.explanations if e.right is right])
            for title, right in (("Right decisions", True), ("Wrong decisions", False))
        ],
        counts=part_counts(results.get("data", {}).get("counts", {})),
        samples=[(label, picture_address(p), is_small(p)) for label, p in evidence.samples],
        notes=evidence.notes,
        fingerprint=list(_flat(evidence.fingerprint)),
        plan=json.dumps(evidence.plan, indent=1, ensure_ascii=False) if evidence.plan else "",
        reproduce=evidence.reproduce,
        task=evidence.task,
        labels=list(evidence.labels),
        banded=curves.banded(evidence),
    )


def _figures(evidence: Evidence) -> dict[str, Markup]:
    """The figures there is something to draw for, by their id in the page."""
    drawn = {}
    if evidence.profile:
        drawn["profile"] = figures.depth_profile(evidence.profile)
    if evidence.transfer_comparison:
        drawn["comparison"] = figures.transfer_comparison(evidence.transfer_comparison)
    if len(evidence.targets):
        drawn["roc"] = curves.roc(evidence)
        drawn["pr"] = curves.precision_recall(evidence)
        drawn["confusion"] = figures.confusion(evidence)
        drawn["calibration"] = figures.calibration(evidence)
    return {name: Markup(svg) for name, svg in drawn.items()}


def _tiles(test: Mapping[str, Any], task: str) -> list[dict[str, Any]]:
    """One a metric: its name, value, interval, and where on 0–1 the interval lies, in percent."""
    tiles = []
    for metric, name in text.NAMES.items():
        found: Interval = test.get(metric) or {}
        spot = {}
        if text.defined(found):
            low, value, high = (
                100 * min(max(side if side is not None else math.nan, 0), 1)
                for side in (found.get("low"), found.get("value"), found.get("high"))
            )
            if math.isfinite(low) and math.isfinite(high):
                spot = {"left": round(low, 2), "width": round(high - low, 2), "at": round(value, 2)}
        tiles.append(
            {
                "name": name,
                "meaning": text.meaning(metric, task),
                "value": text.number(found.get("value")),
                "limits": text.limits(found),
                "spot": spot,
            }
        )
    return tiles


def _tried(results: Mapping[str, Any], evidence: Evidence) -> list[dict[str, Any]]:
    """The rows of the table of everything tried: baselines, then runs as they come."""
    rows = []
    known = {str(run.get("name")) for run in results.get("runs") or ()}
    for name, scores in evidence.floors.get("validation", {}).items():
        if name not in known:
            rows.append(_row(name, "baseline", "done", scores.get("auroc") or {}))
    for run in results.get("runs") or ():
        row = _row(run["name"], _how(run), run.get("state", ""), text.run_auroc(run))
        row["chosen"] = bool(run.get("id")) and run.get("id") == results.get("chosen")
        row["reason"] = run.get("reason") or ""
        for key, write in (("parameters", text.quantity), ("seconds", text.duration)):
            value = run.get(key) or None  # a run that was left out took 0 s: nothing to show
            row[key], row[f"{key}_key"] = write(value), _sort_key(value)
        rows.append(row)
    return rows


def _row(name: str, how: str, state: str, auroc: Interval) -> dict[str, Any]:
    return {
        "name": name,
        "how": how,
        "state": state,
        "reason": "",
        "chosen": False,
        "parameters": "—",
        "parameters_key": "",
        "seconds": "—",
        "seconds_key": "",
        "auroc": text.number(auroc.get("value")),
        "limits": text.limits(auroc),
        "auroc_key": _sort_key(auroc.get("value")),
    }


def _how(run: Mapping[str, Any]) -> str:
    """A run's transfer in short."""
    transfer = run.get("transfer")
    if not transfer:
        return "baseline" if run.get("kind") == "floor" else str(run.get("model") or "")
    parts = [f"{key} {transfer[key]}" for key in ("keep", "copy", "freeze") if transfer.get(key)]
    return ", ".join(parts)


def _sort_key(value: float | None) -> str:
    """What a column sorts by; empty sorts last."""
    return "" if value is None or not math.isfinite(value) else repr(float(value))


def _per_label(
    test: Mapping[str, Any], evidence: Evidence
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Every metric of every label, where there are several labels with scores."""
    if evidence.task == "binary":
        return []
    return [
        (label, [_with_limits(scores.get(metric) or {}) for metric in text.NAMES])
        for label, scores in (test.get("per_label") or {}).items()
    ]


def _with_limits(interval: Interval) -> tuple[str, str]:
    return text.number(interval.get("value")), text.limits(interval)


def _explained(explanation: Explanation) -> dict[str, Any]:
    return {
        "id": explanation.id,
        "truth": explanation.truth,
        "decision": explanation.decision,
        "probability": text.number(explanation.probability, percent=True),
        "image": picture_address(explanation.image),
        "overlay": picture_address(overlay(explanation.image, explanation.heat)),
        "small": is_small(explanation.image),
    }


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON
    """A nested value as (path, text) lines."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path} › {key}" if path else str(key))
    else:
        yield path.replace("_", " "), _plain(value)


def _plain(value: Any) -> str:  # noqa: ANN401 - any JSON-able value
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "—"}[value]
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}" if math.isfinite(value) else "—"
    if isinstance(value, Sequence) and not isinstance(value, str):
        more = f", … ({len(value)} in all)" if len(value) > 12 else ""
        return ", ".join(_plain(v) for v in value[:12]) + more
    return f"{value:,}" if isinstance(value, int) else str(value)

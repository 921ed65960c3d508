"""The page of a depth study: `results.json` in, figures, tables and sentences out."""

from collections.abc import Mapping
from typing import Any

from layerwise.reporting.depth import figures as figures
from layerwise.reporting.depth import words as words
from layerwise.reporting.study_page import Figure, StudyPage, Table
from layerwise.reporting.text import NAMES

Row = Mapping[str, Any]


def depth_page(results: Row) -> StudyPage:
    """The page of a depth study.

    Args:
        results: As `results_of_depth` gives it.
    """
    study, curves = results["study"], results["curves"]
    metric = study["metric"]
    found = words.answer(results)
    return StudyPage(
        title=f"How much of {study['model']} is worth keeping",
        answer=found,
        figures=(
            _depth(results, metric),
            _cost(results, metric),
            Figure(
                "similarity",
                "What fine-tuning changed, layer by layer",
                figures.similarity(curves["similarity"], " ".join(words.of_similarity(results))),
                curves["similarity"],
                (
                    "Activations of validation pictures at every main cut, of the pretrained "
                    "network against the fine-tuned one: 1 is unchanged.",
                    *words.of_similarity(results),
                ),
            ),
        ),
        tables=(_networks(results, metric), _alternatives(results, metric)),
        notes=_notes(results),
        saved=_saved(results),
        reproduce=(
            results["command"],
            f"layerwise export OUT/{results['recommended']['run']} --out BUNDLE",
        ),
        metric=metric,
    )


def _depth(results: Row, metric: str) -> Figure:
    curves = results["curves"]
    said = words.of_depth(results)
    rows = [
        {
            "cut": row["cut"],
            "kind": row["kind"],
            "name": row["name"],
            "auroc": row["auroc"],
            "auprc": row["auprc"],
        }
        for row in curves["candidates"]
    ]
    svg = figures.by_depth(curves["probes"], curves["candidates"], metric, " ".join(said))
    return Figure("depth", "Quality by depth", svg, rows, said)


def _cost(results: Row, metric: str) -> Figure:
    curves = results["curves"]
    said = words.of_cost(results)
    svg = figures.by_cost(
        curves["candidates"],
        curves["pareto"],
        metric,
        results["best"],
        results["recommended"]["name"],
        " ".join(said),
    )
    rows = [
        {
            "name": row["name"],
            "kind": row["kind"],
            metric: row[metric],
            **{cost: figures.cost_of(row, cost) for cost in ("parameters", "macs")},
            "batch1_ms": figures.cost_of(row, "batch1_seconds"),
            "batch16_ms": figures.cost_of(row, "batch16_seconds"),
            **{
                f"front_by_{cost.removesuffix('_seconds')}": row["name"] in names
                for cost, names in curves["pareto"].items()
            },
            "recommended": row["name"] == results["recommended"]["name"],
        }
        for row in curves["candidates"]
    ]
    return Figure("cost", "Quality against cost", svg, rows, said)


def _networks(results: Row, metric: str) -> Table:
    """Every network with its quality and cost."""
    other = "auroc" if metric == "auprc" else "auprc"
    rows = []
    for row in results["curves"]["candidates"]:
        quick = words.speedup(row, 1)
        mark = "recommended" if row["name"] == results["recommended"]["name"] else ""
        mark = "best" if not mark and row["name"] == results["best"] else mark
        rows.append(
            {
                "name": row["name"],
                metric: row[metric],
                other: row[other],
                "repeats": row["repeats"],
                "parameters": row["parameters"],
                "macs": row["macs"],
                "batch1_ms": figures.cost_of(row, "batch1_seconds"),
                "batch16_ms": figures.cost_of(row, "batch16_seconds"),
                "speedup": None if quick is None else quick[0],
                "difference": row["difference_to_best"],
                "enough": row["good_enough"],
                "mark": mark,
            }
        )
    return Table(
        "networks",
        "Every network, what it reaches and what it costs",
        {
            "name": "Network",
            metric: NAMES[metric],
            other: NAMES[other],
            "repeats": "Seeds",
            "parameters": "Parameters",
            "macs": "Multiply–adds",
            "batch1_ms": "ms, batch 1",
            "batch16_ms": "ms, batch 16",
            "speedup": "Times as fast, batch 1",
            "difference": f"{NAMES[metric]} − best",
            "enough": "Good enough",
        },
        rows,
        (
            "Good enough is what lies inside the best one's interval and, paired picture by "
            "picture, within noise of it. The recommended one has the fewest parameters of those.",
        ),
    )


def _alternatives(results: Row, metric: str) -> Table:
    """At the same cut: probe, partial freezing, hybrids."""
    rows = [
        {
            "cut": row["cut"],
            "name": row["name"],
            metric: row[metric],
            "difference": row["difference_to_truncated"],
        }
        for row in results["curves"]["alternatives"]
    ]
    return Table(
        "alternatives",
        "Other ways at the same cut",
        {
            "name": "Network",
            "cut": "Ends at",
            metric: NAMES[metric],
            "difference": "− fine-tuned there",
        },
        rows,
        words.of_alternatives(results),
    )


def _saved(results: Row) -> list[str]:
    found = results["saved"]
    out = [f"The probes at all {found['probes']} main cuts came from one pass over the pictures."]
    if found["taken"]:
        out.append(f"{found['taken']} runs were taken over from other studies.")
    return out


def _notes(results: Row) -> list[str]:
    return [
        *words.of_search(results),
        *results["notes"],
        "The best of many networks on validation is a little flattered by being chosen; the test "
        "part had no say in any choice.",
        "Latencies were measured once on this machine by ONNX Runtime, in turns, and are kept in "
        "latency.json.",
    ]

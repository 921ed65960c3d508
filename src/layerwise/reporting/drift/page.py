"""The page of a drift comparison, made of what `drift.json` holds."""

from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.reporting.drift.figures import apart, distributions, drawn, shares
from layerwise.reporting.drift.words import answer, notes, rank, title
from layerwise.reporting.study_page import Figure, StudyPage, Table


def drift_page(results: Mapping[str, Any]) -> StudyPage:
    """The page in words and figures.

    Args:
        results: As `drift.json` holds them.
    """
    rows = results["quantities"]
    far = [row for row in rows if "psi" in row]
    some = [row for row in rows if "difference" in row]
    figures = []
    if far:
        figures += [_apart(far, results["limits"]), _distributions(far)]
    if some:
        figures.append(_shares(some))
    hours = [f"{k} {results[k]}" for k in ("since", "until") if results[k]]
    span = f", {' '.join(hours)}" if hours else ""
    return StudyPage(
        title=f"Drift of {results['bundle']['name']}: {results['images']:,} pictures{span}",
        answer=answer(results),
        figures=figures,
        tables=[_distances_table(far), *([_shares_table(some)] if some else [])] if far else [],
        notes=notes(results),
        reproduce=[results["command"]],
        kind="drift",
    )


def _apart(rows: Sequence[Mapping[str, Any]], limits: Mapping[str, Any]) -> Figure:
    measure = limits["measure"]
    svg = apart(rows, measure, limits["threshold"])
    table = [
        {
            "quantity": title(row),
            "verdict": row["verdict"],
            measure: row[measure]["value"],
            "by_chance": row[measure]["expected"],
            "by_chance_95": row[measure]["bound"],
            "p_holm": row["p_holm"],
        }
        for row in rows
    ]
    said = [
        "The grey band is what chance alone gives in 95% of samples of so many pictures; the line "
        "is where it begins to matter. Only what lies beyond both has drifted."
    ]
    return Figure("distances", "How far from training", svg, table, said)


def _distributions(rows: Sequence[Mapping[str, Any]]) -> Figure:
    table = []
    for row in rows:
        edges, before, after = drawn(row)
        table += [
            {"quantity": title(row), "from": a, "to": b, "before": p, "now": q}
            for a, b, p, q in zip(edges, edges[1:], before, after, strict=False)
        ]
    said = ["Shares of the pictures in each bin; bins are drawn equally wide."]
    return Figure("distributions", "The distributions", distributions(rows), table, said)


def _shares(rows: Sequence[Mapping[str, Any]]) -> Figure:
    table = [
        {
            "quantity": title(row),
            "verdict": row["verdict"],
            "before": row["before"],
            "now": row["after"],
            "difference": row["difference"],
            "p_holm": row["p_holm"],
        }
        for row in rows
    ]
    said = ["Lines are 95% intervals of the difference. Signs are of the pictures, yes or no."]
    return Figure("shares", "Shares of decisions and of broken pictures", shares(rows), table, said)


def _distances_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = [
        {
            "quantity": title(row),
            "verdict": row["verdict"],
            "before": row["before"]["value"],
            "after": row["after"]["value"],
            **{name: row[name]["value"] for name in ("psi", "js", "ks")},
            "bound": row["psi"]["bound"],
            "p_holm": row["p_holm"],
        }
        for row in sorted(rows, key=rank)
    ]
    columns = {
        "quantity": "Quantity",
        "verdict": "Drift",
        "before": "Median in training",
        "after": "Median now",
        "psi": "PSI",
        "bound": "PSI by chance, 95%",
        "js": "Jensen–Shannon",
        "ks": "Kolmogorov–Smirnov",
        "p_holm": "p (Holm)",
    }
    return Table("quantities", "Inputs and scores", columns, table)


def _shares_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = [
        {
            "quantity": title(row),
            "verdict": row["verdict"],
            "before": row["before"],
            "after": row["after"],
            "difference": row["difference"],
            "p_holm": row["p_holm"],
        }
        for row in sorted(rows, key=rank)
    ]
    columns = {
        "quantity": "Share",
        "verdict": "Drift",
        "before": "In training or validation",
        "after": "Now",
        "difference": "Difference",
        "p_holm": "p (Holm)",
    }
    return Table("decisions", "Decisions and signs of broken pictures", columns, table)

"""A search in sentences: each is derived from the numbers, and says where noise begins.

Rows are those of `results.json`, documented in docs/search.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.reporting.text import NAMES, number, quantity, with_interval
from layerwise.studies.search.trials import RANDOM

Row = Mapping[str, Any]
FEW = 20  # finished trials below which importances are called unsure whatever their intervals


def answer(results: Row) -> list[str]:
    """What to train, what it reaches, and how much of that is the choice of the best of many."""
    best, metric = results["best"], results["study"]["metric"]
    rows = results["curves"]["trials"]
    done = [row for row in rows if row["state"] == "done"]
    first = f"Take trial {best['number']} of {len(rows)}: {values_words(best['values'])}."
    if not best["values"]:
        first = "Nothing was left to search: one network was trained."
    return [
        first,
        f"Its {NAMES[metric]} is {with_interval(best[metric])} on the validation part, by which "
        f"it was chosen, and {with_interval(results['test'][metric])} on the test part, which no "
        f"other trial has seen.",
        *_ties(done, best),
    ]


def _ties(done: Sequence[Row], best: Row) -> list[str]:
    """How many others may be as good, and whether one of them is smaller."""
    others = [row for row in done if row["number"] != best["number"]]
    if not others:
        return []
    tied = [row for row in others if row["within_noise"]]
    many = f"{len(tied)} of the {len(others)} other trials that were trained to the end"
    if not tied:
        all_others = f"all {len(others)} others" if len(others) > 1 else "the one other"
        return [f"It is ahead of {all_others} trained to the end by more than noise."]
    verb = "is" if len(tied) == 1 else "are"
    out = [
        f"{many[0].upper()}{many[1:]} {verb} within noise of it: which of these comes first is "
        "chance, and the best of many looks better than it is."
    ]
    smallest = min(tied, key=lambda row: (row["parameters"], row["number"]))
    if smallest["parameters"] < 0.8 * best["parameters"]:
        sizes = [quantity(row["parameters"]) for row in (smallest, best)]
        out.append(
            f"The smallest of these is trial {smallest['number']} ({sizes[0]} parameters instead "
            f"of {sizes[1]}): {values_words(smallest['values'])}."
        )
    return out


def of_history(results: Row) -> list[str]:
    """How the trials ended, and whether modelling them was better than drawing at random."""
    rows, metric = results["curves"]["trials"], NAMES[results["study"]["metric"]]
    out = [f"{_ends(rows)} {_why(results)}"]
    done = [row for row in rows if row["state"] == "done"]
    early = [row for row in done if row["number"] < RANDOM]
    late = [row for row in done if row["number"] >= RANDOM]
    if early and late:
        one, other = (max(row["score"]["value"] for row in part) for part in (early, late))
        count = sum(row["number"] < RANDOM for row in rows)
        verb = "raised" if other > one else "did not raise"
        out.append(
            f"The first {count} trials were drawn at random; the best of these reached {metric} "
            f"{number(one)}. Those after them, drawn where good ones had been, {verb} that"
            + (f" to {number(other)}." if other > one else f" (their best is {number(other)}).")
        )
        top = max(early, key=lambda row: row["score"]["value"])
        if other > one and (top["within_noise"] or top["within_noise"] is None):
            out.append("That difference is within noise.")
    return out


def _ends(rows: Sequence[Row]) -> str:
    """As "50 trials: 31 trained to the end, 18 pruned, 1 failed."."""
    words = {
        "done": "trained to the end",
        "pruned": "pruned",
        "stopped": "stopped as the time was up",
        "failed": "failed",
    }
    counts = {state: sum(row["state"] == state for row in rows) for state in words}
    parts = [f"{count} {words[state]}" for state, count in counts.items() if count]
    return f"{len(rows)} trial{'s' if len(rows) != 1 else ''}: {', '.join(parts)}."


def _why(results: Row) -> str:
    """Why there are no more trials."""
    return {
        "trials": "They are as many as were asked for.",
        "time": "Then the time was up.",
        "space": "Every combination of the space has been tried.",
        None: "",
    }[results["study"]["ended"]]


def of_importance(results: Row) -> list[str]:
    """Which fields mattered, and how sure that is."""
    rows = results["curves"]["importance"]
    trials = results["curves"]["trials"]
    done = sum(row["state"] == "done" for row in trials)
    if not rows:
        return [
            f"{done} trials were trained to the end: too few, or too equal, to say what mattered."
        ]
    out = []
    first = rows[0]
    said = f"{first['name']} explains the largest share of the differences between trials, "
    said += with_interval(first["share"], percent=True)
    if len(rows) > 1:
        said += f"; then {rows[1]['name']}, {with_interval(rows[1]['share'], percent=True)}"
    out.append(f"{said}.")
    unsure = [row["name"] for row in rows[1:] if _overlap(first["share"], row["share"])]
    if unsure:
        out.append(
            f"The intervals of {_listed(unsure)} and of {first['name']} overlap: which of them "
            "matters most can not be told from these trials."
        )
    if done < FEW:
        out.append(
            f"Importances of few trials are unsure, and these are of {done}: take them as a hint, "
            "not as a ranking."
        )
    pruned = sum(row["state"] in ("pruned", "stopped", "failed") for row in trials)
    if pruned:
        out.append(
            f"They are of the {done} trials trained to the end. What made the {pruned} others "
            "worse is not in them, so a field whose bad values were pruned early may count for "
            "less here than it does."
        )
    return out


def of_parallel(results: Row) -> list[str]:
    """What the best trials have in common."""
    rows = [row for row in results["curves"]["trials"] if row["state"] == "done"]
    searched = [d for d in results["study"]["space"] if _several(d)]
    top = sorted(rows, key=lambda row: -row["score"]["value"])[: max(3, len(rows) // 10)]
    if len(top) < 3:
        return ["Each line is a trial."]
    same = [
        f"{d['name']} {value_word(top[0]['values'][d['name']])}"
        for d in searched
        if d["choices"] and len({row["values"][d["name"]] for row in top}) == 1
    ]
    spans = []
    for dimension in searched:
        if dimension["choices"]:
            continue
        found = [row["values"][dimension["name"]] for row in top]
        low, high = value_word(min(found)), value_word(max(found))
        spans.append(
            f"{dimension['name']} {low} to {high}" if low != high else f"{dimension['name']} {low}"
        )
    shared = (
        f"The best {len(top)} trials have {_listed([*same, *spans])}."
        if same or spans
        else (f"The best {len(top)} trials have no value in common.")
    )
    return [shared, "Equal values of the best may be chance: the fewer trials, the likelier."]


def noted(results: Row) -> list[str]:
    """How it was measured, where that limits what it says."""
    study = results["study"]
    out = [
        f"Every trial has the seed {results['seed']}, {study['epochs']} epochs at most and the "
        f"weights of its epoch with the best {NAMES[study['metric']]} on validation. Another seed "
        "would put near trials in another order.",
    ]
    if study["pruner"] == "median":
        out.append(
            "A trial was pruned when its best score so far was below the median of the finished "
            "ones at that epoch; one that learns slowly and would have come out well is lost by it."
        )
    failed = [row for row in results["curves"]["trials"] if row["state"] == "failed"]
    out += [f"Trial {row['number']} failed: {row['reason']}" for row in failed]
    return out


def saved_sentences(results: Row) -> list[str]:
    """What did not have to be trained."""
    ends = {
        "equal": (
            "equal to an earlier one and trained once",
            "equal to earlier ones and trained once",
        ),
        "taken": ("found finished in another study",) * 2,
    }
    return [
        f"{count} trial {one}." if count == 1 else f"{count} trials {many}."
        for name, (one, many) in ((n, (f"was {a}", f"were {b}")) for n, (a, b) in ends.items())
        if (count := results["saved"][name])
    ]


def values_words(values: Row) -> str:
    """As "kernel 3, lr 0.0123"."""
    return ", ".join(f"{name} {value_word(value)}" for name, value in values.items())


def value_word(value: bool | int | float | str) -> str:
    """A value as narrow as it can be read."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _several(dimension: Row) -> bool:
    """Whether a field has more than one value."""
    if dimension["choices"]:
        return len(dimension["choices"]) > 1
    return bool(dimension["low"] < dimension["high"])


def _overlap(one: Row, other: Row) -> bool:
    """Whether two intervals do, or one is not known."""
    if None in (one["low"], other["high"]):
        return True
    return bool(other["high"] >= one["low"])


def _listed(words: Sequence[str]) -> str:
    """As "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"

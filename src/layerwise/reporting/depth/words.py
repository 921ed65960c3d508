"""A depth study in sentences: each is derived from the numbers, and says where noise begins.

Rows are those of `results.json`, documented in docs/depth.md.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.reporting.differences import difference_words
from layerwise.reporting.text import NAMES, number, quantity, with_interval

Row = Mapping[str, Any]
RATIO = 1.5  # times as fast: below it a shorter network is hardly worth the change


def answer(results: Row) -> list[str]:
    """What to do, what it costs in quality, and what the test said."""
    rows = results["curves"]["candidates"]
    metric, model = results["study"]["metric"], results["study"]["model"]
    chosen, best, full = _named(results, results["recommended"]["name"]), _best(results), rows[0]
    out = [_advice(chosen, full, model, metric)]
    if chosen["name"] != best["name"]:
        out.append(
            f"On validation its {NAMES[metric]} is {with_interval(chosen[metric])}, inside the "
            f"interval of the best one, {_called(best['name'])}, {with_interval(best[metric])}. "
            + difference_words(
                _begin(chosen["name"]),
                _called(best["name"]),
                chosen["difference_to_best"],
                NAMES[metric],
            )
        )
    elif chosen["kind"] != "full":
        out.append(
            f"On validation it is the best of all {len(rows)}: {NAMES[metric]} "
            f"{with_interval(chosen[metric])}. "
            + difference_words(
                _begin(chosen["name"]), full["name"], chosen["difference_to_full"], NAMES[metric]
            )
        )
    out.append(against_full(results))
    if _worse_on_test(results):  # before anything that validation has to say for it
        return [
            out[0],
            f"Careful: the test part does not bear this out. {tested(results)}",
            *out[1:],
        ]
    return [*out, tested(results)]


def _worse_on_test(results: Row) -> bool:
    """Whether the recommended network is below the full one on the test part, beyond noise."""
    difference = results["test"]["difference"]
    high = None if difference is None else difference[results["study"]["metric"]]["high"]
    return high is not None and high < 0


def _advice(chosen: Row, full: Row, model: str, metric: str) -> str:
    if chosen["kind"] == "full":
        return (
            f"Keep the whole of {model}: no smaller network's {NAMES[metric]} is both inside the "
            "interval of the best one and within noise of it."
        )
    how = {
        "truncated": "fine-tune all that is left",
        "hybrid": f"copy the weights up to {chosen['copy']}, start the rest at random, and train "
        "it all",
        "frozen": f"freeze it up to {chosen['freeze']}, and fine-tune the rest",
        "probe": "train nothing but a linear layer on top",
    }[chosen["kind"]]
    preset = f" ({chosen['preset'].title()})" if chosen["preset"] else ""
    return f"Cut {model} off at {chosen['cut']}{preset}, and {how}: {_costs(chosen, full)}."


def _costs(row: Row, full: Row) -> str:
    """What is left of the full network, and how much faster it is."""
    words = [
        f"{share(row['parameters'], full['parameters'])} of the parameters "
        f"({quantity(row['parameters'])} of {quantity(full['parameters'])})",
        f"{share(row['macs'], full['macs'])} of the multiply–adds",
    ]
    quick = [_speed(row, batch) for batch in (1, 16)]
    if row["latency"] is not None:
        words.append(f"{quick[0]} at batch 1 and {quick[1]} at batch 16, as measured here")
    return "it has " + " and ".join(words[:2]) + ("; it is " + words[2] if words[2:] else "")


def _speed(row: Row, batch: int) -> str:
    """As "1.92 times as fast"; slower and within noise are said."""
    found = speedup(row, batch)
    if found is None:
        return "not measured"
    value, low, high = found
    if math.isfinite(low) and low <= 1 <= high:
        return f"as fast within noise ({value:.2f} times, 95% {low:.2f} to {high:.2f})"
    return f"{value:.2f} times as fast"


def speedup(row: Row, batch: int) -> tuple[float, float, float] | None:
    """How many times as fast as the full network, with its interval; None: not measured."""
    latency = row["latency"]
    if latency is None:
        return None
    found = latency[f"speedup_of_batch{batch}_seconds"]
    value, low, high = (found[side] for side in ("value", "low", "high"))
    nan = math.nan
    return float(value), nan if low is None else float(low), nan if high is None else float(high)


def against_full(results: Row) -> str:
    """The fastest shorter network inside the full one's interval, or that there is none."""
    metric = results["study"]["metric"]
    rows = [
        row
        for row in results["curves"]["candidates"]
        if row["kind"] != "full" and row["latency"] is not None
    ]
    inside = [row for row in rows if row["inside_full"]]
    quick = [row for row in inside if (speedup(row, 1) or (0.0,))[0] >= RATIO]
    if not inside:
        return (
            f"No truncated network reaches the {NAMES[metric]} interval of the full network, "
            f"{with_interval(results['curves']['candidates'][0][metric])}."
        )
    found = max(quick or inside, key=lambda row: (speedup(row, 1) or (0.0,))[0])
    pace = (speedup(found, 1) or (0.0,))[0]
    which = (
        f"{_called(found['name'])}, {with_interval(found[metric])}, {pace:.2f} times as fast at "
        "batch 1"
    )
    noise = difference_words(
        "It", "the full network", found["difference_to_full"], NAMES[metric]
    ).replace("between It and", "to")
    if quick:
        return (
            f"The fastest network with an {NAMES[metric]} inside the full network's interval: "
            f"{which}. {noise}"
        )
    return (
        f"No truncated network that is {RATIO} times as fast has an {NAMES[metric]} inside the "
        f"full network's interval; the fastest of those inside it is {which}. {noise}"
    )


def tested(results: Row) -> str:
    """The one look at the test part."""
    metric = results["study"]["metric"]
    networks = results["test"]["networks"]
    own = networks[0]
    said = f"On the test part, looked at once, {_called(own['name'])} has an {NAMES[metric]} of "
    said += with_interval(own[metric])
    if len(networks) < 2:
        return said + "."
    words = difference_words(
        _begin(own["name"]),
        "the full network",
        results["test"]["difference"][metric],
        NAMES[metric],
    )
    return f"{said}, and the full network {with_interval(networks[1][metric])}. {words}"


def of_depth(results: Row) -> list[str]:
    """What quality by depth shows."""
    metric, curves = results["study"]["metric"], results["curves"]
    probes, rows = curves["probes"], curves["candidates"]
    truncated = [row for row in rows if row["kind"] == "truncated"]
    best_probe = max(probes, key=lambda row: _value(row[metric]))
    out = [
        f"The best probe stands at {best_probe['cut']}, {with_interval(best_probe[metric])}: the "
        f"{_place(probes, best_probe['cut'])} of {len(probes)} main cuts from the bottom."
    ]
    top = max(truncated, key=lambda row: _value(row[metric]))
    out.append(
        f"The best network that was truncated and fine-tuned ends at {top['cut']}. "
        + difference_words(
            _begin(top["name"]), "the full network", top["difference_to_full"], NAMES[metric]
        )
    )
    equal = [row for row in truncated if row["equal_to_full"]]
    if equal and len(truncated) > 1:
        out.append(
            f"{len(equal)} of {len(truncated)} truncated networks are within noise of the full "
            f"one or better; the smallest of them ends at {equal[0]['cut']}."
        )
    elif not equal:
        out.append("Every truncated network is measurably worse than the full one.")
    return out


def of_cost(results: Row) -> list[str]:
    """What quality against cost shows."""
    curves = results["curves"]
    front = curves["pareto"]["macs"]
    out = [
        f"No other network is as good for as few multiply–adds as {_list(front)}: they are the "
        "front, drawn filled and joined by a dashed line. The band is the best one's interval, "
        "the ring the recommended one."
    ]
    rows = {row["name"]: row for row in curves["candidates"]}
    quick = curves["pareto"]["batch1_seconds"]
    if set(quick) != {name for name in front if rows[name]["latency"] is not None}:
        out.append(
            f"By measured time at batch 1 it is {_list(quick)}: operations alone do not say how "
            "long a network takes."
        )
    chosen = rows[results["recommended"]["name"]]
    for row in curves["candidates"]:
        if row["inside_best"] and not row["equal_to_best"] and row["macs"] < chosen["macs"]:
            words = difference_words(
                _begin(row["name"]), "the best one", row["difference_to_best"],
                NAMES[results["study"]["metric"]],
            )  # fmt: skip
            out.append(
                f"{words} It lies inside the best one's interval all the same, which is why both "
                "are asked for."
            )
            break
    return out


def of_alternatives(results: Row) -> list[str]:
    """Hybrids and partial freezing against fine-tuning all, at the same cut."""
    metric = results["study"]["metric"]
    out = []
    for row in results["curves"]["alternatives"]:
        if row["kind"] == "probe":
            continue
        plain = f"the network truncated at {row['cut']}, copied and fine-tuned as a whole,"
        out.append(
            difference_words(
                _begin(row["name"]), plain, row["difference_to_truncated"], NAMES[metric]
            )
        )
    if not out:
        out.append("Neither hybrids nor partial freezing were tried: see what was left out.")
    return out


def of_similarity(results: Row) -> list[str]:
    """How far which layers moved."""
    out = []
    rows = results["curves"]["similarity"]
    for network in dict.fromkeys(row["network"] for row in rows):
        mine = [r for r in rows if r["network"] == network and r["cka"] is not None]
        if not mine:
            out.append(f"{_begin(network)}: not defined, for too few validation pictures.")
            continue
        low = min(mine, key=lambda row: row["cka"])
        kept = [row for row in mine if row["cka"] >= 0.9]
        words = (
            f"{_begin(network)}: fine-tuning changed {low['cut']} most (CKA {number(low['cka'])})"
        )
        if not kept:
            out.append(f"{words}; no layer stayed above 0.9.")
        elif len(kept) == len(mine):
            out.append(f"{words}; every layer stayed at 0.9 or above.")
        else:
            out.append(f"{words}; {len(kept)} of {len(mine)} stayed at 0.9 or above.")
    full = [r for r in rows if r["svcca"] is not None and r["svcca"] < r["chance"] + 0.1]
    if full:
        out.append(
            f"SVCCA can not be told from nothing in common at {_list([r['cut'] for r in full])}: "
            "too few validation pictures for so many channels."
        )
    return out


def of_search(results: Row) -> list[str]:
    """What the search did, stage by stage, and what the time did not hold."""
    out = []
    for stage in results["stages"]:
        if stage["runs"]:
            out.append(f"{stage['name'].capitalize()}: {_list(stage['runs'])}.")
        if stage["left_out"]:
            names = _list([one["name"] for one in stage["left_out"]])
            out.append(
                f"{stage['name'].capitalize()}, left out: {names}; "
                f"{stage['left_out'][0]['reason']}."
            )
    return out


def share(part: float, whole: float) -> str:
    """As "38%"; "0.4%" for less than one."""
    percent = 100 * part / whole
    return f"{percent:.0f}%" if percent >= 1 else f"{percent:.1g}%"


def _best(results: Row) -> Row:
    return _named(results, results["best"])


def _named(results: Row, name: str) -> Row:
    found: Row = next(row for row in results["curves"]["candidates"] if row["name"] == name)
    return found


def _called(name: str) -> str:
    """A network within a sentence: "the network truncated at layer2"."""
    if name.startswith("truncated"):
        return f"the network {name}"
    return name if name.startswith("the ") else f"the {name}"


def _begin(name: str) -> str:
    """A network at the beginning of a sentence."""
    return "The" + _called(name)[3:]


def _place(rows: Sequence[Row], cut: str) -> str:
    """As "3rd"."""
    n = [row["cut"] for row in rows].index(cut) + 1
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def _list(words: Sequence[str]) -> str:
    """As "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _value(interval: Row) -> float:
    return -math.inf if interval["value"] is None else float(interval["value"])

"""Numbers in words: the answer in three sentences, and how one value is written.

Nothing here decides anything; it says what the results hold, and says "within noise" where an
interval does.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.reporting.evidence import Evidence, Interval

NAMES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall (sensitivity)",
    "specificity": "Specificity",
    "brier": "Brier score",
}
MEANINGS = {
    "auroc": "chance that a positive image scores above a negative one",
    "auprc": "average precision over all recalls",
    "accuracy": "share of right decisions",
    "balanced_accuracy": "mean of recall and specificity",
    "f1": "harmonic mean of precision and recall",
    "precision": "share of positive decisions that are right",
    "recall": "share of positive images that are found",
    "specificity": "share of negative images that are left alone",
    "brier": "mean squared error of the probabilities; lower is better",
}


def meaning(metric: str, task: str) -> str:
    """A metric in plain words."""
    if task == "multiclass" and metric == "balanced_accuracy":
        return "share of right decisions where every class counts the same"
    return MEANINGS[metric]


def answer(results: Mapping[str, Any], evidence: Evidence) -> tuple[str, str, str]:
    """Which layers, how well, and compared with what: three sentences of plain text."""
    return which_layers(results), how_well(results, evidence), compared(results, evidence)


def which_layers(results: Mapping[str, Any]) -> str:
    """The chosen transfer as advice."""
    run = chosen_run(results)
    if run is None:
        return "No network was chosen here: this report measures a model that was given."
    model = str(run.get("model") or run["name"])
    transfer = run.get("transfer")
    if not transfer:
        return f"For these images choose {model}: of all that was tried, it did best on validation."
    return f"For these images {advice(transfer, model)}."


def advice(transfer: Mapping[str, str], model: str) -> str:
    """A transfer as an instruction, without the full stop."""
    keep, copy, freeze = (str(transfer.get(k) or "none") for k in ("keep", "copy", "freeze"))
    if keep in ("all", ""):
        first = f"keep the whole of {model}"
    else:
        first = f"keep {model} up to {keep} and cut off everything above it"
    if copy == "none":
        second = "start its layers from random weights"
    elif copy in ("all", keep):
        second = "start from the pretrained weights"
    else:
        second = f"copy the pretrained weights up to {copy}, start the layers above it at random"
    if freeze == "none":
        third = "train every layer" if copy == "none" else "fine-tune every layer"
    elif freeze in ("all", keep):
        third = "freeze them all, training only a new classifier on top"
    else:
        third = f"freeze the layers up to {freeze} and fine-tune those above it"
    return f"{first}, {second}, and {third}"


def how_well(results: Mapping[str, Any], evidence: Evidence) -> str:
    """The test scores with their intervals."""
    test, count = results.get("test") or {}, len(evidence.targets)
    images = f"On {count:,} test image{'' if count == 1 else 's'}"
    if evidence.groups is not None and (patients := len(set(map(str, evidence.groups)))) < count:
        images += f" of {patients:,} patients"
    if not defined(test.get("auroc")):
        return f"{images} the AUROC is not defined, because a class is missing there."
    ranking = f"{images} it reaches an AUROC of {with_interval(test['auroc'])}"
    right = f"{with_interval(test.get('accuracy'), percent=True)} of its decisions are right"
    if evidence.task == "multiclass":
        balance = with_interval(test.get("balanced_accuracy"), percent=True)
        return f"{ranking}; {right}, and {balance} where every class counts the same."
    where = "at the thresholds" if evidence.task == "multilabel" else "at the threshold"
    if isinstance(evidence.threshold, (int, float)):
        where += f" {number(evidence.threshold)}"
    found = with_interval(test.get("recall"), percent=True)
    spared = with_interval(test.get("specificity"), percent=True)
    return (
        f"{ranking}; {where} chosen on validation, {right}, with a sensitivity of {found} and a "
        f"specificity of {spared}."
    )


def compared(results: Mapping[str, Any], evidence: Evidence) -> str:
    """Against the best floor on test, and against the other runs on validation."""
    parts = []
    own = (results.get("test") or {}).get("auroc")
    floors = {
        name: scores
        for name, scores in evidence.floors.get("test", {}).items()
        if defined(scores.get("auroc"))
    }
    if floors and own and defined(own):
        name = max(floors, key=lambda n: _value(floors[n]["auroc"]))
        floor = floors[name]
        verdict = judge(own, floor["auroc"], floor.get("difference"))
        parts.append(
            f"The best baseline, {name}, reaches {with_interval(floor['auroc'])} on the same "
            f"images: the network is {verdict}"
        )
    others = _against_the_runs(results)
    if others:
        parts.append(others)
    if not parts:
        return "Nothing else was measured to compare it with."
    return "; ".join(parts) + "."


def _against_the_runs(results: Mapping[str, Any]) -> str:
    """How many of the other finished runs can not be told from the chosen one."""
    run = chosen_run(results)
    if run is None or not defined(run_auroc(run)):
        return ""
    others = [
        r
        for r in results.get("runs", ())
        if r.get("state") == "done"
        and r.get("kind") != "floor"
        and r.get("id") != run["id"]
        and defined(run_auroc(r))
    ]
    if not others:
        return ""
    tied = [
        r
        for r in others
        if within_noise(run_auroc(run), run_auroc(r), r.get("difference_to_chosen"))
    ]
    best = max(others, key=lambda r: _value(run_auroc(r)))
    if len(others) == 1:
        kind = "is within noise of it" if tied else "is behind it by more than noise"
        return f"on validation the only other run, {best['name']}, {kind}"
    if not tied:
        many = "both" if len(others) == 2 else f"all {len(others)}"
        return f"on validation {many} other runs are behind it by more than noise"
    many = f"{len(tied)} of the {len(others)}" if len(tied) < len(others) else f"all {len(others)}"
    many = "both" if many == "all 2" else many
    text = f"on validation {many} other runs {'is' if len(tied) == 1 else 'are'} within noise of it"
    if best in tied:
        text += f"; the nearest, {best['name']}, has an AUROC of {with_interval(run_auroc(best))}"
    return text


def transfers_best(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which depth transfers best, and whether that is more than random initialisation reaches."""
    kept = [row for row in rows if defined(row["accuracy"])]
    copied = [row for row in kept if row["cut"] is not None]
    if not copied:
        return ""
    best = max(copied, key=lambda row: _value(row["accuracy"]))
    text = (
        f"Best of all is {best['name']} up to {best['cut']}, with an accuracy of "
        f"{with_interval(best['accuracy'])}"
    )
    random = next((row for row in kept if row["cut"] is None), None)
    if random is None:
        return text + "."
    above = "within noise of" if within_noise(best["accuracy"], random["accuracy"]) else "beyond"
    return (
        f"{text}: {above} what random initialisation reaches, {with_interval(random['accuracy'])}."
    )


def judge(own: Interval, other: Interval, difference: Interval | None = None) -> str:
    """In words: "better by 0.05 …", "worse …", or that the two can not be told apart."""
    gap = _value(difference) if defined(difference) else _value(own) - _value(other)
    if within_noise(own, other, difference):
        return f"not measurably different (the gap of {signed(gap)} is within noise)"
    size = number(abs(gap))
    if difference is not None and defined(difference):
        size += f" (95% interval {number(difference['low'])} to {number(difference['high'])})"
    return f"{'better' if gap > 0 else 'worse'} by {size}, more than noise explains"


def within_noise(own: Interval, other: Interval, difference: Interval | None = None) -> bool:
    """Whether the paired difference holds 0 or, where none is known, the intervals overlap."""
    if defined(difference):
        low, high = _side(difference, "low"), _side(difference, "high")
        return not (low > 0 or high < 0)
    apart = _side(own, "low") > _side(other, "high") or _side(own, "high") < _side(other, "low")
    return not apart


def chosen_run(results: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The run that was chosen, or None."""
    chosen = results.get("chosen")
    return next((r for r in results.get("runs") or () if chosen and r.get("id") == chosen), None)


def run_auroc(run: Mapping[str, Any]) -> Interval:
    """A run's validation AUROC; empty where there is none."""
    found: Interval = (run.get("validation") or {}).get("auroc") or {}
    return found


def defined(interval: Interval | None) -> bool:
    """Whether there is a value that is a number."""
    value = (interval or {}).get("value")
    return isinstance(value, (int, float)) and math.isfinite(value)


def _value(interval: Interval | None) -> float:
    return _side(interval, "value")


def _side(interval: Interval | None, side: str) -> float:
    """One side of an interval, NaN where absent: no comparison with it is true."""
    found = (interval or {}).get(side)
    return float("nan") if found is None else float(found)


def number(value: float | None, percent: bool = False) -> str:
    """Three digits, or a percentage with one; an em dash where there is no number."""
    if value is None or not math.isfinite(value):
        return "—"
    if percent:
        return f"{100 * value:.1f}%"
    if value and abs(value) < 0.001:
        return ("−" if value < 0 else "") + f"{abs(value):.1e}"
    return f"{value:.3f}".replace("-", "−")


def signed(value: float) -> str:
    """With its sign, a true minus."""
    return ("+" if value > 0 else "") + number(value)


def with_interval(interval: Interval | None, percent: bool = False) -> str:
    """As "0.981 (0.970–0.990)"; the value alone where its interval is not known."""
    if not defined(interval):
        return "—"
    text = number(_value(interval), percent)
    span = limits(interval, percent)
    return f"{text} ({span})" if span else text


def limits(interval: Interval | None, percent: bool = False) -> str:
    """As "0.970–0.990", empty where not known."""
    low, high = _side(interval, "low"), _side(interval, "high")
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    joint = " to " if low < 0 else "–"
    first = number(low, percent)
    first = first.removesuffix("%") if joint == "–" else first
    return f"{first}{joint}{number(high, percent)}"


def quantity(value: float | None) -> str:
    """A count that may be large: 812, 14.2 k, 2.22 M, 1.53 G."""
    if value is None or not math.isfinite(value):
        return "—"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g} {unit}"
    return f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """0.4 s, 12 s, 3 min 20 s, 1 h 05 min."""
    if seconds is None or not math.isfinite(seconds):
        return "—"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def thresholds(evidence: Evidence) -> Sequence[tuple[str, str]]:
    """(label, threshold) of every decision that has one."""
    if evidence.threshold is None:
        return []
    if isinstance(evidence.threshold, (int, float)):
        names = evidence.labels[1:] if evidence.task == "binary" else evidence.labels
        return [(name, number(evidence.threshold)) for name in names]
    return [(n, number(t)) for n, t in zip(evidence.labels, evidence.threshold, strict=True)]

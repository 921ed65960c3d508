"""The reasons of a decision as sentences: numbers in, words out. Nothing is decided here."""

import math
from collections.abc import Mapping
from typing import Any

from layerwise.evaluation.subgroups import SMALL

NAMES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "precision": "precision",
    "recall": "sensitivity",
    "specificity": "specificity",
    "brier": "Brier score",
}

Numbers = Mapping[str, Any]


def first(floors: bool) -> str:
    """Of a registry without a champion."""
    said = "The registry has no champion yet, so there is nothing to compare with"
    return said + ("." if floors else ", and no floors were given (--floor).")


def other_labels(new: Numbers, champion: Numbers) -> str:
    """Of bundles that answer different questions."""
    return (
        f"The labels differ: the champion is {champion['task']} and knows "
        f"{', '.join(champion['labels'])}; this bundle is {new['task']} and knows "
        f"{', '.join(new['labels'])}. Whoever asks the champion would get other answers: use a "
        "registry of its own for it."
    )


def not_inferior(found: Numbers, level: str) -> str:
    """Of the non-inferiority test."""
    name, gain, margin = NAMES[found["metric"]], found["difference"], found["margin"]
    if math.isnan(gain["low"]):
        return f"{name} is not defined on these images, because a class is missing there."
    said = (
        f"{_capital(name)} is {_plain(found['new'])} against the champion's "
        f"{_plain(found['champion'])}, a gain of {_span(gain, level)}, paired over "
        f"{found['patients']:,} patients."
    )
    border = _signed(-margin)
    if gain["low"] > -margin:
        return f"{said} Its lower end lies above {border}, the margin: it is not worse."
    if gain["high"] < 0:
        return f"{said} It is worse, by more than noise explains."
    if found["times"] is None:
        return f"{said} It does not lie above {border}, the margin."
    return (
        f"{said} Its lower end does not lie above {border}, the margin: that it is worse by more "
        f"can not be ruled out on these images. About {max(found['times'], 1.05):.1f} times as "
        "many patients would tell, if the gain stayed what it is."
    )


def limited(found: Numbers, level: str) -> str:
    """Of a limit on sensitivity or specificity."""
    gain, border = found["difference"], _signed(-found["limit"])
    lies = "lies above" if gain["low"] > -found["limit"] else "does not lie above"
    return (
        f"{_capital(NAMES[found['metric']])} at the thresholds is {_plain(found['new'])} against "
        f"{_plain(found['champion'])}, a gain of {_span(gain, level)}; its lower end {lies} "
        f"{border}, the limit."
    )


def floor(found: Numbers, level: str) -> str:
    """Of a floor."""
    new, border, lower = found["new"], found["floor"], found["lower_is_better"]
    end, side, way = ("upper", "high", "above") if lower else ("lower", "low", "below")
    passed = new["high"] <= border if lower else new["low"] >= border
    return (
        f"{_capital(NAMES[found['metric']])} is {_plain(new['value'])} ({level} "
        f"{_plain(new['low'])} to {_plain(new['high'])}); its {end} end, {_plain(new[side])}, is "
        f"{'not ' if passed else ''}{way} the floor of {border:g}."
    )


def subgroups(found: Numbers, level: str) -> tuple[str, list[str]]:
    """Of the subgroups, and warnings of what they can not tell."""
    groups, limit, name = found["groups"], found["limit"], NAMES[found["metric"]]
    if not groups:
        return "No subgroups were named (--subgroup), so none was looked at.", [
            "A fall within a subgroup would not have been seen: name its column with --subgroup."
        ]
    warnings = [
        f"{_fall(one, level)}: past the limit of {limit:g}, but within noise; look at more images "
        "of it."
        for one in groups
        if one["falls"] and not one["blocks"]
    ]
    small = [f"{_group(one)} ({one['images']} images)" for one in groups if one["small"]]
    if small:
        warnings.append(
            f"Too few to tell ({SMALL} patients with a label and {SMALL} without it are needed): "
            f"{', '.join(small)}."
        )
    blocks = [_fall(one, level) for one in groups if one["blocks"]]
    if blocks:
        return (
            f"In {name}, {'; '.join(blocks)}: past the limit of {limit:g}, and more than noise "
            f"explains. {found['looked_at']} groups were looked at, each by itself."
        ), warnings
    told = [one for one in groups if "p_holm" in one]
    if not told:
        return "No subgroup is large enough to tell.", warnings
    worst = min(told, key=lambda one: one["difference"]["value"])
    return (
        f"None of {len(told)} subgroups falls past the limit of {limit:g} by more than noise; the "
        f"least gain is that of {_group(worst)}, {_span(worst['difference'], level)}."
    ), warnings


def _group(one: Numbers) -> str:
    return f"{one['column']} {one['value']}"


def _fall(one: Numbers, level: str) -> str:
    gain = one["difference"]
    return (
        f"{_group(one)} falls by {_plain(-gain['value'])} (a gain of {_span(gain, level)}, "
        f"{one['images']} images)"
    )


def _plain(value: float) -> str:
    return f"{value:.3f}"


def _signed(value: float) -> str:
    """With its sign, a true minus, and none before a zero."""
    text = f"{value:+.3f}".replace("-", "−")
    return text[1:] if text[1:] == "0.000" else text


def _span(gain: Numbers, level: str) -> str:
    low, high = _signed(gain["low"]), _signed(gain["high"])
    return f"{_signed(gain['value'])} ({level} {low} to {high})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]

"""What the curves of a transferability study hold, as facts: what is below the base, and where.

The figures mark them and the words say them; neither decides anything of its own. "Below" and
"above" mean that the 95% interval of the paired difference to the base leaves out 0, and everything
else is within noise. A layer is meant by its number, from 1 at the bottom (Yosinski et al. 2014, §2
to §4).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layerwise.evaluation.estimates import within_noise
from layerwise.studies.transferability.experiment import (
    BASE,
    LONGER,
    SELFFER,
    SELFFER_TUNED,
    TRANSFER,
)

KINDS = ("random", "data sets", "weights", "groups")  # the first there is, is the main one

Span = dict[str, float]
Curves = Mapping[str, Any]


def span(interval: Mapping[str, Any] | None) -> Span:
    """Value, low and high as numbers, NaN where there is none."""
    found = interval or {}
    sides = {side: found.get(side) for side in ("value", "low", "high")}
    return {k: float("nan") if v is None else float(v) for k, v in sides.items()}


def defined(one: Span) -> bool:
    """Whether there is a value."""
    return math.isfinite(one["value"])


def below(one: Span) -> bool:
    """Whether a difference is below 0 beyond noise."""
    return not within_noise(one) and one["value"] < 0


def above(one: Span) -> bool:
    """Whether a difference is above 0 beyond noise."""
    return not within_noise(one) and one["value"] > 0


def apart(a: Span, b: Span) -> Span:
    """A − b of two estimates that are not paired, with its 95% interval.

    The sides are combined as those of independent estimates (the method of variance estimates
    recovery, Zou & Donner 2008). Estimates on the same images are positively correlated, and then
    the interval is wider than it need be: it does not find differences that are none.
    """
    value = a["value"] - b["value"]
    return {
        "value": value,
        "low": value - math.hypot(a["value"] - a["low"], b["high"] - b["value"]),
        "high": value + math.hypot(a["high"] - a["value"], b["value"] - b["low"]),
    }


@dataclass(frozen=True)
class Kind:
    """The means of one kind of pairs: random halves, named groups, two data sets, given weights.

    ``accuracy`` and ``difference`` (to the base) hold {treatment: {layer: span}}, layer 0 for what
    has no cut; the parts of the decomposition hold {layer: span}, a loss being positive.
    """

    name: str
    names: Mapping[int, str]  # of the layers, bottom to top
    accuracy: Mapping[str, Mapping[int, Span]]
    difference: Mapping[str, Mapping[int, Span]]
    coadaptation: Mapping[int, Span]
    specificity: Mapping[int, Span]
    total: Mapping[int, Span]
    boosts: Sequence[Mapping[str, Any]]  # the rows of Table 1, the widest range of layers first

    def has(self, treatment: str) -> bool:
        """Whether a treatment was measured at any layer."""
        return bool(self.at(treatment))

    def at(self, treatment: str) -> Mapping[int, Span]:
        """A treatment's differences to the base by layer, those that are defined."""
        return {n: d for n, d in self.difference.get(treatment, {}).items() if defined(d)}

    def layers(self, treatment: str) -> list[int]:
        """The layers at which a treatment was measured."""
        return list(self.at(treatment))

    def below(self, treatment: str) -> list[int]:
        """The layers at which a treatment is below the base beyond noise."""
        return [n for n, d in self.at(treatment).items() if below(d)]

    def above(self, treatment: str) -> list[int]:
        """The layers at which a treatment is above the base beyond noise."""
        return [n for n, d in self.at(treatment).items() if above(d)]

    def lowest(self, treatment: str, among: Collection[int] = ()) -> int:
        """The layer, of those given or of all, at which a treatment is furthest below the base."""
        at = self.at(treatment)
        return min(among or at, key=lambda n: at[n]["value"])

    def highest(self, treatment: str, among: Collection[int] = ()) -> int:
        """The layer, of those given or of all, at which a treatment is furthest above the base."""
        at = self.at(treatment)
        return max(among or at, key=lambda n: at[n]["value"])

    def general_to(self) -> int:
        """The layer up to which AnB is nowhere below the base; 0 if it is at the lowest one."""
        last = 0
        for number, difference in self.at(TRANSFER).items():
            if below(difference):
                break
            last = number
        return last

    def recovered(self) -> list[int]:
        """The layers at which BnB is below the base and BnB+ is not."""
        tuned = self.at(SELFFER_TUNED)
        return [n for n in self.below(SELFFER) if n in tuned and not below(tuned[n])]

    def losses(self) -> dict[str, list[int]]:
        """The layers at which AnB loses beyond noise, by which part of the loss shows.

        "co-adaptation" and "specificity": only that part is beyond noise; "both": both are;
        "neither": only their sum is.
        """
        out: dict[str, list[int]] = {}
        for n, total in self.total.items():
            if above(total):
                parts = (above(self.coadaptation[n]), above(self.specificity[n]))
                out.setdefault(_PARTS[parts], []).append(n)
        return out

    def boost(self, over: str) -> Span:
        """AnB+ over "base", "selffer" or "longer", the mean over the widest range of layers."""
        return span(self.boosts[0].get(f"over_{over}")) if self.boosts else span(None)

    def boosted(self) -> bool:
        """Whether AnB+ gains more than the controls for training time that were measured."""
        over = [self.boost(one) for one in ("base", "selffer", "longer")]
        return above(over[0]) and all(above(one) for one in over[1:] if defined(one))

    def unfinished(self) -> bool:
        """Whether the base was not trained to its end: twice as long, it is beyond noise better."""
        return any(above(d) for d in self.at(LONGER).values())


_PARTS = {
    (True, True): "both",
    (True, False): "co-adaptation",
    (False, True): "specificity",
    (False, False): "neither",
}


def kinds(curves: Curves) -> list[Kind]:
    """All kinds of pairs with means, the main one first."""
    there = list(dict.fromkeys(row["kind"] for row in curves.get("means") or ()))
    order = [k for k in KINDS if k in there] + [k for k in there if k not in KINDS]
    return [_kind(curves, name) for name in order]


def _kind(curves: Curves, name: str) -> Kind:
    accuracy: dict[str, dict[int, Span]] = {}
    difference: dict[str, dict[int, Span]] = {}
    for row in sorted(_of(curves, "means", name), key=lambda row: int(row["layer"])):
        place = row["treatment"], int(row["layer"])
        accuracy.setdefault(place[0], {})[place[1]] = span(row["accuracy"])
        if place[0] != BASE:
            difference.setdefault(place[0], {})[place[1]] = span(row["difference_to_base"])
    parts = sorted(_of(curves, "decomposition", name), key=lambda row: int(row["layer"]))
    boosts = sorted(_of(curves, "table1", name), key=lambda row: -_width(str(row["layers"])))
    return Kind(
        name,
        layer_names(curves),
        accuracy,
        difference,
        {int(r["layer"]): span(r["coadaptation"]) for r in parts},
        {int(r["layer"]): span(r["specificity"]) for r in parts},
        {int(r["layer"]): span(r["total"]) for r in parts},
        boosts,
    )


def _of(curves: Curves, part: str, kind: str) -> list[Mapping[str, Any]]:
    return [row for row in curves.get(part) or () if row["kind"] == kind]


def _width(layers: str) -> int:
    """How many layers "3-7" means."""
    ends = [int(part) for part in layers.replace("–", "-").split("-") if part.strip().isdigit()]
    return ends[-1] - ends[0] + 1 if ends else 0


def compared(curves: Curves, what: str) -> dict[int, Span]:
    """Differences by layer of a kind, of "random filters", or "groups minus random"."""
    rows = [row for row in curves.get("kinds_compared") or () if row["kind"] == what]
    found = {int(row["layer"]): span(row["difference_to_base"]) for row in rows}
    return {n: one for n, one in sorted(found.items()) if defined(one)}


def layer_names(curves: Curves) -> dict[int, str]:
    """{number: cut} from the bottom up."""
    return dict(zip(map(int, curves["numbers"]), curves["layers"], strict=True))


def pairs_of(curves: Curves, kind: str) -> list[Mapping[str, Any]]:
    """The pairs of tasks of a kind."""
    return _of(curves, "pairs", kind)


def points_of(curves: Curves, kind: str, *treatments: str) -> list[Mapping[str, Any]]:
    """The trained networks of a kind, of the treatments named or of all."""
    rows = _of(curves, "points", kind)
    return [row for row in rows if not treatments or row["treatment"] in treatments]


def labels_of(curves: Curves, pair: str, task: str) -> list[str]:
    """The labels of a task of a pair; none where they are not known."""
    for one in curves.get("pairs") or ():
        if one["name"] == pair:
            for side in (one.get("a") or {}, one.get("b") or {}):
                if side.get("name") == task:
                    return list(side.get("labels") or ())
    return []


def chance(curves: Curves, kind: str) -> float:
    """What guessing reaches, the mean over a kind's target tasks; NaN where it is not known.

    For accuracy, one in as many as the task has classes, as in the paper; for AUROC one half.
    """
    metric = curves.get("metric", "accuracy")
    if metric == "auroc":
        return 0.5
    targets = {(p["pair"], p["target"]) for p in points_of(curves, kind)}
    counts = [len(labels_of(curves, *target)) for target in sorted(targets)]
    if metric not in ("accuracy", "balanced_accuracy") or not counts or not all(counts):
        return float("nan")
    return sum(1 / count for count in counts) / len(counts)

"""Whether what a model is sent, and what it says, is still what it was made of.

A bundle's statistics are compared with a server's, quantity by quantity. A quantity has drifted
when it lies farther apart than sampling explains (a permutation test, corrected by Holm for all
quantities) and by more than matters (the limits, which are flags). Either alone is no drift: over
few images chance is large, over very many everything differs a little.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from layerwise.errors import StatisticsError
from layerwise.evaluation.distances import (
    DISTANCES,
    Distance,
    distances,
    quantile,
    share,
    share_difference,
    share_test,
)
from layerwise.evaluation.estimates import holm
from layerwise.evaluation.intervals import Interval
from layerwise.serving.measures import ALIKE, INPUTS, SCORES, SIGNS, Floats
from layerwise.serving.statistics import Statistics

Kind = Literal["input", "sign", "score", "decided"]
Verdict = Literal["drifted", "none", "within noise", "not known"]

THRESHOLDS = {"psi": 0.1, "js": 0.133, "ks": 0.125}
"""What matters, by measure: the usual 0.1 of the population stability index, and what the others
are where it is 0.1 (a normal distribution that moves by 0.32 standard deviations)."""

DRAWS = 2000  # at least, of the permutation test
COMMON = 0.9  # of the training pictures look alike: only then a negative can be told


@dataclass(frozen=True)
class Limits:
    """What counts as drift.

    Attributes:
        measure: One of `DISTANCES`, by which inputs and scores are judged.
        threshold: Of the distance beyond what chance gives on average, from which it matters.
        share: Of the difference of a share of decisions.
        sign: Of the difference of a share of pictures with a sign of something broken.
        alpha: The chance of a false alarm over all quantities.
        clump: Images that come together, as of one patient; so many count as one.
    """

    measure: str = "psi"
    threshold: float = THRESHOLDS["psi"]
    share: float = 0.05
    sign: float = 0.01
    alpha: float = 0.05
    clump: float = 1.0


@dataclass(frozen=True, eq=False)
class Compared:
    """One quantity of both.

    Attributes:
        kind: An input, a sign (0 or 1) of a picture, a score, or the share decided for a label.
        name: Of the quantity in `measures.INPUTS`, or the label.
        edges: Of its bins, (B + 1,).
        before: Counts of the bundle, (B,).
        after: Counts now.
        distances: By name; empty for shares and where one of them has no images.
        difference: Of the shares, with its 95% interval; None for distances.
        p: Of the measure, or of Fisher's test; NaN where nothing can be tested.
        p_holm: Corrected for all quantities.
        verdict: See `Limits`. "none" where what matters would have shown, "within noise" where
            there are too few images to tell, "not known" without images.
    """

    kind: Kind
    name: str
    edges: Floats
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    distances: Mapping[str, Distance]
    difference: Interval | None
    p: float
    p_holm: float
    verdict: Verdict

    @property
    def rises(self) -> bool:
        """Whether its middle, or its share, is higher now."""
        if self.difference is not None:
            return self.difference["value"] > 0
        return _middle(self.after, self.edges) > _middle(self.before, self.edges)


def compare(before: Statistics, after: Statistics, limits: Limits, seed: int = 0) -> list[Compared]:
    """Every quantity of a bundle and of a server, judged.

    Args:
        before: The bundle's.
        after: The server's, or of other images.
        limits: What counts as drift.
        seed: Of the permutations.

    Raises:
        StatisticsError: They are of different labels.
    """
    if (before.task, before.labels) != (after.task, after.labels):
        raise StatisticsError(
            f"the bundle has the labels {list(before.labels)} and the statistics "
            f"{list(after.labels)}; name the statistics of this bundle's server"
        )
    share_edges = np.array([0.0, 1.0, 2.0])
    pairs: list[tuple[Kind, str, Floats, NDArray[np.int64], NDArray[np.int64]]] = []
    for name, edges in INPUTS.items():
        kind: Kind = "sign" if name in SIGNS else "input"
        pairs.append((kind, name, edges, before.inputs[name], after.inputs[name]))
    for label in before.scores:
        pairs.append(("score", label, SCORES, before.scores[label], after.scores[label]))
    for label in before.decided:
        pairs.append(("decided", label, share_edges, before.decided[label], after.decided[label]))
    draws = max(DRAWS, math.ceil(4 * len(pairs) / limits.alpha))
    found = [_tested(*pair, limits, draws, seed + k) for k, pair in enumerate(pairs)]
    adjusted = holm([one.p for one in found])
    return [
        replace(one, p_holm=p, verdict=_verdict(one, p, limits))
        for one, p in zip(found, adjusted, strict=True)
    ]


def checks(found: list[Compared]) -> dict[str, bool | None]:
    """What may be wrong with the pictures: yes, no, or None where it can not be told.

    negative: inverted greyscale. window: other grey levels. bars: bars along the borders.
    resolution: too few pixels, or smoothed ones. blank: pictures that show nothing. colour:
    coloured pictures where those of training are grey, or the other way round.
    """
    by = {one.name: one for one in found if one.kind in ("input", "sign")}

    def any_of(*said: bool | None) -> bool | None:
        return True if True in said else None if None in said else False

    def told(name: str, rising: bool | None = None) -> bool | None:
        one = by[name]
        if one.verdict in ("drifted", "none"):
            return one.verdict == "drifted" and rising in (None, one.rises)
        return None

    likeness = by["likeness"].before
    alike = likeness[INPUTS["likeness"][:-1] >= ALIKE].sum() >= COMMON * likeness.sum() > 0
    return {
        "negative": told("negative", rising=True) if alike else None,
        "window": any_of(*(told(name) for name in ("brightness", "contrast", "black", "white"))),
        "bars": told("barred", rising=True),
        "resolution": any_of(told("enlarged", rising=True), told("detail", rising=False)),
        "blank": told("blank", rising=True),
        "colour": told("colour"),
    }


def prevalence(decided: NDArray[np.int64], scores: Mapping[str, Any]) -> dict[str, float] | None:
    """The true share of positives, if the model is as right as it was on the test part.

    (decided + specificity − 1) / (sensitivity + specificity − 1), within 0 and 1 (Rogan & Gladen
    1978).

    Args:
        decided: How many were decided negative and positive, one at least.
        scores: The bundle's: its "recall" and "specificity".

    Returns:
        The share, with the 95% interval that follows from the number of pictures alone, and the
        two numbers; None where they are not known or tell nothing.
    """
    sensitivity, specificity = (
        (scores.get(name) or {}).get("value") for name in ("recall", "specificity")
    )
    if sensitivity is None or specificity is None or sensitivity + specificity <= 1.05:
        return None
    found = {"sensitivity": sensitivity, "specificity": specificity}
    for side, yes in zip(("value", "low", "high"), share(decided), strict=True):
        true = (yes + specificity - 1) / (sensitivity + specificity - 1)
        found[side] = min(1.0, max(0.0, true))
    return found


def as_json(one: Compared) -> dict[str, Any]:
    """One quantity as plain JSON-able values; NaN as None."""
    row: dict[str, Any] = {
        "kind": one.kind,
        "name": one.name,
        "verdict": one.verdict,
        "reference_images": int(one.before.sum()),
        "images": int(one.after.sum()),
        "before": _summary(one, one.before),
        "after": _summary(one, one.after),
    }
    for name in DISTANCES:
        if name in one.distances:
            row[name] = {**vars(one.distances[name]), "excess": one.distances[name].excess}
    if one.difference is not None:
        row["difference"] = dict(one.difference)
    for name in ("p", "p_holm"):
        value = getattr(one, name)
        row[name] = None if math.isnan(value) else value
    row["edges"] = [float(f"{edge:.6g}") for edge in one.edges]
    row["counts"] = {"before": one.before.tolist(), "after": one.after.tolist()}
    return row


def _tested(
    kind: Kind,
    name: str,
    edges: Floats,
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    limits: Limits,
    draws: int,
    seed: int,
) -> Compared:
    """One quantity with its p-value; not yet corrected, not yet judged."""
    one = Compared(
        kind, name, edges, before, after, {}, None, math.nan, math.nan, verdict="not known"
    )
    if not before.sum() or not after.sum():
        return one
    tellable = ((before + after) > 0).sum() > 1  # else there is nothing that could differ
    if kind in ("sign", "decided"):
        fewer = [np.round(counts / limits.clump).astype(np.int64) for counts in (before, after)]
        p = share_test(*fewer) if tellable else math.nan
        return replace(one, difference=share_difference(before, after), p=p)
    apart = distances(before, after, draws=draws, seed=seed, clump=limits.clump)
    return replace(one, distances=apart, p=apart[limits.measure].p if tellable else math.nan)


def _verdict(one: Compared, p_holm: float, limits: Limits) -> Verdict:
    """See `Compared`."""
    beyond = p_holm < limits.alpha  # False for NaN
    if one.difference is not None:
        least = limits.sign if one.kind == "sign" else limits.share
        if beyond:
            return "drifted" if abs(one.difference["value"]) >= least else "none"
        small = -least < one.difference["low"] and one.difference["high"] < least
        return "none" if small else "within noise"
    if not one.distances:
        return "not known"
    distance = one.distances[limits.measure]
    if beyond:
        return "drifted" if distance.excess >= limits.threshold else "none"
    return "none" if distance.bound < limits.threshold else "within noise"


def _summary(one: Compared, counts: NDArray[np.int64]) -> dict[str, float] | None:
    """The median with the 10% and 90% quantiles; of a share its 95% interval."""
    if not counts.sum():
        return None
    if one.kind in ("sign", "decided"):
        value, low, high = share(counts)
    else:
        low, value, high = (quantile(counts, one.edges, q) for q in (0.1, 0.5, 0.9))
    return {"value": value, "low": low, "high": high}


def _middle(counts: NDArray[np.int64], edges: Floats) -> float:
    """The mean, as if all values lay in the middle of their bins; NaN without any."""
    total = counts.sum()
    return float(counts @ (edges[1:] + edges[:-1]) / 2 / total) if total else math.nan

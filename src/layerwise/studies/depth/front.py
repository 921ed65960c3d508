"""Quality against cost: which networks no other one beats, and the smallest that is good enough.

"Good enough" asks for two things, and both are kept: the quality lies within the best one's 95%
interval, and the paired difference to the best one, on the same images, is within noise. The second
is the sharper one: what makes an image hard for both networks cancels in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerwise.evaluation.estimates import ROUNDING, Estimate


@dataclass(frozen=True)
class Standing:
    """How a network stands to the best one.

    Attributes:
        difference: Its quality minus the best one's, paired by image: "value", "low", "high".
        inside: Its quality is at or above the lower end of the best one's interval.
        equal: The paired difference is within noise, or in its favour.
    """

    difference: dict[str, Any]
    inside: bool
    equal: bool

    @property
    def enough(self) -> bool:
        """Both."""
        return self.inside and self.equal


def best_of(qualities: Sequence[Estimate], sizes: Sequence[float]) -> int:
    """The index of the highest quality; of equal ones the smaller network. NaN is never best."""
    order = [
        (-np.inf if np.isnan(q.value) else q.value, -size)
        for q, size in zip(qualities, sizes, strict=True)
    ]
    return max(range(len(order)), key=lambda i: order[i])


def standings(qualities: Sequence[Estimate], best: int) -> list[Standing]:
    """How each stands to the best one; the best one itself is good enough."""
    top = qualities[best]
    low = top.interval()["low"]
    out = []
    for index, quality in enumerate(qualities):
        difference = (quality - top).interval()
        same = index == best
        # Without an interval (a class is missing in every resample) the values decide.
        inside = quality.value >= (top.value if np.isnan(low) else low)
        high = difference["high"]
        equal = quality.value >= top.value if np.isnan(high) else high >= -ROUNDING
        out.append(Standing(difference, bool(same or inside), bool(same or equal)))
    return out


def pareto(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """The indices of what no other one beats: none is as cheap and as good, and one of both more.

    Args:
        costs: Lower is better; NaN: not measured, and such a one is left aside.
        values: Higher is better; NaN likewise.

    Returns:
        Ascending by cost. Of several with equal cost and value, all.
    """
    known = [i for i in range(len(costs)) if not (np.isnan(costs[i]) or np.isnan(values[i]))]
    front: list[int] = []
    highest, at = -np.inf, np.nan
    for i in sorted(known, key=lambda i: (costs[i], -values[i])):
        if values[i] > highest or (values[i] == highest and costs[i] == at):
            front.append(i)
            highest, at = values[i], costs[i]
    return front


def smallest(
    standing: Sequence[Standing], sizes: Sequence[tuple[float, ...]], values: Sequence[float]
) -> int:
    """The index of the smallest network that is good enough; of equal ones the better one.

    Args:
        standing: As `standings` gives; at least the best one is good enough.
        sizes: What is to be small, the first that differs decides.
        values: Quality.
    """
    good = [i for i, one in enumerate(standing) if one.enough]
    return min(good, key=lambda i: (*sizes[i], -values[i]))

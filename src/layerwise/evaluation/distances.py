"""How far two binned distributions lie apart, and how far chance alone would put them.

Chance is a permutation test: both samples are put together and drawn apart again at random, many
times (the counts of one half are then multivariate hypergeometric). It is exact for any distance
and any number of images, where rules of thumb cry wolf over a few.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerwise.evaluation.intervals import Interval

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

DISTANCES = ("psi", "js", "ks")
"""Population stability index; Jensen–Shannon distance; Kolmogorov–Smirnov distance."""

PARTS = 10  # of about equal weight, for the population stability index
MOST = 10**8  # images that are drawn apart; more are scaled down to it
Z = 1.959963984540054  # the normal's 97.5% point


@dataclass(frozen=True)
class Distance:
    """One distance of two samples beside what chance gives.

    Attributes:
        value: Between the samples as they are.
        expected: The mean where both came from one distribution.
        bound: What 95% of such samples stay below or at.
        p: The share of such samples that lie as far apart or farther; never 0.
    """

    value: float
    expected: float
    bound: float
    p: float

    @property
    def excess(self) -> float:
        """What is left of the distance without what chance gives on average; not below 0."""
        return max(0.0, self.value - self.expected)


def distances(
    first: Counts, second: Counts, draws: int = 2000, seed: int = 0, clump: float = 1.0
) -> dict[str, Distance]:
    """All of `DISTANCES` between two samples that were counted in the same bins.

    Args:
        first: (B,) counts, at least one image.
        second: The same of the other sample.
        draws: How often both are drawn apart again; p is at least 1 / (draws + 1).
        seed: Equal seeds, equal draws.
        clump: Images that come together and are alike, as of one patient: so many count as one.

    Raises:
        ValueError: A sample is empty.
    """
    both = np.stack([first, second]).astype(np.int64)  # (2, B)
    if (both.sum(axis=1) == 0).any():
        raise ValueError("a distance needs at least one image in each sample")
    both = both[:, both.sum(axis=0) > 0]
    if (total := both.sum()) > MOST:
        both = np.maximum(np.round(both * (MOST / total)).astype(np.int64), both > 0)
    parts = _parts(both.sum(axis=0))
    seen = _all(both[0][None], both[1][None], parts)
    drawn = _all(*_apart(both, draws, np.random.default_rng(seed), clump), parts)
    found = {}
    for name in DISTANCES:
        value, chance = float(seen[name][0]), drawn[name]
        # As far is as far whatever the last digit: equal samples must count as equal.
        p = (1 + int((chance >= value - 1e-12).sum())) / (draws + 1)
        found[name] = Distance(value, float(chance.mean()), float(np.quantile(chance, 0.95)), p)
    return found


def psi(first: Floats, second: Floats) -> Floats:
    """The population stability index Σ (q − p) ln(q / p), also called Jeffreys divergence.

    Half an image is added to every bin, so that an empty one does not make it infinite.

    Args:
        first: (…, B) counts, as is the second.
        second: The later sample by custom; the index is the same the other way round.
    """
    size = first.shape[-1]
    p = (first + 0.5) / (first.sum(axis=-1, keepdims=True) + 0.5 * size)
    q = (second + 0.5) / (second.sum(axis=-1, keepdims=True) + 0.5 * size)
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=-1))


def jensen_shannon(first: Floats, second: Floats) -> Floats:
    """The Jensen–Shannon distance, 0 to 1: the root of the divergence in bits; args as `psi`."""
    p = first / first.sum(axis=-1, keepdims=True)
    q = second / second.sum(axis=-1, keepdims=True)
    middle = (p + q) / 2

    def bits(one: Floats) -> Floats:
        ratio = np.divide(one, middle, out=np.ones_like(one), where=one > 0)
        return np.asarray((one * np.log2(ratio)).sum(axis=-1))

    return np.asarray(np.sqrt(np.maximum((bits(p) + bits(q)) / 2, 0)))


def kolmogorov(first: Floats, second: Floats) -> Floats:
    """The largest gap between the cumulative shares, 0 to 1; args as `psi`."""
    p = first.cumsum(axis=-1) / first.sum(axis=-1, keepdims=True)
    q = second.cumsum(axis=-1) / second.sum(axis=-1, keepdims=True)
    return np.asarray(np.abs(p - q).max(axis=-1))


def share_difference(first: Counts, second: Counts) -> Interval:
    """How much larger the second share is, with its 95% interval (Newcombe 1998, method 10).

    Args:
        first: (no, yes), at least one of them above 0.
        second: The same of the other sample.
    """
    (p, p_low, p_high), (q, q_low, q_high) = share(first), share(second)
    low = q - p - float(np.hypot(q - q_low, p_high - p))
    high = q - p + float(np.hypot(q_high - q, p - p_low))
    return {"value": q - p, "low": max(low, -1.0), "high": min(high, 1.0)}


def share(counts: Counts) -> tuple[float, float, float]:
    """The share of yes in (no, yes), with its 95% interval (Wilson 1927)."""
    n, yes = int(counts.sum()), int(counts[1])
    p = yes / n
    middle = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * float(np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2)))
    return p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))


def share_test(first: Counts, second: Counts) -> float:
    """The two-sided p-value of equal shares (Fisher's exact test); args as `share_difference`."""
    from scipy.stats import fisher_exact

    return float(fisher_exact(np.stack([first, second]))[1])


def quantile(counts: Counts, edges: Floats, share: float) -> float:
    """A quantile of binned values, as if those of a bin were spread evenly over it.

    Args:
        counts: (B,), at least one above 0.
        edges: (B + 1,) of the bins.
        share: 0 to 1.
    """
    below = np.concatenate([[0], counts.cumsum()])  # (B + 1,)
    wanted = share * below[-1]
    bin_ = int(np.searchsorted(below[1:], wanted, side="left"))
    some = np.flatnonzero(counts)
    bin_ = min(max(bin_, int(some[0])), int(some[-1]))
    inside = (wanted - below[bin_]) / max(counts[bin_], 1)
    return float(edges[bin_] + inside * (edges[bin_ + 1] - edges[bin_]))


def _parts(pooled: Counts) -> NDArray[np.int64]:
    """The first bin of each part: bins put together until they weigh a tenth of all images.

    A bin that weighs a tenth alone stays alone, or images beside a heap, as grey levels beside a
    wall of zeros, would vanish in it. It looks at both samples together, so that drawing them
    apart leaves it as it is.
    """
    least = pooled.sum() / PARTS
    starts, weight = [0], 0.0
    for k, count in enumerate(pooled.tolist()):
        if weight and (weight >= least or count >= least):
            starts.append(k)
            weight = 0.0
        weight += count
    return np.array(starts, np.int64)


def _all(first: Counts, second: Counts, parts: NDArray[np.int64]) -> dict[str, Floats]:
    """Every distance of (D, B) counts, (D,)."""
    p, q = first.astype(np.float64), second.astype(np.float64)
    few = [np.add.reduceat(each, parts, axis=-1) for each in (p, q)]  # (D, P)
    return {"psi": psi(*few), "js": jensen_shannon(*few), "ks": kolmogorov(p, q)}


def _apart(
    both: Counts, draws: int, rng: np.random.Generator, clump: float
) -> tuple[Counts, Counts]:
    """Two samples of the sizes of these, (D, B) each, drawn from both together."""
    sizes, pooled = both.sum(axis=1), both.sum(axis=0)
    if clump > 1:
        few = np.maximum(1, np.round(sizes / clump).astype(np.int64))
        first, second = (rng.multinomial(n, pooled / pooled.sum(), draws) for n in few)
        return np.asarray(first), np.asarray(second)
    smaller = int(sizes.argmin())
    one = rng.multivariate_hypergeometric(pooled, int(sizes[smaller]), draws, method="marginals")
    one = np.asarray(one, np.int64)
    return (one, pooled - one) if smaller == 0 else (pooled - one, one)

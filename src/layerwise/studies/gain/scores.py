"""What a gain study found: every bar with its interval, every gain with its test, every ratio.

RI and TL of a repeat have the same training images, the same seed and the same test images, so
their difference is taken resample by resample (`evaluation/estimates.py`). A gain is beyond noise
where its bootstrap p-value, adjusted by Holm's method for all bars of its figure, is below 0.05.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from layerwise.data.manifest import Manifest
from layerwise.evaluation.estimates import Estimate, holm, label_estimates, mean_of
from layerwise.evaluation.metrics import scored_labels
from layerwise.studies.gain.experiment import TREATMENTS, Gained, steps_an_epoch
from layerwise.studies.gain.fractions import Parts
from layerwise.studies.study import Outcome

METRICS = ("auroc", "auprc")
MEAN = "mean"  # over all labels; of a binary task its one score
LEVEL = 0.05
DRAWS = 1000

Interval = dict[str, Any]
Progress = Callable[[int, int], None]
Made = dict[tuple[str, float, str, str], tuple[Estimate, Estimate, tuple[int, ...]]]


@dataclass(frozen=True)
class Bar:
    """RI and TL of one network at one fraction, by one metric.

    Attributes:
        network: Its name.
        fraction: Of the training part.
        label: MEAN, or a label against the rest.
        metric: Of METRICS.
        random: RI on the test part: "value", "low", "high", "sd" and "repeats".
        transferred: TL there.
        gain: TL − RI, with "p" (bootstrap, two-sided) and "p_holm" (for all bars of the figure).
        repeats: The numbers of the repeats that it is the mean of.
    """

    network: str
    fraction: float
    label: str
    metric: str
    random: Interval
    transferred: Interval
    gain: Interval
    repeats: tuple[int, ...]

    @property
    def beyond_noise(self) -> bool:
        """Whether the gain (or loss) is more than noise explains, after Holm."""
        return bool(self.gain["p_holm"] < LEVEL)


@dataclass(frozen=True)
class Best:
    """The best bar of a fraction, and the best one that has another network.

    Attributes:
        fraction: Of the training part.
        metric: Of METRICS.
        network: The best one.
        treatment: RI or TL.
        score: Its interval.
        second: The best other network, with its treatment; "" where there is none.
        ahead: By how much, as an interval of the paired difference; empty where there is none.
    """

    fraction: float
    metric: str
    network: str
    treatment: str
    score: Interval
    second: str = ""
    ahead: Interval = field(default_factory=dict)


@dataclass(frozen=True)
class Balance:
    """How unequal a label is, in one part.

    Attributes:
        part: "train" or "test".
        fraction: Of the training part; 1 for the test part.
        label: Against the rest.
        images: Of the part; the mean over repeats, as are the next two.
        positives: Images with the label.
        negatives: Images known to be without it.
    """

    part: str
    fraction: float
    label: str
    images: float
    positives: float
    negatives: float

    @property
    def ratio(self) -> float:
        """Negatives per positive: 16.3 is written 1:16.3. NaN without positives."""
        return self.negatives / self.positives if self.positives else float("nan")

    @property
    def prevalence(self) -> float:
        """The share of positives, which is the AUPRC of chance. NaN without images."""
        known = self.positives + self.negatives
        return self.positives / known if known else float("nan")


@dataclass(frozen=True)
class Scores:
    """Everything that is drawn and said.

    Attributes:
        bars: The means first; then every label, where there is more than one.
        best: By fraction and metric, of the means.
        balances: Of every fraction's training images, and of the test part.
        chance: The AUPRC of chance on the test part by label, MEAN included.
        fading: How much larger the gain of the smallest fraction is than that of the largest, the
            mean over networks, by metric; empty with one fraction.
        draws: Resamples of every interval.
    """

    bars: tuple[Bar, ...]
    best: tuple[Best, ...]
    balances: tuple[Balance, ...]
    chance: Mapping[str, float]
    fading: Mapping[str, Interval]
    draws: int


def scores_of(
    gained: Gained,
    seed: int,
    *,
    draws: int = DRAWS,
    threads: int = 1,
    progress: Progress | None = None,
) -> Scores:
    """Score the test predictions of all runs.

    A bar's repeats are those that both RI and TL have finished.

    Args:
        gained: The study's runs, each with its "test" part.
        seed: Of the resamples.
        draws: The number of resamples.
        threads: How many scores are worked out at a time.
        progress: Told (bars scored, all bars).
    """
    manifest = gained.parts[gained.design.fractions[-1], 0]
    every = list(scored_labels(manifest.task, manifest.labels))
    places = []  # (network, fraction, repeats, treatment, outcomes)
    for fraction in gained.design.fractions:
        for candidate in gained.design.networks:
            sides = [gained.of(candidate.name, fraction, t) for t in TREATMENTS]
            repeats = tuple(sorted(set(sides[0]) & set(sides[1])))
            for side in sides if repeats else ():
                places.append((candidate.name, fraction, repeats, [side[r] for r in repeats]))
    found: list[dict[tuple[str, str], Estimate]] = []
    with ThreadPoolExecutor(threads) as pool:  # NumPy's sums leave the interpreter to others
        jobs = [pool.submit(_estimates, p[3], manifest, every, draws, seed) for p in places]
        for job in jobs:
            found.append(job.result())
            if progress is not None:
                progress(len(found), len(jobs))
    made: Made = {}
    for label in [MEAN, *(every if len(every) > 1 else [])]:
        for i in range(0, len(places), 2):
            name, fraction, repeats, _ = places[i]
            for metric in METRICS:
                sides_of = found[i][label, metric], found[i + 1][label, metric]
                made[name, fraction, label, metric] = (*sides_of, repeats)
    return Scores(
        tuple(_bars(made, gained.design.fractions)),
        tuple(_best(made, gained.design.fractions)),
        tuple(_balances(gained.parts, gained.design.fractions, every)),
        _chance(manifest, every),
        _fading(made, gained.design.fractions),
        draws,
    )


def p_value(gain: Estimate) -> float:
    """The bootstrap p-value of a gain; below what the draws can show, that of a normal tail.

    A thousand draws can show no less than 0.002, and with many bars Holm's method asks for less.
    Where all draws lie on one side of 0, their deviation says how far out 0 is.
    """
    p = gain.p()
    draws = gain.draws[~np.isnan(gain.draws)]
    if np.isnan(p) or p > 2.000001 / (len(draws) + 1):
        return p
    deviation = float(draws.std())
    return min(p, math.erfc(abs(gain.value) / deviation / math.sqrt(2))) if deviation else p


def _estimates(
    outcomes: Sequence[Outcome],
    manifest: Manifest,
    labels: Sequence[str],
    draws: int,
    seed: int,
) -> dict[tuple[str, str], Estimate]:
    """Every (label, metric) of one side of a bar on the test part."""
    said = [outcome.parts["test"] for outcome in outcomes]
    each = label_estimates(
        METRICS,
        manifest.task,
        said[0].targets,
        [one.scores for one in said],
        said[0].groups,
        draws=draws,
        seed=seed,
    )
    out: dict[tuple[str, str], Estimate] = {}
    for metric in METRICS:
        out |= {(label, metric): one[metric] for label, one in zip(labels, each, strict=True)}
        out[MEAN, metric] = _mean_where_defined([one[metric] for one in each])
    return out


def _mean_where_defined(each: Sequence[Estimate]) -> Estimate:
    """The task's own score: in every resample the mean over the labels that are defined there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # none is defined: the mean is not either
        values = np.nanmean([one.value for one in each])
        draws = np.nanmean([one.draws for one in each], axis=0)
        repeats = np.nanmean([one.repeats for one in each], axis=0)
    return Estimate(float(values), draws, tuple(map(float, repeats)))


def _bars(made: Made, fractions: Sequence[float]) -> list[Bar]:
    """Every bar with its gain; a family of tests is what one figure shows."""
    families = [[key for key in made if key[2] == MEAN]]
    families += [[k for k in made if k[2] != MEAN and k[1] == fraction] for fraction in fractions]
    out = []
    for family in families:
        gains = [made[key][1] - made[key][0] for key in family]
        p_values = [p_value(gain) for gain in gains]
        for key, gain, p, adjusted in zip(family, gains, p_values, holm(p_values), strict=True):
            random, transferred, repeats = made[key]
            tested = gain.interval() | {"p": p, "p_holm": adjusted}
            out.append(Bar(*key, random.interval(), transferred.interval(), tested, repeats))
    return out


def _best(made: Made, fractions: Sequence[float]) -> list[Best]:
    """The best network of every fraction by each metric, and how far it is ahead of the others."""
    out = []
    for fraction in fractions:
        for metric in METRICS:
            there = [
                (name, treatment, one)
                for (name, f, label, m), sides in made.items()
                if (f, label, m) == (fraction, MEAN, metric)
                for treatment, one in zip(TREATMENTS, sides[:2], strict=True)
                if not np.isnan(one.value)
            ]
            there.sort(key=lambda entry: -entry[2].value)
            if not there:
                continue
            name, treatment, first = there[0]
            others = [entry for entry in there if entry[0] != name]
            if not others:
                out.append(Best(fraction, metric, name, treatment, first.interval()))
                continue
            second = f"{others[0][0]} {others[0][1]}"
            ahead = (first - others[0][2]).interval()
            out.append(Best(fraction, metric, name, treatment, first.interval(), second, ahead))
    return out


def _fading(made: Made, fractions: Sequence[float]) -> dict[str, Interval]:
    """The gain of the smallest fraction less that of the largest, the mean over networks."""
    small, large = fractions[0], fractions[-1]
    names = [n for (n, f, label, _) in made if f == small and label == MEAN]
    both = [n for n in dict.fromkeys(names) if (n, large, MEAN, METRICS[0]) in made]
    if small == large or not both:
        return {}
    out = {}
    for metric in METRICS:
        gains = []
        for fraction in (small, large):
            pairs = [made[name, fraction, MEAN, metric] for name in both]
            gains.append(mean_of([transferred - random for random, transferred, _ in pairs]))
        out[metric] = (gains[0] - gains[1]).interval()
    return out


def _balances(parts: Parts, fractions: Sequence[float], labels: Sequence[str]) -> list[Balance]:
    """Every label in the training images of every fraction, and in the test part."""
    out = []
    for fraction in fractions:
        each = [m for (f, _), m in parts.items() if f == fraction]
        counts = np.mean([_counted(m, "train", len(labels)) for m in each], axis=0)  # (K, 2)
        images = float(np.mean([len(m.indices("train")) for m in each]))
        out += _of_part("train", fraction, labels, counts, images)
    whole = parts[fractions[-1], 0]
    tested = _counted(whole, "test", len(labels))
    return out + _of_part("test", 1.0, labels, tested, float(len(whole.indices("test"))))


def _of_part(
    part: str,
    fraction: float,
    labels: Sequence[str],
    counts: "np.ndarray[Any, Any]",
    images: float,
) -> list[Balance]:
    """One entry a label."""
    return [
        Balance(part, fraction, label, images, float(p), float(n))
        for label, (p, n) in zip(labels, counts, strict=True)
    ]


def _counted(manifest: Manifest, part: str, labels: int) -> "np.ndarray[Any, Any]":
    """(K, 2) images with and without each scored label."""
    targets = manifest.targets[manifest.indices(part)]
    if manifest.task == "multilabel":
        return np.stack([(targets == 1).sum(axis=0), (targets == 0).sum(axis=0)], axis=1)
    classes = np.arange(labels) + (1 if manifest.task == "binary" else 0)
    positive = (targets[:, None] == classes).sum(axis=0)
    return np.stack([positive, len(targets) - positive], axis=1)


def _chance(manifest: Manifest, labels: Sequence[str]) -> dict[str, float]:
    """What AUPRC a network reaches that knows nothing: the prevalence in the test part.

    The mean is that of the labels that the mean AUPRC is made of: those with both classes.
    """
    counts = _counted(manifest, "test", len(labels))
    share = counts[:, 0] / np.maximum(counts.sum(axis=1), 1)
    defined = share[(counts > 0).all(axis=1)]
    mean = float(defined.mean()) if len(defined) else float("nan")
    return {MEAN: mean} | dict(zip(labels, map(float, share), strict=True))


@dataclass(frozen=True)
class Learning:
    """How long the runs of a fraction learnt.

    Attributes:
        fraction: Of the training part.
        treatment: RI or TL.
        epochs: That they were given.
        steps: In all of them.
        runs: Finished ones.
        late: Of these, how many had their best epoch in the last tenth.
    """

    fraction: float
    treatment: str
    epochs: int
    steps: int
    runs: int
    late: int


def learning(gained: Gained) -> list[Learning]:
    """How long both treatments of every fraction learnt, all networks together."""
    out = []
    for fraction in gained.design.fractions:
        recipe = gained.design.recipes[fraction]
        steps = recipe.epochs * steps_an_epoch(recipe, gained.parts, fraction)
        for treatment in TREATMENTS:
            best = [
                max(outcome.details["history"], key=lambda epoch: epoch["score"])["epoch"]
                for candidate in gained.design.networks
                for outcome in gained.of(candidate.name, fraction, treatment).values()
            ]
            late = sum(epoch + 1 > 0.9 * recipe.epochs for epoch in best)  # counted from 0
            out.append(Learning(fraction, treatment, recipe.epochs, steps, len(best), late))
    return out

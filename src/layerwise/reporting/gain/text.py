"""What a gain study found, in sentences that are derived from its numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.evaluation.estimates import within_noise
from layerwise.reporting.differences import difference_words
from layerwise.reporting.text import NAMES, limits, number, signed
from layerwise.studies.gain.experiment import RI, TL
from layerwise.studies.gain.fractions import percent
from layerwise.studies.gain.scores import (
    MEAN,
    METRICS,
    Balance,
    Bar,
    Best,
    Learning,
    Scores,
)

FEW_STEPS = 300  # of a run; with fewer, how fast a network learns counts as much as how well
NAMED = 4  # names in a sentence; of more, some are counted

Images = Mapping[float, int]  # fraction → its training images


def answer(scores: Scores, images: Images) -> list[str]:
    """What to do, whether it depends on the number of images, and which network is best."""
    means = [bar for bar in scores.bars if bar.label == MEAN]
    said = [advice(means, images), *fading(scores.fading, images)]
    said += [best_words(fraction, scores.best, images) for fraction in images]
    return [sentence for sentence in said if sentence]


def advice(means: Sequence[Bar], images: Images) -> str:
    """Whether to start from pretrained weights, by what was measured with the fewest images."""
    if not means:
        return "No comparison could be made: of every pair of runs one failed."
    small = min(bar.fraction for bar in means)
    here = [bar for bar in means if bar.fraction == small]
    networks = list(dict.fromkeys(bar.network for bar in here))
    up, down = _changed(here, True), _changed(here, False)
    where = f"With {_sample(small, images)}"
    average = " and ".join(
        f"{signed(_mean([b.gain['value'] for b in here if b.metric == m]))} {NAMES[m]}"
        for m in METRICS
    )
    if up and not down:
        return (
            f"Start from pretrained weights. {where}, transfer scores higher than random "
            f"initialisation by more than noise for {_some(up, networks)}; on average over "
            f"networks the gain is {average}."
        )
    if up:
        return (
            f"It depends on the network. {where}, transfer scores higher than random "
            f"initialisation by more than noise for {_some(up, networks)}, and lower for "
            f"{_some(down, networks)}; on average the gain is {average}."
        )
    if down:
        return (
            f"Start at random. {where}, transfer scores lower than random initialisation by more "
            f"than noise for {_some(down, networks)}; on average the gain is {average}."
        )
    later = [b for b in means if b.beyond_noise]
    if later:
        at = sorted({bar.fraction for bar in later})
        ways = {bar.gain["value"] > 0 for bar in later}
        way = {frozenset({True}): "gains", frozenset({False}): "losses"}.get(
            frozenset(ways), "gains and losses"
        )
        return (
            f"{where}, no difference between transfer and random initialisation is beyond noise; "
            f"there are {way} beyond noise with {_and([_sample(f, images) for f in at])}."
        )
    return (
        "Neither start is measurably better. At no fraction and for no network is the difference "
        f"between transfer and random initialisation beyond noise; {where[0].lower()}{where[1:]} "
        f"the gain is {average} on average."
    )


def fading(found: Mapping[str, Mapping[str, Any]], images: Images) -> list[str]:
    """Whether the gain is another with few images than with all of them."""
    if not found:
        return []
    small, large = min(images), max(images)
    return [
        difference_words(
            f"The mean gain with {percent(small)} of the images",
            f"that with {percent(large)}",
            found[metric],
            NAMES[metric],
        )
        for metric in METRICS
    ]


def best_words(fraction: float, best: Sequence[Best], images: Images) -> str:
    """The best network at a fraction by both metrics, and whether they agree."""
    here = {one.metric: one for one in best if one.fraction == fraction}
    if not here:
        return ""
    where = f"With {_sample(fraction, images)}"
    names = {(one.network, one.treatment) for one in here.values()}
    scores = [f"{NAMES[m]} {number(one.score['value'])}" for m, one in here.items()]
    if len(names) == 1:
        one = next(iter(here.values()))
        lead = f"{where}, {_start(one)} is best by both metrics ({', '.join(scores)})"
        if len(here) < len(METRICS):
            lead = f"{where}, {_start(one)} is best ({scores[0]})"
    else:
        each = [
            f"{_start(one)} by {score}" for one, score in zip(here.values(), scores, strict=True)
        ]
        lead = f"{where}, the two metrics disagree about the best: {' and '.join(each)}"
    whom = "it" if len(names) == 1 else "the best"
    ties: dict[str, list[str]] = {}
    for metric, one in here.items():
        if one.second and within_noise(one.ahead):
            ties.setdefault(one.second, []).append(NAMES[metric])
    words = [f"{name} is within noise of {whom} by {_and(by)}" for name, by in ties.items()]
    return f"{lead}; {' and '.join(words)}." if words else f"{lead}."


def pair_sentences(means: Sequence[Bar], images: Images) -> list[str]:
    """Of Figure 4: at every fraction, where TL gains and where that is within noise."""
    out = []
    for fraction in images:
        where = f"With {_sample(fraction, images)}"
        here = [b for b in means if b.fraction == fraction and math.isfinite(b.gain["value"])]
        if here and not any(b.beyond_noise for b in here) and len(here) > len(METRICS):
            metrics = " or ".join(NAMES[m] for m in METRICS)
            out.append(f"{where}, no difference in {metrics} between TL and RI is beyond noise.")
            continue
        for metric in METRICS:
            mine = [b for b in here if b.metric == metric]
            if mine:
                out.append(f"{where}, {_verdict(mine, metric)}")
    return out


def label_sentences(bars: Sequence[Bar]) -> list[str]:
    """Of Figure 3, one fraction: in how many labels and networks TL gains, and where most."""
    out = []
    for metric in METRICS:
        here = [b for b in bars if b.metric == metric and math.isfinite(b.gain["value"])]
        if not here:
            continue
        up = [b for b in here if b.beyond_noise and b.gain["value"] > 0]
        down = [b for b in here if b.beyond_noise and b.gain["value"] < 0]
        rest = len(here) - len(up) - len(down)
        verb = "is" if rest == 1 else "are"
        text = (
            f"By {NAMES[metric]}, TL is higher than RI beyond noise in {len(up)} of {len(here)} "
            f"pairs of label and network, lower in {len(down)}, and {rest} {verb} within noise."
        )
        if up:
            top = max(up, key=lambda b: b.gain["value"])
            text += f" Most of all in {top.label} with {top.network}: {_size(top)}."
        if down:
            low = min(down, key=lambda b: b.gain["value"])
            text += f" Least in {low.label} with {low.network}: {_size(low)}."
        out.append(text)
    return out


def ratio_sentences(balances: Sequence[Balance]) -> list[str]:
    """How unequal the classes are, and what AUPRC can be compared with."""
    test = [b for b in balances if b.part == "test" and b.positives]
    if not test:
        return []
    train = [b for b in balances if b.part == "train" and b.positives]
    said = []
    if len(test) == 1:
        shares = sorted({ratio_words(b.ratio) for b in train})
        said.append(
            f"The imbalance ratio of {test[0].label} (one with it to so many without it) is "
            f"{ratio_words(test[0].ratio)} in the test part and {_and(shares)} in the training "
            "images."
        )
    else:
        rare, usual = max(test, key=lambda b: b.ratio), min(test, key=lambda b: b.ratio)
        said.append(
            "Imbalance ratios (one with the label to so many without it) in the test part go from "
            f"{ratio_words(usual.ratio)} ({usual.label}) to {ratio_words(rare.ratio)} "
            f"({rare.label})."
        )
    apart = ", and those of different labels neither" if len(test) > 1 else ""
    said.append(
        "AUPRC can not be compared across such ratios (Peng et al. 2021, §4; Williams 2021): "
        "chance alone reaches the share of positives, so the same network scores higher where "
        "positives are many. All bars of a label are of one test part and may be compared; those "
        f"of another data set may not{apart}."
    )
    return said


def learning_sentences(found: Sequence[Learning]) -> list[str]:
    """Where a gain may be one of how fast a network learns."""
    out = []
    for fraction in dict.fromkeys(one.fraction for one in found):
        both = {one.treatment: one for one in found if one.fraction == fraction}
        random, transferred = both[RI], both[TL]
        if random.steps < FEW_STEPS:
            out.append(
                f"With {percent(fraction)} of the images {random.epochs} epochs are only "
                f"{random.steps} steps: what is compared there is how fast networks learn as much "
                "as how well; --least-steps gives small fractions more epochs."
            )
        shares = [one.late / one.runs if one.runs else 0.0 for one in (random, transferred)]
        if shares[0] - shares[1] >= 0.5:
            out.append(
                f"With {percent(fraction)} of the images the best epoch was among the last tenth "
                f"in {random.late} of {random.runs} runs from random weights and in "
                f"{transferred.late} of {transferred.runs} of transfer: random initialisation had "
                "not learnt to the end, and a part of the gain may be that; give more --epochs or "
                "--least-steps."
            )
    return out


def ratio_words(ratio: float) -> str:
    """As Peng et al. write it: one positive to so many negatives, "1:16.3"."""
    if not math.isfinite(ratio):
        return "—"
    return f"1:{ratio:,.0f}" if ratio >= 1000 else f"1:{ratio:.3g}"


def _verdict(here: Sequence[Bar], metric: str) -> str:
    """One fraction and metric: who gains, who loses, who neither."""
    name = NAMES[metric]
    if len(here) == 1:
        bar = here[0]
        words = difference_words(f"TL of {bar.network}", "RI", bar.gain, name)
        if bar.beyond_noise == within_noise(bar.gain):  # Holm has other bars beside this one
            verb = "beyond" if bar.beyond_noise else "within"
            return f"TL less RI is {_size(bar)} for {bar.network}: {verb} noise after Holm."
        return f"the{words[3:]}" if words.startswith("The ") else words
    up = [b for b in here if b.beyond_noise and b.gain["value"] > 0]
    down = [b for b in here if b.beyond_noise and b.gain["value"] < 0]
    networks = [bar.network for bar in here]
    if not up and not down:
        return f"no difference in {name} between TL and RI is beyond noise."
    parts = []
    for bars, way in ((up, "raises"), (down, "lowers")):
        if bars:
            most = max(bars, key=lambda b: abs(b.gain["value"]))
            whom = _some([b.network for b in bars], networks)
            lead = f"{way} {name} beyond noise for {whom}"
            parts.append(f"{lead}, most for {most.network} ({_size(most)})")
    rest = len(here) - len(up) - len(down)
    text = f"transfer {' and '.join(parts)}"
    return f"{text}; {rest} {'is' if rest == 1 else 'are'} within noise." if rest else f"{text}."


def _size(bar: Bar) -> str:
    """A gain with its interval."""
    return f"{signed(bar.gain['value'])} {NAMES[bar.metric]}, 95% {_span(bar.gain)}"


def _span(interval: Mapping[str, Any]) -> str:
    return limits(interval).replace("–", " to ")


def _changed(bars: Sequence[Bar], up: bool) -> list[str]:
    """Networks with a change beyond noise in this direction, by any metric."""
    return list(
        dict.fromkeys(b.network for b in bars if b.beyond_noise and (b.gain["value"] > 0) == up)
    )


def _some(found: Sequence[str], networks: Sequence[str]) -> str:
    """Which networks, in words: all, some by name, many by number."""
    if len(found) == len(networks):
        return found[0] if len(found) == 1 else f"all {len(found)} networks"
    if len(found) <= NAMED:
        return f"{_and(found)} ({len(found)} of {len(networks)} networks)"
    return f"{len(found)} of {len(networks)} networks"


def _sample(fraction: float, images: Images) -> str:
    """As "5% of the training images (1,539)"."""
    what = "all training images" if fraction == 1 else f"{percent(fraction)} of the training images"
    return f"{what} ({images[fraction]:,})"


def _start(best: Best) -> str:
    return f"{best.network} {best.treatment}"


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan

"""The advice in sentences, each with the numbers that it rests on."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.reporting.text import number, signed, with_interval
from layerwise.studies.advice.matrix import ERROR_LEFT, LARGE, NEAR, QUADRANTS, SHIFT
from layerwise.studies.advice.quick import FAILED, FEW_EPOCHS, HELD, UNTOLD, Checked, Compared
from layerwise.studies.advice.strategies import Way, rates
from layerwise.studies.advice.study import Advice

STRATEGY = {
    "all": "train the entire model",
    "some": "train some layers and leave the others frozen",
    "none": "freeze the convolutional base",
}
DOING = {
    "all": "training the entire model",
    "some": "training some layers",
    "none": "freezing the convolutional base",
}
CAVEAT = (
    "Scores that foretell transfer, LogME and probes on frozen features among them, were found "
    "unreliable on medical images: none of seven told reliably which transfer does best (Chaves et "
    "al. 2023, arXiv 2308.07444). So take the advice for what to try first, and the test for more "
    "than the scores."
)
DEPTHS = {"all": 3, "some": 2, "none": 1}  # how much learns


def answer(advice: Advice) -> list[str]:
    """What to do, and whether the test bears it out; the caveat stands beside it."""
    return [_what(advice), how(advice), *check_sentences(advice.tested), CAVEAT]


def reasons(advice: Advice) -> list[str]:
    """Why: size, similarity by both measures, which of them decides, and the rule's borders."""
    return [
        _size(advice),
        _probe(advice),
        _shift(advice),
        _decision(advice),
        _evidence(advice),
        _cut(advice),
        _looked(advice),
    ]


def _what(advice: Advice) -> str:
    name = STRATEGY[advice.advised.strategy]
    many = "many" if advice.size.large else "few"
    like = "similar to" if advice.like.similar else "different from"
    first = f"{_upper(name)}."
    if advice.tested.verdict == FAILED:  # who reads on no further must not miss it
        other = _named(advice.tested, "worse")
        first = (
            f"The matrix advises to {name}, but on these images {other} did better in the quick "
            "test."
        )
    return (
        f"{first} There are {many} images, and they are {like} what the network was trained on: "
        f"quadrant {advice.quadrant} of the size–similarity matrix of Marcelino 2018, §4."
    )


def _upper(words: str) -> str:
    return words[0].upper() + words[1:]


def how(advice: Advice) -> str:
    """The strategy's cut and rates."""
    way = advice.advised
    if way.strategy == "none":
        last = advice.source.probes[-1].cut.name
        above = "" if way.cut == last else ", cut off what lies above it,"
        return (
            f"Keep and freeze the layers up to {way.cut}{above} and train a linear layer on top "
            f"(learning rate {way.recipe.lr:g})."
        )
    cuts = [probe.cut for probe in advice.source.probes]
    found = list(rates(way.recipe, cuts, way.cut).items())
    begin = (
        "Start every layer from the source and let all of them learn"
        if way.strategy == "all"
        else f"Freeze the layers up to {way.cut} and train those above"
    )
    copied = found[1:]
    if not copied:
        return f"{begin}, the classifier with learning rate {way.recipe.lr:g}."
    span = f"with {_rate(copied[0][1])}"
    if len(copied) > 1:
        (top, most), (low, least) = copied[0], copied[-1]
        span = f"from {_rate(most)} at {top} down to {_rate(least)} at {low}"
    return f"{begin}: the classifier with learning rate {way.recipe.lr:g}, copied layers {span}."


def _rate(value: float) -> str:
    return f"{value:.1e}".replace("e-0", "e-")


def _size(advice: Advice) -> str:
    size = advice.size
    many = f"{size.label}, the smallest class, has {size.images:,} training images"
    border = f"from {LARGE:,} on a class counts as large"
    if len(size.each) == 1:
        many = f"{size.label} has {size.images:,} training images"
    if not size.near:
        return f"Size: {many}; {border}."
    return f"Size: {many}; {border}. That is near the border, within a factor of {NEAR:g}."


def _probe(advice: Advice) -> str:
    source, random, left = advice.source, advice.random, advice.like.error_left
    best, other = source.probes[source.best].cut.name, random.probes[random.best].cut.name
    return (
        "Similarity by the probe: a linear layer on the source's features at "
        f"{best} reaches a validation AUROC of {_score(source.scores[source.best])}, on random "
        f"filters at best {_score(random.scores[random.best])} (at {other}). The source leaves "
        f"{with_interval(left)} of random filters' error; up to {ERROR_LEFT:g} counts as similar."
    )


def _score(estimate: Any) -> str:  # noqa: ANN401 - an Estimate
    return with_interval(estimate.interval())


def _shift(advice: Advice) -> str:
    shift, found = advice.like.shift, advice.plan.distance
    if shift is None:
        return (
            f"Similarity by activations: nothing can be said of this network, since "
            f"{found.why_not}; the probe decides alone."
        )
    return (
        f"Similarity by activations: in the median of {len(found.layers)} batch norms they are "
        f"shifted by {with_interval(shift)} standard deviations from those of the pretraining "
        f"({found.images} training images); up to {SHIFT:g} counts as similar."
    )


def _decision(advice: Advice) -> str:
    like = advice.like
    far = like.far
    what = "probe" if like.decided_by == "probe" else "shift of activations"
    alone = "" if like.shift is None else ", the further out of the two,"
    text = (
        f"The {what}{alone} lies at {with_interval(far)} times its border: the data count as "
        f"{'similar' if like.similar else 'different'}."
    )
    if not like.near:
        return text
    other = QUADRANTS[{1: 2, 2: 1, 3: 4, 4: 3}[advice.quadrant]]
    if other == advice.advised.strategy:
        return f"{text} That is near the border; on its other side the strategy is the same kind."
    return (
        f"{text} That is near the border, on whose other side the advice is to {STRATEGY[other]}."
    )


def _evidence(advice: Advice) -> str:
    ends = []
    for profile in (advice.source, advice.random):
        values = [value for value in profile.logme if value is not None]
        ends.append((max(values), profile.probes[profile.logme.index(max(values))].cut.name))
    (own, at), (other, _) = ends
    gain = own - other
    way = "more" if gain > 0 else "less"
    return (
        f"LogME is highest at {at}, {number(own)} nats an image, {number(abs(gain))} {way} than of "
        f"random filters at best; it has no border, and is no part of the rule."
    )


def _cut(advice: Advice) -> str:
    some = next(way for way in advice.ways if way.strategy == "some")
    best = advice.source.probes[advice.source.best].cut.name
    if advice.like.similar:
        why = "from there upwards no probe is measurably better, as far as layers are left to learn"
    else:
        why = "there the probes have come half of the way from the lowest cut to the best"
    rate = some.recipe.copied_lr
    return (
        f"Where layers are frozen in part it is up to {some.cut}: {why}. Frozen as a whole, the "
        f"network is read at {best}, which has the best probe. Copied layers learn at {rate:g} of "
        "the new ones' rate, by how far the data are."
    )


def _looked(advice: Advice) -> str:
    whole, few, side = advice.prepared.work, advice.work, advice.work.image_size[0]
    parts = [
        f"{len(few.rows(part)):,} of {len(whole.rows(part)):,} {name}"
        for part, name in (("train", "training"), ("val", "validation"))
    ]
    return (
        f"Looked at were {' and '.join(parts)} images of {side}×{side} pixels, and none of the "
        "test part. Pictures of another size than in the pretraining shift activations by that "
        "alone."
    )


def check_sentences(tested: Checked) -> list[str]:
    """Whether the advice held, with the differences, and what the budget was."""
    if tested.test.why_not:
        return [f"The advice was not tested: {tested.test.why_not}."]
    assert tested.work is not None
    out = [_verdict(tested)]
    out += [_against(one) for one in tested.compared]
    out += [
        f"{_upper(DOING[run.strategy])} failed: {done.failure}."
        for run, done in zip(tested.test.runs, tested.done, strict=True)
        if done.outcome is None
    ]
    epochs = ", ".join(
        f"{run.recipe.epochs} for {DOING[run.strategy]}"
        for run in sorted(tested.test.runs, key=lambda run: -DEPTHS[run.strategy])
    )
    out.append(
        f"All learnt from the same {len(tested.work.rows('train')):,} training images; the passes "
        f"that the time paid for are {epochs}. Scores are of {len(tested.work.rows('val')):,} "
        "validation images, in the epoch that was best there."
    )
    if caution := _caution(tested):
        out.append(caution)
    return out


def _verdict(tested: Checked) -> str:
    if tested.verdict == HELD:
        others = _named(tested, "better")
        return f"The quick test bears the advice out: it is better than {others}."
    if tested.verdict == FAILED:
        others = _named(tested, "worse")
        return f"In the quick test the advice did not hold: it is worse than {others}."
    assert tested.verdict == UNTOLD
    why = "a run failed, or its score is not defined"
    if known := [one for one in tested.compared if one.verdict == "within noise"]:
        names = " and to ".join(DOING[one.strategy] for one in known)
        why = f"the difference to {names} is within noise"
    if early := [one for one in tested.compared if one.verdict == "too few passes"]:
        names = " and to ".join(DOING[one.strategy] for one in early)
        why = f"for the difference to {names}, the one that learns more had too few passes"
    return f"Whether the advice holds can not be told by the quick test: {why}."


def _named(tested: Checked, verdict: str) -> str:
    """The strategies to which the advised one stands so."""
    return " and ".join(DOING[one.strategy] for one in tested.compared if one.verdict == verdict)


def _against(one: Compared) -> str:
    found = one.difference
    if not math.isfinite(found["value"]):
        return f"Against {DOING[one.strategy]} there is no score to compare."
    span = f"95% {number(found['low'])} to {number(found['high'])}"
    return (
        f"Against {DOING[one.strategy]} the advised strategy has {signed(found['value'])} "
        f"validation AUROC ({span}; p = {one.adjusted:.3f} by Holm's method): {one.verdict}."
    )


def _caution(tested: Checked) -> str:
    """Where a short training may have decided."""
    short = [
        DOING[run.strategy]
        for run in tested.test.runs
        if run.strategy != "none" and run.recipe.epochs < FEW_EPOCHS
    ]
    if not short:
        return ""
    return (
        f"{_upper(' and '.join(short))} {'pay' if len(short) > 1 else 'pays'} with more images and "
        "passes than these: a strategy that learns less and is ahead here may be overtaken in a "
        f"long training, and with fewer than {FEW_EPOCHS} passes nothing is concluded from that. "
        "More --time tests longer."
    )


def ways_rows(ways: Sequence[Way], advised: Way) -> list[Mapping[str, Any]]:
    """The strategies as rows of a table."""
    return [
        {
            "strategy": STRATEGY[way.strategy],
            "frozen": way.cut or "nothing",
            "rate": way.recipe.lr,
            "copied": None if way.strategy == "none" else way.recipe.lr * way.recipe.copied_lr,
            "mark": "advised" if way is advised else "",
        }
        for way in ways
    ]

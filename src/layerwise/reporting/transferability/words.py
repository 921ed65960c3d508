"""What the figures of a transferability study show, in sentences that follow from its numbers.

Every claim is one of `transferability_findings.py`; "within noise" means that the 95% interval of
the difference holds 0, which is not to say that there is none: so the sentences name the loss that
the interval still allows. Layers are numbered from the bottom, as in Yosinski et al. 2014, §4.
"""

import math
from collections.abc import Mapping, Sequence

from layerwise.reporting.differences import difference_words
from layerwise.reporting.transferability.findings import (
    Curves,
    Kind,
    Span,
    above,
    apart,
    below,
    chance,
    compared,
    defined,
    kinds,
    points_of,
    span,
)
from layerwise.reporting.transferability.terms import (
    against_controls,
    aside,
    between,
    both,
    digits,
    layer,
    layers_words,
    loss,
    most,
    room_for_loss,
    spoken,
)
from layerwise.studies.transferability.experiment import (
    BASE,
    FILTERS,
    LONGER,
    SELFFER,
    SELFFER_TUNED,
    TRANSFER,
    TRANSFER_TUNED,
)


def figure2_words(curves: Curves) -> list[str]:
    """The five interpretations of §4.1, each as far as these numbers bear it out."""
    kind = kinds(curves)[0]
    lines = [_first(curves, kind), _second(kind), _third(kind), _fourth(kind), _fifth(kind)]
    return [line for line in lines if line]


def _first(curves: Curves, kind: Kind) -> str:
    base = kind.accuracy.get(BASE, {}).get(0)
    if base is None:
        return ""
    many = len(points_of(curves, kind.name, BASE))
    mean = f", the mean of {many} tasks," if many > 1 else ""
    text = f"1. Base networks{mean} reach {spoken(base, sign=False)}"
    level = chance(curves, kind.name)
    text += f"; chance is {digits(level)}." if math.isfinite(level) else "."
    for one in kind.at(LONGER).values():
        text += " " + difference_words("The base trained twice as long", "the base", one)
    return text


def _second(kind: Kind) -> str:
    at = kind.at(SELFFER)
    if not at:
        return ""
    fragile, raised = kind.below(SELFFER), kind.above(SELFFER)
    worst = kind.lowest(SELFFER)
    if fragile:
        text = (
            f"2. Fragile co-adaptation shows at {layers_words(fragile)}: there BnB, copied from "
            "the same task and frozen, is below the base beyond noise"
            f"{most(kind, fragile, worst)} {aside(at[worst])}."
        )
    else:
        text = (
            "2. No fragile co-adaptation shows: BnB is nowhere below the base beyond noise, at "
            f"the lowest {spoken(at[worst])} at {layer(kind, worst)}."
        )
    level = [n for n in at if n not in fragile and n not in raised]
    if fragile and level:
        text += f" At {layers_words(level)} it is within noise of the base."
    if raised:
        best = kind.highest(SELFFER)
        text += (
            f" At {layers_words(raised)} it is above the base{most(kind, raised, best)} "
            f"{aside(at[best])}, which no co-adaptation explains: a sign of too short training."
        )
    return text


def _third(kind: Kind) -> str:
    at = kind.at(SELFFER_TUNED)
    if not at:
        return ""
    fragile, back = kind.below(SELFFER), kind.recovered()
    stays = [n for n in kind.below(SELFFER_TUNED) if n in fragile]
    if fragile and back:
        text = (
            f"3. Fine-tuning recovers it: at {layers_words(back)}, where BnB falls, BnB+ is not "
            "below the base."
        )
        return text + (f" At {layers_words(stays)} BnB+ too stays below." if stays else "")
    if stays:
        return f"3. Fine-tuning does not recover it: BnB+ stays below at {layers_words(stays)}."
    start = "3. There is no drop of BnB for BnB+ to recover; " if kind.has(SELFFER) else "3. "
    return f"{start}{_stands('BnB+', kind, SELFFER_TUNED)}"


def _fourth(kind: Kind) -> str:
    at = kind.at(TRANSFER)
    if not at:
        return ""
    last, fallen = kind.general_to(), kind.below(TRANSFER)
    lowest = min(at)
    if not last:
        text = (
            f"4. Not even {layer(kind, lowest)} is general for these tasks: frozen features of A "
            f"are below the base by {loss(at[lowest])}."
        )
    else:
        upto = [n for n in at if n <= last]
        verb = "is" if len(upto) == 1 else "are"
        text = (
            f"4. {layers_words(upto).capitalize()} {verb} general for these tasks: AnB is "
            f"{_not_below(kind, upto)}; at {layer(kind, last)} it differs by {spoken(at[last])}"
            f"{room_for_loss(at[last])}."
        )
    if fallen:
        worst = kind.lowest(TRANSFER)
        text += f" It falls below the base at {layers_words(fallen)}{most(kind, fallen, worst)} "
        text += f"{aside(at[worst])}."
        again = [n for n in at if n > fallen[0] and not below(at[n])]
        text += f" At {layers_words(again)} it does not." if again else ""
    else:
        text += " Nowhere does AnB fall below the base beyond noise."
    return text


def _fifth(kind: Kind) -> str:
    at = kind.at(TRANSFER_TUNED)
    if not at:
        return ""
    gained, over = kind.above(TRANSFER_TUNED), kind.boost("base")
    mean = f", on average {spoken(over)}" if defined(over) else ""
    if not gained and not above(over):
        return f"5. No boost shows: {_stands('AnB+', kind, TRANSFER_TUNED)}"
    where = f" at {layers_words(gained)}" if gained else ""
    text = f"5. Copying and fine-tuning (AnB+) is above the base{where}{mean}."
    return f"{text} {against_controls(kind)}"


def decomposition_words(curves: Curves) -> list[str]:
    """Where AnB's loss is lost co-adaptation, and where specific features."""
    out = []
    for kind in kinds(curves):
        if not kind.total:
            continue
        losses = kind.losses()
        start = f"Transfer {between(curves, kind.name)}: "
        if not losses:
            out.append(f"{start}nowhere is AnB's loss beyond noise, so there is none to explain.")
            continue
        said = [
            f"{_PARTS[part]} at {layers_words(losses[part])}" for part in _PARTS if part in losses
        ]
        text = f"{start}what AnB loses beyond noise is {'; '.join(said)}."
        if shared := losses.get("both"):
            mine = [n for n in shared if _more_specific(kind, n)]
            theirs = [n for n in shared if n not in mine]
            larger = [
                f"{name} is the larger at {layers_words(at)}"
                for name, at in (("lost co-adaptation", theirs), ("specificity", mine))
                if at
            ]
            text += f" Of the two, {both(larger)}."
        worst = max(kind.total, key=lambda n: kind.total[n]["value"])
        co, own = kind.coadaptation[worst], kind.specificity[worst]
        out.append(
            f"{text} At {layer(kind, worst)}, where the loss is greatest "
            f"{aside(kind.total[worst], sign=False)}, lost co-adaptation makes "
            f"{spoken(co, sign=False)} of it and specificity {spoken(own, sign=False)}."
        )
    return out


_PARTS = {
    "co-adaptation": "lost co-adaptation alone",
    "specificity": "specificity of the features alone",
    "both": "both lost co-adaptation and specificity",
    "neither": "too small to be told apart into these two",
}


def _more_specific(kind: Kind, n: int) -> bool:
    return kind.specificity[n]["value"] > kind.coadaptation[n]["value"]


def figure3_words(curves: Curves) -> list[str]:
    """Whether other tasks fall further than similar ones, and random filters furthest."""
    measured = kinds(curves)
    similar = next((k for k in measured if k.name == "random" and k.has(TRANSFER)), None)
    out = []
    for kind in measured:
        if similar is not None and kind.name != "random" and kind.has(TRANSFER):
            out.append(_further(curves, similar, kind))
    filtered = [kind for kind in measured if kind.has(FILTERS)]
    for kind in filtered:
        out += _filters(curves, kind, several=len(filtered) > 1)
    if similar is None:
        out = [
            f"Without random halves of the classes it is not known whether transfer "
            f"{between(curves, kind.name)} falls further than between similar tasks. "
            f"{_stands('AnB', kind, TRANSFER)}"
            for kind in measured
            if kind.has(TRANSFER)
        ] + out
    elif not out:
        out = [
            "Neither other tasks nor random filters were measured. "
            f"{_stands('AnB', similar, TRANSFER)}"
        ]
    return out


def _further(curves: Curves, similar: Kind, kind: Kind) -> str:
    """One kind of tasks against random halves, layer by layer."""
    gaps = compared(curves, f"{kind.name} minus random")
    gaps = gaps or _gaps(kind.at(TRANSFER), similar.at(TRANSFER))
    where, top = between(curves, kind.name), max(gaps, default=0)
    if not gaps:
        return ""
    further, nearer = [n for n in gaps if below(gaps[n])], [n for n in gaps if above(gaps[n])]
    ends = (
        f"at {layer(kind, top)}, {spoken(kind.at(TRANSFER)[top])} against "
        f"{spoken(similar.at(TRANSFER)[top])} from the base"
    )
    if further and not nearer:
        return (
            f"Transfer {where} falls further than between random halves, beyond noise at "
            f"{layers_words(further)}: {ends}."
        )
    if nearer and not further:
        return (
            f"Transfer {where} falls less far than between random halves, beyond noise at "
            f"{layers_words(nearer)}: {ends}."
        )
    if further:
        return (
            f"Transfer {where} falls further than between random halves at {layers_words(further)} "
            f"and less far at {layers_words(nearer)}: {ends}."
        )
    return (
        f"That transfer {where} falls further than between random halves does not show: the "
        f"difference is within noise at every layer ({ends})."
    )


def _filters(curves: Curves, kind: Kind, several: bool) -> list[str]:
    """Random filters against the base, chance and transferred features."""
    at = kind.at(FILTERS)
    name, fallen = between(curves, kind.name), kind.below(FILTERS)
    worst = kind.lowest(FILTERS)
    where = f", on the tasks of transfer {name}," if several else ""
    text = f"Frozen random filters{where} "
    if fallen:
        text += (
            f"are below the base at {layers_words(fallen)}{most(kind, fallen, worst)} "
            f"{aside(at[worst])}"
        )
    else:
        text += f"are nowhere below the base beyond noise, at the lowest {spoken(at[worst])}"
    level = chance(curves, kind.name)
    reached = [n for n, a in kind.accuracy[FILTERS].items() if a["low"] <= level]
    if reached:
        text += f", and not to be told from chance, {digits(level)}, at {layers_words(reached)}"
    out = [text + "."]
    if gaps := _gaps(at, kind.at(TRANSFER)):
        under = [n for n in gaps if below(gaps[n])]
        over = [n for n in gaps if above(gaps[n])]
        rest = [n for n in gaps if n not in under and n not in over]
        said = [
            f"{words} at {layers_words(numbers)}"
            for words, numbers in (("worse", under), ("better", over), ("within noise", rest))
            if numbers
        ]
        if under and not over and not rest:
            out.append(
                "Random filters fall fastest: beyond noise they are below features transferred "
                f"{name} at every layer, at {layer(kind, max(gaps))} by {loss(gaps[max(gaps)])}."
            )
        else:
            out.append(
                f"Random filters against features transferred {name}, all frozen: "
                f"{', '.join(said)}."
            )
    return out


def _gaps(a: Mapping[int, Span], b: Mapping[int, Span]) -> dict[int, Span]:
    """A − b where both are."""
    return {n: apart(a[n], b[n]) for n in a if n in b}


def table1_words(curves: Curves) -> list[str]:
    """Whether the boost of AnB+ is more than its controls explain."""
    out = []
    for kind in kinds(curves):
        over = kind.boost("base")
        if not defined(over):
            continue
        start = f"Transfer {between(curves, kind.name)}, layers {kind.boosts[0]['layers']}: "
        text = start + difference_words("AnB+", "the base", over)
        out.append(f"{text} {against_controls(kind)}" if above(over) else text)
    return out


def overfitting_words(curves: Curves) -> list[str]:
    """How far accuracy on training images is above that on test images."""
    found, out = curves.get("overfitting") or {}, []
    rows = [row for row in found.get("rows") or () if row["gap"].get("value") is not None]
    if rows:
        rows = sorted(rows, key=lambda row: float(row["per_class"]))
        few, many = rows[0], rows[-1]
        text = (
            f"Trained with {float(few['per_class']):,.0f} images per class, the network of "
            f"{found.get('task')} has a gap between training and test images of "
            f"{spoken(few['gap'], sign=False)}"
        )
        if len(rows) > 1:
            text += f"; with {float(many['per_class']):,.0f}, {spoken(many['gap'], sign=False)}. "
            change = apart(span(many["gap"]), span(few["gap"]))
            text += difference_words("The gap with most images", "that with fewest", change)
            out.append(text)
        else:
            out.append(text + ".")
    gaps = [span(base["gap"]) for base in found.get("bases") or ()]
    gaps = [gap for gap in gaps if defined(gap)]
    if gaps:
        mean = sum(gap["value"] for gap in gaps) / len(gaps)
        over = sum(above(gap) for gap in gaps)
        out.append(
            f"The base networks' gap between training and test images is {digits(mean)} on "
            f"average, and beyond noise for {over} of {len(gaps)}."
        )
    return out


def _stands(name: str, kind: Kind, treatment: str) -> str:
    """Where a treatment is below, within noise of, and above the base."""
    under, over = kind.below(treatment), kind.above(treatment)
    rest = [n for n in kind.layers(treatment) if n not in under and n not in over]
    said = [
        f"{words} at {layers_words(numbers)}"
        for words, numbers in (
            ("below the base", under),
            ("within noise of the base", rest),
            ("above the base", over),
        )
        if numbers
    ]
    return f"{name} is {', '.join(said)}."


def _not_below(kind: Kind, numbers: Sequence[int]) -> str:
    """AnB up to where it is general."""
    raised = [n for n in kind.above(TRANSFER) if n in numbers]
    if not raised:
        return "within noise of the base"
    if len(raised) == len(numbers):
        return "above the base"
    return f"not below the base (above it at {layers_words(raised)})"

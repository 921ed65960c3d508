"""The answer of a transferability study: up to where to freeze, whether to fine-tune, how sure.

For the user who transfers, not for the paper: what the interpretations of §4.1 are, say
`transferability_words.py` and the figures.
"""

from layerwise.reporting.differences import difference_words
from layerwise.reporting.transferability_findings import Curves, Kind, above, below, defined, kinds
from layerwise.reporting.transferability_terms import (
    against_controls,
    aside,
    between,
    digits,
    layer,
    layers_words,
    loss,
    measure,
    most,
    room_for_loss,
    spoken,
)
from layerwise.studies.transferability import BASE, LONGER, SELFFER, TRANSFER, TRANSFER_TUNED

ANSWERED = ("weights", "data sets", "random", "groups")  # what the user asked for comes first


def answer(curves: Curves) -> list[str]:
    """Up to which layer to copy and freeze, and whether to fine-tune, for each kind of pair."""
    said: list[str] = []
    measured = sorted(
        kinds(curves), key=lambda k: ANSWERED.index(k.name) if k.name in ANSWERED else 9
    )
    for kind in measured:
        start = f"Transfer {between(curves, kind.name)}: "
        for line in (_freeze(curves, kind), _tune(kind)):
            said += [start + line] if line else []
    for kind in measured:
        said += warnings(curves, kind)
    return said or [
        "No transfer was measured, so there is no answer; add AnB or AnB+ to --treatments."
    ]


def _freeze(curves: Curves, kind: Kind) -> str:
    """Up to which layer copied layers may be frozen."""
    at = kind.at(TRANSFER)
    if not at:
        return ""
    what, last = measure(curves), kind.general_to()
    if not last:
        first = min(at)
        return (
            f"do not freeze copied layers. With {layer(kind, first)} alone copied and frozen, "
            f"{what} is already below training from random weights, by {loss(at[first])}."
        )
    base = kind.accuracy.get(BASE, {}).get(0)
    against = f" against {digits(base['value'])} of the base" if base else ""
    everything = "all layers that were measured, " if last == max(at) else ""
    text = (
        f"copy and freeze {everything}up to {layer(kind, last)}. {what.capitalize()} is then "
        f"{digits(kind.accuracy[TRANSFER][last]['value'])}{against}, a difference "
        f"{'beyond' if above(at[last]) else 'within'} noise {aside(at[last])}"
        f"{room_for_loss(at[last])}."
    )
    raised = kind.above(TRANSFER)
    if raised and (best := kind.highest(TRANSFER, raised)) != last:
        text += f" It is highest frozen up to {layer(kind, best)}: {spoken(at[best])}."
    worse = [n for n in at if n > last and below(at[n])]
    if worse:
        deepest = kind.lowest(TRANSFER, worse)
        text += f" Frozen up to {layer(kind, worse[0])} it loses {loss(at[worse[0]])}"
        if deepest != worse[0]:
            text += f", and most up to {layer(kind, deepest)}: {loss(at[deepest])}"
        text += "."
    return text


def _tune(kind: Kind) -> str:
    """Whether to fine-tune what was copied."""
    at = kind.at(TRANSFER_TUNED)
    if not at:
        return ""
    over, best = kind.boost("base"), kind.highest(TRANSFER_TUNED)
    if not defined(over):
        over = at[best]
    mean = f"on average {spoken(over)} over the base" if len(at) > 1 else f"{spoken(over)}"
    top = f", most when copied up to {layer(kind, best)}: {spoken(at[best])}" if len(at) > 1 else ""
    if above(over) and kind.boosted():
        return f"fine-tune the copied layers. This brings {mean}{top}. {against_controls(kind)}"
    if above(over):
        return f"fine-tuning the copied layers brings {mean}. {against_controls(kind)}"
    lost = kind.below(TRANSFER_TUNED)
    if below(over):
        return (
            f"fine-tuning copied layers costs {loss(over)} on average; better train from scratch."
        )
    if saved := [n for n in kind.below(TRANSFER) if n in at and n not in lost]:
        return (
            f"to copy more layers, fine-tune them: at {layers_words(saved)} frozen layers are "
            "below the base, and fine-tuned ones (AnB+) are not. Against training from scratch "
            f"fine-tuning gains nothing beyond noise: {mean}."
        )
    return (
        "fine-tuning the copied layers neither gains nor loses beyond noise against training from "
        f"scratch: {mean}."
    )


def warnings(curves: Curves, kind: Kind) -> list[str]:
    """What makes the comparison with the base unfair."""
    where, out = between(curves, kind.name), []
    longer = list(kind.at(LONGER).values())
    if kind.unfinished():
        out.append(
            f"Careful: the base networks for transfer {where} were not trained to their end. "
            f"{difference_words('The base trained twice as long', 'the base', longer[0])} Part of "
            "any gain over the base is therefore extra training; repeat with more --epochs."
        )
    elif raised := kind.above(SELFFER):
        best = kind.highest(SELFFER)
        out.append(
            f"Careful: in transfer {where} BnB is above its own base at {layers_words(raised)}"
            f"{most(kind, raised, best)} {aside(kind.at(SELFFER)[best])}. Nothing new was "
            "copied there, so the base may not have been trained to its end; repeat with more "
            "--epochs."
        )
    return out


def notes(curves: Curves) -> list[str]:
    """How the intervals are to be read."""
    many = sum(len(kind.at(t)) for kind in kinds(curves) for t in kind.difference)
    out = [
        "Differences are paired: both networks are scored on the same resamples of the same "
        "images. Between kinds of tasks they are not, and intervals are then combined as if "
        "independent."
    ]
    if many:
        out.append(
            f"{many} differences to the base are each given a 95% interval; if none of them were "
            f"real, about {max(1, round(many / 20))} would leave out 0 by chance."
        )
    return out

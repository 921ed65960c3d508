"""The answer of a transferability study: up to where to freeze, whether to fine-tune, how sure.

For the user who transfers, not for the paper: what the interpretations of §4.1 are, say
`transferability_words.py` and the figures.
"""

from layerwise.reporting.differences import difference_words
from layerwise.reporting.transferability.findings import (
    Curves,
    Kind,
    Span,
    above,
    below,
    defined,
    kinds,
)
from layerwise.reporting.transferability.terms import (
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
from layerwise.studies.transferability.experiment import (
    BASE,
    LONGER,
    SELFFER,
    TRANSFER,
    TRANSFER_TUNED,
)

ANSWERED = ("weights", "data sets", "random", "groups")  # what the user asked for comes first


def answer(curves: Curves) -> list[str]:
    """What to do for each kind of pair, what speaks against believing it, and the evidence."""
    measured = [kind for kind in kinds(curves) if kind.has(TRANSFER) or kind.has(TRANSFER_TUNED)]
    measured.sort(key=lambda k: ANSWERED.index(k.name) if k.name in ANSWERED else len(ANSWERED))
    advice, careful, evidence = [], [], []
    for kind in measured:
        start = f"Transfer {between(curves, kind.name)}"
        said = [part for part in (_freeze(curves, kind), _tune(kind)) if part]
        advice.append(f"{start}: {'; '.join(said)}.")
        careful += warnings(curves, kind)
        for how, words in (("frozen", _frozen(kind)), ("fine-tuned", _tuned(kind))):
            evidence += [f"{start}, {how}: {words}"] if words else []
    return [*advice, *careful, *evidence] or [
        "No transfer was measured, so there is no answer; add AnB or AnB+ to --treatments."
    ]


def _freeze(curves: Curves, kind: Kind) -> str:
    """Up to which layer copied layers may be frozen, in one clause."""
    at = kind.at(TRANSFER)
    if not at:
        return ""
    last = kind.general_to()
    if not last:
        first = min(at)
        return (
            f"do not freeze copied layers, since even {layer(kind, first)} costs "
            f"{digits(-at[first]['value'])} {measure(curves)}"
        )
    base = kind.accuracy.get(BASE, {}).get(0)
    everything = "all layers that were measured, " if last == max(at) else ""
    return (
        f"copy and freeze {everything}up to {layer(kind, last)}, which reaches "
        f"{digits(kind.accuracy[TRANSFER][last]['value'])}"
        + (f" against {digits(base['value'])} of training from scratch" if base else "")
    )


def _tune(kind: Kind) -> str:
    """Whether to fine-tune what was copied, in one clause."""
    if not kind.has(TRANSFER_TUNED):
        return ""
    over, saved = _over_base(kind), _rescued(kind)
    size = digits(over["value"], sign=True)
    if above(over) and kind.boosted():
        return f"for the best result fine-tune what you copy ({size} on average)"
    if above(over):
        return f"fine-tuning ({size} on average) may gain no more than longer training would"
    if below(over):
        return f"do not fine-tune what you copy ({size} on average)"
    if saved:
        return f"to copy more layers, fine-tune them ({size} on average, within noise)"
    return f"fine-tuning gains nothing beyond noise ({size} on average)"


def _over_base(kind: Kind) -> Span:
    """AnB+ over the base, on average; where that is not given, at its best layer."""
    over = kind.boost("base")
    return over if defined(over) else kind.at(TRANSFER_TUNED)[kind.highest(TRANSFER_TUNED)]


def _rescued(kind: Kind) -> list[int]:
    """The layers at which AnB is below the base and AnB+ is not."""
    tuned = kind.at(TRANSFER_TUNED)
    return [n for n in kind.below(TRANSFER) if n in tuned and not below(tuned[n])]


def _frozen(kind: Kind) -> str:
    """The evidence on frozen layers."""
    at = kind.at(TRANSFER)
    if not at:
        return ""
    last, said = kind.general_to(), []
    if last:
        noise = "beyond" if above(at[last]) else "within"
        said.append(
            f"at {layer(kind, last)} the difference to the base is {noise} noise "
            f"{aside(at[last])}{room_for_loss(at[last])}"
        )
    raised = kind.above(TRANSFER)
    if raised and (best := kind.highest(TRANSFER, raised)) != last:
        said.append(f"it is highest at {layer(kind, best)}, {spoken(at[best])}")
    if worse := [n for n in at if n > last and below(at[n])]:
        deepest = kind.lowest(TRANSFER, worse)
        text = f"up to {layer(kind, worse[0])} it loses {loss(at[worse[0]])}"
        if deepest != worse[0]:
            text += f", and most up to {layer(kind, deepest)}, {loss(at[deepest])}"
        said.append(text)
    return f"{'; '.join(said)}."


def _tuned(kind: Kind) -> str:
    """The evidence on fine-tuned layers."""
    if not kind.has(TRANSFER_TUNED):
        return ""
    at, over, best = kind.at(TRANSFER_TUNED), _over_base(kind), kind.highest(TRANSFER_TUNED)
    noise = "" if above(over) or below(over) else ", within noise"
    text = f"on average {spoken(over)} against the base{noise}"
    if len(at) > 1:
        text += f"; most up to {layer(kind, best)}, {spoken(at[best])}"
    if saved := _rescued(kind):
        text += f"; at {layers_words(saved)}, where frozen layers are below the base, they are not"
    return f"{text}. {against_controls(kind)}" if above(over) else f"{text}."


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

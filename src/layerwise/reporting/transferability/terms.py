"""How things are called in the words and figures of a transferability study."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.reporting.transferability.findings import (
    Curves,
    Kind,
    Span,
    above,
    defined,
    pairs_of,
    span,
)


def between(curves: Curves, kind: str) -> str:
    """From where to where features are transferred: "between random halves of the classes"."""
    pairs = pairs_of(curves, kind)
    if kind == "random" or len(pairs) != 1:
        return "between random halves of the classes" if kind == "random" else f"of kind {kind!r}"
    a, b = (pairs[0][side].get("name") for side in "ab")
    return f"from {a} to {b}" if kind == "weights" else f"between {a} and {b}"


def kind_name(curves: Curves, kind: str) -> str:
    """A kind of pairs as a legend has it: "named groups: man-made / natural"."""
    pairs = pairs_of(curves, kind)
    if kind == "random":
        many = f" ({len(pairs)} splits)" if len(pairs) > 1 else ""
        return f"random halves of the classes{many}"
    start = {"groups": "named groups", "data sets": "data sets", "weights": "weights"}.get(
        kind, kind
    )
    return f"{start}: {pairs[0]['name']}" if len(pairs) == 1 else start


def measure(curves: Curves) -> str:
    """The metric in words."""
    return str(curves.get("metric") or "accuracy").replace("_", " ")


def layer(kind: Kind, n: int) -> str:
    """As "layer 2 (conv2)"."""
    return f"layer {n} ({kind.names[n]})"


def most(kind: Kind, among: Sequence[int], n: int) -> str:
    """As ", most at layer 4 (conv4)", unless there is no choice."""
    return f", most at {layer(kind, n)}" if len(among) > 1 else ""


def layers_words(numbers: Sequence[int]) -> str:
    """As "layer 3", "layers 1–3 and 5"."""
    ranges: list[list[int]] = []
    for n in sorted(numbers):
        if ranges and n == ranges[-1][1] + 1:
            ranges[-1][1] = n
        else:
            ranges.append([n, n])
    said = []
    for a, b in ranges:
        said += [f"{a}–{b}"] if b > a + 1 else [str(n) for n in range(a, b + 1)]
    return f"layer{'s' if len(numbers) > 1 else ''} {both(said)}"


def spoken(one: Mapping[str, Any], sign: bool = True) -> str:
    """As "−0.080 (95% −0.101 to −0.060)"."""
    found, limits = span(one), _limits(one)
    return digits(found["value"], sign) + (f" ({limits})" if limits else "")


def aside(one: Mapping[str, Any], sign: bool = True) -> str:
    """The same in brackets: "(−0.080, 95% −0.101 to −0.060)"."""
    limits = _limits(one)
    return f"({digits(span(one)['value'], sign)}{f', {limits}' if limits else ''})"


def _limits(one: Mapping[str, Any]) -> str:
    found = span(one)
    if not (math.isfinite(found["low"]) and math.isfinite(found["high"])):
        return ""
    return f"95% {digits(found['low'])} to {digits(found['high'])}"


def digits(value: float, sign: bool = False) -> str:
    """Three digits after the point, a true minus, and a plus where ``sign`` asks for it."""
    if not math.isfinite(value):
        return "—"
    text = f"{value:+.3f}" if sign else f"{value:.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "−")


def loss(difference: Span) -> str:
    """A fall below the base as what is lost: "0.080 (95% 0.060 to 0.101)"."""
    turned = {"value": -difference["value"], "low": -difference["high"], "high": -difference["low"]}
    return spoken(turned, sign=False)


def gain(difference: Span) -> str:
    """A rise as "0.021 (95% 0.010 to 0.032)"."""
    return spoken(difference, sign=False)


def both(parts: Sequence[str]) -> str:
    """As "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def either(parts: Sequence[str]) -> str:
    """As "a, b or c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"


def room_for_loss(difference: Span) -> str:
    """What a difference within noise still allows: " and leaves room for a loss of 0.014"."""
    low = difference["low"]
    if above(difference) or not math.isfinite(low) or digits(-low) == "0.000":
        return ""
    return f", which leaves room for a loss of {digits(-low)} at most"


def against_controls(kind: Kind, inside: bool = False) -> str:
    """How AnB+ stands to the controls for its longer training."""
    controls = [("selffer", "BnB+"), ("longer", "the base trained twice as long")]
    there = [(name, kind.boost(over)) for over, name in controls if defined(kind.boost(over))]
    beaten = [f"{name} by {gain(one)}" for name, one in there if above(one)]
    level = [f"{name} {aside(one)}" for name, one in there if not above(one)]
    if not there:
        lead = "neither" if inside else "Neither"
        return (
            f"{lead} BnB+ nor a base trained twice as long was run, so the gain may be that of the "
            "longer training alone."
        )
    if not level:
        return f"It is not the longer training: AnB+ beats {both(beaten)}."
    text = f"AnB+ does not beat {either(level)} beyond noise"
    if beaten:
        return f"{text}, though it beats {both(beaten)}: the boost may be extra training."
    return f"{text}: as far as these numbers tell, the boost is that of extra training."

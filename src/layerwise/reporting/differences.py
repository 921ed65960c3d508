"""The difference of two treatments as a sentence, which says when it is within noise."""

import math
from collections.abc import Mapping
from typing import Any

ACCURACY = "accuracy"  # what is meant where nothing is said


def difference_words(
    name_a: str, name_b: str, interval: Mapping[str, Any], what: str = ACCURACY
) -> str:
    """Whether one treatment is measurably higher or lower than another, and by how much.

    Args:
        name_a: As it stands at the beginning of a sentence.
        name_b: As it stands within one.
        interval: {"value", "low", "high"} of a − b, paired, with a 95% interval; None or NaN
            where not defined.
        what: The unit of the number; named within noise too, where it is not accuracy.

    Returns:
        "AnB is lower than the base by 0.031 accuracy (95% 0.012 to 0.050)." or "The difference
        between AnB and the base is within noise (−0.004, 95% −0.018 to 0.011)." An interval
        that touches 0 is within noise.
    """
    value, low, high = (_side(interval, side) for side in ("value", "low", "high"))
    both = f"{_within(name_a)} and {name_b}"
    if not math.isfinite(value):
        return f"The difference between {both} is not defined."
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"The difference between {both} is {_plain(value)} {what}; how sure is not known."
    if low <= 0 <= high:
        said = _plain(value) if what == ACCURACY else f"{_plain(value)} {what}"
        span = f"{_plain(low)} to {_plain(high)}"
        return f"The difference between {both} is within noise ({said}, 95% {span})."
    if low > 0:
        way, size, least, most = "higher", value, low, high
    else:
        way, size, least, most = "lower", -value, -high, -low
    digits = 3 if least >= 0.0005 else 4  # never "by 0.000"
    span = f"{_plain(least, digits)} to {_plain(most, digits)}"
    return f"{name_a} is {way} than {name_b} by {_plain(size, digits)} {what} (95% {span})."


def _side(interval: Mapping[str, Any], side: str) -> float:
    found = interval.get(side)
    return math.nan if found is None else float(found)


def _within(name: str) -> str:
    """A name that began a sentence, within one."""
    return name[0].lower() + name[1:] if name.startswith(("The ", "That ", "A ")) else name


def _plain(value: float, digits: int = 3) -> str:
    """With a true minus, and no minus before a zero."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")

"""Which networks someone may have meant by a name that none has."""

import difflib
from collections.abc import Sequence

_SHOWN = 3


def nearest(name: str, known: Sequence[str]) -> list[str]:
    """The known names that are most like another one, best first; at least one.

    What stands before a colon counts only between names that are else alike: who asks for
    ``resnet50`` means ``timm:resnet50``, however different the two words look as a whole.

    Args:
        name: As it was typed.
        known: All names there are, the preferred ones first.
    """
    source, _, kind = name.strip().lower().rpartition(":")
    kinds: dict[str, list[str]] = {}  # the same one may come from several sources
    for full in known:
        kinds.setdefault(full.rpartition(":")[2].lower(), []).append(full)
    close = difflib.get_close_matches(kind, kinds, n=_SHOWN, cutoff=0.6)
    close = close or difflib.get_close_matches(kind, kinds, n=_SHOWN, cutoff=0.0)
    found = [full for near in close for full in kinds[near]]
    if source:  # of two equally near ones that of the named source
        found.sort(key=lambda full: (_distance(kind, full), not full.startswith(f"{source}:")))
    return found[:_SHOWN]


def _distance(kind: str, full: str) -> float:
    """0 for equal words, 1 for words that share no letter."""
    return 1 - difflib.SequenceMatcher(None, full.rpartition(":")[2].lower(), kind).ratio()

"""Every class in every part: which few units have to change place so that none is missing."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

TRIES = 5_000  # units tried in a place before the search gives up; it is exact below that


def cover(
    part: NDArray[np.int64],
    classes: Sequence[NDArray[np.int64]],
    size: NDArray[np.int64],
    parts: int,
) -> NDArray[np.int64] | None:
    """Move as few units as it takes for every part to have every class.

    Some units are *pinned*, each to a part, so that the pinned ones alone give every part every
    class; then it does not matter where the rest is, and it stays. Where a class has few units
    left, its place is filled first, and a unit that is in its place already is preferred; what
    leads nowhere is taken back (backtracking).

    Args:
        part: (U,) the part of each unit.
        classes: U arrays, the classes of which each unit has images; every class occurs.
        size: (U,) images of each unit; small ones are moved first.
        parts: How many parts there are.

    Returns:
        (U,) the new part of each unit; None where there is no way (or none was found in `TRIES`).
    """
    kinds = _some_of_each_kind(part, classes, size, parts)
    having: dict[int, list[int]] = {}
    for u, holds in kinds.items():
        for k in holds:
            having.setdefault(k, []).append(u)
    pinned: dict[int, int] = {}
    found = {(p, k): 0 for p in range(parts) for k in having}  # how many pinned give it

    def choices() -> Iterator[tuple[int, int]] | None:
        """The units, each with the part, that could fill the place with fewest of them."""
        lacking = {k: p for (p, k), count in found.items() if not count}
        if not lacking:
            return None
        free = {k: [u for u in having[k] if u not in pinned] for k in lacking}
        missing = {k: sum(not found[p, k] for p in range(parts)) for k in lacking}
        k = min(lacking, key=lambda k: (len(free[k]) - missing[k], k))
        open_parts = [p for p in range(parts) if not found[p, k]]
        p = min(open_parts, key=lambda p: sum(int(part[u]) == p for u in free[k]))
        homes = [int(part[u]) for u in free[k]]

        def trouble(u: int) -> tuple[bool, bool, int, int]:
            """In place first, the largest; then the smallest whose part has more of them."""
            home = int(part[u])
            if home == p:
                return False, False, -int(size[u]), u
            return True, home in open_parts and homes.count(home) == 1, int(size[u]), u

        free[k].sort(key=trouble)
        if len(free[k]) < missing[k]:
            return iter(())
        one_each = {kinds[u]: u for u in reversed(free[k])}  # equal ones lead to the same
        return ((u, p) for u in free[k] if one_each[kinds[u]] == u)

    waiting: list[Iterator[tuple[int, int]]] = []
    trail: list[int] = []
    for _ in range(TRIES):
        following = choices() if len(waiting) == len(trail) else waiting.pop()
        if following is None:
            out = part.copy()
            out[list(pinned)] = list(pinned.values())
            return out
        choice = next(following, None)
        if choice is not None:
            waiting.append(following)
            u, p = choice
            trail.append(u)
            pinned[u] = p
            change = 1
        elif trail:
            u = trail.pop()
            p, change = pinned.pop(u), -1
        else:
            return None
        for k in kinds[u]:
            found[p, k] += change
    return None


def _some_of_each_kind(
    part: NDArray[np.int64],
    classes: Sequence[NDArray[np.int64]],
    size: NDArray[np.int64],
    parts: int,
) -> dict[int, tuple[int, ...]]:
    """The units worth considering, with their classes.

    Of units with the same classes no part needs two, so as many as there are parts are enough: in
    each part the largest, which may stay, and the smallest, which may move.
    """
    members: dict[tuple[int, ...], dict[int, list[int]]] = {}
    for u, found in enumerate(classes):
        members.setdefault(tuple(found.tolist()), {}).setdefault(int(part[u]), []).append(u)
    out: dict[int, tuple[int, ...]] = {}
    for holds, by_part in members.items():
        for units in by_part.values():
            units.sort(key=lambda u: (size[u], u))
            out |= dict.fromkeys([*units[:parts], units[-1]], holds)
    return out

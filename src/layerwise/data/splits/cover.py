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
    search = _Search(part, size, parts, _some_of_each_kind(part, classes, size, parts))
    waiting: list[Iterator[tuple[int, int]]] = []  # what else could be tried at each step
    trail: list[int] = []  # the unit that was pinned at each step
    for _ in range(TRIES):
        following = search.choices() if len(waiting) == len(trail) else waiting.pop()
        if following is None:
            out = part.copy()
            out[list(search.pinned)] = list(search.pinned.values())
            return out
        choice = next(following, None)
        if choice is not None:
            waiting.append(following)
            trail.append(choice[0])
            search.pin(*choice)
        elif trail:
            search.unpin(trail.pop())
        else:
            return None
    return None


class _Search:
    """Which units are pinned where, and what is still missing."""

    def __init__(
        self,
        part: NDArray[np.int64],
        size: NDArray[np.int64],
        parts: int,
        kinds: dict[int, tuple[int, ...]],
    ) -> None:
        """Nothing is pinned; `kinds` has the classes of the units worth considering."""
        self.pinned: dict[int, int] = {}
        self._part, self._size, self._parts, self._kinds = part, size, parts, kinds
        self._having: dict[int, list[int]] = {}
        for u, holds in kinds.items():
            for k in holds:
                self._having.setdefault(k, []).append(u)
        # How many pinned units give each part each class.
        self._given = {(p, k): 0 for p in range(parts) for k in self._having}

    def pin(self, u: int, p: int) -> None:
        """Unit u belongs to part p."""
        self.pinned[u] = p
        for k in self._kinds[u]:
            self._given[p, k] += 1

    def unpin(self, u: int) -> None:
        """Unit u belongs nowhere yet."""
        p = self.pinned.pop(u)
        for k in self._kinds[u]:
            self._given[p, k] -= 1

    def choices(self) -> Iterator[tuple[int, int]] | None:
        """(unit, part) of all that could fill the scarcest place, best first; None: all is full."""
        lacking = sorted({k for (_, k), count in self._given.items() if not count})
        if not lacking:
            return None
        free = {k: [u for u in self._having[k] if u not in self.pinned] for k in lacking}
        places = {k: [p for p in range(self._parts) if not self._given[p, k]] for k in lacking}
        k = min(lacking, key=lambda k: len(free[k]) - len(places[k]))
        units, open_parts = free[k], places[k]
        if len(units) < len(open_parts):
            return iter(())
        homes = [int(self._part[u]) for u in units]
        p = min(open_parts, key=homes.count)

        def trouble(u: int) -> tuple[bool, bool, int, int]:
            """In place first, the largest; then the smallest whose part has more of them."""
            home, size = int(self._part[u]), int(self._size[u])
            if home == p:
                return False, False, -size, u
            return True, home in open_parts and homes.count(home) == 1, size, u

        units.sort(key=trouble)
        best = {self._kinds[u]: u for u in reversed(units)}  # equal ones lead to the same
        return ((u, p) for u in units if best[self._kinds[u]] == u)


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

"""Which cuts a truncation search tries next: first spread over the depth, then around the best.

Peng et al. 2021, §4, tried the cuts that their networks' blocks suggest. Here they are searched:

1. *Coarse:* the cuts with a name in the literature, the one that the probes point to, and then
   always the main cut that is farthest from all tried so far. So any first few of them are spread
   as well as so few can be.
2. *Fine:* between the smallest network that is good enough and the next smaller one that is not,
   and the neighbours of the best one. Where no main cut is left in between, cuts within a block.

Nothing here trains or knows the clock: numbers in, names out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from layerwise.models.cuts import Cut

HALF = 0.5  # of what the best probe has above the weakest: below it a cut is not worth a run


@dataclass(frozen=True)
class Tried:
    """What is known of a truncated network.

    Attributes:
        quality: On validation; higher is better.
        enough: Whether it is as good as the best one, as far as can be told.
    """

    quality: float
    enough: bool


def ladder(cuts: Sequence[Cut], main: Sequence[Cut]) -> list[Cut]:
    """The cuts at which truncated networks differ, bottom to top.

    All main cuts below the last one, which stands for the whole network, and between them one for
    every convolution or matrix product: the last place before the next one, behind its
    normalisation and activation. A cut with all of the network's operations below it shortens
    nothing and is left out.

    Args:
        cuts: All legal cuts, bottom to top.
        main: The main ones among them; the last is where the full network ends.
    """
    last = main[-1]
    names = {cut.name for cut in main}
    of_main = {cut.macs for cut in main}
    lowest = {cut.macs: cut.name for cut in cuts}  # the last one of as many operations
    upto = cuts[: [cut.name for cut in cuts].index(last.name)]
    return [
        cut
        for cut in upto
        if cut.macs < last.macs
        and (
            cut.name in names
            or (
                cut.macs not in of_main and lowest[cut.macs] == cut.name and cut.macs > main[0].macs
            )
        )
    ]


def promising(main: Sequence[str], probes: Mapping[str, float]) -> list[str]:
    """The main cuts that a coarse search looks at: from the first whose probe is halfway up.

    Halfway between the weakest probe and the best one. Fine-tuning lifts lower cuts, but a cut
    that far down has little to lift.

    Args:
        main: Names, bottom to top.
        probes: The probe's quality at each of them; −1 where it is not defined.
    """
    values = [probes[name] for name in main]
    middle = min(values) + HALF * (max(values) - min(values))
    first = next(i for i, value in enumerate(values) if value >= middle)
    return list(main[first:])


def coarse(
    main: Sequence[str], probes: Mapping[str, float], equal: str, named: Sequence[str]
) -> list[str]:
    """Main cuts in the order in which a coarse search tries them; as many as the time holds.

    Args:
        main: Names, bottom to top; the last stands for the full network and is not among the
            result.
        probes: The probe's quality at each of them.
        equal: The lowest whose probe is not measurably worse than the best one.
        named: Cuts with a name in the literature, bottom to top.
    """
    place = {name: i for i, name in enumerate(main)}
    full = main[-1]
    first = [name for name in [equal, *named] if name != full and name in place]
    order = list(dict.fromkeys(first))
    open_ = [name for name in promising(main, probes) if name != full and name not in order]
    if not order and not open_:  # the probes get better up to the last cut
        open_ = [name for name in main[:-1]][-1:]
    while open_:
        taken = [place[name] for name in [*order, full]]
        # Of equally far ones the lower one, which is cheaper.
        best = max(open_, key=lambda n: (min(abs(place[n] - p) for p in taken), -place[n]))
        order.append(best)
        open_.remove(best)
    return order


def fine(rungs: Sequence[Cut], main: Sequence[str], tried: Mapping[str, Tried]) -> list[str]:
    """The cuts worth trying next, the most telling one first; empty: the search is at its end.

    First the middle between the smallest network that is good enough and the next smaller one
    tried; where none is good enough, the middle above the highest one tried. Then the next cuts
    below and above the best one. Main cuts come before those within a block.

    Args:
        rungs: What `ladder` gives.
        main: The names of the main cuts among them.
        tried: What is known, by name; at least one.
    """
    place = {cut.name: i for i, cut in enumerate(rungs)}
    known = sorted(place[name] for name in tried)
    best = max(tried, key=lambda name: (tried[name].quality, -place[name]))
    enough = [place[name] for name in tried if tried[name].enough]
    gaps = []
    if enough:
        goal = min(enough)
        gaps.append((max((p for p in known if p < goal), default=-1), goal))
    else:
        gaps.append((known[-1], len(rungs)))
    here = place[best]
    gaps.append((max((p for p in known if p < here), default=-1), here))
    gaps.append((here, min((p for p in known if p > here), default=len(rungs))))
    wanted = [
        _middle(rungs, set(main), gaps[0]),
        _nearest(rungs, set(main), gaps[1], from_above=True),
        _nearest(rungs, set(main), gaps[2], from_above=False),
    ]
    return list(dict.fromkeys(name for name in wanted if name is not None))


def _within(rungs: Sequence[Cut], main: set[str], gap: tuple[int, int]) -> list[str]:
    """The main cuts strictly between two places, or else all cuts there."""
    names = [cut.name for cut in rungs[gap[0] + 1 : gap[1]]]
    return [name for name in names if name in main] or names


def _middle(rungs: Sequence[Cut], main: set[str], gap: tuple[int, int]) -> str | None:
    found = _within(rungs, main, gap)
    return found[(len(found) - 1) // 2] if found else None


def _nearest(
    rungs: Sequence[Cut], main: set[str], gap: tuple[int, int], *, from_above: bool
) -> str | None:
    """The next main cut below (above) the upper (lower) end; within a block, the middle."""
    found = _within(rungs, main, gap)
    if not found:
        return None
    if found[0] not in main:
        return found[(len(found) - 1) // 2]
    return found[-1] if from_above else found[0]

"""The two-stage search on fabricated networks and quality curves."""

from layerwise.models.cuts import Cut, cut_points
from layerwise.models.registry import create
from layerwise.studies.depth.search import Tried, coarse, fine, ladder, promising


def cuts_of(*names: str, main: str = "") -> list[Cut]:
    """Cuts of 10, 20, 30 … multiply–adds; main ones are those without a dot."""
    return [
        Cut(name, 8, 2, 100 * i, 10 * i, "." not in name, (8, 4, 4))
        for i, name in enumerate(names, 1)
    ]


EVERY = cuts_of("a", "a.x", "b", "b.x", "b.y", "c", "d", "d.x", "e", "f")
MAIN = [cut for cut in EVERY if "." not in cut.name]
NAMES = [cut.name for cut in MAIN]
RUNGS = ladder(EVERY, MAIN)


def test_the_ladder_ends_below_the_full_network():
    assert [cut.name for cut in RUNGS] == ["a", "a.x", "b", "b.x", "b.y", "c", "d", "d.x", "e"]


def test_places_with_equal_operations_are_one_rung():
    """A convolution, its normalisation, its activation: the last of them; a main cut before all."""
    some = [
        Cut("a", 8, 2, 10, 100, True, (8, 4, 4)),
        Cut("b.conv", 8, 2, 20, 200, False, (8, 4, 4)),
        Cut("b.norm", 8, 2, 22, 200, False, (8, 4, 4)),
        Cut("c.conv", 8, 2, 30, 300, False, (8, 4, 4)),
        Cut("c", 8, 2, 32, 300, True, (8, 4, 4)),
        Cut("d", 8, 2, 40, 400, True, (8, 4, 4)),
        Cut("d.pool", 8, 2, 40, 400, True, (8, 1, 1)),
    ]
    main = [some[0], some[4], some[6]]
    assert [cut.name for cut in ladder(some, main)] == ["a", "b.norm", "c"]


def test_the_ladder_of_a_real_network_rises():
    network = create("timm:mobilenetv2_100", outputs=1, seed=0, image_size=64)
    every = cut_points(network.module, (3, 64, 64))
    main = [cut for cut in every if cut.block]
    rungs = ladder(every, main)
    of_main = [cut.name for cut in rungs if cut.block]
    assert of_main == [cut.name for cut in main[:-1]]  # the last is where the full one ends
    macs = [cut.macs for cut in rungs]
    assert macs == sorted(macs) and len(set(macs)) == len(macs) and macs[-1] < main[-1].macs
    assert {"blocks.4.0.bn2", "blocks.4.0"} <= {cut.name for cut in rungs}
    assert not {"blocks.4.0.conv_dw", "global_pool"} & {cut.name for cut in rungs}


def test_a_coarse_search_leaves_weak_probes_alone():
    probes = dict(zip(NAMES, (0.5, 0.6, 0.74, 0.76, 0.9, 1.0), strict=True))
    assert promising(NAMES, probes) == ["d", "e", "f"]  # 0.75 is halfway
    assert promising(NAMES, dict.fromkeys(NAMES, -1.0)) == NAMES


def test_coarse_cuts_begin_with_what_is_known_and_then_spread():
    even = dict.fromkeys(NAMES, 0.8)
    assert coarse(NAMES, even, "c", []) == ["c", "a", "b", "d", "e"]
    assert coarse(NAMES, even, "a", ["b", "e"]) == ["a", "b", "e", "c", "d"]
    # Where the probes rise to the last cut, the cut below it is tried.
    rising = dict(zip(NAMES, (0.5, 0.5, 0.5, 0.5, 0.5, 1.0), strict=True))
    assert coarse(NAMES, rising, "f", []) == ["e"]


def test_any_first_coarse_cuts_are_spread():
    """Each is as far as any from those before it and from the top, by brute force."""
    names = [str(i) for i in range(30)]
    order = coarse(names, dict.fromkeys(names, 0.8), "7", [])
    for n in range(1, len(order)):
        taken = [int(c) for c in order[:n]] + [29]
        gaps = {c: min(abs(c - t) for t in taken) for c in range(29) if c not in taken}
        assert gaps[int(order[n])] == max(gaps.values())


def played(quality: dict[str, float], first: list[str], limit: int = 99) -> list[list[str]]:
    """The rounds of a search whose networks have these qualities; the full one has 0.90 ± 0.02."""
    best_of_all = max(0.90, *quality.values())
    tried = {cut: Tried(quality[cut], quality[cut] >= best_of_all - 0.02) for cut in first}
    rounds = []
    while (wanted := fine(RUNGS, NAMES, tried)) and len(tried) < limit:
        rounds.append(wanted)
        tried |= {cut: Tried(quality[cut], quality[cut] >= best_of_all - 0.02) for cut in wanted}
    return rounds


CURVE = {
    "a": 0.60, "a.x": 0.65, "b": 0.80, "b.x": 0.84, "b.y": 0.87, "c": 0.89, "d": 0.91,
    "d.x": 0.905, "e": 0.90,
}  # fmt: skip


def test_the_search_closes_in_on_the_smallest_good_one_and_on_the_best():
    rounds = played(CURVE, ["d", "a"])
    # Between a, which fails, and d, which is good: b. Below d: c. Above it: e.
    assert rounds[0] == ["b", "c", "e"]
    # Now c (0.89) is good and b is not: within the block. d is still the best: d.x above it.
    assert rounds[1] == ["b.x", "d.x"]
    assert rounds[2] == ["b.y"]
    assert len(rounds) == 3  # b.y fails, and nothing is left beside c and d


def test_where_none_is_good_the_search_goes_up():
    low = dict.fromkeys(CURVE, 0.5) | {"a": 0.51}
    rounds = played(low, ["a", "c"])
    assert rounds[0] == ["d", "b"]  # above the highest tried; next to the best, a
    assert "e" in rounds[1]


def test_all_that_is_asked_for_is_new_and_on_the_ladder():
    for curve in (CURVE, {c: 1 - q for c, q in CURVE.items()}, dict.fromkeys(CURVE, 0.9)):
        rounds = played(curve, ["c"])
        asked = [cut for each in rounds for cut in each]
        assert len(set(asked)) == len(asked) and set(asked) <= {cut.name for cut in RUNGS} - {"c"}

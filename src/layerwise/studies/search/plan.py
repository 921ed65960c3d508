"""`plan.json` of a search: what is searched and for how many epochs, fixed before it begins.

How many trials are made is no part of it: the same command with more --trials or --time goes on
where the search ended.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerwise import __version__
from layerwise.config import from_mapping, read_json, to_mapping, write_json
from layerwise.errors import LayerwiseError

STUDY = "search"


@dataclass(frozen=True)
class Ended:
    """Why no more trials were made."""

    why: str  # "trials" as many as asked for, "time", or "space": every combination was tried
    count: int  # trials by then
    trials: int | None  # as by `--trials`; None: by the time
    seconds: float  # as by `--time`


@dataclass(frozen=True)
class SearchPlan:
    """What a search consists of."""

    request: dict[str, Any]  # the flags that it was made for; others need another --out
    image_size: int  # height and width of every picture, pixels
    threads: int  # of every trial: other numbers may give other last bits
    data_key: str  # identifies images, labels and split
    weights: str  # sha256 of the source's weights as loaded; "none" without
    space: list[dict[str, Any]]  # what is searched
    settings: dict[str, Any]  # arguments, transfer and recipe of every trial, but for the space
    epochs: int  # of every trial
    notes: tuple[str, ...] = ()  # how it was measured and decided
    ended: Ended | None = None  # None: it goes on
    setup: dict[str, Any] = field(default_factory=dict)  # the best trial's, as of a `fit`
    study: str = STUDY
    layerwise: str = __version__  # the version that made the plan


def read_search_plan(path: Path) -> SearchPlan | None:
    """The plan of a folder; None where there is none.

    Raises:
        LayerwiseError: It is damaged, or that of another command.
    """
    if not path.is_file():
        return None
    found = read_json(path)
    if not isinstance(found, dict) or found.get("study") != STUDY:
        what = found.get("study") if isinstance(found, dict) else None
        kind = f"`layerwise study {what}`" if what else "another command"
        raise LayerwiseError(f"{path} is that of {kind}; name another folder with --out")
    return from_mapping(SearchPlan, found, str(path))


def write_search_plan(plan: SearchPlan, path: Path) -> None:
    """Write it so that a person can read it."""
    write_json(path, to_mapping(plan))


def refuse_other(before: SearchPlan, now: SearchPlan, out: Path) -> None:
    """Refuse to go on with what was asked for in other words, or of other data.

    Raises:
        LayerwiseError: A flag, a field of the space, a setting, the data or the weights differ.
    """
    mine, other = to_mapping(before), to_mapping(now)
    pairs: list[tuple[str, Any, Any]] = [
        (name, mine["request"].get(name), other["request"].get(name))
        for name in sorted({*mine["request"], *other["request"]})
    ]
    fields = [{d["name"]: d for d in plan["space"]} for plan in (mine, other)]
    pairs += [
        (f"the field {name}", _words(fields[0].get(name)), _words(fields[1].get(name)))
        for name in dict.fromkeys([*fields[0], *fields[1]])
    ]
    for part in ("arguments", "transfer", "recipe"):
        one, two = mine["settings"][part], other["settings"][part]
        pairs += [(name, one.get(name), two.get(name)) for name in sorted({*one, *two})]
    for name, was, is_now in pairs:
        if was != is_now:
            raise LayerwiseError(
                f"{out} holds a search with {name} = {was!r}, and this one has {is_now!r}; name "
                "another folder with --out, or repeat the first command to go on with it"
            )
    if before.data_key != now.data_key:
        raise LayerwiseError(
            f"{out} holds a search on other images, labels or split than DATA has now; put them "
            "back, or name another folder with --out"
        )
    if before.weights != now.weights:
        raise LayerwiseError(
            f"{out} holds a search with other weights than --weights holds now; put the old ones "
            "back, or name another folder with --out"
        )


def _words(dimension: dict[str, Any] | None) -> str:
    """What a field may be, in a few words."""
    if dimension is None:
        return "not searched"
    if dimension["choices"]:
        return ", ".join(map(str, dimension["choices"]))
    kinds = [f"step {dimension['step']}"] if dimension["step"] else []
    kinds += ["log"] if dimension["log"] else []
    return f"{dimension['low']} to {dimension['high']}" + "".join(f", {k}" for k in kinds)

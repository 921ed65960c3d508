"""`plan.json` of a gain study: what it compares, fixed when it first begins.

The same command again does the same work, whatever number of workers it is given by then; another
command needs another folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerwise import __version__
from layerwise.config import from_mapping, read_json, to_mapping, write_json
from layerwise.errors import LayerwiseError

STUDY = "gain"


@dataclass(frozen=True)
class GainPlan:
    """What a gain study compares."""

    request: dict[str, Any]  # the flags that it was made for; others need another --out
    image_size: int  # height and width of every picture, pixels
    threads: int  # of each run: other numbers may give other last bits
    data_key: str  # identifies images, labels and split
    weights: dict[str, str]  # sha256 of every network's source as loaded; "" where it is a run
    recipes: dict[str, dict[str, Any]]  # how each fraction learns; "source": the source data
    setup: dict[str, Any] = field(default_factory=dict)  # the first network's, as of a `fit`
    study: str = STUDY
    layerwise: str = __version__  # the version that made the plan


def keep_plan(plan: GainPlan, path: Path) -> None:
    """Write the plan, or refuse to go on where another one is kept.

    Raises:
        LayerwiseError: The folder holds something else, or the data, the weights or a setting
            differ.
    """
    before = read_gain_plan(path)
    if before is None:
        write_json(path, to_mapping(plan))
        return
    now = from_mapping(GainPlan, to_mapping(plan), str(path))
    _refuse_other(before.request, now.request, path.parent)
    for name, (one, other) in _changes(before.recipes, now.recipes).items():
        raise LayerwiseError(
            f"{path.parent} holds a study with {name} = {one!r}, and this one has {other!r}; name "
            "another folder with --out, or repeat the first command to go on with it"
        )
    if before.data_key != now.data_key:
        raise LayerwiseError(
            f"{path} was made for other images, labels or split than DATA has now; put them back, "
            "or name another folder with --out"
        )
    for name, digest in before.weights.items():
        if now.weights.get(name) != digest:
            raise LayerwiseError(
                f"{path} was made with other weights of {name} than are there now; put the old "
                "ones back, or name another folder with --out"
            )


def read_gain_plan(path: Path) -> GainPlan | None:
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
    return from_mapping(GainPlan, found, str(path))


def _refuse_other(before: Mapping[str, Any], now: Mapping[str, Any], out: Path) -> None:
    for name in sorted(set(before) | set(now)):
        one, other = before.get(name), now.get(name)
        if one != other:
            raise LayerwiseError(
                f"{out} holds a study with {name} = {one!r}, and this one has {other!r}; name "
                "another folder with --out, or repeat the first command to go on with it"
            )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings of the recipes that differ, with both values."""
    out = {}
    for fraction in before:
        for name, one in before[fraction].items():
            other = now.get(fraction, {}).get(name)
            if one != other:
                out[name] = (one, other)
    return out

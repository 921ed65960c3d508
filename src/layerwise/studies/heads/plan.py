"""`plan.json` of a heads study: what it compares, fixed when it first begins.

The same command again does the same work; another command needs another folder.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerwise import __version__
from layerwise.config import from_mapping, read_json, to_mapping, write_json
from layerwise.errors import LayerwiseError

STUDY = "heads"
AGAIN = "name another folder with --out, or repeat the first command to go on with it"


@dataclass(frozen=True)
class HeadsPlan:
    """What a heads study compares."""

    request: dict[str, Any]  # the flags that it was made for; others need another --out
    image_size: int  # height and width of every picture, pixels
    threads: int  # of each run: other numbers may give other last bits
    data_key: str  # identifies images, labels and split
    weights: str  # sha256 of the source as loaded; "none" without
    cut: str  # where the frozen base ends
    recipe: dict[str, Any]  # how the trained heads learn
    setup: dict[str, Any] = field(default_factory=dict)  # data and network, as of a `fit`
    study: str = STUDY
    layerwise: str = __version__  # the version that made the plan


def keep_plan(plan: HeadsPlan, path: Path) -> None:
    """Write the plan, or refuse to go on where another one is kept.

    Raises:
        LayerwiseError: The folder holds something else, or the data, the weights or a setting
            differ.
    """
    before = read_heads_plan(path)
    if before is None:
        write_json(path, to_mapping(plan))
        return
    now = from_mapping(HeadsPlan, to_mapping(plan), str(path))
    for first, second in ((before.request, now.request), (before.recipe, now.recipe)):
        for name in sorted(set(first) | set(second)):
            one, other = first.get(name), second.get(name)
            if one != other:
                raise LayerwiseError(
                    f"{path.parent} holds a study with {name} = {one!r}, and this one has "
                    f"{other!r}; {AGAIN}"
                )
    if before.data_key != now.data_key:
        raise LayerwiseError(
            f"{path} was made for other images, labels or split than DATA has now; put them back, "
            "or name another folder with --out"
        )
    if before.weights != now.weights:
        raise LayerwiseError(
            f"{path} was made with other weights than are there now; put the old ones back, or "
            "name another folder with --out"
        )


def read_heads_plan(path: Path) -> HeadsPlan | None:
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
    return from_mapping(HeadsPlan, found, str(path))

"""`plan.json` of a study of baselines: what the clock decided, fixed when it first begins."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerwise import __version__
from layerwise.config import from_mapping, read_json, to_mapping, write_json
from layerwise.errors import LayerwiseError
from layerwise.studies.baselines.budget import LeftOut
from layerwise.studies.baselines.lineup import Form

STUDY = "baselines"


@dataclass(frozen=True)
class BaselinesPlan:
    """What a study of baselines compares."""

    request: dict[str, Any]  # the flags that it was made for; others need another --out
    image_size: int  # height and width of every picture, pixels
    threads: int  # of each run: other numbers may give other last bits
    data_key: str  # identifies images, labels and split
    weights: str  # sha256 of what transfer starts from; "" without
    forms: tuple[Form, ...]  # what is done to the training pictures
    setup: dict[str, Any] = field(default_factory=dict)  # data and network, as of a `fit`
    networks: tuple[str, ...] = ()  # that are trained, by their keys
    left_out: tuple[LeftOut, ...] = ()  # models that are not
    epochs: int = 0  # of every network
    repeats: int = 1  # of every network
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)  # of the last form
    complete: bool = False  # false: the classic models have not been fitted
    study: str = STUDY
    layerwise: str = __version__  # the version that made the plan


def read_baselines_plan(path: Path) -> BaselinesPlan | None:
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
    return from_mapping(BaselinesPlan, found, str(path))


def write_baselines_plan(plan: BaselinesPlan, path: Path) -> None:
    """Write a plan so that a person can read it."""
    write_json(path, to_mapping(plan))


def refuse_other(before: BaselinesPlan, request: Mapping[str, Any], out: Path) -> None:
    """Refuse to go on in a folder that holds the work of another command.

    Raises:
        LayerwiseError: A flag differs from the one that the plan was made for.
    """
    for name in sorted(set(before.request) | set(request)):
        one, other = before.request.get(name), request.get(name)
        if one != other:
            raise LayerwiseError(
                f"{out} holds a study with {name} = {one!r}, and this one has {other!r}; name "
                "another folder with --out, or repeat the first command to go on with it"
            )


def refuse_changed(before: BaselinesPlan, data_key: str, weights: str, path: Path) -> None:
    """Refuse to go on with other data or weights than the plan was made with.

    Raises:
        LayerwiseError: They are others.
    """
    for what, one, other in (
        ("images, labels or split", before.data_key, data_key),
        ("weights", before.weights, weights),
    ):
        if one != other:
            raise LayerwiseError(
                f"{path} was made with other {what} than there are now; put them back, or name "
                "another folder with --out"
            )

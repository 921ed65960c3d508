"""`plan.json` of a transferability study: what it measures, decided once.

The network, the size of its pictures and the epochs may be left to Layerwise, which looks at the
pictures and at the machine's pace. What it decided is kept, so that the same command again does the
same work, whatever the machine is doing meanwhile; another command needs another folder.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from layerwise import __version__
from layerwise.config import from_mapping, read_json, to_mapping, write_json
from layerwise.data.load import load
from layerwise.data.storage.headers import read_headers
from layerwise.errors import LayerwiseError
from layerwise.models.registry import blank
from layerwise.studies.prepare import Request

SMALL = "caffenet-32"  # the paper's network, made small
LARGE = "timm:mobilenetv2_100"
SMALL_PICTURES = 64  # pixels of a side, at most
SMALL_CPU = 96  # pixels of a side for LARGE without a GPU; it halves them five times
LOOKED_AT = 200  # files whose headers are read to find the size of the pictures


@dataclass(frozen=True)
class Asked:
    """What the flags ask for, beside what `Request` holds; None is left to Layerwise."""

    model: str | None = None  # as `--model`
    splits: int | None = None  # pairs of random halves
    groups: Path | None = None  # a file with two groups of classes
    other: str | None = None  # a second data set
    treatments: tuple[str, ...] = ()  # none: all
    cuts: tuple[str, ...] = ()  # none: all main cuts
    repeats: int | None = None  # with other seeds
    epochs: int | None = None  # of every base
    both: bool | None = None  # directions
    quick: bool = False  # in ten minutes

    def identity(self, request: Request) -> dict[str, Any]:
        """All settings that decide the result, JSON-able."""
        of_request = request.identity()
        del of_request["time"]  # a study has no budget
        own = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}
        own["groups"] = None if self.groups is None else str(self.groups)
        return {**of_request, **own}


@dataclass(frozen=True)
class StudyPlan:
    """What a study measures."""

    request: dict[str, Any]  # the flags that it was made for; others need another --out
    model: str  # as of `--model`
    image_size: int  # height and width of every picture, pixels
    threads: int  # of each run: other numbers may give other last bits
    training: dict[str, Any] = field(default_factory=dict)  # the recipe of every run
    treatments: tuple[str, ...] = ()  # in the order of the paper
    cuts: tuple[str, ...] = ()  # bottom to top
    pairs: tuple[dict[str, Any], ...] = ()  # names and labels of the tasks
    repeats: int = 1  # seeds
    both: bool = True  # directions
    fraction: float = 1.0  # of the training images
    expected_seconds: float = 0.0  # for the whole study, as this machine's pace had it
    reasons: tuple[str, ...] = ()  # why it is as it is
    complete: bool = False  # false: epochs have not been decided
    layerwise: str = __version__  # the version that made the plan


def read_study_plan(path: Path) -> StudyPlan:
    """A study's plan.json.

    Raises:
        LayerwiseError: It is damaged, or the plan of something else.
    """
    found = read_json(path)
    if isinstance(found, dict) and "budget_seconds" in found:
        raise LayerwiseError(
            f"{path} is the plan of a `layerwise fit`; name another folder with --out"
        )
    return from_mapping(StudyPlan, found, str(path))


def write_study_plan(plan: StudyPlan, path: Path) -> None:
    """Write it so that a person can read it."""
    write_json(path, to_mapping(plan))


def refuse_other_study(before: dict[str, Any], now: dict[str, Any], out: Path) -> None:
    """Refuse to go on in a folder that holds a study with other flags.

    Args:
        before: The settings that the folder's plan was made for.
        now: Those of this command.
        out: The folder.

    Raises:
        LayerwiseError: They differ.
    """
    for name in sorted(set(before) | set(now)):
        one, other = (values.get(name) for values in (before, now))
        if one != other:
            raise LayerwiseError(
                f"{out} holds a study with {name} = {one!r}, and this one has {other!r}; name "
                "another folder with --out, or repeat the first command to go on with it"
            )


def choose_network(request: Request, model: str | None) -> tuple[Request, list[str]]:
    """The request with a network and a size of pictures, and why.

    Small pictures get the paper's network made small; others, and given weights, the network that
    `fit` takes. Its pictures have its own size on a GPU; a CPU would need days for that.
    """
    reasons = []
    if model is None:
        side = 0 if request.weights != "none" else _side(request)
        model = SMALL if 0 < side <= SMALL_PICTURES else LARGE
        reasons.append(
            f"The network is {model}"
            + (
                f", since the pictures are {side} pixels wide or high in the median; --model names "
                "another."
                if side
                else ", as in `layerwise fit`; --model names another."
            )
        )
    request = replace(request, model=model)
    if request.image_size is None:
        network = blank(model, outputs=2, arguments=request.arguments)
        side = network.contract.height
        if not torch.cuda.is_available() and side > SMALL_CPU and model == LARGE:
            side = SMALL_CPU
            reasons.append(
                f"Its pictures are {side}×{side}: at {network.contract.height}×"
                f"{network.contract.height} a study would take days without a GPU; --image-size "
                "sets another size."
            )
        request = replace(request, image_size=side)
    return request, reasons


def _side(request: Request) -> int:
    """The median of the pictures' longer sides, of some of them."""
    manifest = load(request.data, request.options)
    rows = np.unique(np.linspace(0, len(manifest) - 1, LOOKED_AT).round().astype(np.int64))
    sizes = read_headers(manifest.take(rows)).sizes.max(axis=1)
    known = sizes[sizes > 0]
    return int(np.median(known)) if len(known) else 0

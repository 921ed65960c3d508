"""`plan.json` of an advice: what the clock has decided, so that a second sitting does the same.

It is written twice: when it is known how many pictures are looked at, and when it is known how much
time is left for the quick test.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerwise import __version__
from layerwise.config import from_mapping, read_json, to_mapping, write_json
from layerwise.errors import LayerwiseError
from layerwise.studies.advice.distance import Distance
from layerwise.studies.advice.quick import QuickTest

STUDY = "advice"


@dataclass(frozen=True)
class AdvicePlan:
    """What an advice looks at and tests."""

    request: dict[str, Any]  # the flags that it was made for; others need another --out
    image_size: int  # height and width of every picture, pixels
    threads: int  # of torch and ONNX Runtime: other numbers may give other last bits
    data_key: str  # identifies images, labels and split
    weights_digest: str  # sha256 of the source's weights as loaded
    train: int  # training images that are looked at
    validation: int  # validation images that are looked at
    distance: Distance  # by the batch norms, of as many pictures as time allowed
    test: QuickTest | None = None  # None: not known yet
    setup: dict[str, Any] = field(default_factory=dict)  # as of a `fit`: runs can be exported
    study: str = STUDY
    layerwise: str = __version__  # the version that made the plan


def keep_advice_plan(plan: AdvicePlan, path: Path) -> None:
    """Write the plan."""
    write_json(path, to_mapping(plan))


def read_advice_plan(path: Path, request: dict[str, Any]) -> AdvicePlan | None:
    """The plan of a folder; None where there is none.

    Args:
        path: Of the plan.
        request: The flags of now.

    Raises:
        LayerwiseError: It is damaged, that of another command, or made for other flags.
    """
    if not path.is_file():
        return None
    found = read_json(path)
    if not isinstance(found, dict) or found.get("study") != STUDY:
        raise LayerwiseError(f"{path} is that of another command; name another folder with --out")
    plan = from_mapping(AdvicePlan, found, str(path))
    for name in sorted(set(plan.request) | set(request)):
        before, now = plan.request.get(name), request.get(name)
        if before != now:
            raise LayerwiseError(
                f"{path.parent} holds an advice with {name} = {before!r}, and this one has "
                f"{now!r}; name another folder with --out, or repeat the first command to go on "
                "with it"
            )
    return plan


def refuse_other_work(plan: AdvicePlan, data_key: str, weights_digest: str, path: Path) -> None:
    """Refuse to go on where data or weights have changed since the plan was made.

    Raises:
        LayerwiseError: They have.
    """
    if plan.data_key != data_key:
        raise LayerwiseError(
            f"{path} was made for other images, labels or split than DATA has now; put them back, "
            "or name another folder with --out"
        )
    if plan.weights_digest != weights_digest:
        raise LayerwiseError(
            f"{path} was made with other weights than --weights holds now; put the old ones back, "
            "or name another folder with --out"
        )

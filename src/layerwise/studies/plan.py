"""The plan that `layerwise fit` follows: a readable, editable file that fixes all training.

It is made once, from the data's fingerprint, the probes and a short calibration; from then on the
work is what the file says. So a resumed `fit`, or a second one with the file, does the same work
to the same bits, and a person can read why each run is there, and change it.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from layerwise import __version__
from layerwise.config import from_mapping, read_json, to_mapping, write_json
from layerwise.data.augment import PRESETS
from layerwise.data.balance import Balance
from layerwise.errors import LayerwiseError
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

SCORES = ("auroc", "auprc", "accuracy", "balanced_accuracy", "f1")
"""Metrics by which a run may choose its epoch: the higher the better."""


@dataclass(frozen=True)
class PlannedRun:
    """One training run of the plan."""

    transfer: Transfer  # what is kept, copied and frozen
    recipe: Recipe  # how the rest learns
    reason: str  # why it is in the plan
    seconds: float  # how long it should take, from the calibration
    left_out: str = ""  # why it was not trained; empty: it is

    @property
    def name(self) -> str:
        """The transfer in words."""
        return self.transfer.name


@dataclass(frozen=True)
class Plan:
    """Everything that decides what `fit` does, and why."""

    data: str  # name of the data
    data_key: str  # identifies images, labels and split
    model: str  # as `--model`
    arguments: dict[str, str]  # as `--model-arg`
    weights: str  # as `--weights`; "none" starts at random
    weights_digest: str  # sha256 of the source's weights as loaded
    image_size: int  # height and width of every picture, pixels
    letterbox: bool  # keep the aspect ratio and pad
    channels: int  # 1 grey, 3 colour
    augment: str  # preset of the augmentation
    seed: int  # of split, order, augmentation, initial weights
    threads: int  # of torch and ONNX Runtime; other numbers may give other last bits
    budget_seconds: float  # as `--time`
    fingerprint: dict[str, Any]  # what the data look like
    request: dict[str, Any]  # the command that made the plan; another one needs another --out
    cuts: tuple[str, ...] = ()  # where probes are put
    reasons: tuple[str, ...] = ()  # why the settings are what they are
    training: tuple[PlannedRun, ...] = ()  # what is trained
    balance: Balance = "weights"  # what makes unequal classes count the same
    vertical_flip: bool = False  # augmented pictures may be upside down
    keep: str = "all"  # the cut that every network ends at at the latest, as by `--keep`
    metric: str = "auroc"  # by which trained runs choose their epochs, on validation
    complete: bool = False  # false: calibration has not been finished
    layerwise: str = field(default=__version__)  # the version that made the plan

    def leave_out(self, index: int, why: str) -> "Plan":
        """The plan with one run marked as not trained."""
        runs = list(self.training)
        runs[index] = replace(runs[index], left_out=why)
        return replace(self, training=tuple(runs))


def read_plan(path: Path) -> Plan:
    """A plan file, every key checked; of a study's, what it says of data and network.

    Raises:
        LayerwiseError: The file is absent, damaged, or has a key or value that can not be.
    """
    found = read_json(path)
    if isinstance(found, dict) and "study" in found and "setup" in found:
        found = found["setup"]
    _refuse_class_weights(found, path)
    plan = from_mapping(Plan, found, str(path))
    known = ("none", *PRESETS)
    if plan.augment not in known:
        raise LayerwiseError(
            f"{path}: augment is {plan.augment!r}; it must be one of {', '.join(known)}"
        )
    if plan.metric not in SCORES:
        raise LayerwiseError(
            f"{path}: metric is {plan.metric!r}; it must be one of {', '.join(SCORES)}"
        )
    return plan


def _refuse_class_weights(found: Any, path: Path) -> None:  # noqa: ANN401 - any JSON
    """Name what took the place of a key of earlier versions."""
    runs = found.get("training") if isinstance(found, dict) else None
    for run in runs if isinstance(runs, list) else ():
        recipe = run.get("recipe") if isinstance(run, dict) else None
        if not isinstance(recipe, dict) or "class_weights" not in recipe:
            continue
        if "balance" in recipe:
            raise LayerwiseError(
                f"{path}: a recipe has class_weights and balance; two ways of balancing at once "
                "would let the smaller classes count twice. Leave class_weights out"
            )
        raise LayerwiseError(
            f"{path}: class_weights is now one of the ways of balance; write "
            '"balance": "weights" for "balanced", and "balance": "none" for "none"'
        )


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan so that it can be read and edited by a person."""
    write_json(path, to_mapping(plan))


def refuse_other_request(plan: Plan, request: dict[str, Any], out: Path) -> None:
    """Refuse to go on in a folder that holds the work of another command.

    Raises:
        LayerwiseError: A setting of the request differs from the one the plan was made for.
    """
    for name in sorted(set(plan.request) | set(request)):
        before, now = plan.request.get(name), request.get(name)
        if before != now:
            raise LayerwiseError(
                f"{out} holds a fit with {name} = {before!r}, and this one has {now!r}; "
                "name another folder with --out, or repeat the first command to go on with it"
            )

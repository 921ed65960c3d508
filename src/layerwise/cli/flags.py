"""Flags that several commands share: one place for their names, help, reading and errors."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, cast

import typer

from layerwise.config import cache_folder as cache_folder  # a flag of many commands
from layerwise.errors import LayerwiseError

if TYPE_CHECKING:
    from layerwise.data.balance import Balance as Balancing
    from layerwise.data.load import DataOptions

PRESETS = ("auto", "none", "flip", "radiograph", "natural")
BALANCE = ("none", "weights", "sampling", "augment")
DATA_FLAGS = (
    "labels",
    "label_column",
    "path_column",
    "patient_column",
    "patient_from",
    "study_column",
    "date_column",
    "split_column",
    "multi_label",
    "only",
    "positive",
    "uncertain",
    "label_set",
    "view",
    "keep_identifiers",
    "skip_unreadable",
)

# Optional and not "| None": Typer reads these when a command is defined.
Text = Optional[str]  # noqa: UP007, UP045
Place = Optional[Path]  # noqa: UP007, UP045

Out = Annotated[Path, typer.Option(help="The folder everything is written to.")]
Model = Annotated[str, typer.Option(help="timm:NAME, torchvision:NAME, or one of our own.")]
ModelArg = Annotated[
    list[str], typer.Option(metavar="KEY=VALUE", help="For the network's constructor; repeatable.")
]
Weights = Annotated[
    str, typer.Option(help="A .safetensors or .pth file, a run's folder, pretrained, or none.")
]
Keep = Annotated[
    str, typer.Option(metavar="CUT", help="Cut the network off here: a cut, or a preset's name.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of the split, the order and the weights.")]
Threads = Annotated[
    int, typer.Option(min=0, help="Of torch and ONNX Runtime; 0: one a core.", show_default=False)
]
ImageSize = Annotated[
    Optional[int],  # noqa: UP007, UP045
    typer.Option(min=8, max=4096, help="Pixels of a side. Default: by the network and the time."),
]
Letterbox = Annotated[bool, typer.Option("--letterbox", help="Keep the aspect ratio and pad.")]
Augment = Annotated[str, typer.Option(help="auto, none, flip, radiograph or natural.")]
Balance = Annotated[
    list[str],
    typer.Option(
        metavar="METHOD",
        help="How unequal classes are balanced: weights (the default), sampling, augment or none.",
    ),
]
VerticalFlip = Annotated[
    bool, typer.Option("--vertical-flip", help="Augmented pictures may also be upside down.")
]
Labels = Annotated[Text, typer.Option(help="A table with the labels of a folder of images.")]
LabelColumn = Annotated[
    list[str], typer.Option(help="The column of labels; repeated: several labels an image.")
]
PathColumn = Annotated[Text, typer.Option(help="The column of image paths.")]
PatientColumn = Annotated[Text, typer.Option(help="The column of patients.")]
PatientFrom = Annotated[
    Text, typer.Option(metavar="REGEX", help="The patient, as found in the file name.")
]
StudyColumn = Annotated[Text, typer.Option(help="The column of examinations of a patient.")]
DateColumn = Annotated[Text, typer.Option(help="The column of dates.")]
SplitColumn = Annotated[Text, typer.Option(help="The column of train, val, test.")]
MultiLabel = Annotated[bool, typer.Option("--multi-label", help="One column, labels joined by |.")]
Only = Annotated[
    list[str], typer.Option(metavar="LABEL", help="Only this class or label; repeatable.")
]
Uncertain = Annotated[
    str, typer.Option(metavar="POLICY", help="CheXpert: doubt as zeros, ones, or ignore it.")
]
LabelSet = Annotated[
    Text, typer.Option(metavar="SET", help="CheXpert: chexpert (14), peng (13), competition (5).")
]
View = Annotated[Text, typer.Option(help="Only this view: frontal, lateral, PA, AP, ….")]
SubgroupColumn = Annotated[
    list[str],
    typer.Option("--subgroup", metavar="COLUMN", help="A column of sex, age, site, …; repeatable."),
]
KeepIdentifiers = Annotated[
    bool, typer.Option("--keep-identifiers", help="DICOM patients, studies, dates as they stand.")
]
Positive = Annotated[Text, typer.Option(metavar="LABEL", help="The positive one of two labels.")]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave damaged images out, and list them.")
]
AllowLeaks = Annotated[
    bool, typer.Option("--allow-leaks", help="Go on with an image or a patient in two splits.")
]
Cache = Annotated[
    Place,
    typer.Option(
        help="Where decoded images and activations are kept for all commands. Default: "
        "$LAYERWISE_CACHE, else the user's cache folder."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="A JSON summary on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Only errors and results.")]


def parse_time(text: str) -> float:
    """Seconds of "90s", "10m", "2h" or plain seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise LayerwiseError(f"--time {text!r} is not a time; write 90s, 10m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def parse_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """KEY=VALUE words as a dictionary."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise LayerwiseError(f"--model-arg {pair!r} is not KEY=VALUE; write pad_type=same")
        found[key.strip()] = value.strip()
    return found


def parse_augment(text: str) -> str:
    """A preset of the augmentation."""
    if text not in PRESETS:
        raise LayerwiseError(f"--augment {text!r} is unknown; it is one of {', '.join(PRESETS)}")
    return text


def parse_balance(methods: Sequence[str]) -> Balancing:
    """The one way of balancing; two are refused."""
    unknown = [method for method in methods if method not in BALANCE]
    if unknown:
        raise LayerwiseError(
            f"--balance {unknown[0]!r} is unknown; it is one of {', '.join(BALANCE)}"
        )
    if len(set(methods)) > 1:
        raise LayerwiseError(
            f"--balance {' and '.join(dict.fromkeys(methods))}: each makes the classes count the "
            "same by itself, and with two at once the smaller ones would count twice; keep one"
        )
    return cast("Balancing", methods[0] if methods else "weights")


def data_options(settings: Mapping[str, Any]) -> DataOptions:
    """The flags that go with DATA."""
    from layerwise.data.load import DataOptions

    values = {name: settings[name] for name in DATA_FLAGS if name in settings}
    for name in ("label_column", "only"):
        values[name] = tuple(values.get(name) or ())
    return DataOptions(**values)


def thread_count(flag: int) -> int:
    """The flag, or the cores this process may use."""
    return flag or len(os.sched_getaffinity(0))


def command_line() -> list[str]:
    """The words of this command, as the user could type them again."""
    return ["layerwise", *sys.argv[1:]]

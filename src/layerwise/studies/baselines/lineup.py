"""Who takes part in a study of baselines, and what "base" and "augmented" mean for each.

Buluttekin 2020, §4.1: a dummy, a random forest and an SVM, each tuned, LeNet-5, AlexNet, VGG16 and,
from Peng et al. 2021, a CBR network. All start from random weights. The study's second form is that
of §3.1 and §3.4: augmented pictures, and classes made equal by them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from layerwise.data.balance import Balance
from layerwise.errors import LayerwiseError, ModelError
from layerwise.models.names import nearest
from layerwise.models.registry import available, blank

Kind = Literal["classic", "network", "transfer"]

BASE, AUGMENTED = "base", "augmented"
CLASSIC = ("dummy", "random-forest", "svm")
NETWORKS = ("lenet5", "alexnet", "vgg16", "cbr-small")  # of these the time leaves out the dearest
GROUPS = {"classic": CLASSIC, "networks": NETWORKS, "all": CLASSIC + NETWORKS}
SHORT = {"forest": "random-forest", "rf": "random-forest", "cbr": "cbr-small"}
SHOWN = {
    "random-forest": "random forest",
    "svm": "SVM",
    "lenet5": "LeNet-5",
    "alexnet": "AlexNet",
    "vgg16": "VGG16",
    "cbr-small": "CBR-Small",
    "cbr-tiny": "CBR-Tiny",
    "cbr-larget": "CBR-LargeT",
    "cbr-largew": "CBR-LargeW",
}
# Deep and without batch norm: at the rate of the others they stay where they started.
RATES = {"alexnet": 1e-4, "vgg16": 1e-4}
UNEVEN = 0.9  # the smallest class has fewer than this fraction of the largest one's images


@dataclass(frozen=True)
class Entrant:
    """A model that takes part.

    Attributes:
        key: As `--models` names it; of a transfer "transfer".
        name: In figures.
        kind: "classic", "network" (from random weights) or "transfer" (from given ones).
    """

    key: str
    name: str
    kind: Kind


@dataclass(frozen=True)
class Form:
    """What is done to the training pictures.

    Attributes:
        name: BASE or AUGMENTED.
        augment: Preset of the augmentation.
        balance: What makes unequal classes count the same.
        vertical_flip: Augmented pictures may be upside down.
    """

    name: str
    augment: str
    balance: Balance
    vertical_flip: bool = False


def entrants(models: str | None) -> list[Entrant]:
    """Those that `--models` names, or the seven of the thesis, in its order.

    Args:
        models: Names with commas between them; also "classic", "networks" and "all". None: all.

    Raises:
        LayerwiseError: A name is unknown (the nearest one is named), or there is none.
    """
    keys: list[str] = []
    for word in "all".split() if models is None else models.split(","):
        name = word.strip().lower() if ":" not in word else word.strip()
        for key in GROUPS.get(name, (SHORT.get(name, name),)):
            if key not in keys and key:
                keys.append(key)
    if not keys:
        raise LayerwiseError(f"--models {models!r} names none; write {','.join(GROUPS['all'])}")
    known = [*CLASSIC, *GROUPS, *available()]
    for key in keys:
        if ":" in key:
            blank(key, outputs=1)
        elif key not in known:
            raise LayerwiseError(
                f"--models: {key!r} is unknown; near to it are {', '.join(nearest(key, known))} "
                f"(classic models are {', '.join(CLASSIC)}, and `layerwise models` lists networks)"
            )
    order = {key: i for i, key in enumerate(GROUPS["all"])}
    keys.sort(key=lambda key: order.get(key, len(order)))
    return [Entrant(key, shown(key), "classic" if key in CLASSIC else "network") for key in keys]


def shown(key: str) -> str:
    """A model's name in figures: without the library that it comes from."""
    return SHOWN.get(key, key.rpartition(":")[2])


def refusal(model: str, side: int) -> str:
    """Why a network does not take pictures of a side, in pixels; "" where it does."""
    try:
        blank(model, outputs=1, image_size=side)
    except ModelError as error:
        return str(error)
    return ""


def forms(
    augment: str,
    balance: Balance | None,
    targets: NDArray[np.generic],
    *,
    vertical_flip: bool = False,
) -> tuple[tuple[Form, ...], str]:
    """The forms that are compared, and what there is to say of them.

    Where classes are unequal, "augmented" is §3.4 of the thesis: augmented copies of the smaller
    classes until all are of one size, beside the pictures as they are. Where they are equal that
    would change nothing, and so every picture is augmented anew in each epoch; so too with several
    labels an image, which can not be drawn one by one, and are weighed.

    Args:
        augment: The preset that `--augment` came to.
        balance: As asked for; None: by the classes.
        targets: Of the training part: int64 (n,), or float32 (n, K).
        vertical_flip: As asked for.
    """
    uneven = targets.ndim > 1 or _uneven(targets)
    chosen: Balance = "weights"
    if uneven and targets.ndim == 1 and augment != "none":
        chosen = "augment"
    if balance is not None:
        chosen = balance
    changes = augment != "none" or (uneven and chosen != "none")
    plain = Form(BASE, "none", "none")
    if not changes:
        return (plain,), (
            "There is one form only: the pictures are not augmented (too small for it; --augment "
            "names a preset), and the classes are equal or not balanced."
        )
    return (plain, Form(AUGMENTED, augment, chosen, vertical_flip)), ""


def forms_of(entrant: Entrant, every: Sequence[Form]) -> tuple[Form, ...]:
    """Those of one model: the dummy does not look at pictures, and has one."""
    return tuple(every[:1]) if entrant.key == "dummy" else tuple(every)


def _uneven(targets: NDArray[np.generic]) -> bool:
    counts = np.bincount(targets.astype(np.int64))
    there = counts[counts > 0]
    return bool(there.min() < UNEVEN * there.max())

"""From values of a search space to what a trial trains, and whether all of them can be trained."""

import inspect
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from layerwise.config import from_mapping
from layerwise.data.balance import check_balance
from layerwise.data.manifest import Manifest
from layerwise.errors import LayerwiseError, ModelError, TrainingError
from layerwise.models.names import nearest
from layerwise.models.registry import blank
from layerwise.studies.search.space import (
    MODEL,
    TRAINING,
    TRANSFER,
    Dimension,
    Space,
    Values,
)
from layerwise.training.recipe import SGD_WEIGHT_DECAY, Recipe
from layerwise.training.resolve import keepable
from layerwise.training.transfer import Transfer

CUSTOM = "custom"  # the network whose shape is searched where nothing else is said
MOST_LAYERS = 5  # of it; each halves the picture
BATCHES = (16, 32, 64, 128)
STEPS = 4  # that an epoch has at the least with the batches that are tried unasked
_SET = ("self", "outputs", "channels", "image_size", "args", "kwargs")  # not for --model-arg


@dataclass(frozen=True)
class Settings:
    """What a trial trains: arguments of the network's constructor, transfer and recipe."""

    arguments: Mapping[str, str]
    transfer: Transfer
    recipe: Recipe


def settings_of(base: Settings, space: Space, values: Values) -> Settings:
    """What a trial with these values trains; `base` says all that is not searched.

    Raises:
        LayerwiseError: A value is none of the field's type, or contradicts another setting.
    """
    arguments = {**base.arguments, **{k: str(v) for k, v in space.of(MODEL, values).items()}}
    cuts: dict[str, Any] = {name: str(cut) for name, cut in space.of(TRANSFER, values).items()}
    if "keep" in cuts and base.transfer.copy != "none":  # what is kept is copied
        cuts["copy"] = cuts["keep"]
    recipe: dict[str, Any] = {**asdict(base.recipe), **space.of(TRAINING, values)}
    if recipe["schedule"] != "inverse":  # no other has one
        recipe["decay"] = 0.0
    return Settings(
        arguments, replace(base.transfer, **cuts), from_mapping(Recipe, recipe, f"[{TRAINING}]")
    )


def default_space(
    model: str, side: int, images: int, *, copied: bool, fixed: Collection[str]
) -> Space:
    """What is searched without --space.

    Of the custom network the seven hyper-parameters of Buluttekin 2020, §4.2.2; of any other how
    it learns and, where it starts from pretrained weights, whether they learn too.

    Args:
        model: The network.
        side: Of the pictures, pixels.
        images: Of the training part.
        copied: Whether layers are copied.
        fixed: Fields that have a value already and so are not searched.
    """
    batches = tuple(b for b in BATCHES if b * STEPS <= images) or (min(BATCHES[0], images),)
    if model == CUSTOM:
        most = min(MOST_LAYERS, side.bit_length() - 1)
        found = [
            Dimension(MODEL, "layers", (), min(2, most), most, whole=True),
            Dimension(MODEL, "units", (8, 16, 32)),
            Dimension(MODEL, "kernel", (3, 5)),
            Dimension(TRAINING, "lr", (), 1e-3, 1e-1, log=True),
            Dimension(TRAINING, "momentum", (), 0.5, 0.99),
            Dimension(TRAINING, "decay", (), 1e-5, 1e-2, log=True),
            Dimension(TRAINING, "batch", batches),
        ]
    else:
        found = [
            Dimension(TRAINING, "lr", (), 1e-4, 1e-2, log=True),
            Dimension(TRAINING, "weight_decay", (), 1e-3, 1e-1, log=True),
            Dimension(TRAINING, "batch", batches),
        ]
        if copied:
            found += [
                Dimension(TRANSFER, "freeze", ("none", "all")),
                Dimension(TRAINING, "copied_lr", (), 0.03, 1.0, log=True),
            ]
    return Space(tuple(d for d in found if d.field not in fixed))


def default_recipe(space: Space, recipe: Recipe, fixed: Collection[str]) -> Recipe:
    """The recipe with what the space's fields need to have a meaning: SGD for a momentum.

    Args:
        space: What is searched.
        recipe: Everything else.
        fixed: Settings that the user has given, which stay as they are.
    """
    searched = {d.field for d in space.dimensions if d.part == TRAINING}
    given = searched | set(fixed)
    if "momentum" in given and "optimizer" not in given:
        decay = recipe.weight_decay if "weight_decay" in given else SGD_WEIGHT_DECAY
        recipe = replace(recipe, optimizer="sgd", weight_decay=decay)
    if "decay" in searched and "schedule" not in given:
        recipe = replace(recipe, schedule="inverse", decay=1e-4)
    elif "decay" in searched and "schedule" not in searched and recipe.schedule != "inverse":
        raise TrainingError(
            f"decay is searched, and schedule is fixed at {recipe.schedule!r}, which has none; "
            "leave schedule out, or decay"
        )
    return recipe


def check_space(
    space: Space,
    base: Settings,
    manifest: Manifest,
    model: str,
    side: int,
    where: str,
) -> Space:
    """The space with its cuts by their own names, if everything in it can be trained.

    Every end of every field is tried, beside the first ends of the others.

    Args:
        space: What is searched.
        base: All that is not.
        manifest: Of the data.
        model: The network.
        side: Of the pictures, pixels.
        where: What errors name: the file, or the flag.

    Raises:
        LayerwiseError: A value can not be; it is named, with what would work.
    """
    _known_arguments(space, base, model, side, where)
    space = _named_cuts(space, base, model, side, where)
    images = len(manifest.indices("train"))
    corners = [(None, None, {d.name: d.ends[0] for d in space.dimensions}), *space.corners()]
    made: set[tuple[tuple[str, str], ...]] = set()
    for dimension, value, values in corners:
        place = where if dimension is None else f"{where}: [{dimension.part}] {dimension.field}"
        try:
            settings = settings_of(base, space, values)
            recipe = settings.recipe
            several = manifest.task == "multilabel"
            check_balance(recipe.balance, several_labels=several, preset=recipe.augment)
            arguments = tuple(sorted(settings.arguments.items()))
            if arguments not in made:
                blank(model, outputs=1, image_size=side, arguments=settings.arguments)
                made.add(arguments)
        except ModelError as error:
            raise ModelError(f"{place} = {value!r}: {error}") from error
        except LayerwiseError as error:
            raise TrainingError(f"{place} = {value!r}: {error}") from error
        if recipe.batch > images:
            raise TrainingError(
                f"{place}: batch = {recipe.batch} is more than the {images:,} training images; the "
                f"largest that works is {images}"
            )
        if not 0 <= recipe.momentum < 1:
            raise TrainingError(
                f"{place} = {recipe.momentum!r}: a momentum is at least 0 and below 1; 0.99 is high"
            )
    return space


def _known_arguments(space: Space, base: Settings, model: str, side: int, where: str) -> None:
    """Refuse an argument that one of our own networks does not have; others say so themselves."""
    asked = [d.field for d in space.dimensions if d.part == MODEL]
    if not asked:
        return
    if base.transfer.copy != "none":
        raise ModelError(
            f"{where}: [model] {asked[0]} changes the network, and weights fit one only; search "
            "[transfer] and [training], or start at random with --weights none"
        )
    if ":" in model:
        return
    network = blank(model, outputs=1, image_size=side, arguments=base.arguments)
    takes = inspect.signature(type(network.module).__init__).parameters
    known = [name for name in takes if name not in _SET]
    for field in asked:
        if field not in known:
            near = f"the nearest one is {nearest(field, known)[0]!r}" if known else "it has none"
            raise ModelError(f"{where}: [model] {field}: {model} has no such argument; {near}")


def _named_cuts(space: Space, base: Settings, model: str, side: int, where: str) -> Space:
    """The space with every cut by its own name."""
    out = []
    for dimension in space.dimensions:
        if dimension.part == TRANSFER:
            place = f"{where}: [{TRANSFER}] {dimension.field}"
            if not dimension.choices:
                raise ModelError(f'{place}: cuts are names; write a list, as in ["none", "all"]')
            choices = [_cut(dimension, str(c), base, model, side, place) for c in dimension.choices]
            dimension = replace(dimension, choices=tuple(dict.fromkeys(choices)))
        out.append(dimension)
    return Space(tuple(out))


def _cut(dimension: Dimension, cut: str, base: Settings, model: str, side: int, place: str) -> str:
    if dimension.field == "freeze" and base.transfer.copy == "none" and cut != "none":
        raise ModelError(
            f"{place}: without weights there is nothing to freeze; name some with --weights"
        )
    if cut == "all" or (cut == "none" and dimension.field == "freeze"):
        return cut
    network = blank(model, outputs=1, image_size=side, arguments=base.arguments)
    try:
        return keepable(network, cut)
    except ModelError as error:
        raise ModelError(f"{place} = {cut!r}: {error}") from error

"""A search from what is asked for to its plan: data, space, recipe, epochs."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from layerwise.config import to_mapping
from layerwise.data.manifest import Manifest
from layerwise.errors import DataError, LayerwiseError
from layerwise.evaluation.metrics import measure
from layerwise.models.registry import blank
from layerwise.studies.planner import base_recipe
from layerwise.studies.prepare import Prepared, Request, prepare
from layerwise.studies.search.pace import (
    MOST_MEASURED,
    RESERVE,
    SAFETY,
    TRIALS,
    Cost,
    allot,
    holds,
    measure_costs,
)
from layerwise.studies.search.plan import (
    SearchPlan,
    read_search_plan,
    refuse_other,
    write_search_plan,
)
from layerwise.studies.search.settings import (
    CUSTOM,
    Settings,
    check_space,
    default_recipe,
    default_space,
    settings_of,
)
from layerwise.studies.search.space import MODEL, TRANSFER, Dimension, Space, read_space
from layerwise.studies.search.trials import propose
from layerwise.studies.workspace import Say, Track, Workspace
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

SIDE = 64  # pixels of the custom network's pictures where nothing else is said

RecipeOf = Callable[[str, Recipe], Recipe]  # (augmentation, defaults) → what a trial learns by


@dataclass(frozen=True)
class Asked:
    """What the flags ask for, beside what `Request` holds."""

    space: Path | None = None  # as `--space`; None: the network's own
    trials: int | None = None  # as `--trials`; None: as many as the time holds
    epochs: int | None = None  # of every trial; None: by the time
    metric: str = "auroc"  # by which epochs are chosen, and trials pruned and compared
    pruner: str = "median"
    freeze: str | None = None  # as `--freeze`; None: "none", unless it is searched
    training: Mapping[str, Any] = field(default_factory=dict)  # settings of the recipe, as given


@dataclass(frozen=True)
class SearchStudy:
    """What is going to be searched, with everything that it needs.

    Attributes:
        prepared: DATA.
        request: What was asked for of it.
        asked: What was asked for beside.
        space: What is searched.
        base: All settings that are not.
        plan: As it is kept in the folder.
        cost: Of a trial; None where an earlier sitting has decided everything.
        started: When this sitting began, by time.monotonic.
    """

    prepared: Prepared
    request: Request
    asked: Asked
    space: Space
    base: Settings
    plan: SearchPlan
    cost: Cost | None
    started: float

    @property
    def work(self) -> Workspace:
        """The data, with the network as it is without any value of the space."""
        return self.prepared.work

    @property
    def out(self) -> Path:
        """The folder of the search."""
        return self.request.out

    def settings(self, values: Mapping[str, Any]) -> Settings:
        """What a trial with these values trains."""
        return settings_of(self.base, self.space, values)

    def workspace(self, settings: Settings) -> Workspace:
        """The workspace with the network of these settings."""
        return replace(self.work, arguments=dict(settings.arguments), _cuts=[])


def prepare_search(
    request: Request, asked: Asked, recipe_of: RecipeOf, say: Say, track: Track, started: float
) -> SearchStudy:
    """Read, check and decide everything, and keep the plan; nothing is trained.

    Args:
        request: What is asked for of data and network; its `weights` may be "auto".
        asked: What is asked for beside.
        recipe_of: What the flags make of the search's defaults.
        say: Told what is being done.
        track: Makes progress callbacks.
        started: When the command began, by time.monotonic.

    Raises:
        LayerwiseError: Whatever is wrong with flags, space, network, data or folder.
    """
    path = request.out / "plan.json"
    before = read_search_plan(path)
    if before is not None:  # its number of threads is a part of every run's key
        request = replace(request, threads=before.threads)
    space = None if asked.space is None else read_space(asked.space)
    if space is not None:
        _refuse_twice(space, asked)
    request = replace(_with_defaults(request), metric=asked.metric)
    prepared = prepare(request, say, track, lambda *_: int(request.image_size or 0))
    work = prepared.work
    _check_metric(asked.metric, work.manifest)
    images, side = len(work.rows("train")), work.image_size[0]
    copied = work.weights is not None
    if space is None:
        fixed = _fixed(asked, request)
        space = default_space(request.model, side, images, copied=copied, fixed=fixed)
    if asked.freeze not in (None, "none"):
        freeze = Dimension(TRANSFER, "freeze", (str(asked.freeze),))
        space = Space((*space.dimensions, freeze))
    recipe = base_recipe(work, prepared.augment, request.balance, request.vertical_flip)
    recipe = recipe_of(prepared.augment, recipe)
    recipe = default_recipe(space, recipe, asked.training)
    keep = work.keep
    source, copy = (work.weights_name, keep) if copied else ("none", "none")
    transfer = Transfer(source, keep=keep, copy=copy)
    base = Settings(dict(request.arguments), transfer, recipe)
    where = "what is searched" if asked.space is None else f"--space {asked.space}"
    space = check_space(space, base, work.manifest, request.model, side, where)
    plan = SearchPlan(
        request=_identity(request, asked),
        image_size=side,
        threads=work.threads,
        data_key=work.data_key,
        weights=work.weights_digest,
        space=space.to_list(),
        settings={
            "arguments": dict(base.arguments),
            "transfer": transfer.to_dict(),
            "recipe": to_mapping(replace(recipe, epochs=1)),  # which may follow from the time
        },
        epochs=asked.epochs or 1,
    )
    cost = None
    if before is None:
        plan, cost = _timed(plan, prepared, base, space, request.seconds, asked, started)
        for note in plan.notes:
            say(note)
        write_search_plan(plan, path)
    else:
        refuse_other(before, plan, request.out)
        plan = before
    base = replace(base, recipe=replace(recipe, epochs=plan.epochs))
    return SearchStudy(prepared, request, asked, space, base, plan, cost, started)


def _with_defaults(request: Request) -> Request:
    """The request with the weights and the size of pictures that suit the network."""
    network = blank(
        request.model, outputs=1, image_size=request.image_size, arguments=request.arguments
    )
    if request.weights == "auto":
        weights = "none" if network.pretrained is None else "pretrained"
        request = replace(request, weights=weights)
    if request.image_size is None:
        side = SIDE if request.model == CUSTOM else network.contract.height
        request = replace(request, image_size=side)
    return request


def _timed(
    plan: SearchPlan,
    prepared: Prepared,
    base: Settings,
    space: Space,
    seconds: float,
    asked: Asked,
    started: float,
) -> tuple[SearchPlan, Cost]:
    """The plan with the epochs of every trial, as the time allows.

    Raises:
        LayerwiseError: The time does not hold one trial.
    """
    work = prepared.work
    work.say("measuring how long trials take")
    drawn = []
    for number in range(MOST_MEASURED):  # trials that no one has made yet
        values = propose(space, [], work.seed + 1000 * (number + 1))
        drawn.append(settings_of(base, space, values or {}))
    cost = measure_costs(work, drawn, seconds)
    left = SAFETY * (seconds - min(RESERVE, 0.05 * seconds) - (time.monotonic() - started))
    wanted = min(asked.trials or TRIALS, space.size or np.iinfo(np.int64).max)
    if asked.epochs is None:
        epochs, count = allot(cost, left, wanted, len(work.rows("train")))
    else:
        epochs, count = asked.epochs, holds(cost, left, asked.epochs)
    note = (
        f"{epochs} epochs a trial: one takes about {cost.trial(epochs):.0f} s, so that the time "
        f"holds about {count} whole ones; pruning makes room for more"
    )
    if count < wanted:
        note += (
            f". {wanted} of them would need --time "
            f"{np.ceil((wanted * cost.trial(epochs) / SAFETY + RESERVE) / 60):.0f}m"
        )
    return replace(plan, epochs=epochs, notes=(note,)), cost


def _fixed(asked: Asked, request: Request) -> set[str]:
    """Fields that are not searched, since they have a value or would have no meaning."""
    fixed = {*asked.training, *request.arguments}
    if asked.freeze is not None:
        fixed.add("freeze")
    if asked.training.get("optimizer", "sgd") != "sgd":
        fixed.add("momentum")
    if asked.training.get("schedule", "inverse") != "inverse":
        fixed.add("decay")
    return fixed


def _refuse_twice(space: Space, asked: Asked) -> None:
    """A setting is either searched or fixed."""
    searched = {d.field for d in space.dimensions if d.part != MODEL}
    for name in [*asked.training, *([] if asked.freeze is None else ["freeze"])]:
        if name in searched:
            raise LayerwiseError(
                f"--space {asked.space}: {name} is searched there, and fixed by the recipe or a "
                "flag; keep one of them"
            )


def _check_metric(metric: str, manifest: Manifest) -> None:
    """Refuse a validation part on which trials have no score."""
    rows = manifest.indices("val")
    targets = manifest.targets[rows]
    outputs = 1 if manifest.task == "binary" else len(manifest.labels)
    scores = np.full((len(rows), outputs), 1 / max(2, outputs), np.float32)
    values = measure(manifest.task, targets, scores) if len(rows) else {}
    for name in ("auroc", metric):
        if not np.isfinite(values.get(name, np.nan)):
            raise DataError(
                f"{name} is not defined on the validation part of {manifest.name}: of "
                f"{len(rows)} images there, a class has none; name more for validation "
                "(`layerwise split --val 0.2`), or leave that class out with --only"
            )


def _identity(request: Request, asked: Asked) -> dict[str, Any]:
    """All flags that decide what trials there are, JSON-able; not how many."""
    out = request.identity()
    del out["time"]
    return {
        **out,
        "epochs": asked.epochs,
        "metric": asked.metric,
        "pruner": asked.pruner,
        "freeze": asked.freeze,
    }

"""A transferability study from what is asked for to its curves: prepare, decide, train."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from layerwise.config import to_mapping
from layerwise.errors import LayerwiseError
from layerwise.studies.board import Board
from layerwise.studies.engine import Done, Engine
from layerwise.studies.prepare import Prepared, Request, prepare
from layerwise.studies.transferability.experiment import (
    OVERFITTING,
    Place,
    Scope,
    cuts_of,
    run_study,
    treatments_of,
    with_fewer_images,
)
from layerwise.studies.transferability.pace import (
    QUICK_CUTS,
    QUICK_SECONDS,
    Cost,
    cost_of,
    fitting,
    spread,
)
from layerwise.studies.transferability.pairs import Tasks, fewer, make_tasks
from layerwise.studies.transferability.plan import (
    SMALL,
    Asked,
    StudyPlan,
    choose_network,
    read_study_plan,
    refuse_other_study,
    write_study_plan,
)
from layerwise.studies.workspace import Say, Track, Workspace
from layerwise.training.recipe import Recipe

EPOCHS = 16  # of a base, which must be trained to its end
SMALL_RATE = 2e-3  # of SMALL, whose batch normalisation bears twice the usual rate
SPLITS = 2  # pairs of random halves, where the classes of one data set are all there is
MANY = 640  # training images of the smallest task from which on a batch is 32, else 16

RecipeOf = Callable[[str, Recipe], Recipe]  # (augmentation, defaults) → what every run learns by


@dataclass(frozen=True)
class Study:
    """What is going to be measured, with everything that it needs.

    Attributes:
        prepared: DATA.
        tasks: The pairs, and the workspaces of all runs.
        scope: What is measured.
        smaller: The spaces of the overfitting measurement, by their fraction of the images.
        plan: As kept in plan.json.
        workers: Processes.
        notes: What was guessed or decided, of the data and of the study.
    """

    prepared: Prepared
    tasks: Tasks
    scope: Scope
    smaller: Mapping[float, str]
    plan: StudyPlan
    workers: int
    notes: tuple[str, ...]

    def run(self, board: Board) -> dict[Place, Done]:
        """Train everything that is not finished; what became of each run."""
        engine = Engine(self.tasks.spaces, workers=self.workers, board=board)
        return run_study(engine, self.tasks, self.scope, self.smaller, board)


def prepare_study(
    request: Request,
    asked: Asked,
    recipe_of: RecipeOf,
    say: Say,
    track: Track,
    *,
    workers: int,
) -> Study:
    """Everything up to the first run; from a folder's plan.json where there is one.

    Args:
        request: Of DATA; its `shared` is set here.
        asked: What else the flags ask for.
        recipe_of: Makes the recipe of every run, given the augmentation that suits the pictures.
        say: Told what is being done and decided.
        track: Makes progress callbacks.
        workers: Processes; they share the request's threads. On a GPU there is one in any case.

    Raises:
        LayerwiseError: Whatever is wrong with data, flags, groups, cuts, network or weights; or
            the folder holds another study.
    """
    workers = 1 if torch.cuda.is_available() else workers
    kept = request.out / "plan.json"
    identity = asked.identity(request)
    _check_quick(asked)
    treatments = treatments_of(asked.treatments)
    plan = None
    if kept.is_file():
        plan = read_study_plan(kept)
        refuse_other_study(plan.request, identity, request.out)
        threads = plan.threads * workers
        request = replace(request, model=plan.model, image_size=plan.image_size, threads=threads)
        reasons = list(plan.reasons)
    else:
        request, reasons = choose_network(request, asked.model)
    for reason in reasons:
        say(reason)
    request = replace(request, shared=True)
    assert request.image_size is not None
    side = request.image_size
    prepared = prepare(request, say, track, lambda *_: side)
    other = None
    if asked.other is not None:
        say(f"reading {asked.other}")
        second = replace(request, data=asked.other, weights="none")
        other = prepare(second, say, track, lambda *_: side)
    tasks = _tasks(prepared.work, other, asked)
    scope = _scope(prepared, tasks, asked, recipe_of, treatments)
    if plan is None or not plan.complete:
        plan = _first_plan(request, identity, scope, tasks, workers, reasons)
        write_study_plan(plan, kept)
        scope, plan = _decide(plan, scope, tasks, asked, workers, say)
        write_study_plan(plan, kept)
    else:
        _refuse_other_training(plan, scope, tasks, request.out)
        scope = replace(scope, recipe=replace(scope.recipe, epochs=plan.training["epochs"]))
    if plan.fraction < 1:
        work = fewer(prepared.work, plan.fraction)
        less = None if other is None else replace(other, work=fewer(other.work, plan.fraction))
        tasks = _tasks(work, less, asked, quiet=True)
    tasks, smaller = with_fewer_images(tasks, scope)
    notes = [*prepared.notes, *([] if other is None else other.notes), *plan.reasons]
    return Study(prepared, tasks, scope, smaller, plan, workers, tuple(dict.fromkeys(notes)))


def _check_quick(asked: Asked) -> None:
    """--quick measures one pair."""
    if asked.quick and asked.splits is not None and asked.splits > 1:
        raise LayerwiseError(
            f"--splits {asked.splits}: --quick measures one pair of tasks; leave --splits or "
            "--quick out"
        )


def _tasks(work: Workspace, other: Prepared | None, asked: Asked, *, quiet: bool = False) -> Tasks:
    """The pairs that are asked for; with --quick only the first of groups, other, weights, halves.

    A second data set or given weights are a pair by themselves, so halves are then only made when
    they are asked for.
    """
    alone = other is None and work.weights is None
    splits = (SPLITS if alone else 0) if asked.splits is None else asked.splits
    groups = asked.groups
    if quiet:
        work = replace(work, say=lambda _words: None)
    if not asked.quick:
        return make_tasks(
            work, splits=splits, groups=groups, other=None if other is None else other.work
        )
    if groups is not None:
        splits, other = 0, None
    elif not alone:
        splits = 0
    else:
        splits = min(splits, 1)
    found = make_tasks(
        work, splits=splits, groups=groups, other=None if other is None else other.work
    )
    return replace(found, pairs=found.pairs[:1])


def _scope(
    prepared: Prepared,
    tasks: Tasks,
    asked: Asked,
    recipe_of: RecipeOf,
    treatments: tuple[str, ...],
) -> Scope:
    """What is measured, before its epochs have been decided."""
    work = prepared.work
    cuts, numbers = cuts_of(work, asked.cuts)
    if asked.quick:
        if not asked.cuts:
            cuts, numbers = cuts_of(work, spread(cuts, QUICK_CUTS))
        if OVERFITTING not in asked.treatments:
            treatments = tuple(one for one in treatments if one != OVERFITTING)
    images = min(len(space.rows("train")) for space in tasks.spaces.values())
    defaults = Recipe(
        epochs=asked.epochs or EPOCHS,
        batch=32 if images >= MANY else 16,
        lr=SMALL_RATE if work.model == SMALL else Recipe.lr,
        copied_lr=1.0,
        layer_decay=1.0,
    )
    return Scope(
        treatments,
        cuts,
        numbers,
        recipe_of(prepared.augment, defaults),
        work.seed,
        asked.repeats or 1,
        not asked.quick if asked.both is None else asked.both,
        foreign=":" in work.model,
    )


def _first_plan(
    request: Request,
    identity: dict[str, Any],
    scope: Scope,
    tasks: Tasks,
    workers: int,
    reasons: list[str],
) -> StudyPlan:
    return StudyPlan(
        request=identity,
        model=request.model,
        image_size=request.image_size or 0,
        threads=max(1, request.threads // workers),
        training=to_mapping(scope.even),
        treatments=scope.treatments,
        cuts=scope.cuts,
        pairs=_pairs(tasks),
        repeats=scope.repeats,
        both=scope.both,
        reasons=tuple(reasons),
    )


def _decide(
    plan: StudyPlan, scope: Scope, tasks: Tasks, asked: Asked, workers: int, say: Say
) -> tuple[Scope, StudyPlan]:
    """Time some steps; say how long it will take; for --quick find epochs that fit."""
    say("timing a few steps")
    whole, smaller = with_fewer_images(tasks, scope)
    cost = cost_of(whole, scope, smaller, workers)
    epochs, fraction, reasons = scope.recipe.epochs, 1.0, []
    if asked.quick and asked.epochs is None:
        largest = max(tasks.spaces.values(), key=lambda w: len(w.rows("train")))
        images, classes = len(largest.rows("train")), len(largest.manifest.labels)
        epochs, fraction = fitting(cost, epochs, classes, images)
        reasons.append(_quick_sentence(cost, epochs, fraction, scope.recipe.epochs))
        say(reasons[-1])
    seconds = cost.seconds(epochs, fraction)
    say(
        f"{cost.runs} runs of {epochs} epochs on {workers} "
        f"process{'es' if workers > 1 else ''}: about {_time(seconds)}"
    )
    scope = replace(scope, recipe=replace(scope.recipe, epochs=epochs))
    plan = replace(
        plan,
        training=to_mapping(scope.even),
        fraction=fraction,
        expected_seconds=round(seconds, 1),
        reasons=(*plan.reasons, *reasons),
        complete=True,
    )
    return scope, plan


def _quick_sentence(cost: Cost, epochs: int, fraction: float, most: int) -> str:
    """What --quick came to, and why."""
    text = (
        f"--quick: one pair, one direction, {epochs} epochs instead of {most}"
        if epochs < most
        else f"--quick: one pair, one direction; {epochs} epochs fit"
    )
    if fraction < 1:
        text += (
            f", and only {fraction:.1%} of the training images: all of them would take "
            f"{_time(cost.seconds(epochs))}"
        )
        if cost.seconds(epochs, fraction) > QUICK_SECONDS:
            text += ", and fewer would say nothing, so it takes longer than it should"
    return text + ". The full study is more certain."


def _refuse_other_training(plan: StudyPlan, scope: Scope, tasks: Tasks, out: Path) -> None:
    """The recipe file and the groups file may have been edited since."""
    now = to_mapping(scope.even) | {"epochs": plan.training["epochs"]}
    refuse_other_study(plan.training, now, out)
    refuse_other_study({"pairs": list(plan.pairs)}, {"pairs": list(_pairs(tasks))}, out)


def _pairs(tasks: Tasks) -> tuple[dict[str, Any], ...]:
    """Names and labels of all pairs, JSON-able."""
    return tuple(
        {"name": pair.name, "a": list(pair.a.labels), "b": list(pair.b.labels)}
        for pair in tasks.pairs
    )


def _time(seconds: float) -> str:
    """As one says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"

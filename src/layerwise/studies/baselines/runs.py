"""The runs of a study of baselines: classic models one by one, networks by the engine."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from layerwise.config import from_mapping, to_mapping
from layerwise.data.balance import Balance, Epochs
from layerwise.errors import LayerwiseError, TrainingError
from layerwise.studies.baselines.budget import allot, epoch_seconds, image_seconds
from layerwise.studies.baselines.classic import classic_baseline, classic_run, most_pictures
from layerwise.studies.baselines.lineup import BASE, RATES, Entrant, Form, forms_of
from layerwise.studies.baselines.plan import (
    BaselinesPlan,
    read_baselines_plan,
    write_baselines_plan,
)
from layerwise.studies.board import Board
from layerwise.studies.engine import Done, Engine, Planned
from layerwise.studies.planner import base_recipe, most_epochs
from layerwise.studies.prepare import Prepared
from layerwise.studies.study import Outcome
from layerwise.studies.workspace import Workspace
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

RESERVE = 30.0  # seconds at most kept for scoring and the report
TRANSFER = "transfer"  # the key of the network that does not start at random

RecipeOf = Callable[[str, Recipe], Recipe]  # (augmentation, defaults) → what a run learns by
Clock = Callable[[], float]


@dataclass(frozen=True)
class Asked:
    """What the flags ask for, beside what `Request` holds."""

    models: str | None = None  # as `--models`
    transfer: str | None = None  # a network that starts from weights, beside the baselines
    weights: str = "pretrained"  # what it starts from
    arguments: tuple[str, ...] = ()  # for its constructor
    seconds: float | None = None  # the time budget; None: `epochs` decide
    epochs: int | None = None  # of every network; None: as the time holds
    repeats: int | None = None  # None: as the time holds
    balance: Balance | None = None  # of the augmented form; None: by the classes
    quick: bool = False  # one repeat


@dataclass(frozen=True)
class Made:
    """One model in one form.

    Attributes:
        entrant: The model.
        form: What was done to its training pictures.
        done: Its runs, one a repeat; of classic models one.
    """

    entrant: Entrant
    form: Form
    done: tuple[Done, ...]

    @property
    def outcomes(self) -> list[Outcome]:
        """Of the runs that did not fail."""
        return [one.outcome for one in self.done if one.outcome is not None]

    @property
    def name(self) -> str:
        """As "VGG16, augmented"."""
        return f"{self.entrant.name}, {self.form.name}"


@dataclass(frozen=True)
class BaselinesStudy:
    """What is going to be compared, with everything that it needs.

    Attributes:
        prepared: The data.
        entrants: All that take part, as they are shown.
        forms: What is done to training pictures.
        networks: Every network by its key, with its workspace.
        asked: The study's own flags.
        recipe_of: What the flags make of a recipe.
        workers: Processes.
        path: Of the plan.
        notes: What was guessed, decided or left out.
        begun: The clock when the command began.
    """

    prepared: Prepared
    entrants: tuple[Entrant, ...]
    forms: tuple[Form, ...]
    networks: Mapping[str, Workspace]
    asked: Asked
    recipe_of: RecipeOf
    workers: int
    path: Path
    notes: tuple[str, ...]
    begun: float

    @property
    def work(self) -> Workspace:
        """The data."""
        return self.prepared.work

    def run(self, board: Board, clock: Clock = time.monotonic) -> tuple[BaselinesPlan, list[Made]]:
        """Fit and train everything that is not finished: classic models, then networks.

        Returns:
            The plan, with what was left out, and every model in every form, as they are shown.

        Raises:
            LayerwiseError: The time is too short, a network or its weights are at fault, or no
                run of the study could be trained.
        """
        classic = self._fit_classic(board)
        plan = read_baselines_plan(self.path)
        assert plan is not None  # `prepare_baselines` has written it
        if plan.complete:
            self._refuse_other_recipes(plan)
        else:
            plan = self._complete(plan, clock() - self.begun)
            write_baselines_plan(plan, self.path)
        for left in plan.left_out:
            self.work.say(f"{left.name} is left out: {left.reason}")
        return plan, classic + self._train(plan, board)

    def _fit_classic(self, board: Board) -> list[Made]:
        """In this process, one after the other: each uses all threads by itself."""
        out: list[Made] = []
        some = [e for e in self.entrants if e.kind == "classic"]
        board.expect({e.name: len(forms_of(e, self.forms)) for e in some})
        for entrant in some:
            most = most_pictures(entrant.key, self.asked.seconds)
            for form in forms_of(entrant, self.forms):
                number = -1 - len(out)  # the numbers of networks begin at 0
                name = f"{entrant.name}, {form.name}"
                run = classic_run(self.work, entrant.key, form, most)
                there = self.work.runs.find(run) is not None
                if not there:
                    self.work.say(f"fitting: {name}")
                board.started(number, entrant.name, name)
                outcome = classic_baseline(self.work, entrant.key, form, most)
                board.finished(number, outcome.seconds, found=there)
                planned = Planned("", form.name, Transfer(), Recipe(), self.work.seed, name=name)
                done = Done(planned, run, outcome, taken=there and self.work.runs.taken(run))
                out.append(Made(entrant, form, (done,)))
        return out

    def _complete(self, plan: BaselinesPlan, spent: float) -> BaselinesPlan:
        """The networks, their epochs and repeats, by the time that is left and a few steps."""
        train = self.work.rows("train")
        sizes = [
            Epochs(form.balance, self.work.manifest.targets, train, self.work.seed).size
            for form in self.forms
        ]
        seconds = self.asked.seconds
        left = None
        costs = dict.fromkeys(self.networks, 1.0)
        if seconds is not None and self.networks:
            left = seconds - spent - min(RESERVE, 0.1 * seconds)
            self.work.say(f"measuring the networks: {max(0, left):.0f} s are left for them")
            before = torch.get_num_threads()
            torch.set_num_threads(plan.threads)
            for key, space in self.networks.items():
                image = image_seconds(
                    space.model, space.image_size[0], space.device, space.arguments
                )
                validation = len(space.rows("val"))
                costs[key] = epoch_seconds(image, sizes, validation) / self.workers
            torch.set_num_threads(before)
        named = self.asked.models is not None
        kept = [e.key for e in self.entrants if named or e.kind == "transfer"]
        allotted = allot(
            costs,
            {e.key: e.name for e in self.entrants if e.key in self.networks},
            left,
            most_epochs(max(sizes)),
            epochs=self.asked.epochs,
            repeats=self.asked.repeats,
            quick=self.asked.quick,
            asked=[key for key in self.networks if key in kept],
        )
        recipes = {
            key: to_mapping(replace(self._recipe(key), epochs=allotted.epochs))
            for key in allotted.networks
        }
        if allotted.networks:
            self.work.say(
                f"{allotted.epochs} epochs of every network, {allotted.repeats} "
                f"{'repeat' if allotted.repeats == 1 else 'repeats'}, {self.workers} at a time"
            )
        return replace(
            plan,
            networks=allotted.networks,
            left_out=(*plan.left_out, *allotted.left_out),
            epochs=allotted.epochs,
            repeats=allotted.repeats,
            recipes=recipes,
            complete=True,
        )

    def _recipe(self, key: str) -> Recipe:
        """How the last form of a network learns."""
        form = self.forms[-1]
        defaults = base_recipe(self.networks[key], form.augment, form.balance, form.vertical_flip)
        defaults = replace(defaults, lr=RATES.get(key, defaults.lr))
        found = self.recipe_of(form.augment, defaults)
        return found if form.name != BASE else _plain(found)

    def _refuse_other_recipes(self, plan: BaselinesPlan) -> None:
        for key, before in plan.recipes.items():
            now = to_mapping(replace(self._recipe(key), epochs=plan.epochs))
            for name in sorted(now):
                if now[name] != before.get(name):
                    raise LayerwiseError(
                        f"{self.path.parent} holds a study with {name} = {before.get(name)!r}, "
                        f"and this one has {now[name]!r}; name another folder with --out, or "
                        "repeat the first command to go on with it"
                    )

    def _train(self, plan: BaselinesPlan, board: Board) -> list[Made]:
        names = {e.key: e for e in self.entrants}
        places, planned = [], []
        for key in plan.networks:
            recipe = from_mapping(Recipe, plan.recipes[key], f"{self.path}: recipes: {key}")
            start = self.networks[key].weights_name
            for repeat in range(plan.repeats):
                for form in self.forms:
                    transfer = (
                        Transfer("none", keep="all", copy="none", freeze="none")
                        if names[key].kind == "network"
                        else Transfer(start, keep="all", copy="all", freeze="none")
                    )
                    name = f"{names[key].name}, {form.name}"
                    if plan.repeats > 1:
                        name += f", repeat {repeat + 1}"
                    how = recipe if form.name != BASE else _plain(recipe)
                    seed = self.work.seed + repeat
                    line = names[key].name
                    planned.append(Planned(key, line, transfer, how, seed, name=name))
                    places.append((key, form))
        board.expect({names[k].name: plan.repeats * len(self.forms) for k in plan.networks})
        done = Engine(self.networks, workers=self.workers, board=board).run(planned)
        if done and all(one.outcome is None for one in done):
            raise TrainingError(f"no network of the study could be trained: {done[0].failure}")
        return [
            Made(
                names[key],
                form,
                tuple(d for d, place in zip(done, places, strict=True) if place == (key, form)),
            )
            for key in plan.networks
            for form in self.forms
        ]


def _plain(recipe: Recipe) -> Recipe:
    """The same without augmentation and balancing."""
    return replace(recipe, augment="none", balance="none", vertical_flip=False)

"""A gain study from what is asked for to its runs: networks, data, fractions, recipes, plan."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from layerwise.config import to_mapping
from layerwise.data.fingerprint import data_key
from layerwise.data.load import DataOptions
from layerwise.data.splits.partition import contents_as_keys
from layerwise.errors import LeakError
from layerwise.studies.automatic import first_plan
from layerwise.studies.board import Board
from layerwise.studies.engine import Engine
from layerwise.studies.gain.experiment import (
    FRACTIONS,
    REPEATS,
    Design,
    Gained,
    check_fractions,
    expected,
    longer,
    relative_costs,
    run_study,
    seconds_needed,
    spaces_of,
    unfinished,
)
from layerwise.studies.gain.fractions import Parts, few_images, percent, training_parts
from layerwise.studies.gain.networks import (
    Candidate,
    Started,
    candidates,
    common_size,
    starts,
    with_network,
)
from layerwise.studies.gain.plan import GainPlan, keep_plan, read_gain_plan
from layerwise.studies.planner import base_recipe, most_epochs
from layerwise.studies.prepare import Prepared, Request, prepare
from layerwise.studies.workspace import Say, Track, Workspace
from layerwise.training.activations import state_digest
from layerwise.training.recipe import Recipe

QUICK_FRACTIONS = 2  # the smallest so many

RecipeOf = Callable[[str, Recipe], Recipe]  # (augmentation, defaults) → what a run learns by


@dataclass(frozen=True)
class Asked:
    """What the flags ask for, beside what `Request` holds."""

    models: tuple[str, ...]  # as `--model`
    weights: tuple[str, ...] = ()  # as `--weights`; none: pretrained
    arguments: tuple[str, ...] = ()  # as `--model-arg`
    source: str | None = None  # data that networks are trained on first
    fractions: tuple[float, ...] = FRACTIONS  # of the training part
    repeats: int | None = None  # None: REPEATS, or one with `quick`
    least_steps: int = 0  # fractions of fewer steps get more epochs
    quick: bool = False  # one repeat, the smallest fractions


@dataclass(frozen=True)
class GainStudy:
    """What is going to be compared, with everything that it needs.

    Attributes:
        prepared: DATA.
        design: Networks, fractions, repeats, recipes.
        parts: The data of every (fraction, repeat).
        spaces: The workspace of every run.
        workers: Processes.
        notes: What was guessed, decided or left out.
    """

    prepared: Prepared
    design: Design
    parts: Parts
    spaces: dict[str, Workspace]
    workers: int
    notes: tuple[str, ...]

    @property
    def work(self) -> Workspace:
        """The data with all their training images."""
        return self.prepared.work

    def run(self, board: Board) -> Gained:
        """Train everything that is not finished, and say before how long that will take."""
        engine = Engine(self.spaces, workers=self.workers, board=board)
        seed = self.work.seed
        left = unfinished(engine, self.design, self.spaces, seed)
        total = sum(expected(self.design).values())
        if left:
            measured = {
                key: replace(space, threads=engine.space(left[0]).threads)
                for key, space in self.spaces.items()
            }
            seconds = seconds_needed(self.design, measured, self.parts, left) / self.workers
            self.work.say(
                f"{total} runs, {total - len(left)} of them finished; the others should take "
                f"about {_roughly(seconds)}, {self.workers} at a time"
            )
        board.expect(expected(self.design), relative_costs(self.design, self.parts))
        return run_study(engine, self.design, self.spaces, self.parts, seed)


def prepare_gain(
    request: Request,
    asked: Asked,
    recipe_of: RecipeOf,
    say: Say,
    track: Track,
    workers: int,
) -> GainStudy:
    """Read, check and decide everything, and keep the plan; nothing is trained.

    Args:
        request: What is asked for of the data; its network and weights are not looked at.
        asked: What is asked for beside.
        recipe_of: What the flags make of the study's defaults.
        say: Told what is being done.
        track: Makes progress callbacks.
        workers: Processes.

    Raises:
        LayerwiseError: Whatever is wrong with flags, networks, weights, data or folder.
    """
    path = request.out / "plan.json"
    before = read_gain_plan(path)
    if before is not None:  # its number of threads is a part of every run's key
        request = replace(request, threads=before.threads * workers)
    fractions = check_fractions(asked.fractions)
    if asked.quick:
        fractions = fractions[:QUICK_FRACTIONS]
    repeats = asked.repeats or (1 if asked.quick else REPEATS)
    networks = candidates(asked.models, asked.weights, asked.arguments, asked.source)
    side = common_size(networks, request.image_size)
    starts(networks, side)  # what is wrong with weights is said before anything is decoded
    first = replace(
        request,
        model=networks[0].model,
        arguments=dict(networks[0].arguments),
        weights="none",
        image_size=side,
        shared=True,
    )
    prepared = prepare(first, say, track, lambda *_: side)
    work = prepared.work
    parts = training_parts(
        work.manifest, fractions, repeats, contents=work.store.digests, seed=work.seed
    )
    keys = {f: data_key(manifest, work.store) for f, manifest in parts.items()}
    source = None if asked.source is None else _source(asked.source, first, prepared, say, track)
    found = starts(networks, side, work.outputs)
    spaces = spaces_of(work, source.work if source else None, parts, keys, networks, found)
    design = _design(request, asked, recipe_of, prepared, source, parts, networks, repeats)
    keep_plan(
        GainPlan(
            request=_identity(request, asked, fractions, repeats),
            image_size=side,
            threads=max(1, work.threads // workers),
            data_key=work.data_key,
            weights={
                c.name: "" if s.weights is None else state_digest(s.weights)
                for c, s in zip(networks, found, strict=True)
            },
            recipes=_recipes(design),
            setup=_setup(first, prepared, networks[0], found[0]),
        ),
        path,
    )
    notes = [*prepared.notes, *_notes(found, networks), *few_images(parts)]
    if source is not None:
        notes += [f"Source data: {note}" for note in source.notes]
    return GainStudy(prepared, design, parts, spaces, workers, tuple(dict.fromkeys(notes)))


def _setup(
    request: Request, prepared: Prepared, network: Candidate, start: Started
) -> dict[str, Any]:
    """The first network with its weights as a plan of `fit`: its runs can be exported from that."""
    weights = "none" if start.weights is None else network.weights or "none"
    work = with_network(prepared.work, network, start)
    plan = first_plan(replace(request, weights=weights), replace(prepared, work=work))
    return to_mapping(plan)


def _design(
    request: Request,
    asked: Asked,
    recipe_of: RecipeOf,
    prepared: Prepared,
    source: Prepared | None,
    parts: Parts,
    networks: Sequence[Candidate],
    repeats: int,
) -> Design:
    """The recipes: of all fractions the same epochs, the batch by the number of images."""

    def recipe(one: Prepared, work: Workspace, epochs: int) -> Recipe:
        base = base_recipe(work, one.augment, request.balance, request.vertical_flip)
        # One rate for all layers: RI and TL differ in where they start and in nothing else.
        even = replace(base, epochs=epochs, copied_lr=1.0, layer_decay=1.0)
        return recipe_of(one.augment, even)

    work = prepared.work
    epochs = most_epochs(len(work.rows("train")))
    recipes = {}
    for fraction in sorted({fraction for fraction, _ in parts}):
        plain = recipe(prepared, replace(work, manifest=parts[fraction, 0]), epochs)
        recipes[fraction] = longer(plain, parts, fraction, asked.least_steps, work.seed)
    on_source = None
    if source is not None:
        images = len(source.work.rows("train"))
        on_source = recipe(source, source.work, most_epochs(images))
    return Design(tuple(networks), tuple(recipes), repeats, recipes, on_source)


def _source(data: str, request: Request, target: Prepared, say: Say, track: Track) -> Prepared:
    """The source data, read as they are, at the target's size of pictures.

    Raises:
        LeakError: They have images of the target's validation or test part, unless that is
            allowed: what is learnt of these before would count as transfer.
    """
    options = DataOptions(skip_unreadable=request.skip_unreadable)
    say(f"source data {data}")
    size = target.work.store.size[0]
    asked = replace(request, data=data, options=options)
    source = prepare(asked, say, track, lambda *_: size)
    ours, theirs = target.work, source.work
    learnt = set(contents_as_keys(theirs.store.digests))
    for part in ("test", "val"):
        rows = ours.rows(part)
        shared = sum(key in learnt for key in contents_as_keys(ours.store.digests[rows]))
        if not shared:
            continue
        words = f"{shared} of the {len(rows)} {part} images of DATA are among the source data too"
        if not request.allow_leaks:
            raise LeakError(
                f"--source {data}: {words}, so that transfer learning would have seen them before; "
                "take them out of the source data, or go on with --allow-leaks"
            )
        source.notes.append(f"{words}: transfer learning has seen them before.")
    return source


def _identity(
    request: Request, asked: Asked, fractions: Sequence[float], repeats: int
) -> dict[str, Any]:
    """All flags that decide the result, JSON-able."""
    out = request.identity()
    for name in ("time", "keep", "model", "arguments", "weights"):
        del out[name]
    own = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(asked).items()}
    del own["quick"]  # what it stands for is there
    return {**out, **own, "fractions": list(fractions), "repeats": repeats}


def _recipes(design: Design) -> dict[str, dict[str, Any]]:
    out = {percent(f): to_mapping(recipe) for f, recipe in design.recipes.items()}
    if design.source_recipe is not None:
        out["source"] = to_mapping(design.source_recipe)
    return out


def _notes(found: Sequence[Started], networks: Sequence[Candidate]) -> list[str]:
    return [
        f"{candidate.name}: {note}"
        for candidate, start in zip(networks, found, strict=True)
        for note in start.notes
    ]


def _roughly(seconds: float) -> str:
    """A time as one says it."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"

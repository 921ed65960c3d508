"""Transfer against random initialisation, by network and sample size (Peng et al. 2021, §3).

For every network, every fraction of the training part and every repeat two runs: RI, all weights at
random, and TL, all but the classifier copied from the source; both learn as a whole. They differ in
where they start and in nothing else: the same images, their order, the classifier's seed, the
recipe with one rate for all layers.

"Our training protocol and test data are exactly the same" (§3.2): every fraction has the same
number of epochs, and so the smaller ones fewer steps. What is learnt in few steps is also a matter
of how fast a network learns; `least_steps` gives small fractions more epochs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from layerwise.data.balance import Epochs
from layerwise.errors import LayerwiseError, TrainingError
from layerwise.studies.engine import Done, Engine, Planned
from layerwise.studies.gain.fractions import Parts, percent
from layerwise.studies.gain.networks import Candidate, Started, with_network
from layerwise.studies.planner import measure_speed
from layerwise.studies.study import Outcome, Run
from layerwise.studies.workspace import Workspace
from layerwise.training.memory import freed_memory_kept
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

RI, TL, SOURCE = "RI", "TL", "source"
TREATMENTS = (RI, TL)
FRACTIONS = (0.05, 0.1, 1.0)  # of the training part; Peng et al. 2021, §3
REPEATS = 3  # Peng et al. 2021, §2.3

Key = tuple[str, float, str]  # network, fraction, treatment


@dataclass(frozen=True)
class Design:
    """What the study compares.

    Attributes:
        networks: With their sources.
        fractions: Of the training part, ascending.
        repeats: Each with its own seed, and its own images of the smaller fractions.
        recipes: How both treatments of a fraction learn.
        source_recipe: How a network learns its source data; None: there are none.
    """

    networks: tuple[Candidate, ...]
    fractions: tuple[float, ...]
    repeats: int
    recipes: Mapping[float, Recipe]
    source_recipe: Recipe | None = None


@dataclass(frozen=True)
class Gained:
    """What became of the runs.

    Attributes:
        design: What was compared.
        parts: The data of every (fraction, repeat).
        sources: The networks' own runs on the source data, by name.
        runs: Every other run, in the order of `planned_runs`.
    """

    design: Design
    parts: Parts
    sources: Mapping[str, Done]
    runs: tuple[Done, ...]

    def of(self, network: str, fraction: float, treatment: str) -> dict[int, Outcome]:
        """The finished runs of a bar, by the number of the repeat."""
        out = {}
        for (name, f, t, repeat), done in zip(places(self.design), self.runs, strict=True):
            if (name, f, t) == (network, fraction, treatment) and done.outcome is not None:
                out[repeat] = done.outcome
        return out


def spaces_of(
    work: Workspace,
    source: Workspace | None,
    parts: Parts,
    keys: Mapping[tuple[float, int], str],
    networks: Sequence[Candidate],
    found: Sequence[Started],
) -> dict[str, Workspace]:
    """The workspace of every planned run, by its key.

    Args:
        work: The data with all their training images.
        source: The source data; None: weights were given.
        parts: The data of every (fraction, repeat).
        keys: `data_key` of each.
        networks: Of the study.
        found: Their source weights.
    """
    out = {}
    for candidate, start in zip(networks, found, strict=True):
        if source is not None:
            out[task_of(candidate.name)] = with_network(source, candidate, None)
        plain, copied = with_network(work, candidate, None), with_network(work, candidate, start)
        for (fraction, repeat), manifest in parts.items():
            for treatment, space in ((RI, plain), (TL, copied)):
                out[task_of(candidate.name, fraction, repeat, treatment)] = replace(
                    space, manifest=manifest, data_key=keys[fraction, repeat]
                )
    return out


def task_of(
    network: str, fraction: float | None = None, repeat: int = 0, treatment: str = SOURCE
) -> str:
    """The key of a workspace; without a fraction that of the source data."""
    if fraction is None:
        return f"{network} | {SOURCE}"
    return f"{network} | {fraction!r} | {repeat} | {treatment}"


def source_runs(design: Design, seed: int) -> list[Planned]:
    """Every network on the source data, from random weights: one run each, as in all repeats."""
    recipe = design.source_recipe
    if recipe is None:
        return []
    start = Transfer("none", keep="all", copy="none", freeze="none")
    return [
        Planned(task_of(c.name), SOURCE, start, recipe, seed, parts=()) for c in design.networks
    ]


def planned_runs(
    design: Design,
    spaces: Mapping[str, Workspace],
    seed: int,
    sources: Mapping[str, Run] | None = None,
) -> list[Planned]:
    """Every run but those on source data: the smallest fraction first, RI beside TL.

    Args:
        design: What is compared.
        spaces: As `spaces_of` made them.
        seed: Of the first repeat; the others have the following ones.
        sources: The networks' finished runs on the source data, by name.
    """
    out = []
    for name, fraction, treatment, repeat in places(design):
        task = task_of(name, fraction, repeat, treatment)
        run = (sources or {}).get(name) if treatment == TL else None
        where = spaces[task].weights_name if run is None else f"run {run.id}"
        transfer = (
            Transfer("none", keep="all", copy="none", freeze="none")
            if treatment == RI
            else Transfer(where, keep="all", copy="all", freeze="none")
        )
        recipe = design.recipes[fraction]
        counted = counted_under(treatment, fraction)
        out.append(Planned(task, counted, transfer, recipe, seed + repeat, run))
    return out


def counted_under(treatment: str, fraction: float) -> str:
    """The line of the live table that a run is counted in."""
    return f"{treatment}, {percent(fraction)} of the images"


def longer(recipe: Recipe, parts: Parts, fraction: float, least_steps: int, seed: int) -> Recipe:
    """The recipe with as many epochs as give a fraction so many steps.

    Args:
        recipe: Of the study.
        parts: The data of every (fraction, repeat).
        fraction: Whose recipe it is.
        least_steps: 0 leaves the epochs as they are.
        seed: Any.
    """
    epochs = math.ceil(least_steps / steps_an_epoch(recipe, parts, fraction, seed))
    return replace(recipe, epochs=max(recipe.epochs, epochs))


def steps_an_epoch(recipe: Recipe, parts: Parts, fraction: float, seed: int = 0) -> int:
    """Steps of an epoch; of the repeat that has the fewest."""
    sizes = [
        Epochs(recipe.balance, m.targets, m.indices("train"), seed).size
        for (f, _), m in parts.items()
        if f == fraction
    ]
    return max(1, min(sizes) // recipe.batch)


def run_study(
    engine: Engine, design: Design, spaces: Mapping[str, Workspace], parts: Parts, seed: int
) -> Gained:
    """Train what is not finished yet: first the networks' sources, if they are runs.

    Raises:
        TrainingError: A network could not be trained on the source data, or no run of the study
            could be trained.
        LayerwiseError: As `Engine.run`.
    """
    on_source = engine.run(source_runs(design, seed))
    for candidate, done in zip(design.networks, on_source, strict=False):
        if done.outcome is None:
            raise TrainingError(
                f"{candidate.name} could not be trained on the source data: {done.failure}"
            )
    names = [candidate.name for candidate in design.networks]
    sources = dict(zip(names, on_source, strict=False))
    planned = planned_runs(design, spaces, seed, {name: done.run for name, done in sources.items()})
    runs = engine.run(planned)
    if all(done.outcome is None for done in runs):
        raise TrainingError(f"no run of the study could be trained: {runs[0].failure}")
    return Gained(design, parts, sources, tuple(runs))


def unfinished(
    engine: Engine, design: Design, spaces: Mapping[str, Workspace], seed: int
) -> list[Planned]:
    """The runs that are still to be trained, as far as that can be known before it begins.

    The key of a run that starts from another run is known when that one is finished.
    """
    left, sources = [], {}
    for candidate, planned in zip(design.networks, source_runs(design, seed), strict=False):
        run = engine.run_of(planned)
        if spaces[planned.task].runs.find(run, weights=False) is None:
            left.append(planned)
        else:
            sources[candidate.name] = run
    every = planned_runs(design, spaces, seed, sources)
    for place, planned in zip(places(design), every, strict=True):
        waits = place[2] == TL and design.source_recipe is not None and place[0] not in sources
        store = spaces[planned.task].runs
        if waits or store.find(engine.run_of(planned), weights=False) is None:
            left.append(planned)
    return left


def expected(design: Design) -> dict[str, int]:
    """How many runs each line of the live table counts."""
    counts = {} if design.source_recipe is None else {SOURCE: len(design.networks)}
    for _, fraction, treatment, _ in places(design):
        line = counted_under(treatment, fraction)
        counts[line] = counts.get(line, 0) + 1
    return counts


def relative_costs(design: Design, parts: Parts) -> dict[str, float]:
    """What a run of each line costs: pictures that are learnt from, and a third of those scored."""
    costs = {}
    for fraction in design.fractions:
        recipe = design.recipes[fraction]
        learnt = steps_an_epoch(recipe, parts, fraction) * recipe.batch
        scored = len(parts[fraction, 0].indices("val"))
        for treatment in TREATMENTS:
            costs[counted_under(treatment, fraction)] = recipe.epochs * (learnt + scored / 3)
    if design.source_recipe is not None:  # its images are not counted here: like the longest run
        costs[SOURCE] = max(costs.values())
    return costs


def seconds_needed(
    design: Design, spaces: Mapping[str, Workspace], parts: Parts, left: Sequence[Planned]
) -> float:
    """Seconds that runs will take one after another, from a few steps of each network measured.

    Args:
        design: What is compared.
        spaces: As `spaces_of` made them, with the threads of one worker.
        parts: The data of every (fraction, repeat).
        left: The runs that are not finished.
    """
    total = 0.0
    for candidate in design.networks:
        task = task_of(candidate.name, design.fractions[0], 0, RI)
        recipe = design.recipes[design.fractions[0]]
        if not any(planned.task.startswith(f"{candidate.name} | ") for planned in left):
            continue
        with freed_memory_kept(spaces[task].device):  # as in training
            speed = measure_speed(spaces[task], Transfer(copy="none"), recipe)
        for planned in left:
            if not planned.task.startswith(f"{candidate.name} | "):
                continue
            manifest, how = spaces[planned.task].manifest, planned.recipe
            size = Epochs(how.balance, manifest.targets, manifest.indices("train"), 0).size
            image = speed.step / recipe.batch
            steps = how.epochs * max(1, size // how.batch) * how.batch
            scored = how.epochs * len(manifest.indices("val"))
            scored += sum(len(manifest.indices(part)) for part in planned.parts)
            total += steps * image + scored * speed.evaluate
    return total


def check_fractions(fractions: Sequence[float]) -> tuple[float, ...]:
    """Fractions ascending, each once.

    Raises:
        LayerwiseError: There are none, or one is out of range.
    """
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise LayerwiseError(
                f"--fractions {fraction:g}: a fraction of the training part is above 0 and at "
                "most 1; write 0.05,0.1,1"
            )
    if not fractions:
        raise LayerwiseError("--fractions names none; write 0.05,0.1,1")
    return tuple(sorted(set(fractions)))


def places(design: Design) -> list[tuple[str, float, str, int]]:
    """(network, fraction, treatment, repeat) of every run, in their order."""
    return [
        (candidate.name, fraction, treatment, repeat)
        for fraction in design.fractions
        for candidate in design.networks
        for repeat in range(design.repeats)
        for treatment in TREATMENTS
    ]

"""How general the features of each layer are (Yosinski et al. 2014, §2): the runs that measure it.

A base network is trained on each of two tasks A and B. Then, at every cut n, networks learn B
whose layers up to n are copied and whose other layers start anew:

| treatment | copied from | the copied layers | what it shows |
|---|---|---|---|
| BnB | base B | are frozen | what is lost because layers no longer learn together |
| BnB+ | base B | learn | that what BnB loses is not lost for good; what longer training brings |
| AnB | base A | are frozen | how general the features are |
| AnB+ | base A | learn | what transfer is worth |
| random filters | nowhere | are frozen | what any features would do (§4.3) |

"base, twice as long" is a base by the same recipe with twice the epochs: BnB+ and AnB+ stand on
weights that have been trained before, and what they gain must be more than that time brings.
"overfitting" is the supplement's measurement: bases that learn from fewer images.

All layers learn at one rate, as in the paper. What starts anew in a network on top of a base never
starts where that base did, nor in its order of images (`TOP_SEED`): with its own first weights and
order a frozen base could find the very layers again that it had learnt together with.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from layerwise.data.balance import Epochs
from layerwise.errors import LayerwiseError, ModelError, TrainingError
from layerwise.models.names import nearest
from layerwise.studies.board import Board
from layerwise.studies.engine import Done, Engine, Planned
from layerwise.studies.study import Run
from layerwise.studies.transferability.pairs import Side, Tasks, fewer
from layerwise.studies.workspace import Workspace
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Classifier, Transfer

BASE, LONGER = "base", "base, twice as long"
SELFFER, SELFFER_TUNED = "BnB", "BnB+"
TRANSFER, TRANSFER_TUNED = "AnB", "AnB+"
FILTERS, OVERFITTING = "random filters", "overfitting"
LAYERED = (SELFFER, SELFFER_TUNED, TRANSFER, TRANSFER_TUNED, FILTERS)  # one at every cut
TREATMENTS = (BASE, LONGER, *LAYERED, OVERFITTING)
FROM_A = (TRANSFER, TRANSFER_TUNED)
FROZEN = (SELFFER, TRANSFER, FILTERS)

FRACTIONS = (1 / 2, 1 / 4, 1 / 10)  # of the training images, beside all of them
FEWEST_PER_CLASS = 2  # training images of a class in the mean; a fraction with fewer is left out
TOP_SEED = 1000  # added to the seed of whatever stands on a base, or is compared with one


@dataclass(frozen=True)
class Place:
    """Which of the study's runs it is.

    Attributes:
        treatment: One of `TREATMENTS`.
        target: The space of the task that is learnt.
        source: The space of the base that is copied, or that has the pretrained weights; None
            where nothing is.
        cut: Layers up to here are copied; None for bases.
        repeat: From 0.
        fraction: Of the training images that it learns from.
    """

    treatment: str
    target: str
    source: str | None = None
    cut: str | None = None
    repeat: int = 0
    fraction: float = 1.0

    @property
    def name(self) -> str:
        """In words: "AnB to conv3, random 1 A → random 1 B"."""
        whole = self.treatment if self.cut is None else f"{self.treatment} to {self.cut}"
        task = self.target
        if self.source not in (None, self.target):
            task = f"{self.source} → {self.target}"
        less = "" if self.fraction == 1 else f", {self.fraction:g} of the images"
        again = f", repeat {self.repeat + 1}" if self.repeat else ""
        return f"{whole}, {task}{less}{again}"


@dataclass(frozen=True)
class Scope:
    """What is measured.

    Attributes:
        treatments: Of `TREATMENTS`, in that order; bases are there in any case.
        cuts: Bottom to top.
        numbers: Of the cuts, from 1 for the lowest layer of the network.
        recipe: Of every run, by one rate for all layers; "twice as long" and "overfitting" change
            its epochs.
        seed: Of the first repeat.
        repeats: Seeds; each has bases of its own.
        both: From B to A as well as from A to B.
        foreign: The network is timm's or torchvision's, whose classifiers may start so large that
            their first gradients destroy what was copied. All classifiers then start near 0, those
            of the bases too; else all start as the network's constructor makes them.
    """

    treatments: tuple[str, ...]
    cuts: tuple[str, ...]
    numbers: tuple[int, ...]
    recipe: Recipe
    seed: int
    repeats: int
    both: bool
    foreign: bool = False

    @property
    def even(self) -> Recipe:
        """The recipe with one rate for all layers."""
        return replace(self.recipe, copied_lr=1.0, layer_decay=1.0)

    def directions(self, tasks: Tasks) -> list[tuple[Side, Side]]:
        """(source, target) of every pair."""
        return [each for pair in tasks.pairs for each in pair.directions(both=self.both)]

    def transfer(self, treatment: str, cut: str = "none", source: str = "none") -> Transfer:
        """What a treatment copies and freezes. All classifiers start alike, see `foreign`."""
        if treatment not in LAYERED:
            return Transfer("none", copy="none", classifier="small" if self.foreign else "auto")
        freeze = cut if treatment in FROZEN else "none"
        start: Classifier = "auto" if self.foreign else "own"
        return Transfer(source, copy=cut, freeze=freeze, classifier=start)


Plan = list[tuple[Place, Planned]]


def treatments_of(names: Sequence[str]) -> tuple[str, ...]:
    """The treatments of these names, in the order of the paper; all of them for none.

    Raises:
        LayerwiseError: A name is unknown.
    """
    for name in names:
        if name not in TREATMENTS:
            raise LayerwiseError(
                f"--treatments {name!r} is unknown; did you mean "
                f"{' or '.join(map(repr, nearest(name, TREATMENTS)))}? There are: "
                f"{', '.join(map(repr, TREATMENTS))}"
            )
    wanted = {*names, BASE} if names else set(TREATMENTS)
    return tuple(one for one in TREATMENTS if one in wanted)


def cuts_of(work: Workspace, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The cuts of these names and their numbers, bottom to top; all main cuts for no names.

    Raises:
        ModelError: The network has no such main cut.
    """
    known = [cut.name for cut in work.cuts()]
    for name in names:
        if name not in known:
            raise ModelError(
                f"--cuts {name}: {work.model} has no such layer; did you mean "
                f"{' or '.join(nearest(name, known))}? From the bottom up it has "
                f"{', '.join(known)}"
            )
    kept = [(number, cut) for number, cut in enumerate(known, 1) if not names or cut in names]
    return tuple(cut for _, cut in kept), tuple(number for number, _ in kept)


def with_fewer_images(tasks: Tasks, scope: Scope) -> tuple[Tasks, dict[float, str]]:
    """The tasks with those that the overfitting measurement needs: B of the first pair, smaller.

    Returns:
        The tasks, and the key of the space of each fraction below 1; none where it is not asked.
    """
    if OVERFITTING not in scope.treatments:
        return tasks, {}
    whole = tasks.pairs[0].b.space
    work = tasks.spaces[whole]
    spaces, keys = dict(tasks.spaces), {}
    for fraction in FRACTIONS:
        part = fewer(work, fraction)
        if len(part.rows("train")) < FEWEST_PER_CLASS * len(part.manifest.labels):
            break
        keys[fraction] = f"{whole}, {fraction:g} of the training images"
        spaces[keys[fraction]] = part
    return replace(tasks, spaces=spaces), keys


def plan_bases(tasks: Tasks, scope: Scope) -> Plan:
    """The base networks: of every target, and of every source that something is copied from."""
    copying = set(FROM_A) & set(scope.treatments)
    keys: dict[str, None] = {}
    for source, target in scope.directions(tasks):
        keys[target.space] = None
        if copying and source.labels:  # pretrained weights are no task of ours
            keys[source.space] = None
    return [
        (
            Place(BASE, key, repeat=repeat),
            Planned(
                key,
                BASE,
                scope.transfer(BASE),
                scope.even,
                scope.seed + repeat,
                parts=("test", "train"),
            ),
        )
        for repeat in range(scope.repeats)
        for key in keys
    ]


def plan_others(
    tasks: Tasks,
    scope: Scope,
    base: Callable[[str, int], Run],
    smaller: Mapping[float, str] | None = None,
) -> Plan:
    """Every other run, none twice: a target of several directions has one set of controls.

    Args:
        tasks: The pairs and their workspaces.
        scope: What is measured.
        base: The base of a task in a repeat.
        smaller: As from `with_fewer_images`.
    """
    plan: dict[Place, Planned] = {}
    for repeat in range(scope.repeats):
        for source, target in scope.directions(tasks):
            for treatment in scope.treatments:
                if treatment == LONGER:
                    recipe = replace(scope.even, epochs=2 * scope.even.epochs)
                    planned = Planned(
                        target.space, LONGER, scope.transfer(BASE), recipe, scope.seed + repeat
                    )
                    plan[Place(LONGER, target.space, repeat=repeat)] = planned
                elif treatment in LAYERED:
                    for cut in scope.cuts:
                        place, planned = _layered(
                            tasks, scope, base, treatment, cut, source, target, repeat
                        )
                        plan[place] = planned
        for fraction, key in (smaller or {}).items():
            whole = tasks.pairs[0].b.space
            recipe = _same_steps(scope.even, tasks.spaces[whole], tasks.spaces[key])
            place = Place(OVERFITTING, whole, repeat=repeat, fraction=fraction)
            plan[place] = Planned(
                key,
                OVERFITTING,
                scope.transfer(BASE),
                recipe,
                scope.seed + repeat,
                parts=("test", "train"),
            )
    return list(plan.items())


def run_study(
    engine: Engine, tasks: Tasks, scope: Scope, smaller: Mapping[float, str], board: Board
) -> dict[Place, Done]:
    """Train everything, bases first; what is finished is found.

    A run on a base that failed fails with it.

    Args:
        engine: With the workspaces of `tasks`.
        tasks: As from `with_fewer_images`.
        scope: What is measured.
        smaller: As from `with_fewer_images`.
        board: The engine's; told what there will be.

    Raises:
        TrainingError: No base could be trained.
        LayerwiseError: What the engine raises.
    """
    bases = _named(plan_bases(tasks, scope))
    # The key of a base needs no training.
    runs = {(place.target, place.repeat): engine.run_of(planned) for place, planned in bases}
    others = _named(plan_others(tasks, scope, lambda key, repeat: runs[key, repeat], smaller))
    counts = {t: sum(p.treatment == t for p, _ in [*bases, *others]) for t in scope.treatments}
    board.expect({t: n for t, n in counts.items() if n}, cost={LONGER: 2.0})
    done = dict(zip((p for p, _ in bases), engine.run([one for _, one in bases]), strict=True))
    failed = {one.run.id: one.failure for one in done.values() if one.outcome is None}
    if len(failed) == len({one.run.id for one in done.values()}):
        raise TrainingError(f"no base network could be trained: {next(iter(failed.values()))}")
    possible = [
        (place, planned)
        for place, planned in others
        if planned.source is None or planned.source.id not in failed
    ]
    ended = engine.run([planned for _, planned in possible])
    found = dict(zip((place for place, _ in possible), ended, strict=True))
    for place, planned in others:
        if place in found:
            done[place] = found[place]
        else:
            assert planned.source is not None
            why = f"its base could not be trained: {failed[planned.source.id]}"
            run = Run(planned.transfer.name, "trained", {"transfer": planned.transfer.to_dict()})
            done[place] = Done(planned, run, None, why)
    return done


def _named(plan: Plan) -> Plan:
    """The plan with what people see of each run."""
    return [(place, replace(planned, name=place.name)) for place, planned in plan]


def _layered(
    tasks: Tasks,
    scope: Scope,
    base: Callable[[str, int], Run],
    treatment: str,
    cut: str,
    source: Side,
    target: Side,
    repeat: int,
) -> tuple[Place, Planned]:
    """A run whose layers up to a cut are copied from somewhere."""
    seed = scope.seed + TOP_SEED + repeat
    key, run, name = target.space, None, "untrained"
    if treatment in FROM_A and not source.labels:  # pretrained weights: a workspace has them
        key = source.space
        name = tasks.spaces[key].weights_name
    elif treatment != FILTERS:
        run = base(source.space if treatment in FROM_A else target.space, repeat)
        name = f"run {run.id}"
    whose = {FILTERS: None, SELFFER: target.space, SELFFER_TUNED: target.space}
    place = Place(treatment, target.space, whose.get(treatment, source.space), cut, repeat)
    return place, Planned(
        key, treatment, scope.transfer(treatment, cut, name), scope.even, seed, run
    )


def _same_steps(recipe: Recipe, whole: Workspace, part: Workspace) -> Recipe:
    """The recipe for fewer images with as many steps, as far as whole epochs allow."""
    each = [
        max(
            1,
            Epochs(recipe.balance, w.manifest.targets, w.rows("train"), w.seed).size
            // recipe.batch,
        )
        for w in (whole, part)
    ]
    return replace(recipe, epochs=max(1, round(recipe.epochs * each[0] / each[1])))

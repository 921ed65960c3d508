"""What the runs of a transferability study say: every panel of the paper as numbers.

The accuracy is that on the test part, decided by the highest probability or at ½. A difference
between treatments of one task is paired: both are scored on the same resamples of its images and,
with several repeats, of repeats. Different tasks are resampled on their own, so a mean over tasks
is one over independent ones (tasks of different pairs share images, which is left out of account).
The form of `curves_of` is described in docs/transferability.md.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from layerwise.evaluation.estimates import Estimate, estimate, mean_of
from layerwise.evaluation.predictions import Predictions
from layerwise.studies.engine import Done
from layerwise.studies.transferability.experiment import (
    BASE,
    FILTERS,
    FROM_A,
    LAYERED,
    LONGER,
    OVERFITTING,
    SELFFER,
    SELFFER_TUNED,
    TRANSFER,
    TRANSFER_TUNED,
    Place,
    Scope,
)
from layerwise.studies.transferability.pairs import Pair, Side, Tasks
from layerwise.studies.workspace import Workspace

METRIC = "accuracy"
SIMILAR, DISSIMILAR = "random", ("groups", "data sets", "weights")
Row = dict[str, Any]


class Scores:
    """The accuracy of every place of the study, each computed once."""

    def __init__(
        self, tasks: Tasks, scope: Scope, done: Mapping[Place, Done], draws: int = 1000
    ) -> None:
        """Nothing is computed yet.

        Args:
            tasks: The pairs and their workspaces.
            scope: What was measured.
            done: What became of each run.
            draws: Resamples of each number.
        """
        self.tasks, self.scope, self._done, self._draws = tasks, scope, done, draws
        self._known: dict[tuple[Place, str], Estimate | None] = {}

    def at(self, place: Place, part: str = "test") -> Estimate | None:
        """The accuracy of a place on a part, over its repeats that did not fail; None without."""
        if (place, part) not in self._known:
            each = [self._said(place, repeat, part) for repeat in range(self.scope.repeats)]
            said = [one for one in each if one is not None]
            work = self.tasks.spaces[place.target]
            self._known[place, part] = accuracy(work, said, part, self._draws) if said else None
        return self._known[place, part]

    def _said(self, place: Place, repeat: int, part: str) -> Predictions | None:
        fields = {**vars(place), "repeat": repeat}
        found = self._done.get(Place(**fields))
        return None if found is None or found.outcome is None else found.outcome.parts[part]

    def of(self, treatment: str, source: Side, target: Side, cut: str | None) -> Estimate | None:
        """The accuracy of a treatment of a direction; None where it was not measured."""
        if treatment in (BASE, LONGER):
            return self.at(Place(treatment, target.space))
        whose = None if treatment == FILTERS else target.space
        whose = source.space if treatment in FROM_A else whose
        return self.at(Place(treatment, target.space, whose, cut))


def accuracy(
    work: Workspace, said: Sequence[Predictions], part: str = "test", draws: int = 1000
) -> Estimate:
    """The accuracy of one treatment, a prediction a repeat, on a part of a task.

    The seed of the resamples is the task's own: treatments of one task are paired, tasks are not;
    nor are the images of different parts.
    """
    manifest = work.manifest
    return estimate(
        METRIC,
        manifest.task,
        said[0].targets,
        [one.scores for one in said],
        said[0].groups,
        threshold=None if manifest.task == "multiclass" else 0.5,
        draws=draws,
        seed=int(work.data_key[:8], 16) + ("test", "train", "val").index(part),
    )


def curves_of(
    tasks: Tasks,
    scope: Scope,
    done: Mapping[Place, Done],
    smaller: Mapping[float, str],
    draws: int = 1000,
) -> dict[str, Any]:
    """Everything that the figures and the table show; JSON-able but for NaN.

    Args:
        tasks: The pairs and their workspaces.
        scope: What was measured.
        done: What became of each run.
        smaller: The spaces of the overfitting measurement.
        draws: Resamples of each number.
    """
    scores = Scores(tasks, scope, done, draws)
    each = [
        (pair, source, target)
        for pair in tasks.pairs
        for source, target in pair.directions(both=scope.both)
    ]
    kinds = list(dict.fromkeys(pair.kind for pair in tasks.pairs))
    by_kind = {kind: [d for d in each if d[0].kind == kind] for kind in kinds}
    return {
        "metric": METRIC,
        "layers": list(scope.cuts),
        "numbers": list(scope.numbers),
        "pairs": [_pair(pair) for pair in tasks.pairs],
        "points": [row for one in each for row in _points(scores, *one)],
        "means": [row for kind in kinds for row in _means(scores, kind, by_kind[kind])],
        "decomposition": [
            row for kind in kinds for row in _decomposition(scores, kind, by_kind[kind])
        ],
        "table1": [row for kind in kinds for row in _table1(scores, kind, by_kind[kind])],
        "overfitting": _overfitting(scores, done, smaller),
        "kinds_compared": _kinds_compared(scores, by_kind),
    }


Direction = tuple[Pair, Side, Side]


def _pair(pair: Pair) -> Row:
    a, b = ({"name": s.name, "labels": list(s.labels)} for s in (pair.a, pair.b))
    return {"name": pair.name, "kind": pair.kind, "a": a, "b": b}


def _places(scope: Scope) -> list[tuple[str, str | None, int]]:
    """(treatment, cut, number of the layer) of everything that has a point."""
    out: list[tuple[str, str | None, int]] = []
    for treatment in scope.treatments:
        if treatment in LAYERED:
            layers = zip(scope.cuts, scope.numbers, strict=True)
            out += [(treatment, cut, number) for cut, number in layers]
        elif treatment != OVERFITTING:
            out.append((treatment, None, 0))
    return out


def _points(scores: Scores, pair: Pair, source: Side, target: Side) -> list[Row]:
    """One row a treatment and cut of a direction."""
    rows = []
    base = scores.of(BASE, source, target, None)
    whose = {SELFFER: target.name, SELFFER_TUNED: target.name}
    whose |= dict.fromkeys(FROM_A, source.name)
    for treatment, cut, number in _places(scores.scope):
        own = scores.of(treatment, source, target, cut)
        if own is None or base is None:
            continue
        rows.append(
            {
                "pair": pair.name,
                "kind": pair.kind,
                "source": whose.get(treatment),
                "target": target.name,
                "treatment": treatment,
                "cut": cut,
                "layer": number,
                "accuracy": own.interval(),
                "difference_to_base": (own - base).interval(),
            }
        )
    return rows


def _mean(
    directions: Sequence[Direction], one: Callable[[Side, Side], Estimate | None]
) -> Estimate | None:
    """The mean over directions of what is there for them; None where nothing is.

    A target of several pairs stands in it once for each: its points differ in the source.
    """
    found = [one(source, target) for _, source, target in directions]
    there = [each for each in found if each is not None]
    return mean_of(there) if there else None


def _difference(
    scores: Scores, first: tuple[str, str | None], second: tuple[str, str | None]
) -> Callable[[Side, Side], Estimate | None]:
    """(source, target) → the one treatment less the other, each with its cut."""

    def of(source: Side, target: Side) -> Estimate | None:
        a = scores.of(first[0], source, target, first[1])
        b = scores.of(second[0], source, target, second[1])
        return None if a is None or b is None else a - b

    return of


def _means(scores: Scores, kind: str, directions: Sequence[Direction]) -> list[Row]:
    rows = []
    for treatment, cut, number in _places(scores.scope):

        def own(
            source: Side, target: Side, treatment: str = treatment, cut: str | None = cut
        ) -> Estimate | None:
            return scores.of(treatment, source, target, cut)

        accuracy = _mean(directions, own)
        difference = _mean(directions, _difference(scores, (treatment, cut), (BASE, None)))
        if accuracy is not None and difference is not None:
            rows.append(
                {
                    "kind": kind,
                    "treatment": treatment,
                    "cut": cut,
                    "layer": number,
                    "accuracy": accuracy.interval(),
                    "difference_to_base": difference.interval(),
                }
            )
    return rows


def _decomposition(scores: Scores, kind: str, directions: Sequence[Direction]) -> list[Row]:
    """What frozen copied layers cost, in two parts, at each cut (§4.1)."""
    rows = []
    for cut, number in zip(scores.scope.cuts, scores.scope.numbers, strict=True):
        whole = [  # the parts must add up to the total: only directions that have all three
            (pair, source, target)
            for pair, source, target in directions
            if all(
                scores.of(t, source, target, c) is not None
                for t, c in ((BASE, None), (SELFFER, cut), (TRANSFER, cut))
            )
        ]
        lost = _mean(whole, _difference(scores, (BASE, None), (SELFFER, cut)))
        specific = _mean(whole, _difference(scores, (SELFFER, cut), (TRANSFER, cut)))
        if lost is not None and specific is not None:
            rows.append(
                {
                    "kind": kind,
                    "cut": cut,
                    "layer": number,
                    "coadaptation": lost.interval(),
                    "specificity": specific.interval(),
                    "total": (lost + specific).interval(),
                }
            )
    return rows


def _table1(scores: Scores, kind: str, directions: Sequence[Direction]) -> list[Row]:
    """The boost of AnB+ over its controls, the mean over ranges of layers."""
    rows = []
    scope = scores.scope
    for start in ranges(len(scope.cuts)):
        cuts = scope.cuts[start:]

        def boost(
            control: str, at_cut: bool, cuts: tuple[str, ...] = cuts
        ) -> dict[str, Any] | None:
            each = [
                _mean(
                    directions,
                    _difference(scores, (TRANSFER_TUNED, cut), (control, cut if at_cut else None)),
                )
                for cut in cuts
            ]
            there = [one for one in each if one is not None]
            return mean_of(there).interval() if there else None

        over_base = boost(BASE, at_cut=False)
        if over_base is not None:
            rows.append(
                {
                    "kind": kind,
                    "layers": f"{scope.numbers[start]}-{scope.numbers[-1]}",
                    "over_base": over_base,
                    "over_selffer": boost(SELFFER_TUNED, at_cut=True),
                    "over_longer": boost(LONGER, at_cut=False),
                }
            )
    return rows


def ranges(count: int) -> list[int]:
    """Where the ranges of Table 1 begin, from 0: as 1-7, 3-7 and 5-7 for seven layers."""
    return sorted({0, 2 * count // 7, 4 * count // 7}) if count else []


def _overfitting(scores: Scores, done: Mapping[Place, Done], smaller: Mapping[float, str]) -> Row:
    """Accuracy on training and test images, by how many there were to learn from."""
    tasks = scores.tasks
    measured = tasks.pairs[0].b
    rows = []
    wanted = {1.0: measured.space, **smaller} if smaller else {}
    for fraction, key in wanted.items():
        place = Place(OVERFITTING if fraction < 1 else BASE, measured.space, fraction=fraction)
        fit = _fit(scores, place)
        found = done.get(place)
        if fit is None or found is None:
            continue
        work = tasks.spaces[key]
        images = len(work.rows("train"))
        rows.append(
            {
                "per_class": round(images / len(work.manifest.labels), 1),
                "images": images,
                "epochs": found.planned.recipe.epochs,
                **fit,
            }
        )
    bases, seen = [], set()
    for pair in tasks.pairs:
        for side in (pair.a, pair.b):
            fit = _fit(scores, Place(BASE, side.space)) if side.labels else None
            if fit is not None and side.space not in seen:
                seen.add(side.space)
                bases.append({"pair": pair.name, "task": side.name, **fit})
    return {"task": measured.name, "rows": rows, "bases": bases}


def _fit(scores: Scores, place: Place) -> dict[str, Any] | None:
    """Accuracy on training and test images, and how much higher the first is."""
    train, test = (scores.at(place, part) for part in ("train", "test"))
    if train is None or test is None:
        return None
    gap = train - test
    return {"train": train.interval(), "test": test.interval(), "gap": gap.interval()}


def _kinds_compared(scores: Scores, by_kind: Mapping[str, Sequence[Direction]]) -> list[Row]:
    """AnB of each kind and random filters of all, less their bases; and dissimilar less similar."""
    rows = []
    for cut, number in zip(scores.scope.cuts, scores.scope.numbers, strict=True):
        of = {
            k: _mean(d, _difference(scores, (TRANSFER, cut), (BASE, None)))
            for k, d in by_kind.items()
        }
        every = [one for each in by_kind.values() for one in each]
        of[FILTERS] = _mean(every, _difference(scores, (FILTERS, cut), (BASE, None)))
        similar = of.get(SIMILAR)
        for kind in DISSIMILAR:
            other = of.get(kind)
            if similar is not None and other is not None:
                of[f"{kind} minus {SIMILAR}"] = other - similar
        rows += [
            {"kind": kind, "cut": cut, "layer": number, "difference_to_base": found.interval()}
            for kind, found in of.items()
            if found is not None
        ]
    return rows

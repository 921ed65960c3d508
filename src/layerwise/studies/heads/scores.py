"""What a heads study found: scores with intervals, paired differences, gaps, learning curves.

**Overfitting.** A head is said to overfit where the whole 95% interval of its gap, the accuracy on
the training part less that on validation, lies above 0. Both are taken of the weights that are
kept. The two parts are different images, so they are resampled independently: the interval holds
what the choice of either does to the gap. A gap says that a head is surer of what it has seen; it
does not say that another head would do better on what it has not, which the paired differences do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev
from typing import Any

from layerwise.evaluation.estimates import Estimate, estimate, holm, within_noise
from layerwise.evaluation.metrics import measure
from layerwise.evaluation.predictions import Predictions
from layerwise.studies.heads.experiment import CONNECTED, HEADS, POOLED, SVM, Compared
from layerwise.studies.study import Outcome
from layerwise.studies.workspace import Workspace

METRIC, RANKING = "accuracy", "auroc"
SPLITS = ("train", "val", "test")
STREAMS = {"val": 0, "test": 7919, "train": 104729}  # added to the seed: parts are independent
DRAWS = 1000
BEYOND = 0.05  # an adjusted p-value below it

Row = dict[str, Any]


@dataclass(frozen=True)
class Findings:
    """The numbers of a heads study, JSON-able; NaN where not defined.

    Attributes:
        heads: One a head that has a finished run: name, parameters, accuracy and AUROC by part, the
            gap, whether it overfits, its epochs.
        pairs: Paired differences of two heads on validation and test, by Holm within a part.
        epochs: Loss and accuracy after every epoch of the trained heads.
        sizes: Accuracy by head and number of training images.
        grid: The cross-validated accuracy of the SVM at each C.
        recommended: The head with the fewest parameters that is not measurably worse than the best
            one on validation; "" where there is none.
        best: The head with the highest accuracy on validation.
    """

    heads: tuple[Row, ...]
    pairs: tuple[Row, ...]
    epochs: tuple[Row, ...]
    sizes: tuple[Row, ...]
    grid: tuple[Row, ...]
    recommended: str
    best: str


def findings(work: Workspace, found: Compared, *, draws: int = DRAWS) -> Findings:
    """Score everything.

    Args:
        work: The data with all their training images.
        found: What became of the runs.
        draws: Resamples of each number.
    """
    scores = _Scores(work, draws)
    made = {head: found.of(head) for head in HEADS}
    made = {head: outcomes for head, outcomes in made.items() if outcomes}
    estimates = {
        (head, part, metric): scores.of(list(outcomes.values()), part, metric)
        for head, outcomes in made.items()
        for part in SPLITS
        for metric in (METRIC, RANKING)
    }
    base = found.design.cut.parameters
    heads = tuple(_head(head, outcomes, estimates, base) for head, outcomes in made.items())
    pairs = tuple(row for part in ("val", "test") for row in _pairs(made, estimates, part))
    best, recommended = _choice(heads, estimates)
    return Findings(
        heads,
        pairs,
        tuple(_epochs(found)),
        tuple(_sizes(found, scores)),
        tuple(_grid(found)),
        recommended,
        best,
    )


class _Scores:
    """Estimates of one metric on one part; equal parts have equal resamples."""

    def __init__(self, work: Workspace, draws: int) -> None:
        self._work, self._draws = work, draws

    def of(self, outcomes: Sequence[Outcome], part: str, metric: str) -> Estimate:
        """The mean over repeats, which all are of the same images."""
        said = [_said(outcome, part) for outcome in outcomes]
        return estimate(
            metric,
            self._work.manifest.task,
            said[0].targets,
            [one.scores for one in said],
            said[0].groups,
            draws=self._draws,
            seed=self._work.seed + STREAMS[part],
        )

    def plain(self, outcomes: Sequence[Outcome], part: str) -> float:
        """The mean accuracy, whose repeats may be of different images."""
        task = self._work.manifest.task
        said = [_said(outcome, part) for outcome in outcomes]
        return fmean(measure(task, one.targets, one.scores)[METRIC] for one in said)


def _said(outcome: Outcome, part: str) -> Predictions:
    return outcome.validation if part == "val" else outcome.parts[part]


def _head(
    head: str,
    outcomes: Mapping[int, Outcome],
    estimates: Mapping[tuple[str, str, str], Estimate],
    base: int,
) -> Row:
    """A head's own row; its parameters are those beyond the base's."""
    first = next(iter(outcomes.values()))
    gap = (estimates[head, "train", METRIC] - estimates[head, "val", METRIC]).interval()
    row: Row = {
        "head": head,
        "parameters": first.parameters - base,
        "run": first.run.id,
        "seconds": round(fmean(outcome.seconds for outcome in outcomes.values()), 3),
    }
    for part in SPLITS:
        for metric in (METRIC, RANKING):
            row[f"{part}_{metric}"] = estimates[head, part, metric].interval()
    row |= {"gap": gap, "overfits": bool(gap["low"] > 0)}
    if head == SVM:
        chosen = [outcome.details["C"] for outcome in outcomes.values()]
        cross = [_cross_validated(outcome) for outcome in outcomes.values()]
        return row | {"C": chosen, "cross_validated": fmean(cross), "late": None}
    kept = [_kept(outcome) for outcome in outcomes.values()]
    total = len(first.details["history"])
    return row | {
        "epochs": total,
        "kept_epochs": [epoch + 1 for epoch in kept],
        "late": sum(epoch + 1 > 0.9 * total for epoch in kept),
        "repeats": len(kept),
        **_validation_loss(list(outcomes.values())),
    }


def _cross_validated(outcome: Outcome) -> float:
    """The accuracy at the chosen C; of several labels their mean, each at its own C."""
    details = outcome.details
    chosen, scores, grid = details["C"], details["accuracy"], details["grid"]
    if not isinstance(chosen, list):
        return float(scores[grid.index(chosen)])
    return fmean(scores[grid.index(c)][k] for k, c in enumerate(chosen))


def _kept(outcome: Outcome) -> int:
    """The epoch whose weights were kept, from 0: the first of the best validation scores."""
    history = outcome.details["history"]
    return int(max(history, key=lambda entry: entry["score"])["epoch"])


def _validation_loss(outcomes: Sequence[Outcome]) -> Row:
    """Where the mean validation loss was lowest, and what it is in the end."""
    losses = [[entry.get("val_loss") for entry in o.details["history"]] for o in outcomes]
    if any(value is None for one in losses for value in one):
        return {}
    mean = [fmean(values) for values in zip(*losses, strict=True)]
    lowest = min(range(len(mean)), key=mean.__getitem__)
    return {"lowest_loss": mean[lowest], "lowest_loss_epoch": lowest + 1, "last_loss": mean[-1]}


def _pairs(
    made: Mapping[str, Mapping[int, Outcome]],
    estimates: Mapping[tuple[str, str, str], Estimate],
    part: str,
) -> list[Row]:
    """Every two heads on the same images, with Holm's correction for all of a part."""
    rows: list[Row] = []
    for one, other in combinations(made, 2):
        difference = estimates[one, part, METRIC] - estimates[other, part, METRIC]
        found = difference.interval() | {"p": difference.p()}
        rows.append({"part": part, "head": one, "other": other, "difference": found})
    for row, p in zip(rows, holm([row["difference"]["p"] for row in rows]), strict=True):
        row["difference"]["p_holm"] = p
        row["beyond_noise"] = bool(p < BEYOND)
    return rows


def _choice(
    heads: Sequence[Row], estimates: Mapping[tuple[str, str, str], Estimate]
) -> tuple[str, str]:
    """The best head on validation, and the smallest that is not measurably worse."""
    if not heads:
        return "", ""
    order = sorted(heads, key=lambda row: row["parameters"])
    best = max(order, key=lambda row: row[f"val_{METRIC}"]["value"])["head"]
    for row in order:
        ahead = estimates[best, "val", METRIC] - estimates[row["head"], "val", METRIC]
        if within_noise(ahead.interval()):
            return best, row["head"]
    return best, best


def _epochs(found: Compared) -> list[Row]:
    """One row a trained head, repeat and epoch, of all training images."""
    rows = []
    for head in (CONNECTED, POOLED):
        for repeat, outcome in found.of(head).items():
            kept = _kept(outcome)
            for entry in outcome.details["history"]:
                row: Row = {"head": head, "repeat": repeat, "epoch": int(entry["epoch"]) + 1}
                for part in ("train", "val"):
                    for what in ("accuracy", "loss"):
                        row[f"{part}_{what}"] = entry.get(f"{part}_{what}")
                rows.append(row | {"kept": entry["epoch"] == kept})
    return rows


def _sizes(found: Compared, scores: _Scores) -> list[Row]:
    """One row a head and fraction: what it says of its training images, and of others."""
    rows = []
    for fraction in found.design.fractions:
        images = fmean(
            len(found.parts[fraction, r].indices("train")) for r in range(found.design.repeats)
        )
        for head in (CONNECTED, POOLED):
            outcomes = list(found.of(head, fraction).values())
            if outcomes:
                rows.append(
                    {
                        "head": head,
                        "fraction": fraction,
                        "images": images,
                        "train_accuracy": scores.plain(outcomes, "train"),
                        "val_accuracy": scores.of(outcomes, "val", METRIC).interval(),
                        "learnt_in_folds": None,
                        "train_in_folds": None,
                        "cross_validated": None,
                    }
                )
        number = found.design.fractions.index(fraction)
        points = [curve[number] for curve in found.points]
        rows.append(
            {
                "head": SVM,
                "fraction": fraction,
                "images": images,
                "train_accuracy": None,
                "val_accuracy": scores.of(points, "val", METRIC).interval(),
                "learnt_in_folds": fmean(n for p in points for n in p.details["without_fold"]),
                "train_in_folds": _over_folds(points, "train"),
                "cross_validated": _over_folds(points, "held_out"),
            }
        )
    return rows


def _over_folds(points: Sequence[Outcome], name: str) -> Row:
    """Mean and deviation over folds (of all repeats), the band that scikit-learn draws."""
    values = [value for point in points for value in point.details[name] if value is not None]
    if not values:
        return {"value": float("nan"), "sd": float("nan")}
    return {"value": fmean(values), "sd": stdev(values) if len(values) > 1 else float("nan")}


def _grid(found: Compared) -> list[Row]:
    """The mean accuracy of the folds at each C (and label, for several), of every repeat."""
    rows = []
    for repeat, svm in enumerate(found.svms):
        details = svm.details
        for number, penalty in enumerate(details["grid"]):
            scores = details["accuracy"][number]
            several = isinstance(scores, list)
            row: Row = {"repeat": repeat, "C": penalty}
            row["cross_validated"] = fmean(scores) if several else scores
            chosen = details["C"]
            row["chosen"] = penalty in chosen if isinstance(chosen, list) else penalty == chosen
            rows.append(row)
    return rows

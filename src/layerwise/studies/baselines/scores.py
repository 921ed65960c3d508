"""What a study of baselines found: scores with intervals, and paired differences with tests.

Decisions, and so accuracy, precision, recall and F1, are made at each run's own threshold, which is
chosen on what that run says of the validation part. The best model is chosen there too; the test
part is only looked at. All differences are of the same resamples of the same test images. Of each
of the two families of differences, what augmentation changes and how far the others are from the
best, all tests (models and metrics) are corrected together by Holm's method.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from layerwise.data.manifest import Manifest
from layerwise.evaluation.estimates import Estimate, holm, task_estimates
from layerwise.evaluation.metrics import Threshold
from layerwise.evaluation.operating import choose_threshold
from layerwise.studies.baselines.lineup import AUGMENTED, BASE
from layerwise.studies.baselines.runs import Made
from layerwise.studies.gain.scores import DRAWS, LEVEL, p_value
from layerwise.studies.study import Outcome

METRICS = ("auroc", "auprc", "accuracy", "precision", "recall", "f1")
CHOSEN_BY = "auroc"  # on validation

Interval = dict[str, Any]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Cell:
    """One model in one form.

    Attributes:
        made: Its runs.
        thresholds: One a finished run, chosen on validation; None for several classes.
        validation: AUROC there, by which the best is chosen: "value", "low", "high", "sd".
        test: Every metric on the test part, likewise.
    """

    made: Made
    thresholds: tuple[Threshold, ...]
    validation: Interval
    test: Mapping[str, Interval]

    @property
    def name(self) -> str:
        """As "VGG16, augmented"."""
        return self.made.name


@dataclass(frozen=True)
class Difference:
    """How much higher one cell is than another, on the test part.

    Attributes:
        cell: The name of the one.
        other: The name of the other.
        model: The name of the one's model.
        metric: Of METRICS.
        interval: Of the paired difference, with "p" (two-sided) and "p_holm" (of its family).
    """

    cell: str
    other: str
    model: str
    metric: str
    interval: Interval

    @property
    def beyond_noise(self) -> bool:
        """Whether it is more than noise explains, after Holm."""
        return bool(self.interval["p_holm"] < LEVEL)


@dataclass(frozen=True)
class Scores:
    """Everything that is drawn and said.

    Attributes:
        cells: Every model in every form that has a finished run.
        best: The baseline with the highest validation AUROC, a transfer not counted.
        changes: Augmented less base, by model and metric.
        behind: Every other cell less the best, by metric.
        draws: Resamples of every interval.
    """

    cells: tuple[Cell, ...]
    best: Cell
    changes: tuple[Difference, ...]
    behind: tuple[Difference, ...]
    draws: int

    def of(self, model: str, form: str) -> Cell | None:
        """The cell of a model in a form."""
        for cell in self.cells:
            if (cell.made.entrant.name, cell.made.form.name) == (model, form):
                return cell
        return None


def scores_of(
    every: Sequence[Made],
    manifest: Manifest,
    seed: int,
    *,
    draws: int = DRAWS,
    threads: int = 1,
    progress: Progress | None = None,
) -> Scores:
    """Score everything.

    Args:
        every: Models and forms, as they are shown; those without a finished run are left out.
        manifest: Of the data.
        seed: Of the resamples.
        draws: How many of them.
        threads: How many cells are scored at a time.
        progress: Told (cells scored, all cells).
    """
    some = [made for made in every if made.outcomes]
    found: list[tuple[Cell, dict[str, Estimate]]] = []
    with ThreadPoolExecutor(threads) as pool:  # NumPy's sums leave the interpreter to others
        jobs = [pool.submit(_scored, made, manifest, seed, draws) for made in some]
        for job in jobs:
            found.append(job.result())
            if progress is not None:
                progress(len(found), len(jobs))
    cells = [cell for cell, _ in found]
    own = {cell.name: estimates for cell, estimates in found}
    baselines = [c for c in cells if c.made.entrant.kind != "transfer"] or cells
    best = max(baselines, key=lambda cell: _rank(cell.validation["value"]))
    pairs = [
        (one, other)
        for other in cells
        for one in cells
        if one.made.entrant == other.made.entrant
        and (one.made.form.name, other.made.form.name) == (AUGMENTED, BASE)
    ]
    behind = [(cell, best) for cell in cells if cell is not best]
    return Scores(tuple(cells), best, _differences(pairs, own), _differences(behind, own), draws)


def threshold_of(manifest: Manifest, outcome: Outcome, seed: int) -> Threshold:
    """A run's threshold, chosen on what it says of the validation part."""
    said = outcome.validation
    return choose_threshold(manifest.task, said.targets, said.scores, said.groups, seed=seed)


def _scored(
    made: Made, manifest: Manifest, seed: int, draws: int
) -> tuple[Cell, dict[str, Estimate]]:
    thresholds = [threshold_of(manifest, outcome, seed) for outcome in made.outcomes]
    parts = {
        "val": [outcome.validation for outcome in made.outcomes],
        "test": [outcome.parts["test"] for outcome in made.outcomes],
    }
    found = {
        part: task_estimates(
            METRICS if part == "test" else (CHOSEN_BY,),
            manifest.task,
            said[0].targets,
            [one.scores for one in said],
            said[0].groups,
            thresholds=thresholds,
            draws=draws,
            seed=seed,
        )
        for part, said in parts.items()
    }
    cell = Cell(
        made,
        tuple(thresholds),
        found["val"][CHOSEN_BY].interval(),
        {metric: one.interval() for metric, one in found["test"].items()},
    )
    return cell, found["test"]


def _differences(
    pairs: Sequence[tuple[Cell, Cell]], own: Mapping[str, Mapping[str, Estimate]]
) -> tuple[Difference, ...]:
    """One family: every metric of every pair, tested together."""
    out, values = [], []
    for one, other in pairs:
        for metric in METRICS:
            gap = own[one.name][metric] - own[other.name][metric]
            values.append(p_value(gap))
            interval = {**gap.interval(), "p": values[-1]}
            out.append((one, other, metric, interval))
    return tuple(
        Difference(one.name, other.name, one.made.entrant.name, metric, {**interval, "p_holm": p})
        for (one, other, metric, interval), p in zip(out, holm(values), strict=True)
    )


def _rank(value: float) -> float:
    return -1.0 if value != value else value

"""Aggregate statistics of inputs and scores: counts in fixed bins, no pictures and no names.

A bundle carries those of its training pictures and of its answers for the validation part, a
server keeps those of what it is sent, and `layerwise drift` compares the two. All are whole
numbers, so they add up to the same whatever the order.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.errors import StatisticsError
from layerwise.serving.measures import (
    ENOUGH,
    FORMAT,
    INPUTS,
    NEGATIVE,
    SCORES,
    SIDE,
    Floats,
    binned,
    measure,
    template_of,
    thumbnails,
)

Counts = NDArray[np.int64]
Sizes = Sequence[tuple[int, int] | None]

HIGHEST = "highest probability"
"""The only score that is counted where there are more than `MANY` labels."""
MANY = 32
PARTS = ("inputs", "scores", "decided")
SCALE = 10_000  # a template is kept as whole numbers, so that it is read as it was written


class Statistics:
    """Counts of what was measured of pictures, and of what a model said of them.

    Attributes:
        task: "binary", "multiclass" or "multilabel".
        labels: Of the model.
        template: (256,) the training pictures' mean thumbnail, None where there is none.
        inputs: Quantity of `measures.INPUTS` → counts.
        scores: Label → counts of its probability in `measures.SCORES`; of binary the second one.
        decided: Label → how often it was not and how often it was decided for; as `scores`.
    """

    def __init__(self, task: str, labels: Sequence[str], template: Floats | None = None) -> None:
        """Nothing counted yet."""
        self.task, self.labels, self.template = task, tuple(labels), template
        self.inputs = {name: _none(edges) for name, edges in INPUTS.items()}
        decided = self.labels[1:] if task == "binary" else self.labels
        scored = decided if len(decided) <= MANY else (HIGHEST,)
        self.scores = {name: _none(SCORES) for name in scored}
        self.decided = {name: np.zeros(2, np.int64) for name in decided}

    @property
    def images(self) -> int:
        """Pictures whose inputs were counted."""
        return int(self.inputs["brightness"].sum())

    @property
    def answers(self) -> int:
        """Pictures whose scores were counted; of a bundle those of another part of the data."""
        return int(next(iter(self.decided.values())).sum())

    def beside(self) -> "Statistics":
        """Empty ones to be compared with these: the same labels and the same template."""
        return Statistics(self.task, self.labels, self.template)

    def add(
        self,
        pixels: NDArray[np.uint8],
        scores: NDArray[np.floating],
        decisions: NDArray[np.int64],
        sizes: Sizes | None = None,
    ) -> None:
        """Count pictures and what the model said of them.

        Args:
            pixels: uint8 (N, H, W, C) from `Bundle.prepare`.
            scores: (N, 1) for binary, else (N, K), from `Bundle.run`.
            decisions: From `Bundle.decide`: (N,) of label numbers, or (N, K) of 0 and 1.
            sizes: Height and width of each file, None where it is not known.
        """
        self.add_inputs(pixels, sizes)
        self.add_scores(scores, decisions)

    def add_inputs(self, pixels: NDArray[np.uint8], sizes: Sizes | None = None) -> None:
        """The first half of `add`."""
        for name, values in measure(pixels, self.template, sizes).items():
            self.inputs[name] += binned(values, INPUTS[name])

    def add_scores(self, scores: NDArray[np.floating], decisions: NDArray[np.int64]) -> None:
        """The second half of `add`."""
        values = np.asarray(scores, np.float64).reshape(len(scores), -1)  # (N, 1 | K)
        if len(self.scores) < values.shape[1]:
            values = values.max(axis=1, keepdims=True)
        for counts, column in zip(self.scores.values(), values.T, strict=True):
            counts += binned(column, SCORES)
        numbers = np.arange(len(self.labels) - len(self.decided), len(self.labels))
        yes = decisions if decisions.ndim == 2 else decisions[:, None] == numbers  # (N, 1 | K)
        for counts, one in zip(self.decided.values(), np.asarray(yes, np.int64).T, strict=True):
            counts += np.array([len(one) - one.sum(), one.sum()])

    def merge(self, other: "Statistics") -> None:
        """Add what others have counted of the same labels.

        Raises:
            StatisticsError: The labels differ.
        """
        if (other.task, other.labels) != (self.task, self.labels):
            raise StatisticsError(
                f"statistics of {other.task} {list(other.labels)} can not be added to those of "
                f"{self.task} {list(self.labels)}; keep those of each model apart"
            )
        for mine, theirs in zip(self._all(), other._all(), strict=True):
            for name, counts in theirs.items():
                mine[name] += counts

    def to_json(self) -> dict[str, Any]:
        """As plain JSON-able values: `about`, `counts`, and the template."""
        scaled = None if self.template is None else np.round(self.template * SCALE).astype(int)
        template = None if scaled is None else scaled.tolist()
        return {**self.about(), **self.counts(), "template": template}

    def about(self) -> dict[str, Any]:
        """What is counted; the edges of the bins are there for other readers."""
        edges = {name: [float(f"{e:.6g}") for e in edges] for name, edges in INPUTS.items()}
        return {
            "format": FORMAT,
            "task": self.task,
            "labels": list(self.labels),
            "edges": {**edges, "scores": SCORES.tolist()},
        }

    def counts(self) -> dict[str, dict[str, list[int]]]:
        """The counts alone, JSON-able; `read_counts` adds them to others."""
        return {
            name: {key: counts.tolist() for key, counts in each.items()}
            for name, each in zip(PARTS, self._all(), strict=True)
        }

    @classmethod
    def empty(cls, values: Any, where: str) -> "Statistics":  # noqa: ANN401 - what a file holds
        """Empty ones of what `about` or `to_json` gave, checked.

        Args:
            values: As read from a file that anyone may have written.
            where: The file, for the error.

        Raises:
            StatisticsError: It is none, of another format, or damaged.
        """
        _must(isinstance(values, Mapping), where, "no table")
        found = values.get("format")
        if found != FORMAT:
            raise StatisticsError(
                f"{where}: statistics of format {found!r}; this version reads {FORMAT}. Make them "
                "again with the version that is installed"
            )
        task, labels, template = (values.get(key) for key in ("task", "labels", "template"))
        _must(task in ("binary", "multiclass", "multilabel"), where, "task")
        good = isinstance(labels, list) and all(isinstance(name, str) for name in labels)
        good = good and len(set(labels)) == len(labels) > (task != "multilabel")
        _must(good and (task != "binary" or len(labels) == 2), where, "labels")
        if template is not None:
            good = isinstance(template, list) and len(template) == SIDE * SIDE
            good = good and all(type(v) is int and abs(v) <= SCALE for v in template)
            _must(good, where, "template")
            template = template_of(np.array(template, np.float64))
        return cls(str(task), labels, template)

    @classmethod
    def from_json(cls, values: Any, where: str) -> "Statistics":  # noqa: ANN401 - what a file holds
        """What `to_json` gave; arguments and errors as of `empty`."""
        statistics = cls.empty(values, where)
        statistics.read_counts(values, where)
        return statistics

    def read_counts(self, values: Mapping[str, Any], where: str) -> None:
        """Add what `counts` gave.

        Raises:
            StatisticsError: Something is missing or no count.
        """
        _must(isinstance(values, Mapping), where, "no table")
        for name, mine in zip(PARTS, self._all(), strict=True):
            theirs = values.get(name)
            _must(isinstance(theirs, Mapping) and set(theirs) == set(mine), where, name)
            for key, counts in mine.items():
                row = theirs[key]  # type: ignore[index]
                good = isinstance(row, list) and len(row) == len(counts)
                _must(good and all(type(v) is int and 0 <= v < 2**50 for v in row), where, key)
                counts += np.array(row, np.int64)

    def _all(self) -> tuple[dict[str, Counts], dict[str, Counts], dict[str, Counts]]:
        return self.inputs, self.scores, self.decided


def reference(
    task: str,
    labels: Sequence[str],
    pictures: Iterable[NDArray[np.uint8]],
    sizes: Sizes | None,
    scores: NDArray[np.floating],
    decisions: NDArray[np.int64],
) -> Statistics:
    """The statistics that a bundle carries.

    The template is the mean thumbnail of the pictures, if they are 20 or more. Each is likened to
    the mean of the others, as a picture that comes later will be.

    Args:
        task: As in `Statistics`, as are the labels.
        labels: Of the model.
        pictures: uint8 (n, H, W, C) each, training pictures, a few at a time.
        sizes: Height and width of the files of all, None where they are not known.
        scores: (N, 1 | K) probabilities of validation pictures.
        decisions: Of them, as `Bundle.decide` gives them.
    """
    statistics = Statistics(task, labels)
    small, done = [np.zeros((0, SIDE * SIDE))], 0
    for some in pictures:
        statistics.add_inputs(some, None if sizes is None else sizes[done : done + len(some)])
        small.append(thumbnails(some))
        done += len(some)
    if done >= ENOUGH:
        own = np.concatenate(small)  # (N, 256)
        others = own.sum(axis=0) - own
        length = np.sqrt((others**2).sum(axis=1))
        likeness = (own * others).sum(axis=1) / np.where(length > 0, length, 1)
        statistics.template = template_of(own.sum(axis=0))
        for name, values in (("likeness", likeness), ("negative", likeness <= NEGATIVE)):
            statistics.inputs[name] += binned(values.astype(np.float64), INPUTS[name])
    statistics.add_scores(scores, decisions)
    return statistics


def _none(edges: Floats) -> Counts:
    return np.zeros(len(edges) - 1, np.int64)


def _must(good: bool, where: str, what: str) -> None:
    if not good:
        raise StatisticsError(
            f"{where}: damaged statistics ({what}); make them again, or leave the file out"
        )

"""Classes of unequal size: three ways to let each count the same, of which one is used at a time.

* "weights": a picture counts in the loss by the inverse of its class's frequency.
* "sampling": an epoch's pictures are drawn with replacement, every class as likely as any other.
* "augment": an epoch has every picture once, as it is, and of each smaller class as many augmented
  copies as make the classes equal. This is the method of Buluttekin 2020, §3.4: "apply the
  augmentations to only minority class of the dataset and add this new training example to training
  set until I have the same number of examples for both classes".

With two of them the minority would count twice. So a recipe has one word for it.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from layerwise.errors import TrainingError

Balance = Literal["none", "weights", "sampling", "augment"]
METHODS: tuple[str, ...] = get_args(Balance)
PLAIN = -1  # the copy number of a picture that is not augmented
Rows = NDArray[np.int64]
Importance = NDArray[np.float64] | None


def check_balance(method: str, *, several_labels: bool = False, preset: str | None = None) -> None:
    """Refuse a method that can not do what it says.

    Args:
        method: One of METHODS.
        several_labels: Whether an image may have several labels.
        preset: Of the augmentation; None where it is not known yet.

    Raises:
        TrainingError: The method is unknown, copies would be equal pictures, or the images have
            no class of their own that could be drawn.
    """
    if method not in METHODS:
        raise TrainingError(f"balance {method!r} is unknown; it is one of {', '.join(METHODS)}")
    if method == "augment" and preset == "none":
        raise TrainingError(
            "balance 'augment' makes augmented copies of the smaller classes, and with augment "
            "'none' the copies would be equal pictures; choose --augment radiograph or natural, "
            "or --balance weights or sampling"
        )
    if several_labels and method in ("sampling", "augment"):
        raise TrainingError(
            f"balance {method!r} draws whole images, and an image with several labels would raise "
            "the count of all of them at once; use --balance weights, which weighs each label by "
            "itself, or none"
        )


class Epochs:
    """Which rows an epoch learns from, in which order, and which of them are augmented.

    Everything follows from (seed, epoch), so an epoch can be begun again in its middle.

    Attributes:
        size: Rows of every epoch.
        augmented: Rows of the manifest, ascending, of which augmented views are ever asked for
            (provided that there is an augmentation).
    """

    def __init__(
        self, method: Balance, targets: NDArray[np.generic], train: Rows, seed: int
    ) -> None:
        """Plan the epochs.

        Args:
            method: How classes are balanced.
            targets: Of every row of the manifest: int64 (N,), or float32 (N, K).
            train: Rows that are learnt from.
            seed: Of the order and the draws.

        Raises:
            TrainingError: Images with several labels can not be balanced by drawing.
        """
        self.method, self.train, self.seed = method, train, seed
        self._classes: list[Rows] = []
        if method in ("sampling", "augment"):
            check_balance(method, several_labels=targets.ndim > 1)
            learnt = targets[train]
            self._classes = [train[learnt == value] for value in np.unique(learnt)]
        self._most = max((len(rows) for rows in self._classes), default=0)
        if method == "augment":
            smaller = [rows for rows in self._classes if len(rows) < self._most]
            self.size = self._most * len(self._classes)
            self.augmented = np.sort(np.concatenate([train[:0], *smaller]))
        else:
            self.size, self.augmented = len(train), np.sort(train)

    def draw(self, epoch: int) -> tuple[Rows, Rows]:
        """The rows of an epoch in their order, and the copy number of each; both int64 (size,).

        Equal rows of one epoch have different copy numbers, so that they are augmented in
        different ways. `PLAIN` stands for a picture that is not augmented at all.
        """
        generator = np.random.default_rng([self.seed, epoch])
        if self.method == "sampling":
            which = generator.integers(len(self._classes), size=self.size)  # (size,)
            within = generator.random(self.size)
            rows = np.empty(self.size, np.int64)
            for number, members in enumerate(self._classes):
                mine = which == number
                rows[mine] = members[(within[mine] * len(members)).astype(np.int64)]
            return rows, _occurrence(rows)
        rows, copies = self.train, np.zeros(self.size, np.int64)
        if self.method == "augment":
            more = np.concatenate(
                [self.train[:0], *(self._copies(c, epoch) for c in self._classes)]
            )
            rows = np.concatenate([self.train, more])
            copies = np.concatenate([np.full(len(self.train), PLAIN), _occurrence(more)])
        order = generator.permutation(self.size)
        return rows[order], copies[order]

    def _copies(self, members: Rows, epoch: int) -> Rows:
        """What a class has too few, in turn: over any epochs no image has two copies more."""
        wanted = self._most - len(members)
        turn = np.random.default_rng([self.seed, int(members[0]), 1]).permutation(members)
        return turn[(epoch * wanted + np.arange(wanted)) % len(turn)]


def _occurrence(rows: Rows) -> Rows:
    """For every entry, how many equal ones stand before it: (n,) → (n,) int64."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(rows)])
    lengths = np.diff(np.r_[starts, len(rows)])
    out = np.empty(len(rows), np.int64)
    out[order] = np.arange(len(rows)) - np.repeat(starts, lengths)
    return out


def class_weights(
    targets: NDArray[np.generic], classes: int, importance: Importance = None
) -> NDArray[np.float32]:
    """Weights (classes,): each class that occurs has the same sum, and the mean image 1.

    Args:
        targets: (N,) from 0 to `classes` − 1.
        classes: How many there are.
        importance: (N,) how many images each one counts as; None: one.
    """
    own = np.ones(len(targets)) if importance is None else importance
    counts = np.bincount(targets.astype(np.int64), own, minlength=classes)  # (classes,)
    present = int((counts > 0).sum())
    weights: NDArray[np.float64] = own.sum() / (present * np.where(counts > 0, counts, 1))
    return weights.astype(np.float32)


def positive_weights(
    targets: NDArray[np.generic], importance: Importance = None
) -> NDArray[np.float32]:
    """Of each label, negatives for one positive, from 1/100 to 100: (N, K), NaN unknown → (K,).

    `importance` (N,) says how many images each one counts as; None: one.
    """
    own = np.ones(len(targets)) if importance is None else importance
    positive = own @ (targets == 1)  # (K,)
    negative = own @ (targets == 0)  # (K,)
    ratio: NDArray[np.float64] = negative / np.where(positive > 0, positive, 1)
    return np.clip(ratio, 0.01, 100).astype(np.float32)


def describe(
    method: Balance, targets: NDArray[np.generic], labels: Sequence[str], preset: str
) -> str:
    """What is done about unequal classes, in a sentence with its numbers.

    Args:
        method: How classes are balanced.
        targets: Of the training rows: int64 (n,), or float32 (n, K).
        labels: A name for every class or label.
        preset: Of the augmentation.
    """
    if method == "none":
        return "Classes are not balanced in training: every picture counts the same."
    if method == "weights":
        weights = (
            positive_weights(targets) if targets.ndim > 1 else class_weights(targets, len(labels))
        )
        shown = ", ".join(f"{n} {w:.3g}" for n, w in zip(labels, weights, strict=True))
        what = "positives weigh" if targets.ndim > 1 else "pictures weigh"
        return f"Classes are balanced by weights in the loss: {what} {shown}."
    counts = np.bincount(targets.astype(np.int64), minlength=len(labels))
    if method == "sampling":
        return (
            "Classes are balanced by sampling: the pictures of an epoch are drawn with "
            "replacement, every class as likely as any other."
        )
    extra = {n: int(counts.max() - c) for n, c in zip(labels, counts, strict=True) if c}
    shown = ", ".join(f"{count:,} of {name}" for name, count in extra.items() if count)
    if not shown:
        return (
            "Classes are of equal size, so balancing by augmentation adds no copies, and no "
            "picture is augmented."
        )
    return (
        f"Classes are balanced by augmentation: every epoch has {counts.max():,} pictures of each "
        f"class; copies changed as by the preset {preset} are added ({shown}), and the originals "
        "stay as they are."
    )

"""From what scikit-learn calls y to targets, and from probabilities back to its classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from layerwise.data.manifest import Task
from layerwise.errors import DataError


@dataclass(frozen=True)
class Answers:
    """What y asks for.

    Attributes:
        task: binary, multiclass or multilabel.
        classes: (K,) sorted, of y's own type; of a label indicator its columns, 0 … K − 1.
        dtype: Of y, and so of what is predicted.
    """

    task: Task
    classes: NDArray[Any]
    dtype: np.dtype[Any]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in words."""
        return tuple(str(one) for one in self.classes.tolist())

    @property
    def outputs(self) -> int:
        """Of the network: 1 for binary, else one a class."""
        return 1 if self.task == "binary" else len(self.classes)

    def probabilities(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's (n, outputs) with a column for each class."""
        if self.task != "binary":
            return scores
        return np.concatenate([1 - scores, scores], axis=1)

    def decide(self, probabilities: NDArray[np.float32]) -> NDArray[Any]:
        """(n,) the likeliest class; of a label indicator (n, K) each label that is likelier not.

        Of two equal probabilities the first class is taken.
        """
        if self.task == "multilabel":
            return (probabilities > 0.5).astype(self.dtype)
        return np.asarray(self.classes[probabilities.argmax(axis=1)])


def encode(
    y: Any,  # noqa: ANN401 - whatever y is
    count: int,
    rows: NDArray[np.int64],
) -> tuple[Answers, NDArray[Any]]:
    """What is asked, and the targets as a manifest has them.

    Args:
        y: (n,) classes, texts or numbers; or (n, K) of 0 and 1, dense or sparse.
        count: n, the pictures.
        rows: (m,) which of them count.

    Returns:
        The answers, and int64 (m,), or float32 (m, K) for a label indicator.

    Raises:
        ValueError: As scikit-learn says it: NaN, numbers that are no classes, several outputs.
        DataError: Another length than X, or one class alone.
    """
    y = check_array(y, accept_sparse=True, ensure_2d=False, dtype=None, input_name="y")
    y = y.toarray() if hasattr(y, "toarray") else y
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    if len(y) != count:
        raise DataError(f"X has {count} pictures and y {len(y)} answers; give one for each")
    y = y[rows]
    kind = type_of_target(y, input_name="y")
    check_classification_targets(y)
    if kind == "multilabel-indicator":
        columns = np.arange(y.shape[1])
        return Answers("multilabel", columns, y.dtype), y.astype(np.float32)
    if y.ndim != 1:
        raise DataError(
            f"y has the shape {y.shape}: several classes a picture are a column of 0 and 1 for "
            "each (a label indicator); one class a picture is a list"
        )
    classes, targets = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise DataError(
            f"y has one class, {classes.tolist()[0]!r}, and two or more are needed; add pictures "
            "of another one"
        )
    task: Task = "binary" if len(classes) == 2 else "multiclass"
    return Answers(task, classes, y.dtype), targets.astype(np.int64)

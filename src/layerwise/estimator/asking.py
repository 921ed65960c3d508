"""What is asked of the estimator, checked, in the words that the studies have for it."""

import numbers
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_array, check_consistent_length, check_random_state

from layerwise.data.manifest import Manifest, make_table
from layerwise.errors import DataError, EstimatorError, LayerwiseError
from layerwise.estimator.answers import Answers
from layerwise.estimator.reading import Given, Reading
from layerwise.studies.prepare import Request
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

if TYPE_CHECKING:
    from layerwise.estimator.classifier import LayerwiseClassifier

_NAMES = {"model-arg": "model_args", "keep": "transfer", "seed": "random_state"}  # of flags, here


def check(asked: "LayerwiseClassifier") -> None:
    """Refuse parameters of which nothing can be made; what a network can not do is said later."""

    def refuse(name: str, wanted: str) -> None:
        raise DataError(f"{name}={getattr(asked, name)!r}: it must be {wanted}")

    if not isinstance(asked.model, str):
        refuse("model", "a name, as `layerwise models` lists them")
    if not isinstance(asked.weights, (str, Path)):
        refuse("weights", "'pretrained', 'none', a file or the folder of a run")
    if not isinstance(asked.transfer, (str, Transfer)):
        refuse("transfer", "'auto', 'probe', 'finetune', the name of a cut, or a Transfer")
    if asked.recipe is not None and not isinstance(asked.recipe, (Recipe, Mapping)):
        refuse("recipe", "a Recipe, or a mapping of some of its settings")
    if asked.model_args is not None and not isinstance(asked.model_args, Mapping):
        refuse("model_args", "a mapping, as in {'pad_type': 'same'}")
    if not isinstance(asked.validation, numbers.Real) or not 0 < asked.validation < 1:
        refuse("validation", "a fraction above 0 and below 1")
    for name in ("epochs", "image_size", "threads"):
        value = getattr(asked, name)
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if value is not None and not (whole and value >= 1):
            refuse(name, "a whole number from 1 on, or None")


def request_of(asked: "LayerwiseClassifier", place: Path, reading: Reading) -> Request:
    """Its parameters as the studies have them; `place` is the cache."""
    return Request(
        data="X",
        out=place / "estimator",
        cache=place,
        model=asked.model,
        arguments={name: str(value) for name, value in (asked.model_args or {}).items()},
        weights=str(asked.weights),
        image_size=None if asked.image_size is None else int(asked.image_size),
        letterbox=bool(asked.letterbox),
        augment="none" if reading.kind == "table" else "auto",
        seed=_seed(asked.random_state),
        threads=int(asked.threads or torch.get_num_threads()),
        shared=asked.cache is not None,
    )


def _seed(given: Any) -> int:  # noqa: ANN401 - what scikit-learn takes for a random state
    """One number that everything random follows from."""
    if isinstance(given, numbers.Integral):
        if given < 0:
            raise DataError(f"random_state={given}: give a number from 0 on")
        return int(given)
    return int(check_random_state(given).randint(2**31 - 1))


def counted(
    sample_weight: Any,  # noqa: ANN401 - a column of numbers
    count: int,
) -> tuple[NDArray[np.float64] | None, NDArray[np.int64]]:
    """What each picture that counts does count, (m,) above 0 (None: the same); which these are.

    Args:
        sample_weight: (n,) from 0 on; None: every picture counts the same.
        count: n, the pictures.

    Raises:
        DataError: Another shape than one number a picture, one below 0, or nothing but 0.
    """
    if sample_weight is None:
        return None, np.arange(count)
    given = check_array(
        sample_weight, ensure_2d=False, allow_nd=True, dtype=np.float64, input_name="sample_weight"
    )
    if given.shape != (count,):
        raise DataError(
            f"sample_weight has the shape {given.shape}, and X has {count} pictures; give one "
            "number for each"
        )
    if (given < 0).any():
        raise DataError(
            f"sample_weight has {given.min():g}; a picture counts 0, and is left out, or more"
        )
    rows = np.flatnonzero(given)
    if not len(rows):
        raise DataError("sample_weight is zero for every picture; give some of them more")
    return given[rows], rows


def manifest_of(
    given: Given,
    targets: NDArray[Any],
    answers: Answers,
    groups: Any,  # noqa: ANN401 - a column of anything
    rows: NDArray[np.int64],
) -> Manifest:
    """Pictures and targets as a manifest, not split.

    Args:
        given: All pictures, n.
        targets: Of those that count, m.
        answers: What they mean.
        groups: (n,) whose pictures they are; None: not known.
        rows: (m,) which pictures count.
    """
    patients = None
    if groups is not None:
        column = check_array(groups, ensure_2d=False, dtype=None, input_name="groups")
        check_consistent_length(given, column)
        patients = [f"group {value}" for value in column.ravel()[rows].tolist()]
    if len(rows) < len(given):
        given = [given[row] for row in rows] if isinstance(given, list) else given[rows]
    ids = [f"{index:08d}" for index in range(len(given))]
    paths = [str(path) for path in given] if isinstance(given, list) else None
    return Manifest(
        name="X",
        task=answers.task,
        labels=answers.labels,
        table=make_table(ids, paths=paths, patients=patients),
        targets=targets,
        pixels=None if isinstance(given, list) else given,
    )


@contextmanager
def plainly() -> Iterator[None]:
    """Our errors as ValueErrors, in the words of Python and not of the command line."""
    try:
        yield
    except LayerwiseError as error:
        words = str(error).replace(", or leave them out with --skip-unreadable", "")
        flag = re.compile(r"--([a-z]+(?:-[a-z]+)*)")
        words = flag.sub(lambda found: _NAMES.get(found[1], found[1].replace("-", "_")), words)
        raise EstimatorError(words) from error

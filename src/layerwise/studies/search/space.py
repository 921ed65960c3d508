"""What a search may change: fields of the network, of the transfer and of the recipe.

A space is a TOML file with up to three tables:

    [model]                                          # arguments of the network's constructor
    kernel = [3, 5]                                  # one of these
    layers = { low = 2, high = 5 }                   # a whole number; ends included

    [transfer]
    freeze = ["none", "layer2", "all"]               # cuts; also keep

    [training]                                       # fields of the recipe
    lr = { low = 1e-4, high = 1e-1, log = true }     # a number; each power of ten as likely
    optimizer = "sgd"                                # fixed
"""

import itertools
import math
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from layerwise.errors import LayerwiseError
from layerwise.models.names import nearest
from layerwise.training.recipe import Recipe

MODEL, TRANSFER, TRAINING = "model", "transfer", "training"
CUTS = ("keep", "freeze")  # of a transfer; what is copied follows from weights and keep
NOT_SEARCHED = {
    "epochs": "trials of different lengths can not be compared epoch by epoch; --epochs fixes it, "
    "or the time does",
    "compile": "it changes how long a step takes, not what is learnt",
}
_RANGE = ("low", "high", "step", "log")
_HINTS = typing.get_type_hints(Recipe)

Value = bool | int | float | str
Values = Mapping[str, Value]


@dataclass(frozen=True)
class Dimension:
    """One field that is searched.

    Attributes:
        part: "model", "transfer" or "training".
        field: Its name there.
        choices: What it may be; empty: the range.
        low: Of the range, included.
        high: Of the range, included.
        step: Between two values of the range; None: 1 of whole numbers, else any number.
        log: Every power of ten is as likely.
        whole: Whole numbers only.
    """

    part: str
    field: str
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False

    @property
    def name(self) -> str:
        """Unique in a space, even where the network and the recipe have a field of one name."""
        taken = self.part == MODEL and (self.field in _HINTS or self.field in CUTS)
        return f"{MODEL}.{self.field}" if taken else self.field

    @property
    def ends(self) -> tuple[Value, ...]:
        """All choices, or both ends of the range."""
        if self.choices:
            return self.choices
        low, high = (int(self.low), int(self.high)) if self.whole else (self.low, self.high)
        return (low, high) if low < high else (low,)

    @property
    def count(self) -> int | None:
        """How many values it has; None: any number of the range."""
        if self.choices:
            return len(self.choices)
        if self.low == self.high:
            return 1
        step = self.step or (1 if self.whole else None)
        return None if step is None else round((self.high - self.low) / step) + 1

    def every(self) -> Sequence[Value]:
        """Its values in order; of a continuous range, its ends."""
        count = self.count
        if self.choices or count is None:
            return self.ends
        step = self.step or 1
        found = [self.low + i * step for i in range(count)]
        return [int(value) for value in found] if self.whole else found

    def place(self, value: Value) -> float:
        """Where a value lies on an axis from 0 to 1."""
        if self.choices:
            return (self.choices.index(value) + 0.5) / len(self.choices)
        low, high, here = self.low, self.high, float(value)
        if self.log:
            low, high, here = math.log(low), math.log(high), math.log(here)
        return 0.5 if low == high else min(1.0, max(0.0, (here - low) / (high - low)))


@dataclass(frozen=True)
class Space:
    """All fields that are searched, and those that the search was told to leave at one value."""

    dimensions: tuple[Dimension, ...]

    @property
    def searched(self) -> tuple[Dimension, ...]:
        """Those with more than one value."""
        return tuple(d for d in self.dimensions if d.count != 1)

    @property
    def size(self) -> int | None:
        """How many combinations there are; None: any number."""
        counts = [d.count for d in self.dimensions]
        return None if None in counts else math.prod(c for c in counts if c is not None)

    def combinations(self) -> Iterator[dict[str, Value]]:
        """All of them, one after the other; of a finite space."""
        names = [d.name for d in self.dimensions]
        for values in itertools.product(*(d.every() for d in self.dimensions)):
            yield dict(zip(names, values, strict=True))

    def corners(self) -> Iterator[tuple[Dimension, Value, dict[str, Value]]]:
        """Every end of every field, with the first ends of all others."""
        first = {d.name: d.ends[0] for d in self.dimensions}
        for dimension in self.dimensions:
            for value in dimension.ends:
                yield dimension, value, {**first, dimension.name: value}

    def of(self, part: str, values: Values) -> dict[str, Value]:
        """The fields of one part, by their names there."""
        return {d.field: values[d.name] for d in self.dimensions if d.part == part}

    def to_list(self) -> list[dict[str, Any]]:
        """As plain values, for plans and results."""
        return [{**asdict(d), "choices": list(d.choices), "name": d.name} for d in self.dimensions]


def read_space(path: Path) -> Space:
    """The space of a TOML file.

    Raises:
        LayerwiseError: The file is not there or no TOML, a table or field is unknown, or a range
            is empty; it says which, and what would work.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LayerwiseError(f"--space {path}: no such file; check the path") from error
    except OSError as error:
        raise LayerwiseError(
            f"--space {path}: can not be read ({error.strerror}); name a TOML file"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LayerwiseError(
            f"--space {path}: is not TOML: {error}; write [training] and below it "
            "lr = { low = 1e-4, high = 1e-1, log = true }"
        ) from error
    dimensions = []
    for part, table in found.items():
        if part not in (MODEL, TRANSFER, TRAINING):
            near = nearest(part, [MODEL, TRANSFER, TRAINING])[0]
            raise LayerwiseError(
                f"--space {path}: unknown table [{part}]; the nearest one is [{near}] (a space has "
                "[model], [transfer] and [training])"
            )
        if not isinstance(table, Mapping):
            raise LayerwiseError(f"--space {path}: {part} is {table!r}; write a table, [{part}]")
        for field, value in table.items():
            where = f"--space {path}: [{part}] {field}"
            _check_field(part, field, where)
            dimensions.append(_dimension(part, field, value, where))
    if not dimensions:
        raise LayerwiseError(
            f"--space {path}: it names no field; write [training] and below it lr = "
            "{ low = 1e-4, high = 1e-1, log = true }, or leave --space out"
        )
    return Space(tuple(dimensions))


def _check_field(part: str, field: str, where: str) -> None:
    """Refuse a field of transfer or training that is none, or that can not be searched."""
    if part == MODEL:  # the network itself says what it takes
        return
    known = list(CUTS) if part == TRANSFER else [f.name for f in fields(Recipe)]
    if field not in known:
        raise LayerwiseError(
            f"{where}: unknown field; the nearest one is {nearest(field, known)[0]!r}"
        )
    if part == TRAINING and field in NOT_SEARCHED:
        raise LayerwiseError(f"{where}: leave it out: {NOT_SEARCHED[field]}")


def _dimension(part: str, field: str, value: Any, where: str) -> Dimension:  # noqa: ANN401 - TOML
    """One field of the file."""
    number = part == TRAINING and _HINTS[field] is float  # 1 means 1.0
    if isinstance(value, Mapping):
        return _range(part, field, value, where, number)
    several = value if isinstance(value, list) else [value]
    if not several:
        raise LayerwiseError(f"{where}: the list is empty; name what it may be, as in [3, 5]")
    choices = [_choice(part, one, where, number) for one in several]
    twice = next((c for i, c in enumerate(choices) if c in choices[:i]), None)
    if twice is not None:
        raise LayerwiseError(f"{where}: {twice!r} stands there twice; name each value once")
    return Dimension(part, field, tuple(choices))


def _choice(part: str, value: Any, where: str, number: bool) -> Value:  # noqa: ANN401 - TOML
    if isinstance(value, list) and part == MODEL and value:  # one a layer, as in --model-arg
        return ",".join(str(one) for one in value)
    if number and type(value) is int:
        return float(value)
    if not isinstance(value, (bool, int, float, str)):
        raise LayerwiseError(
            f"{where}: {value!r} is no value; write numbers, true or false, or text in quotes"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise LayerwiseError(f"{where}: {value} is no number to try; leave it out")
    return value


def _range(part: str, field: str, table: Mapping[str, Any], where: str, number: bool) -> Dimension:
    unknown = next((key for key in table if key not in _RANGE), None)
    if unknown is not None:
        raise LayerwiseError(
            f"{where}: unknown key {unknown!r}; the nearest one is "
            f"{nearest(unknown, _RANGE)[0]!r} (a range has low and high, and maybe step or log)"
        )
    for key in ("low", "high", *(["step"] if "step" in table else [])):
        if key not in table:
            raise LayerwiseError(f"{where}: {key} is missing; write {{ low = …, high = … }}")
        if type(table[key]) not in (int, float) or not math.isfinite(table[key]):
            raise LayerwiseError(f"{where}: {key} is {table[key]!r}; it must be a number")
    low, high, step, log = table["low"], table["high"], table.get("step"), table.get("log", False)
    whole = not number and all(type(v) is int for v in (low, high, *([step] if step else [])))
    if low > high:
        raise LayerwiseError(
            f"{where}: low is {low} and high is {high}, so that nothing lies between; exchange them"
        )
    if not isinstance(log, bool):
        raise LayerwiseError(f"{where}: log is {log!r}; write true or false")
    if log and low <= 0:
        raise LayerwiseError(
            f"{where}: low is {low}, and log = true needs one above 0; raise it, or leave log out"
        )
    if step is not None:
        if log or step <= 0:
            what = "step and log = true exclude each other" if log else f"step is {step}"
            raise LayerwiseError(f"{where}: {what}; leave one out, or give a step above 0")
        count = round((high - low) / step)
        if not math.isclose(low + count * step, high, rel_tol=1e-9, abs_tol=1e-12):
            fits = low + math.floor((high - low) / step) * step
            raise LayerwiseError(
                f"{where}: steps of {step} from {low} do not end at {high}; write high = {fits:g}"
            )
    kind = int if whole else float
    return Dimension(
        part, field, (), kind(low), kind(high), None if step is None else kind(step), log, whole
    )

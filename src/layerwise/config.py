"""Settings as frozen dataclasses and back: strict on the way in, canonical on the way out.

A plan or a recipe is edited by hand, so a misspelt key must be refused and not ignored.
"""

import dataclasses
import hashlib
import json
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from layerwise.errors import LayerwiseError

T = TypeVar("T")


def from_mapping(kind: type[T], mapping: Mapping[str, Any], where: str) -> T:
    """Build a dataclass from a mapping, nested dataclasses included.

    Args:
        kind: The dataclass.
        mapping: Its fields by name; those left out take their defaults.
        where: What the mapping was read from, for the error (a file, or a place in one).

    Raises:
        LayerwiseError: A key is unknown, a field without default is missing, or a value has
            another type than the field's.
    """
    if not isinstance(mapping, Mapping):
        raise LayerwiseError(f"{where}: expected a table of settings, got {mapping!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(mapping) - set(fields))
    if unknown:
        raise LayerwiseError(
            f"{where}: unknown setting {unknown[0]!r}; known are: {', '.join(sorted(fields))}"
        )
    hints = typing.get_type_hints(kind)
    values = {
        name: _value(hints[name], value, f"{where}: {name}") for name, value in mapping.items()
    }
    try:
        return kind(**values)
    except TypeError as error:
        raise LayerwiseError(f"{where}: {error}; add the missing setting") from error


def _value(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - any setting's type
    """One setting, checked against its field's type."""
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast("type[Any]", hint), value, where)
    if origin in (types.UnionType, typing.Union):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        return _value(next(o for o in options if o is not type(None)), value, where)
    if origin is typing.Literal:
        allowed = typing.get_args(hint)
        if value not in allowed:
            raise LayerwiseError(f"{where} is {value!r}; it must be one of {', '.join(allowed)}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise LayerwiseError(f"{where} is {value!r}; it must be a list")
        inner = typing.get_args(hint)
        each = [inner[0]] * len(value) if len(inner) == 2 and inner[1] is ... else list(inner)
        if len(each) != len(value):
            raise LayerwiseError(f"{where} is {value!r}; it must have {len(each)} values")
        return tuple(_value(h, v, where) for h, v in zip(each, value, strict=True))
    if hint is float and type(value) is int:
        return float(value)
    if hint in (int, float, str, bool) and type(value) is not hint:
        raise LayerwiseError(f"{where} is {value!r}; it must be of type {hint.__name__}")
    return value


def to_mapping(settings: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass
    """A dataclass as plain JSON-able values."""
    return typing.cast("dict[str, Any]", json.loads(json.dumps(dataclasses.asdict(settings))))


def content_key(value: Any) -> str:  # noqa: ANN401 - any JSON-able value
    """The sha256 (hex) of a JSON-able value's canonical form: equal values, equal keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """A JSON file; LayerwiseError naming the file when it is absent or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LayerwiseError(f"{path}: no such file; check the path") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise LayerwiseError(
            f"{path}: not readable as JSON ({error}); mend or remove it"
        ) from error


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - any JSON-able value
    """Write a JSON file so that a crash leaves the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)


def cache_folder(named: Path | None = None) -> Path:
    """Where what many commands use again is kept: as named, else where the user's settings say."""
    if named is not None:
        return named
    if "LAYERWISE_CACHE" in os.environ:
        return Path(os.environ["LAYERWISE_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "layerwise"

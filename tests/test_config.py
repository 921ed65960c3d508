"""Settings: strict on the way in, canonical on the way out."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from layerwise import config
from layerwise.errors import LayerwiseError


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    name: str
    size: tuple[int, int] = (1, 2)
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()
    text: str | None = None
    free: dict[str, int] = field(default_factory=dict)


def test_a_mapping_and_back():
    value = Outer("x", (3, 4), Inner(1.0, "b"), (Inner(), Inner(2.0)), None, {"k": 1})
    assert config.from_mapping(Outer, config.to_mapping(value), "file") == value


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"name": "x", "nmae": 1}, "file: unknown setting 'nmae'; known are: free, inner"),
        ({"name": "x", "inner": {"rat": 1}}, "file: inner: unknown setting 'rat'"),
        ({"name": "x", "inner": {"rate": "fast"}}, "rate is 'fast'; it must be of type float"),
        ({"name": "x", "inner": {"kind": "c"}}, "kind is 'c'; it must be one of a, b"),
        ({"name": 3}, "name is 3; it must be of type str"),
        ({"name": "x", "size": [1]}, "it must have 2 values"),
        ({"name": "x", "many": [{"rate": True}]}, "it must be of type float"),
        ({}, "name"),
    ],
)
def test_what_does_not_fit_is_named(mapping, message):
    with pytest.raises(LayerwiseError, match=message):
        config.from_mapping(Outer, mapping, "file")


def test_equal_content_has_equal_keys_whatever_the_order():
    assert config.content_key({"a": 1, "b": [1.5]}) == config.content_key({"b": [1.5], "a": 1})
    assert config.content_key({"a": 1}) != config.content_key({"a": 2})


def test_damaged_json_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "plan.json"
    with pytest.raises(LayerwiseError, match=r"plan\.json: no such file"):
        config.read_json(path)
    path.write_text("{")
    with pytest.raises(LayerwiseError, match=r"plan\.json: not readable as JSON"):
        config.read_json(path)

"""The public surface is a decision: what `layerwise` exports, and nothing by accident."""

import ast
import importlib
from pathlib import Path

import pytest

import layerwise

PACKAGE = Path(layerwise.__file__).parent

PUBLIC = {
    "LayerwiseClassifier",
    "LayerwiseError",
    "Recipe",
    "Transfer",
    "__version__",
    "cut_points",
    "split",
    "truncate",
}


def test_all_is_the_decision():
    assert layerwise.__all__ == sorted(layerwise.__all__)
    assert set(layerwise.__all__) == PUBLIC


def test_every_name_is_there_and_star_import_gives_just_these():
    for name in layerwise.__all__:
        assert getattr(layerwise, name) is not None
    space: dict[str, object] = {}
    exec("from layerwise import *", space)
    assert set(space) - {"__builtins__"} == PUBLIC


def test_names_that_are_not_exported_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        _ = layerwise.Trainer
    assert set(layerwise._HOME) == PUBLIC - {"__version__"}


def declared() -> list[tuple[str, list[str]]]:
    """Every module of ours with an `__all__`, read without running it."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]
            if "__all__" in names:
                parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
                module = ".".join(p for p in parts if p != "__init__")
                found.append((module, ast.literal_eval(node.value)))
    return found


@pytest.mark.parametrize(("module", "names"), declared())
def test_every_declared_name_exists_once(module, names):
    assert len(set(names)) == len(names)
    loaded = importlib.import_module(module)
    assert [name for name in names if not hasattr(loaded, name)] == []

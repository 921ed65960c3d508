"""The recipes that ship: each is read by the command it names, and says what to expect of it."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

from layerwise.cli.main import app
from layerwise.cli.output import Output
from layerwise.cli.pipeline_steps import Steps
from layerwise.serving.pipeline.recipe import recipe_of

ROOT = Path(__file__).resolve().parents[1]
ALL = sorted(p for p in (ROOT / "recipes").glob("*.toml") if not p.stem.endswith("-groups"))
PIPELINES = [p for p in ALL if p.stem.startswith("pipeline-")]
RECIPES = [p for p in ALL if p not in PIPELINES]


def test_there_are_some() -> None:
    assert RECIPES and PIPELINES


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_its_own_command_reads_it(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(recipe.read_text().splitlines()[0].removeprefix("# "))
    assert words[:2] == ["layerwise", "study"]
    assert words[words.index("--recipe") + 1] == f"recipes/{recipe.name}"
    command = typer.main.get_command(app).commands["study"].commands[words[2]]
    context = command.make_context(words[2], words[3:])
    said = tomllib.loads(recipe.read_text())
    said.pop("training", None)
    negated = {word[2:].replace("-", "_"): p.name for p in command.params for word in p.opts}
    assert said
    for key, value in said.items():
        found = context.params[negated[key]]
        assert str(found) == str(value) if isinstance(value, str) else found == value


@pytest.mark.parametrize("recipe", PIPELINES, ids=lambda path: path.stem)
def test_a_pipeline_reads_its_own(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every table is checked against the flags of its command when the steps are made."""
    monkeypatch.chdir(ROOT)
    words = shlex.split(recipe.read_text().splitlines()[0].removeprefix("# "))
    assert words[:3] == ["layerwise", "pipeline", f"recipes/{recipe.name}"]
    typer.main.get_command(app).commands["pipeline"].make_context("pipeline", words[2:])
    said = recipe_of(tomllib.loads(recipe.read_text()), recipe.name)
    steps = Steps(said, recipe.name, Path("out"), Path("cache"), Output()).all()
    assert [step.name for step in steps][:3] == ["audit", "split", "fit"]


@pytest.mark.parametrize("recipe", ALL, ids=lambda path: path.stem)
def test_it_says_how_long_it_takes_and_what_to_expect(recipe: Path) -> None:
    head = re.match(r"(?:#.*\n)+", recipe.read_text())
    assert head is not None
    text = re.sub(r"\n# +", " ", head.group())
    assert re.search(r"Time: \d+", text)
    assert re.search(r"Expected: .*\d\.\d{3} \(95% \d\.\d{3} to \d\.\d{3}\)", text)

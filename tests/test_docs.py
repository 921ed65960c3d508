"""The documentation in step with the code: every file, flag, key and link is there."""

import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import typer

from layerwise.cli.main import app
from layerwise.studies.plan import Plan, PlannedRun
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_file_is_in_the_architecture():
    tree = text("docs/architecture.md")
    files = [p for p in (ROOT / "src" / "layerwise").rglob("*.*") if "__" not in str(p)]
    names = {p.stem if p.parent.name == "sources" else p.name for p in files}
    assert len(names) > 50
    assert {name for name in names if not re.search(rf"\b{re.escape(name)}\b", tree)} == set()


def test_every_file_of_the_architecture_is_there():
    block = text("docs/architecture.md").partition("src/layerwise/\n")[2].partition("```")[0]
    named = set(re.findall(r"\b\w+\.(?:py|html|css|js)\b", block))
    assert named - {p.name for p in (ROOT / "src").rglob("*.*")} == set()


def test_every_flag_of_fit_is_explained():
    command = typer.main.get_command(app).commands["fit"]
    flags = {o for p in command.params for o in p.opts if o.startswith("--")} - {"--help"}
    said = text("docs/fit.md") + text("docs/data.md")
    assert {flag for flag in flags if f"`{flag}" not in said} == set()


def test_every_command_is_in_the_readme():
    named = {name for name in typer.main.get_command(app).commands if name != "demo"}
    assert {name for name in named if f"layerwise {name}" not in text("README.md")} == set()
    assert "scripts/demo" in text("README.md")


@pytest.mark.parametrize("kind", [Plan, PlannedRun, Recipe, Transfer])
def test_every_key_of_a_plan_is_explained(kind):
    names = {field.name for field in dataclasses.fields(kind)}
    said = text("docs/fit.md")
    assert {name for name in names if f"`{name}`" not in said} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_the_picture_is_whole():
    """It has words for those who do not see it, colours for both schemes, and asks for nothing."""
    drawn = text("docs/dataflow.svg")
    root = ElementTree.fromstring(drawn)
    tags = [element.tag.rpartition("}")[2] for element in root]
    assert tags[:2] == ["title", "desc"] and tags.count("rect") >= 10
    assert "prefers-color-scheme: dark" in drawn
    assert re.findall(r"(?:href|src|url)\s*[=(]\s*[\"']?(?!#)", drawn) == []

"""The workflow template: the same pipeline, started by GitHub on new data or new code."""

import json
from importlib.resources import files
from pathlib import Path

RECIPE, OUT = '"pipeline.toml"', '"pipeline"'  # in the template


def workflow_for(recipe: Path, out: Path) -> str:
    """The template for a recipe and the folder it works in, as YAML.

    Args:
        recipe: Its path in the repository.
        out: The pipeline's folder on the runner.
    """
    template = (files(__package__) / "workflow.yml").read_text(encoding="utf-8")
    # A JSON string is a YAML string, whatever is in it.
    filled = template.replace(RECIPE, json.dumps(recipe.as_posix()))
    return filled.replace(f"OUT: {OUT}", f"OUT: {json.dumps(out.as_posix())}")

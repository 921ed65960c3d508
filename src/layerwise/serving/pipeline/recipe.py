"""What a pipeline's TOML file says: a table for each step."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from layerwise.config import from_mapping
from layerwise.errors import LayerwiseError


@dataclass(frozen=True)
class Deploy:
    """The table [deploy]."""

    command: tuple[str, ...] = ()  # a program and its arguments, run without a shell
    url: str | None = None  # of the server that should show the new bundle
    key_env: str = "LAYERWISE_API_KEY"  # the environment variable with its key
    timeout: float = 60.0  # seconds, for the command and again for the server


@dataclass(frozen=True)
class Recipe:
    """The whole file. Tables of commands have the commands' flags as keys."""

    data: dict[str, Any] = field(default_factory=dict)  # DATA, and how it is read
    fit: dict[str, Any] = field(default_factory=dict)  # the flags of `layerwise fit`
    evaluate: dict[str, Any] = field(default_factory=dict)  # of `layerwise evaluate`
    promote: dict[str, Any] | None = None  # of `layerwise promote`; None: it ends before that
    deploy: Deploy | None = None  # None: it ends with the registry's switch
    out: str | None = None  # the folder of the pipeline; --out goes before it
    keep: int = 5  # so many folders of each step stay; 0: all


def recipe_of(said: dict[str, Any], where: str) -> Recipe:
    """The recipe that a TOML file says.

    Args:
        said: The file's content.
        where: The file, for the errors.

    Raises:
        LayerwiseError: A setting is unknown, missing, or of another kind.
    """
    recipe = from_mapping(Recipe, said, where)
    for name in ("data", "fit", "evaluate", "promote"):
        table = getattr(recipe, name)
        if table is not None and not isinstance(table, dict):
            raise LayerwiseError(f"{where}: {name} is {table!r}; write a table, [{name}]")
    if not isinstance(recipe.data.get("data"), str):
        raise LayerwiseError(
            f'{where}: [data] says no data; add data = "PATH", what you would give `layerwise fit`'
        )
    if recipe.promote is not None and not isinstance(recipe.promote.get("registry"), str):
        raise LayerwiseError(
            f'{where}: [promote] says no registry; add registry = "DIR", which the first '
            "promotion makes"
        )
    if recipe.keep < 0:
        raise LayerwiseError(f"{where}: keep is {recipe.keep}; write how many folders stay, 0: all")
    if recipe.deploy is not None:
        _check_deploy(recipe, recipe.deploy, where)
    return recipe


def _check_deploy(recipe: Recipe, deploy: Deploy, where: str) -> None:
    if recipe.promote is None:
        raise LayerwiseError(
            f"{where}: [deploy] goes with [promote], which switches the registry; add that"
        )
    if deploy.timeout <= 0:
        raise LayerwiseError(f"{where}: [deploy] timeout is {deploy.timeout:g}; write seconds")
    url = urlsplit(deploy.url or "http://server")
    if url.scheme not in ("http", "https") or not url.netloc or url.path.strip("/"):
        raise LayerwiseError(
            f"{where}: [deploy] url is {deploy.url!r}; write it like http://127.0.0.1:8000"
        )

"""Flags that all studies share, and the recipe file that gives flags their values."""

from __future__ import annotations

import inspect
import tomllib
import types
import typing
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from layerwise.cli import flags
from layerwise.errors import LayerwiseError
from layerwise.models.names import nearest

if TYPE_CHECKING:
    from layerwise.studies.prepare import Request
    from layerwise.training.recipe import Recipe as TrainingRecipe

TRAINING = "training"  # the recipe file's table of how networks learn
MOST_WORKERS = 8  # each holds the network and its gradients in memory
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: 'text in "quotes"'}


def _read_recipe(context: typer.Context, path: Path | None) -> Path | None:
    """Let the file's values be the defaults of the flags: the command line goes before them."""
    if path is None:
        return None
    known = keys_of(context.command)
    values: dict[str, Any] = {}
    for key, value in read_toml(path).items():
        where = f"{path}: {key}"
        if key == TRAINING:
            if not isinstance(value, dict):
                raise LayerwiseError(f"{where} is {_toml(value)}; write a table, [{TRAINING}]")
            context.meta[TRAINING] = value  # for `training_recipe`
        elif key in known:
            name, hint, negative = known[key]
            value = checked(value, hint, where)
            values[name] = not value if negative else value
        else:
            meant = nearest(key, [*known, TRAINING])[0]
            raise LayerwiseError(
                f"{path}: unknown key {key!r}; the nearest one is {meant!r} (keys are the flags "
                f"of {context.command_path}, and the table [{TRAINING}])"
            )
    context.default_map = {**(context.default_map or {}), **values}
    return path


Workers = Annotated[
    int,
    typer.Option(
        min=0,
        help="Runs at a time, each in a process of its own; 0: one a core, at most "
        f"{MOST_WORKERS}; on a GPU one.",
        show_default=False,
    ),
]
Repeats = Annotated[
    Optional[int],  # noqa: UP007, UP045 - Typer reads these when a command is defined
    typer.Option(min=1, help="How often everything is trained, with other seeds."),
]
Epochs = Annotated[
    Optional[int],  # noqa: UP007, UP045
    typer.Option(min=1, help="Passes over the training part, of every run."),
]
Quick = Annotated[bool, typer.Option("--quick", help="A smaller study that answers in minutes.")]
Recipe = Annotated[
    Optional[Path],  # noqa: UP007, UP045
    typer.Option(
        metavar="FILE.toml",
        is_eager=True,
        callback=_read_recipe,
        help="The flags of this command as a file; what is typed here goes before it.",
    ),
]


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dictionary.

    Raises:
        LayerwiseError: It is not there, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LayerwiseError(f"{path}: no such file; check the path to the recipe") from error
    except OSError as error:
        raise LayerwiseError(
            f"{path}: can not be read ({error.strerror}); name a TOML file"
        ) from error
    except UnicodeDecodeError as error:
        raise LayerwiseError(f"{path}: is not text ({error}); name a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise LayerwiseError(
            f'{path}: is not TOML: {error}; text stands in "quotes", lists in [brackets]'
        ) from error


def training_recipe(
    context: typer.Context, augment: str, base: TrainingRecipe | None = None
) -> TrainingRecipe:
    """How the runs of a study are trained.

    A flag of the command line goes before the recipe file, and the file before `base`.

    Args:
        context: Of the command; its flags that are settings of a `Recipe` too count, if given.
        augment: The preset that `--augment` came to (`Prepared.augment`).
        base: What holds where nothing is said; None: the defaults of `Recipe`.

    Raises:
        LayerwiseError: A setting of the table `[training]` is unknown or has a wrong value, or
            the settings contradict each other.
    """
    from layerwise.config import from_mapping
    from layerwise.training.recipe import Recipe, with_settings

    asked = {**_training_settings(context), "augment": augment}
    settings = with_settings(asdict(base or Recipe()), asked)
    return from_mapping(Recipe, settings, _place(context))


def request_of(context: typer.Context, **changes: Any) -> Request:  # noqa: ANN401 - its fields
    """What the flags ask for: data, network, weights, split.

    Args:
        context: Of the command; flags that it has not take the defaults of `Request`.
        changes: Fields of `Request` that the command has worked out itself.

    Raises:
        LayerwiseError: A flag, or the table `[training]`, is wrong.
    """
    from layerwise.studies.prepare import Request

    given = {**context.params, **_training_settings(context)}
    names = {field.name for field in fields(Request)}
    values = {k: v for k, v in given.items() if k in names and v is not None}
    values |= {
        "cache": flags.cache_folder(given.get("cache")),
        "options": flags.data_options(context.params),
        "arguments": flags.parse_pairs(given.get("model_arg") or ()),
        "augment": flags.parse_augment(given.get("augment") or "auto"),
        "balance": _balance(given.get("balance")),
        "threads": flags.thread_count(given.get("threads") or 0),
    }
    if given.get("budget"):
        values["seconds"] = flags.parse_time(given["budget"])
    request = Request(**{**values, **changes})
    # What is wrong with [training] is said before anything is decoded.
    training_recipe(context, "radiograph" if request.augment == "auto" else request.augment)
    return request


def worker_count(flag: int, threads: int) -> int:
    """How many runs are made at a time: the flag, or one a thread, at most 8; on a GPU one.

    Args:
        flag: `--workers`.
        threads: Of the whole command, shared by the workers.
    """
    if flag:
        return flag
    import torch

    return 1 if torch.cuda.is_available() else max(1, min(threads, MOST_WORKERS))


def _place(context: typer.Context) -> str:
    """What an error about the way of training names."""
    path = context.params.get("recipe")
    return f"{path}: [{TRAINING}]" if path else "the flags of training"


def _training_settings(context: typer.Context) -> dict[str, Any]:
    """What flags and the table `[training]` say of a recipe; without what nobody said."""
    from layerwise.training.recipe import Recipe

    names = [field.name for field in fields(Recipe)]
    settings = dict(context.meta.get(TRAINING, {}))
    for name in settings:
        if name not in names:
            meant = f"the nearest one is {nearest(name, names)[0]!r}"
            if name in context.params:
                meant = f"it is a flag, so write it above [{TRAINING}]"
            raise LayerwiseError(f"{_place(context)}: unknown setting {name!r}; {meant}")
    for name in set(names) & set(context.params):
        source = context.get_parameter_source(name)
        if source is None or source.name == "DEFAULT":
            continue
        if source.name == "DEFAULT_MAP" and name in settings:
            raise LayerwiseError(
                f"{_place(context)}: {name} stands above it and in it; keep one of them"
            )
        settings[name] = context.params[name]
    if "balance" in settings:
        settings["balance"] = _balance(settings["balance"])
    return settings


def _balance(said: Any) -> Any:  # noqa: ANN401 - a flag's list or a file's word
    """The one way of balancing: a repeatable flag's, or one word of a file."""
    return flags.parse_balance([said] if isinstance(said, str) else said or [])


def keys_of(command: Any) -> dict[str, tuple[str, Any, bool]]:  # noqa: ANN401 - click's, private
    """The keys that a recipe of a command may have: (parameter, type, whether it negates)."""
    callback = command.callback
    assert callback is not None
    hints = typing.get_type_hints(inspect.unwrap(callback))
    keys = {}
    for parameter in command.params:
        name = parameter.name
        if name is None or name not in hints or name == "recipe":
            continue
        if parameter.param_type_name == "argument":
            keys[name] = (name, hints[name], False)
            continue
        for words, negative in ((parameter.opts, False), (parameter.secondary_opts, True)):
            for word in words:
                if word.startswith("--"):
                    keys[word[2:].replace("-", "_")] = (name, hints[name], negative)
    return keys


def checked(value: Any, hint: Any, where: str) -> Any:  # noqa: ANN401 - any flag's value
    """A value of a recipe, if it is of the flag's type; LayerwiseError if not."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(inner for inner in typing.get_args(hint) if inner is not type(None))
    if typing.get_origin(hint) in (list, tuple):
        if not isinstance(value, list):
            raise LayerwiseError(
                f"{where} is {value!r}; the flag is repeatable, so write a list: [{_toml(value)}]"
            )
        return [checked(each, typing.get_args(hint)[0], where) for each in value]
    if hint is float and type(value) is int:
        return float(value)
    wanted = hint if hint in (bool, int, float) else str
    if type(value) is not wanted:
        hint = f", {_toml(str(value))}" if wanted is str and type(value) in (int, float) else ""
        raise LayerwiseError(f"{where} is {_toml(value)}; it must be {_WORDS[wanted]}{hint}")
    return value


def _toml(value: Any) -> str:  # noqa: ANN401 - any TOML value
    """A value as one writes it in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)

"""`layerwise get`: public data sets, fetched through their own clients and checked by digest."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output
from layerwise.cli.table import aligned

if TYPE_CHECKING:
    from layerwise.data.get.download import Got


def get(
    name: Annotated[
        Optional[str],  # noqa: UP007, UP045 - Typer reads it
        typer.Argument(help="A public set; without one all are listed.", show_default=False),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="The folder above all sets; this one goes into its NAME.")
    ] = Path("data"),
    size: Annotated[
        Optional[int],  # noqa: UP007, UP045
        typer.Option(help="Pixels of a side of a MedMNIST set: 28, 64, 128 or 224. Default: 28."),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the sets.")] = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Public data sets, fetched through their own clients and checked by digest.

    What is there already is checked and not downloaded again. Needs the extra "get".
    """
    output = Output(json=json, quiet=quiet)
    if name is None or listed:
        _list(output)
        return
    from layerwise.data.get.download import get as fetch

    bars = sys.stderr.isatty() and not quiet
    got = fetch(name, out, size, output.say, output.track, bars=bars)
    following = _next(got)
    commands = [shlex.join(words) for words in following]
    chosen = got.chosen
    output.text(
        f"{got.data}\n\n{chosen.name}: {chosen.what}\nlicence: {chosen.licence}\n"
        f"cite:    {chosen.cite}\n\nnext:\n" + "\n".join(f"  {line}" for line in commands)
    )
    output.result(
        {
            "name": chosen.name,
            "data": str(got.data),
            "folder": str(got.folder),
            "fetched": got.fetched,
            "licence": chosen.licence,
            "cite": chosen.cite,
            "next": following,
        }
    )


def _next(got: Got) -> list[list[str]]:
    """The commands to type next, word by word."""
    flags_of_set = [word.replace("{folder}", str(got.folder)) for word in got.chosen.flags]
    place = str(Path("results") / got.chosen.name)
    return [
        ["layerwise", verb, str(got.data), *flags_of_set, "--out", place]
        for verb in ("inspect", "fit")
    ]


def _list(output: Output) -> None:
    """All sets: a table for people, everything for machines."""
    from layerwise.data.get.catalogue import SETS

    rows: list[list[Any]] = [["name", "pictures", "fetched by", "key", "licence", "what"]]
    for one in SETS.values():
        words = [one.client.partition(" comp")[0], one.key, one.licence, one.what]
        rows.append([one.name, f"{one.images:,}", *words])
    output.text(
        aligned(rows) + "\n\nMedMNIST comes in --size 28, 64, 128 and 224. Look at the terms of a "
        "set before you use it;\n`layerwise get --list --json` has the pages."
    )
    output.result({"sets": [vars(one) for one in SETS.values()]})

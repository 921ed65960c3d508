"""`layerwise rollback`: the champion before this one again, or another; and the history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output
from layerwise.cli.promote import Where

if TYPE_CHECKING:
    from layerwise.serving.registry.registry import Registry


def rollback(
    registry: Where,
    to: Annotated[
        str | None,
        typer.Option(metavar="ID", help="A bundle that was champion, or the beginning of its id."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    show: Annotated[
        bool, typer.Option("--list", help="Show the champion and the history; change nothing.")
    ] = False,
    cache: flags.Cache = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Make the champion before this one the champion again.

    Nothing is deleted: --to goes to any bundle that was ever champion, forward again too.
    """
    from layerwise import __version__
    from layerwise.serving.registry.registry import open_registry

    output = Output(json=json, quiet=quiet)
    kept = open_registry(registry, cache=flags.cache_folder(cache))
    summary: dict[str, Any] = {
        "layerwise": __version__,
        "command": "rollback",
        "registry": registry,
    }
    if show:
        output.text(_table(kept))
        output.result(summary | {"champion": kept.champion(), "history": kept.history()})
        return
    entry = kept.rollback(to, {"reasons": [reason] if reason else []})
    output.text(f"champion: {entry['champion']} (was {entry['previous']})")
    output.result(summary | {"champion": entry["champion"], "entry": entry})


def _table(registry: Registry) -> str:
    """The history, the newest first."""
    champion = registry.champion()
    lines = [f"champion: {champion or 'none'}"]
    for entry in reversed(registry.history()):
        lines.append(
            f"{entry['number']:>4}  {entry['time']}  {entry['action']:<8}  {entry['bundle']}  "
            f"→ {entry['champion'] or 'none'}"
        )
    return "\n".join(lines)

"""`layerwise verify`: whether a bundle is whole and harmless. It needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output

if TYPE_CHECKING:
    from layerwise.serving.verify import Verified


def verify(
    bundle: Annotated[Path, typer.Argument(help="The folder of a bundle.", show_default=False)],
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Check a bundle: every file, then what its graphs may do, then one blank picture.

    Nothing of it is run before all else has been checked. A bundle that is not as it was written,
    or that could do harm, is refused with exit code 2.
    """
    from layerwise.serving.bundle import Bundle
    from layerwise.serving.verify import verify as check

    output = Output(json=json, quiet=quiet)
    found = check(bundle)
    Bundle.load(bundle, threads=1)
    summary = _summary(found)
    output.text(_text(bundle, summary))
    output.result(summary)


def _summary(found: Verified) -> dict[str, Any]:
    """What there is to say of it, JSON-able."""
    from layerwise import __version__
    from layerwise.config import to_mapping

    info = found.info
    return {
        "layerwise": __version__,
        "command": "verify",
        "ok": True,
        "id": found.id,
        "name": info.name,
        "format": found.format,
        "written_by": found.version,
        "task": info.task,
        "labels": list(info.labels),
        "licence": info.provenance.get("licence", "unknown"),
        "data_fingerprint": info.provenance.get("data_fingerprint"),
        "files": {name: to_mapping(file) for name, file in sorted(found.files.items())},
        "explains": (info.explanation or {}).get("cut"),
        "quantised": info.quantised is not None,
    }


def _text(bundle: Path, summary: dict[str, Any]) -> str:
    """What a person is told."""
    lines = [
        f"{bundle}: whole. {summary['name']}, id {summary['id']}, written by Layerwise "
        f"{summary['written_by']} (format {summary['format']})"
    ]
    for name, file in summary["files"].items():
        size = "" if file["bytes"] is None else f", {file['bytes']:,} bytes"
        lines.append(f"  {name}: sha256 {file['sha256'][:16]}…{size}")
    lines.append(f"licence of the weights: {summary['licence']}")
    return "\n".join(lines)

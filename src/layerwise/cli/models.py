"""`layerwise models`: the networks, and of one its size and the places where it may be cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output
from layerwise.cli.table import aligned
from layerwise.errors import ModelError

if TYPE_CHECKING:
    from layerwise.models.catalogue import Entry
    from layerwise.models.cuts import Cut
    from layerwise.models.presets import Preset
    from layerwise.models.registry import Network


def models(
    name: Annotated[
        Optional[str],  # noqa: UP007, UP045 - Typer reads it
        typer.Argument(
            help="A network, or a pattern with * or ?; without one all are listed.",
            show_default=False,
        ),
    ] = None,
    cuts: Annotated[
        bool, typer.Option("--cuts", help="Show every place where one network may be cut.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="List those that can not be used too, with the reason.")
    ] = False,
    labels: Annotated[
        Optional[int],  # noqa: UP007, UP045
        typer.Option(min=1, help="How many outputs one network has.  [default: 1]"),
    ] = None,
    model_arg: flags.ModelArg = [],  # noqa: B006 - Typer copies it
    image_size: flags.ImageSize = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """The networks; of one: parameters, input size, and its cuts from bottom to top.

    A cut is marked with a block where the depth profile of `layerwise fit` puts a probe, and with
    a preset where the literature has a name for the network below it.
    """
    arguments = flags.parse_pairs(model_arg)
    output = Output(json=json, quiet=quiet)
    if name is None or "*" in name or "?" in name:
        given = {"--cuts": cuts, "--labels": labels, "--model-arg": arguments}
        for flag in [
            flag for flag, value in (given | {"--image-size": image_size}).items() if value
        ]:
            raise ModelError(f"{flag} is for one network: `layerwise models NAME {flag} …`")
        _list(name, every=every, output=output)
        return
    from layerwise.models.registry import blank

    network = blank(name, outputs=labels or 1, image_size=image_size, arguments=arguments)
    _describe(network, labels or 1, show_cuts=cuts, output=output)


def _list(pattern: str | None, *, every: bool, output: Output) -> None:
    """The networks of the catalogue; those that can not be used stand last."""
    from layerwise.models.catalogue import brought_up_to_date, fits, read
    from layerwise.models.names import nearest

    catalogue = read()
    known, note = brought_up_to_date(catalogue)
    found = [entry for entry in known if pattern is None or fits(entry.name, pattern)]
    if pattern is not None and not found:
        words = pattern.replace("*", "").replace("?", "")
        near = ", ".join(nearest(words, [entry.name for entry in known]))
        raise ModelError(
            f"no network's name fits {pattern!r}; near to it are {near} "
            "(`layerwise models` lists all)"
        )
    usable = [entry for entry in found if not entry.reason]
    refused = [entry for entry in found if entry.reason]
    if usable:
        output.text(_networks(usable))
    if refused and (every or pattern is not None):
        rows = [["can not be used", "why"], *([one.name, one.reason] for one in refused)]
        output.text(("\n" if usable else "") + aligned(rows))
    elif refused:
        output.say(f"{len(refused)} more can not be used: `layerwise models --all` says why")
    bare = sum(not entry.measured for entry in found)
    if bare:
        output.say(f"{bare} are not in the table of numbers: `layerwise models NAME` computes them")
    if note:
        output.say(note)
    output.result(
        {
            "models": [entry.name for entry in found],
            "versions": catalogue.versions,
            "networks": [_row(entry) for entry in found],
        }
    )


def _networks(entries: list[Entry]) -> str:
    """One line a network."""
    from layerwise.models.presets import presets_of

    heading = ["network", "parameters", "G multiply–adds", "input", "cuts", "blocks", "presets"]
    rows: list[list[Any]] = [heading]
    for entry in entries:
        named = ", ".join(preset.name for preset in presets_of(entry.name))
        numbers = ["–"] * 5
        if entry.parameters:
            giga, size = f"{entry.macs / 1e9:.2f}", f"{entry.height}×{entry.width}"
            numbers = [f"{entry.parameters:,}", giga, size, str(entry.cuts), str(entry.blocks)]
        rows.append([entry.name, *numbers, named])
    return aligned(rows)


def _row(entry: Entry) -> dict[str, Any]:
    """A network of the list for a machine."""
    from layerwise.models.presets import presets_of

    if entry.reason:
        return {"name": entry.name, "reason": entry.reason}
    if not entry.parameters:
        return {"name": entry.name}
    return {
        "name": entry.name,
        "parameters": entry.parameters,
        "macs": entry.macs,
        "input": {"channels": entry.channels, "height": entry.height, "width": entry.width},
        "cuts": entry.cuts,
        "blocks": entry.blocks,
        "presets": [preset.name for preset in presets_of(entry.name)],
    }


def _describe(network: Network, labels: int, *, show_cuts: bool, output: Output) -> None:
    """One network, computed anew."""
    from layerwise.models.cuts import survey
    from layerwise.models.presets import presets_of

    contract = network.contract
    found, macs = survey(network.module, (contract.channels, contract.height, contract.width))
    parameters = sum(p.numel() for p in network.module.parameters())
    presets = presets_of(network.name)
    outputs = "1 output" if labels == 1 else f"{labels} outputs"
    size = f"{contract.channels} × {contract.height} × {contract.width}"
    lines = [
        network.name,
        f"  parameters     {parameters:,} (with {outputs})",
        f"  multiply–adds  {macs:,}",
        f"  input          {size} (channels, height, width)",
        f"  cuts           {len(found)}, of which {sum(c.block for c in found)} are ends of blocks",
    ]
    if presets:
        lines.append("  presets        " + ", ".join(f"{p.name} = {p.cut}" for p in presets))
    output.text("\n".join(lines))
    if show_cuts:
        output.text(_cuts(found, presets))
    output.result(
        {
            "name": network.name,
            "parameters": parameters,
            "macs": macs,
            "labels": labels,
            "input": {
                "channels": contract.channels,
                "height": contract.height,
                "width": contract.width,
            },
            "cuts": [vars(cut) for cut in found],
            "presets": [{"name": preset.name, "cut": preset.cut} for preset in presets],
        }
    )


def _cuts(found: list[Cut], presets: tuple[Preset, ...]) -> str:
    """One line a cut, bottom to top."""
    named = {preset.cut: preset.name for preset in presets}
    heading = ["cut", "block", "channels", "stride", "parameters", "multiply–adds"]
    rows: list[list[Any]] = [heading + ["preset"] * bool(named)]
    for cut in found:
        block, stride = "•" if cut.block else "", cut.stride or "–"
        row = [cut.name, block, cut.channels, stride, f"{cut.parameters:,}", f"{cut.macs:,}"]
        rows.append(row + [named.get(cut.name, "")] * bool(named))
    return "\n" + aligned(rows)

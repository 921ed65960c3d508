"""`layerwise models`: the networks, and of one its size and the places where it may be cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from layerwise.cli import flags
from layerwise.cli.output import Output
from layerwise.cli.table import aligned

if TYPE_CHECKING:
    from layerwise.models.cuts import Cut


def models(
    name: Annotated[
        Optional[str],  # noqa: UP007, UP045 - Typer reads it
        typer.Argument(help="A network; without one all names are listed.", show_default=False),
    ] = None,
    cuts: Annotated[
        bool, typer.Option("--cuts", help="Show every place where it may be cut.")
    ] = False,
    labels: Annotated[int, typer.Option(min=1, help="How many outputs it has.")] = 1,
    model_arg: flags.ModelArg = [],  # noqa: B006 - Typer copies it
    image_size: flags.ImageSize = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """The networks; of one: parameters, input size, and its cuts from bottom to top.

    A cut is marked with a block where the depth profile of `layerwise fit` puts a probe.
    """
    arguments = flags.parse_pairs(model_arg)
    output = Output(json=json, quiet=quiet)
    if name is None:
        from layerwise.models.registry import available

        names = available()
        output.text("\n".join(names))
        output.result({"models": names})
        return
    from layerwise.models.cuts import cut_points
    from layerwise.models.registry import create

    network = create(name, outputs=labels, image_size=image_size, arguments=arguments)
    contract = network.contract
    size = (contract.channels, contract.height, contract.width)
    found = cut_points(network.module, size)
    parameters = sum(p.numel() for p in network.module.parameters())
    output.text(_described(name, parameters, labels, size, found))
    if cuts:
        output.text(_table(found))
    output.result(
        {
            "name": name,
            "parameters": parameters,
            "labels": labels,
            "input": {"channels": size[0], "height": size[1], "width": size[2]},
            "cuts": [vars(cut) for cut in found],
        }
    )


def _described(
    name: str, parameters: int, labels: int, size: tuple[int, int, int], found: list[Cut]
) -> str:
    """The network in four lines."""
    probes = sum(cut.block for cut in found)
    what = "1 output" if labels == 1 else f"{labels} outputs"
    return "\n".join(
        [
            name,
            f"  parameters  {parameters:,} (with {what})",
            f"  input       {size[0]} × {size[1]} × {size[2]} (channels, height, width)",
            f"  cuts        {len(found)}, of which {probes} are ends of blocks",
        ]
    )


def _table(found: list[Cut]) -> str:
    """One line a cut, bottom to top."""
    rows: list[list[Any]] = [["cut", "block", "channels", "stride", "parameters", "multiply–adds"]]
    for cut in found:
        block, stride = "•" if cut.block else "", cut.stride or "–"
        rows.append([cut.name, block, cut.channels, stride, f"{cut.parameters:,}", f"{cut.macs:,}"])
    return "\n" + aligned(rows)

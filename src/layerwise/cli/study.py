"""`layerwise study`: the experiments of the papers on anyone's images, one command each."""

import typer

from layerwise.cli.baselines import baselines
from layerwise.cli.depth import depth
from layerwise.cli.ensemble import ensemble
from layerwise.cli.gain import gain
from layerwise.cli.heads import heads
from layerwise.cli.search import search
from layerwise.cli.transferability import transferability

study = typer.Typer(
    name="study",
    help="The papers' experiments on your images: each is a list of runs that can be resumed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
study.command()(transferability)
study.command()(gain)
study.command()(depth)
study.command()(heads)
study.command()(baselines)
study.command()(search)
study.command()(ensemble)

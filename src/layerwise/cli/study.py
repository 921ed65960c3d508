"""`layerwise study`: the experiments of the papers on anyone's images, one command each."""

from importlib import import_module
from importlib.util import find_spec

import typer

study = typer.Typer(
    name="study",
    help="The papers' experiments on your images: each is a list of runs that can be resumed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@study.callback()
def _start() -> None:
    """The papers' experiments on your images: each is a list of runs that can be resumed."""


for _name in ("transferability", "gain", "depth"):
    if find_spec(f"layerwise.cli.{_name}") is not None:
        study.command()(getattr(import_module(f"layerwise.cli.{_name}"), _name))

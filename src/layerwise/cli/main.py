"""The command `layerwise`: its commands, and how every failure leaves the program.

The files of the commands import nothing heavy before a command runs, so that `--help` is quick.
"""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from layerwise import __version__
from layerwise.cli.advise import advise
from layerwise.cli.demo import demo
from layerwise.cli.drift import drift
from layerwise.cli.evaluate import evaluate
from layerwise.cli.explain import explain
from layerwise.cli.export import export
from layerwise.cli.fit import fit
from layerwise.cli.get import get
from layerwise.cli.inspect import inspect
from layerwise.cli.models import models
from layerwise.cli.output import Bar
from layerwise.cli.pipeline import pipeline
from layerwise.cli.predict import predict
from layerwise.cli.promote import promote
from layerwise.cli.quantise import quantise
from layerwise.cli.rollback import rollback
from layerwise.cli.runs import runs
from layerwise.cli.serve import serve
from layerwise.cli.split import split
from layerwise.cli.study import study
from layerwise.cli.verify import verify
from layerwise.errors import LayerwiseError

INTERRUPTED = 130
CAN_NOT_WRITE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
}


def _version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        typer.echo(f"layerwise {__version__}")
        raise typer.Exit


def _start(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Which layers of a pretrained network to keep, freeze, fine-tune or cut off, for my images."""


app = typer.Typer(
    name="layerwise",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Rich's help pages cost 0.4 s of a start of 0.6 s
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(_start)
app.command()(demo)
app.command()(inspect)
app.command()(advise)
app.command()(fit)
app.command()(split)
app.command()(export)
app.command()(predict)
app.command()(explain)
app.command()(verify)
app.command()(quantise)
app.command()(evaluate)
app.command()(promote)
app.command()(rollback)
app.command()(drift)
app.command()(pipeline)
app.command()(serve)
app.command()(models)
app.command()(runs)
app.command()(get)
app.add_typer(study)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done, 2 the input or a flag is wrong, 3 the audit refuses the data, 4 the answer is no and a
    flag asked for a code then (--fail-on-drift, --require), 130 interrupted. What escapes beside
    these is a defect and keeps its traceback.

    Args:
        arguments: The words after `layerwise`; None takes those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=words, prog_name="layerwise")
    except SystemExit as exit:
        return _ended(exit.code)
    except KeyboardInterrupt:  # before Typer, which else turns it into an exit code, has begun
        return _ended(INTERRUPTED)
    except LayerwiseError as error:
        return _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "layerwise":
            raise
        return _fail(
            f"this needs {error.name}, which is not installed here: an installation that only "
            "serves (scripts/install-serve) has no more than that takes. Install all of Layerwise "
            "(scripts/install), or do it where that is installed",
            2,
        )
    except BrokenPipeError:
        return _pipe_closed()
    except OSError as error:
        if error.errno not in CAN_NOT_WRITE:
            raise
        place = error.filename or _out(words) or "the output folder"
        return _fail(
            f"{place}: can not be written, {CAN_NOT_WRITE[error.errno]}; free some space, or name "
            "another place with --out",
            2,
        )
    finally:
        Bar.close()
    return 0


def _ended(code: object) -> int:
    """The exit code of what Typer has ended by itself."""
    if code == INTERRUPTED:
        return _fail("interrupted; run the same command again to go on", INTERRUPTED)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _pipe_closed()
    return code if isinstance(code, int) else 0 if code is None else 1


def _fail(message: str, code: int) -> int:
    """One message on standard error, no traceback."""
    Bar.close()
    print(f"layerwise: {message}", file=sys.stderr, flush=True)
    return code


def _pipe_closed() -> int:
    """Whoever read the output has stopped: no message, and none from Python's own exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 1


def _out(words: Sequence[str]) -> str | None:
    """What --out names; a failed write does not always say which file it was."""
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == "--out":
            return following
        if word.startswith("--out="):
            return word.removeprefix("--out=")
    return None

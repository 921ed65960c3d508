"""The surroundings of a foreign client: silence, a lock, and errors that a person can use."""

import contextlib
import errno
import fcntl
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from layerwise.data.get.catalogue import PublicSet
from layerwise.errors import DataError, OutputError

CONNECT, READ = 10.0, 30.0  # seconds a server may be silent
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """The hidden folder beside `folder` where a download grows; one process at a time.

    What is in it is kept when the block fails, so that a client may go on where it stopped, and
    removed when the block ends well.

    Raises:
        OutputError: Another process is downloading the same set to the same place.
    """
    part = folder.with_name(f".{folder.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    with (part / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"{folder}: another `layerwise get` is downloading it; wait until that has ended, "
                "or name another --out"
            ) from None
        try:
            yield part
        except BaseException:
            if [*part.iterdir()] == [part / "lock"]:
                shutil.rmtree(part)
            raise
        shutil.rmtree(part)


@contextlib.contextmanager
def muted(bars: bool) -> Iterator[None]:
    """Nothing a client prints reaches standard output, nor standard error without `bars`."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        if not bars:
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        yield


@contextlib.contextmanager
def environment(**settings: str) -> Iterator[None]:
    """Environment variables that hold inside the block only."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def missing(chosen: PublicSet, package: str) -> DataError:
    """The client is not installed."""
    return DataError(
        f"{chosen.name}: is fetched with the package {package}, which is not installed; "
        f'install it with: pip install "layerwise[get]"'
    )


def unreachable(chosen: PublicSet, host: str, reason: str, by_hand: str) -> DataError:
    """No network, or no answer."""
    return DataError(
        f"{chosen.name}: {host} can not be reached or broke off ({reason}). With a network, run "
        f"the same command again. Without one, on a machine that has one: {by_hand}"
    )


def disk_full(place: Path, kept: bool) -> OutputError:
    """The disk is full."""
    stays = "what has arrived is kept; " if kept else ""
    return OutputError(
        f"{place.parent}: the disk is full; {stays}free some space and run the same command "
        "again, or name another place with --out"
    )


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those it was raised from or while handling, newest first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

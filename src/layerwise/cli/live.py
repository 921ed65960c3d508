"""The state of a study on standard error: a live table on a terminal, elsewhere a line a run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from layerwise.cli.output import Bar, Output

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from layerwise.studies.board import Board

_SHOWN = 8  # running ones that are listed
_TIMES_A_SECOND = 4  # at which the table is drawn again


def study_board(output: Output) -> Board:
    """A board whose changes are shown: a live table on a terminal, else a line when a run ends.

    With `--quiet` nothing is shown.
    """
    from layerwise.studies.board import Board

    if output.quiet:
        return Board()
    if not sys.stderr.isatty():
        return Board(Lines(output).show)
    return Board(LiveTable().show_board)


class Lines:
    """One line each time a run has been made; those that were found are counted with the next."""

    def __init__(self, output: Output) -> None:
        """Nothing is said before the first run ends."""
        self._output, self._said = output, 0

    def show(self, board: Board) -> None:
        """Say what has ended since the last call."""
        ended, self._said = board.ended[self._said :], len(board.ended)
        for run in ended:
            if run.failed:
                self._output.say(f"{run.name} failed")
            if not run.found:
                self._output.say(f"{state(board)}: {run.name}")
        if ended and ended[-1].found and finished(board):
            self._output.say(state(board))


class LiveTable(Bar):
    """The table that is drawn anew; it takes the terminal's one place for a progress bar."""

    def __init__(self) -> None:
        """Nothing is drawn before the first `show_board`."""
        super().__init__("")
        self._live: Live | None = None

    def show_board(self, board: Board) -> None:
        """Draw it, or begin to; a finished study leaves one line."""
        if finished(board):
            if Bar.shown is self and board.ended:
                Bar.close()
                print(state(board), file=sys.stderr, flush=True)
        elif Bar.shown is not self:
            Bar.close()
            self._live = _start(board)
            Bar.shown = self

    def print_above(self, message: str) -> None:
        """A message above the table; without markup, since a path may look like it."""
        if self._live is not None:
            self._live.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Take the table off the screen: it would stand there with numbers of the past."""
        if self._live is not None:
            self._live.stop()


def _start(board: Board) -> Live:
    """A table that draws itself a few times a second. Rich is slow to import, so it is here."""
    from rich.console import Console
    from rich.live import Live

    live = Live(
        console=Console(stderr=True),
        get_renderable=lambda: table(board),
        refresh_per_second=_TIMES_A_SECOND,
        transient=True,
        redirect_stdout=False,  # which is for results
    )
    live.start()
    return live


def table(board: Board) -> RenderableType:
    """The state of a study: what is done by treatment, all of it as a bar, and what is running."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, pad_edge=False, header_style="bold")
    rows.add_column("treatment", no_wrap=True)
    for heading in ("done", "running", "left"):
        rows.add_column(heading, justify="right")
    for row in board.rows():
        numbers = [Text(str(n), style="dim" if n == 0 else "") for n in row[1:]]
        rows.add_row(Text(row.treatment), *numbers)
    total = board.totals()
    part = sum(run.progress for run in board.running())
    whole = Table.grid()
    whole.add_row(ProgressBar(total=max(total.total, 1), completed=total.done + part, width=60))
    running = Table.grid(padding=(0, 2))
    for run in board.running()[:_SHOWN]:
        running.add_row(
            ProgressBar(total=1, completed=run.progress, width=12),
            Text(f"{run.progress:.0%}"),
            Text(run.name, no_wrap=True, overflow="ellipsis"),
        )
    return Group(rows, whole, Text(state(board)), running)


def state(board: Board) -> str:
    """As "12 of 60 runs done, 2 running, about 14 min left"."""
    total = board.totals()
    words = [f"{total.done} of {total.total} runs done"]
    found = sum(run.found for run in board.ended)
    failed = sum(run.failed for run in board.ended)
    notes = [f"{found} found finished"] if found else []
    notes += [f"{failed} failed"] if failed else []
    if notes:
        words[0] += f" ({', '.join(notes)})"
    if total.running:
        words.append(f"{total.running} running")
    left = board.eta()
    if left is not None and not finished(board):
        words.append(f"about {roughly(left)} left")
    return ", ".join(words)


def finished(board: Board) -> bool:
    """Whether nothing is running and nothing is left."""
    total = board.totals()
    return total.running + total.left == 0


def roughly(seconds: float) -> str:
    """A time as one says it: 40 s, 14 min, 3 h 10 min."""
    if seconds < 100:
        return f"{max(5, 5 * round(seconds / 5))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(5 * round(minutes / 5), 60)
    return f"{hours} h {rest:02d} min"

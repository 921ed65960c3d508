"""What the user sees: messages and progress on standard error, results on standard output."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

Progress = Callable[[int, int], None]
"""Called with (done, total) as often as one likes."""


class Output:
    """Where a command says things; `--json` and `--quiet` decide what of it is shown."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        """With `json` only the summary goes to standard output; `quiet` drops what `say` says."""
        self.json, self.quiet = json, quiet

    def say(self, message: str) -> None:
        """A message on standard error; not with --quiet."""
        if not self.quiet:
            self.warn(message)

    def warn(self, message: str) -> None:
        """A message on standard error that --quiet does not silence."""
        if Bar.shown is not None:
            Bar.shown.print_above(message)
        else:
            print(message, file=sys.stderr, flush=True)

    def text(self, text: str) -> None:
        """The result for a person or a pipe, on standard output; not with --json."""
        if not self.json:
            Bar.close()
            sys.stdout.write(text if text.endswith("\n") else text + "\n")

    def result(self, summary: dict[str, Any]) -> None:
        """The machine-readable summary on standard output; only with --json.

        NaN and infinity become null, since JSON has no such numbers.
        """
        if self.json:
            Bar.close()
            sys.stdout.write(json.dumps(_plain(summary), indent=1, allow_nan=False) + "\n")

    def track(self, title: str) -> Progress:
        """A progress bar on standard error, shown from the first call of what this returns.

        Where standard error is no terminal, or with --quiet, nothing is shown. One bar is shown
        at a time: the next one ends it, and so does the end of the program.

        Returns:
            A function to call with (done, total).
        """
        if self.quiet or not sys.stderr.isatty():
            return lambda done, total: None
        return Bar(title).show


class Bar:
    """A progress bar; the terminal has room for one, which is `Bar.shown`."""

    shown: Bar | None = None

    def __init__(self, title: str) -> None:
        """Nothing is drawn before the first `show`."""
        self._title = title
        self._rich: RichProgress | None = None

    def show(self, done: int, total: int) -> None:
        """Draw the bar at (done, total); a full one stays on the screen and ends."""
        if self._rich is None or Bar.shown is not self:
            if done >= total:  # all was there already: no bar for nothing
                return
            Bar.close()
            self._rich = _start(self._title)
            Bar.shown = self
        self._rich.update(self._rich.task_ids[0], completed=done, total=total)
        if done >= total:
            Bar.close()

    def print_above(self, message: str) -> None:
        """A message above the bar; without markup, since a path may look like it."""
        if self._rich is not None:
            self._rich.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Draw no more; what is drawn stays on the screen."""
        if self._rich is not None:
            self._rich.stop()

    @staticmethod
    def close() -> None:
        """End what is shown, if anything, so that what follows stands on its own line."""
        shown, Bar.shown = Bar.shown, None
        if shown is not None:
            shown.stop()


def _start(title: str) -> RichProgress:
    """A running bar. Rich is imported here: it would cost a quick command most of its time."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    # Standard output is for results: Rich must not catch what is printed there.
    console = Console(stderr=True)
    bar = RichProgress(*columns, TimeRemainingColumn(), console=console, redirect_stdout=False)
    bar.add_task(escape(title), total=None)
    bar.start()
    return bar


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON-able value
    """A JSON-able value with null for what is no finite number."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

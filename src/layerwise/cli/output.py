"""What the user sees: messages and progress on standard error, results on standard output."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[int, int], None]
"""Called with (done, total) as often as one likes."""


class Output:
    """Where a command says things; `--json` and `--quiet` decide what of it is shown."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        """With `json` only the summary goes to standard output; `quiet` drops what `say` says."""
        self.json, self.quiet = json, quiet
        self._bar: Any = None

    def say(self, message: str) -> None:
        """A message on standard error; not with --quiet."""
        if not self.quiet:
            self._print(message)

    def warn(self, message: str) -> None:
        """A message on standard error that --quiet does not silence."""
        self._print(message)

    def text(self, text: str) -> None:
        """The result for a person or a pipe, on standard output; not with --json."""
        if not self.json:
            sys.stdout.write(text if text.endswith("\n") else text + "\n")

    def result(self, summary: dict[str, Any]) -> None:
        """The machine-readable summary on standard output; only with --json.

        NaN becomes null, since JSON has no such number.
        """
        if self.json:
            sys.stdout.write(json.dumps(_plain(summary), indent=1, allow_nan=False) + "\n")

    @contextmanager
    def progress(self, label: str) -> Iterator[Progress]:
        """A progress bar on standard error while the block runs.

        Where standard error is no terminal, or with --quiet, nothing is shown.

        Yields:
            A function to call with (done, total).
        """
        if self.quiet or not sys.stderr.isatty() or self._bar is not None:
            yield _nothing
            return
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task(escape(label), total=None)
            self._bar = bar
            try:
                yield lambda done, total: bar.update(task, completed=done, total=total)
            finally:
                self._bar = None

    def _print(self, message: str) -> None:
        """Above the bar where one is shown; without markup, since a path may look like it."""
        if self._bar is not None:
            self._bar.console.print(message, markup=False, highlight=False, soft_wrap=True)
        else:
            print(message, file=sys.stderr, flush=True)


def _nothing(done: int, total: int) -> None:
    """The progress that is not shown."""


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON-able value
    """A JSON-able value with null for what is no finite number."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value

"""What happens, one JSON object a line: never pixels, file names, or what a file says."""

import json
import logging
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any


def _to_stderr(line: str) -> None:
    sys.stderr.write(line)
    sys.stderr.flush()


class Log:
    """Writes events."""

    def __init__(self, write: Callable[[str], object] = _to_stderr, quiet: bool = False) -> None:
        """Say where to.

        Args:
            write: Given each line, its end included.
            quiet: Whether requests go unmentioned.
        """
        self._write, self._quiet = write, quiet

    def event(self, what: str, **values: Any) -> None:  # noqa: ANN401 - JSON-able values
        """One line: the time (UTC), the event and its values."""
        now = time.time()
        moment = (
            f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
        )
        self._write(json.dumps({"time": moment, "event": what, **values}) + "\n")

    def request(self, **values: Any) -> None:  # noqa: ANN401 - JSON-able values
        """A request, answered."""
        if not self._quiet:
            self.event("request", **values)

    def defect(self, error: BaseException, **values: Any) -> None:  # noqa: ANN401 - JSON-able values
        """An error nobody has thought of: its type and place. Its message may quote a file."""
        frames = traceback.extract_tb(error.__traceback__)
        places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        self.event("defect", error=type(error).__name__, places=places, **values)


class Handler(logging.Handler):
    """Python's own logging, for uvicorn's messages, into the same lines."""

    def __init__(self, log: Log) -> None:
        """Use `log`."""
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        if record.exc_info and record.exc_info[1] is not None:
            self._log.defect(record.exc_info[1], logger=record.name)
        else:
            self._log.event("server", logger=record.name, message=str(record.msg)[:200])

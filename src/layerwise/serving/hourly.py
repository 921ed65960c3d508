"""A server's statistics by hour: one file a day and model, written whole, added to and never lost.

What was counted since the last `save` is added to what the file holds, under a lock. So a restart
goes on where the server was, and several servers may write into one folder.
"""

import fcntl
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.config import read_json
from layerwise.errors import LayerwiseError, StatisticsError
from layerwise.serving.statistics import Sizes, Statistics

HOUR = "%Y-%m-%dT%H:00Z"
_NAME = re.compile(r"([0-9a-f]{12})-(\d{4}-\d{2}-\d{2})\.json")


class Hourly:
    """What a server counts for one bundle. Any thread may call any method.

    Attributes:
        folder: Of the files, `<bundle id>-<day>.json`; None keeps everything in memory.
        bundle: The id of the bundle.
    """

    def __init__(self, folder: Path | None, bundle: str, reference: Statistics) -> None:
        """Nothing counted yet.

        Args:
            folder: See above; it is made when something is saved.
            bundle: See above.
            reference: The bundle's statistics, or empty ones where it carries none.
        """
        self.folder, self.bundle = folder, bundle
        self._empty = reference.beside()
        self._waiting: dict[str, Statistics] = {}
        self._lock, self._saving = Lock(), Lock()

    def add(
        self,
        pixels: NDArray[np.uint8],
        scores: NDArray[np.floating],
        decisions: NDArray[np.int64],
        sizes: Sizes | None = None,
        now: datetime | None = None,
    ) -> None:
        """Count pictures and answers, see `Statistics.add`; `now` is UTC."""
        one = self._empty.beside()
        one.add(pixels, scores, decisions, sizes)
        # What is never written needs no hours, and memory must not grow with them.
        hour = "" if self.folder is None else (now or datetime.now(UTC)).strftime(HOUR)
        with self._lock:
            self._waiting.setdefault(hour, self._empty.beside()).merge(one)

    def save(self) -> None:
        """Add what is waiting to the files; what can not be written goes on waiting.

        Raises:
            StatisticsError: A file is damaged, or the folder can not be written.
        """
        if self.folder is None:
            return
        with self._saving:
            with self._lock:
                taken, self._waiting = self._waiting, {}
            for day in sorted({hour[:10] for hour in taken}):
                part = {hour: taken[hour] for hour in taken if hour.startswith(day)}
                try:
                    self._add_to(self.folder / f"{self.bundle}-{day}.json", part)
                except BaseException:
                    self._put_back(taken)
                    raise
                for hour in part:
                    del taken[hour]

    def now(self) -> Statistics:
        """All that was counted for this bundle, saved or not, by other servers here too."""
        total = self._empty.beside()
        with self._saving:
            for path in [] if self.folder is None else _files(self.folder):
                if path.name.startswith(self.bundle):
                    _add_hours(total, path, _document(path)["hours"])
            with self._lock:
                for some in self._waiting.values():
                    total.merge(some)
        return total

    def _put_back(self, taken: dict[str, Statistics]) -> None:
        with self._lock:
            for hour, some in taken.items():
                self._waiting.setdefault(hour, self._empty.beside()).merge(some)

    def _add_to(self, path: Path, hours: dict[str, Statistics]) -> None:
        """One day's file with these hours added."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(path.with_name(f".{path.name}.lock")):
                kept = _document(path)["hours"] if path.exists() else {}
                for hour, some in hours.items():
                    total = self._empty.beside()
                    total.merge(some)
                    if hour in kept:
                        total.read_counts(kept[hour], f"{path}: {hour}")
                    kept[hour] = total.counts()
                document = {"bundle": self.bundle, **self._empty.about()}
                document["hours"] = {hour: kept[hour] for hour in sorted(kept)}
                part = path.with_name(path.name + ".part")
                part.write_text(json.dumps(document) + "\n", encoding="utf-8")
                part.replace(path)
        except OSError as error:
            raise StatisticsError(
                f"{path}: the statistics can not be written ({error.strerror}); free some space, "
                "or name another folder with --statistics"
            ) from error


def read(
    place: Path, bundle: str, since: datetime | None = None, until: datetime | None = None
) -> Statistics:
    """A server's statistics of one bundle, all hours added up.

    Args:
        place: The server's folder, one of its files, or what its `/v1/statistics` answered.
        bundle: The bundle's id; files of others are passed over.
        since: Hours that begin before it are left out; UTC.
        until: Hours that begin at it or later are left out; UTC.

    Raises:
        StatisticsError: There are none of this bundle, or of these hours; or a file is damaged.
    """
    files = {path: _document(path) for path in ([place] if place.is_file() else _files(place))}
    own = {path: found for path, found in files.items() if found["bundle"] == bundle}
    if not own:
        others = ", ".join(sorted({found["bundle"] for found in files.values()})) or "none at all"
        raise StatisticsError(
            f"{place}: no statistics of this bundle, {bundle}; there are of {others}. Name what "
            "its server was given with --statistics, or the bundle that it served"
        )
    total = Statistics.empty(next(iter(own.values())), str(place))
    for path, found in own.items():
        if "hours" not in found:
            if since or until:
                raise StatisticsError(
                    f"{path}: an answer of /v1/statistics has no hours; leave --since and --until "
                    "out, or name the folder of `layerwise serve --statistics`"
                )
            total.read_counts(found, str(path))
            continue
        chosen = {k: v for k, v in found["hours"].items() if _within(k, since, until)}
        _add_hours(total, path, chosen)
    if not total.images:
        raise StatisticsError(
            f"{place}: nothing was counted in these hours; change --since or --until"
        )
    return total


def is_hourly(place: Path) -> bool:
    """Whether a folder, or a file, is one of a server's statistics, going by names."""
    return bool(_files(place)) if place.is_dir() else place.suffix == ".json" and place.is_file()


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _document(path: Path) -> dict[str, Any]:
    """A day's file, its outline checked."""
    try:
        found = read_json(path)
    except LayerwiseError as error:
        raise StatisticsError(str(error)) from error
    known = isinstance(found, dict) and isinstance(found.get("bundle"), str)
    if not known or not isinstance(found.get("hours", found.get("inputs")), dict):
        raise StatisticsError(
            f"{path}: no statistics of a server; name the folder that `layerwise serve` was given "
            "with --statistics"
        )
    return dict(found)


def _add_hours(total: Statistics, path: Path, hours: dict[str, Any]) -> None:
    for hour, counts in hours.items():
        total.read_counts(counts, f"{path}: {hour}")


def _within(hour: str, since: datetime | None, until: datetime | None) -> bool:
    """Whether an hour begins at `since` or later and before `until`."""
    try:
        begins = datetime.strptime(hour, HOUR).replace(tzinfo=UTC)
    except ValueError as error:
        raise StatisticsError(f"{hour!r} is no hour; the statistics are damaged") from error
    return not (since and begins < since) and not (until and begins >= until)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock goes with the process that held it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

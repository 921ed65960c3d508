"""What is done, running and left of a study, and when it will be finished. It draws nothing.

The time left is found by playing the rest of the study through: each run that is left goes to the
worker that is free first, and takes as long as runs like it took so far. A run that was found
finished says nothing about the pace.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from threading import RLock
from typing import NamedTuple

_ENOUGH = 0.02  # of a run: before that its own pace is the noise of a few steps


class Row(NamedTuple):
    """The runs of one treatment, or of all."""

    treatment: str
    done: int  # ended in any way: finished, found finished, failed
    running: int
    left: int

    @property
    def total(self) -> int:
        """All runs of it."""
        return self.done + self.running + self.left


class Ended(NamedTuple):
    """A run that is over."""

    name: str
    treatment: str
    seconds: float
    found: bool  # it was there already
    failed: bool


class Running(NamedTuple):
    """A run that is being made."""

    name: str
    treatment: str
    progress: float  # 0 … 1


@dataclass
class _Live:
    """What is known of a run that is being made."""

    name: str
    treatment: str
    started: float
    first: tuple[float, float] | None = None  # (clock, share done) of the first report: a run
    last: tuple[float, float] | None = None  # that goes on after a kill does not begin at 0

    def total(self) -> float | None:
        """Seconds that the whole run will have taken, by its own pace; None if not known yet."""
        pace = self.pace()
        return None if pace is None or self.first is None else self.first[0] - self.started + pace

    def pace(self) -> float | None:
        """Seconds of training from beginning to end."""
        if self.first is None or self.last is None or self.last[1] - self.first[1] < _ENOUGH:
            return None
        return (self.last[0] - self.first[0]) / (self.last[1] - self.first[1])


class Board:
    """The state of a study while it runs. Threads may share one.

    Attributes:
        workers: How many runs are made at a time; 0 means the most seen so far.
        ended: Runs that are over, in the order in which they ended.
    """

    def __init__(
        self,
        show: Callable[[Board], None] | None = None,
        *,
        workers: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is expected yet.

        Args:
            show: Called with the board after every change.
            workers: How many runs are made at a time; 0: the most seen so far.
            clock: Seconds from any beginning; never falling.
        """
        self.workers = workers
        self.ended: list[Ended] = []
        self._show, self._clock = show, clock
        self._expected: Counter[str] = Counter()
        self._cost: dict[str, float] = {}
        self._running: dict[int, _Live] = {}
        self._most = 1
        self._lock = RLock()

    def expect(self, counts: Mapping[str, int], cost: Mapping[str, float] | None = None) -> None:
        """Add runs to what the study is made of.

        Args:
            counts: Runs by treatment; added to what was expected before.
            cost: What one run of a treatment takes, relative to the others; 1 where not said. It
                counts until runs of the treatment itself have shown how long they take.
        """
        with self._lock:
            for treatment, count in counts.items():  # rows keep this order
                self._expected[treatment] += count
            self._cost |= cost or {}
        self._changed()

    def started(self, index: int, treatment: str, name: str) -> None:
        """A run begins.

        Args:
            index: Its number, unique in this command.
            treatment: What it is counted under.
            name: What people call it.
        """
        with self._lock:
            self._running[index] = _Live(name, treatment, self._clock())
            self._most = max(self._most, len(self._running))
        self._changed()

    def progress(self, index: int, done: int, total: int) -> None:
        """A running one has made `done` of `total` steps; to be told from its first step on."""
        with self._lock:
            live = self._running.get(index)
            if live is None or total <= 0:
                return  # a late message of a run that has ended
            live.last = (self._clock(), min(done / total, 1.0))
            live.first = live.first or live.last
        self._changed()

    def finished(self, index: int, seconds: float, *, found: bool, failed: bool = False) -> None:
        """A run is over.

        Args:
            index: As told to `started`.
            seconds: What the run took, over all its sittings.
            found: It was there already, so that it says nothing about the pace.
            failed: It ended without a result; neither does that.
        """
        with self._lock:
            live = self._running.pop(index)
            self.ended.append(Ended(live.name, live.treatment, seconds, found, failed))
        self._changed()

    def rows(self) -> list[Row]:
        """One row a treatment, in the order in which they were expected."""
        with self._lock:
            running = Counter(live.treatment for live in self._running.values())
            done = Counter(run.treatment for run in self.ended)
            return [
                Row(t, done[t], running[t], max(0, self._expected[t] - done[t] - running[t]))
                for t in dict.fromkeys([*self._expected, *done, *running])
            ]

    def totals(self) -> Row:
        """All treatments together."""
        rows = self.rows()
        return Row(
            "all",
            sum(row.done for row in rows),
            sum(row.running for row in rows),
            sum(row.left for row in rows),
        )

    def running(self) -> list[Running]:
        """The runs that are being made, the oldest first."""
        with self._lock:
            return [
                Running(live.name, live.treatment, live.last[1] if live.last else 0.0)
                for live in self._running.values()
            ]

    def eta(self) -> float | None:
        """Seconds until everything is done; None before enough is known.

        A run of a treatment takes the mean of those that were made in this command, the running
        ones as far as their pace is known; where there is none yet, what its relative cost makes
        of the others.
        """
        with self._lock:
            expected = self._durations()
            if expected is None:
                return 0.0 if self.totals().running + self.totals().left == 0 else None
            now = self._clock()
            free = [_remaining(live, now, expected) for live in self._running.values()]
            free += [0.0] * (max(self.workers, self._most) - len(free))
            heapq.heapify(free)
            for row in self.rows():
                for _ in range(row.left):
                    heapq.heapreplace(free, free[0] + expected[row.treatment])
            return max(free)

    def _durations(self) -> dict[str, float] | None:
        """Seconds of one run by treatment; None before any run has shown its pace."""
        seen: dict[str, list[float]] = {}
        for run in self.ended:
            if not (run.found or run.failed):
                seen.setdefault(run.treatment, []).append(run.seconds)
        for live in self._running.values():
            total = live.total()
            if total is not None:
                seen.setdefault(live.treatment, []).append(total)
        if not seen:
            return None
        cost = sum(self._cost.get(t, 1.0) * len(each) for t, each in seen.items())
        unit = sum(map(sum, seen.values())) / cost
        return {
            row.treatment: fmean(seen[row.treatment])
            if row.treatment in seen
            else unit * self._cost.get(row.treatment, 1.0)
            for row in self.rows()
        }

    def _changed(self) -> None:
        if self._show is not None:
            self._show(self)


def _remaining(live: _Live, now: float, expected: Mapping[str, float]) -> float:
    """Seconds until a running one ends: by its own pace, else by what runs like it take."""
    pace = live.pace()
    if pace is None or live.last is None:
        share = live.last[1] if live.last else 0.0
        since = live.last[0] if live.last else live.started
        return max(0.0, expected[live.treatment] * (1 - share) - (now - since))
    return max(0.0, pace * (1 - live.last[1]) - (now - live.last[0]))

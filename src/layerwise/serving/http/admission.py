"""How much the server has in hand, and what it says to whom it can not take.

Two things are bounded for all requests together: the pictures taken and not yet answered, and
the bytes of their files. A request holds a `Place` from before its body is read until it is
answered.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from layerwise.serving.http.problems import Problem
from layerwise.serving.http.settings import Settings

_LONGEST = 60  # seconds that are ever asked for in Retry-After
_REMEMBERED = 64  # answered pictures by which the pace is measured


class Admission:
    """The pictures and bytes in hand.

    Attributes:
        pictures: Taken and not yet answered.
        held: Bytes of their files.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is in hand.

        Args:
            settings: `queue` and `max_held`.
            clock: Seconds, always rising.
        """
        self.pictures = self.held = 0
        self._queue, self._max_held = settings.queue, settings.max_held
        self._clock = clock
        self._answered: deque[float] = deque(maxlen=_REMEMBERED)  # when, since last idle

    def place(self) -> "Place":
        """Take one picture; more are told to the place.

        Raises:
            Problem: 429, the queue is full.
        """
        place = Place(self)
        place.take(1)
        return place

    def retry_after(self) -> int:
        """Whole seconds until what is in hand is answered at the measured pace; 1 to 60."""
        if len(self._answered) < 2:
            return 1
        pace = (self._answered[-1] - self._answered[0]) / (len(self._answered) - 1)
        return max(1, min(_LONGEST, math.ceil(self.pictures * pace)))

    def _add(self, pictures: int, held: int) -> None:
        """More in hand, or a refusal."""
        if self.pictures + pictures > self._queue or self.held + held > self._max_held:
            seconds = self.retry_after()
            raise Problem(
                "busy",
                f"The server has as many pictures in hand as it takes; try again in {seconds} s.",
                {"Retry-After": str(seconds)},
            )
        self.pictures += pictures
        self.held += held

    def _remove(self, pictures: int, held: int) -> None:
        self.pictures -= pictures
        self.held -= held
        if self.pictures:
            self._answered.extend([self._clock()] * pictures)
        else:  # what follows an idle time says nothing of the pace
            self._answered.clear()


class Place:
    """What one request has in hand; `with` gives it back."""

    def __init__(self, admission: Admission) -> None:
        """Use `Admission.place`."""
        self._admission = admission
        self.pictures = self.held = 0

    def take(self, pictures: int) -> None:
        """Take more pictures.

        Raises:
            Problem: 429, the queue is full.
        """
        self._admission._add(pictures, 0)
        self.pictures += pictures

    def hold(self, count: int) -> None:
        """Hold more bytes.

        Raises:
            Problem: 429, all requests together hold too many.
        """
        self._admission._add(0, count)
        self.held += count

    def __enter__(self) -> "Place":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._admission._remove(self.pictures, self.held)

"""Pictures of several requests go through the network together.

One thread runs the network. While it is busy, pictures gather; when it is free, it takes what is
there, up to the largest batch. So a lone picture never waits, and batches grow with the load. If
other pictures are just being decoded, a picture waits for them, but not longer than the bound.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)
class _Waiting(Generic[Key, Item]):
    key: Key
    item: Item
    until: float
    """The loop's time at which it waits no longer for others."""
    answer: "asyncio.Future[Any]"


class Batcher(Generic[Key, Item, Result]):
    """Calls a function in a thread with the items of several callers. For one event loop."""

    def __init__(
        self,
        run: Callable[[Key, list[Item]], Sequence[Result]],
        largest: int,
        wait: float,
    ) -> None:
        """Say what to run.

        Args:
            run: From a key and items of this key to as many results, in the same order. Called
                in one thread, never twice at a time.
            largest: Items at a time.
            wait: Seconds that an item waits for others which `expecting` announced.
        """
        self._run, self._largest, self._wait = run, largest, wait
        self._thread = ThreadPoolExecutor(1, "inference")
        self._waiting: deque[_Waiting[Key, Item]] = deque()
        self._expected = 0
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Items that do not run yet."""
        return len(self._waiting)

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Within, one more item is being made ready; give it to `submit` right after."""
        self._expected += 1
        try:
            yield
        except BaseException:  # it will not come
            self._expected -= 1
            if not self._expected:
                self._start()
            raise
        self._expected -= 1

    async def submit(self, key: Key, item: Item) -> Result:
        """The result for one item.

        Args:
            key: Only items of equal keys run together.
            item: What `run` is given.

        Raises:
            Exception: What `run` raised; all items of a batch get it.
        """
        loop = asyncio.get_running_loop()
        one = _Waiting(key, item, loop.time() + self._wait, loop.create_future())
        self._waiting.append(one)
        self._start()
        result: Result = await one.answer
        return result

    def close(self) -> None:
        """End the thread, after what it runs."""
        self._thread.shutdown(wait=True)

    def _start(self, waited: bool = False) -> None:
        """Run a batch if the thread is free and there is no reason to wait (any longer)."""
        if self._busy:
            return
        while self._waiting and self._waiting[0].answer.done():  # given up by who asked
            self._waiting.popleft()
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        key = self._waiting[0].key
        batch = [one for one in self._waiting if one.key == key and not one.answer.done()]
        batch = batch[: self._largest]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        more = self._expected and len(batch) < self._largest
        if more and not waited and loop.time() < batch[0].until:
            self._timer = loop.call_at(batch[0].until, self._start, True)
            return
        chosen = set(map(id, batch))
        self._waiting = deque(one for one in self._waiting if id(one) not in chosen)
        self._busy = True
        work = loop.run_in_executor(self._thread, self._run, key, [one.item for one in batch])
        work.add_done_callback(lambda done: self._finish(batch, done))

    def _finish(
        self, batch: list[_Waiting[Key, Item]], done: "asyncio.Future[Sequence[Result]]"
    ) -> None:
        self._busy = False
        self._start()  # the thread has work before the answers are written
        error = done.exception()
        results: Sequence[Result | None] = [None] * len(batch) if error else done.result()
        if len(results) != len(batch):
            error = RuntimeError(f"{len(results)} results for {len(batch)} items")
            results = [None] * len(batch)
        for one, result in zip(batch, results, strict=True):
            if one.answer.done():
                continue
            if error is not None:
                one.answer.set_exception(error)
            else:
                one.answer.set_result(result)

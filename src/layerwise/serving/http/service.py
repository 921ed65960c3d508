"""What is done with pictures: decoded by some threads, put through the network by one, answered."""

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import repeat
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from layerwise.errors import LayerwiseError
from layerwise.evaluation.overlay import overlay, place
from layerwise.serving.hourly import Hourly
from layerwise.serving.http import answers, decoding, drawing
from layerwise.serving.http.admission import Admission
from layerwise.serving.http.batching import Batcher
from layerwise.serving.http.logs import Log
from layerwise.serving.http.metrics import Metrics
from layerwise.serving.http.models import Models, Served
from layerwise.serving.http.problems import Problem
from layerwise.serving.http.settings import Settings
from layerwise.serving.http.uploads import Upload

T = TypeVar("T")
COUNT, SAVE = 0.5, 60.0
"""Seconds between two times that answers are counted, and that the statistics are written."""
TOGETHER = 64
"""Pictures that are counted together: one by one costs twice the time."""
MOST_UNCOUNTED = 256
"""Pictures that may wait to be counted: more are counted at once, or their pixels would pile up."""


@dataclass(frozen=True)
class Explained:
    """What the network gives for a picture that is explained."""

    scores: NDArray[np.float32]
    """(1 | K,)."""
    label: int
    heat: NDArray[np.float32]
    """(H, W), 0 to 1."""


Key = tuple[Served, bool]  # and whether it is explained
Item = tuple[NDArray[np.uint8], tuple[int, int], int | None]  # pixels, the file's size, label
Result = NDArray[np.float32] | Explained
Answered = tuple[Served, NDArray[np.uint8], NDArray[np.float32], tuple[int, int]]


class Service:
    """Everything behind the routes; it knows nothing of HTTP but `Problem`.

    Attributes:
        models: Which model answers.
        admission: What is in hand.
        metrics: Told of batches and pictures.
        draining: Whether the server is about to stop.
    """

    def __init__(self, models: Models, settings: Settings, log: Log) -> None:
        """Start no thread yet."""
        self.models, self.settings, self.log = models, settings, log
        self.admission = Admission(settings)
        self.batcher: Batcher[Key, Item, Result] = Batcher(self._run, settings.batch, settings.wait)
        self.metrics = Metrics(lambda: self.admission.pictures, lambda: self.batcher.waiting)
        self.draining = False
        self._decoders = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "decoding")
        self._uncounted: deque[Answered] = deque()  # while their clients are answered
        self._counting = Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._unsaved: set[Hourly] = set()
        self._changed(models.now, None)

    async def start(self) -> None:
        """Follow the registry, and write the statistics now and then."""
        work = (
            self.models.watch(self._changed),
            self._often(COUNT, self._count),
            self._often(SAVE, self._save),
        )
        self._tasks = [asyncio.create_task(one) for one in work]

    async def stop(self) -> None:
        """End all threads, after what they have in hand; write the statistics."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._decoders.shutdown)
        await asyncio.to_thread(self.batcher.close)
        await asyncio.to_thread(self._save)

    async def predict(self, uploads: Sequence[Upload]) -> dict[str, Any]:
        """What the model says of each file.

        Raises:
            Problem: The only file, or every one, can not be used; or it took too long.
        """
        served = self.models.now

        async def one(upload: Upload) -> dict[str, Any]:
            scores = await self._through(served, upload, False, None)
            assert isinstance(scores, np.ndarray)
            return answers.prediction(served.bundle, upload.name, scores)

        return {**served.header, "predictions": await self._each(uploads, one)}

    async def explain(
        self, uploads: Sequence[Upload], label: str | None, longest: int
    ) -> dict[str, Any]:
        """As `predict`, with where the model looked and the picture itself.

        Args:
            uploads: The files.
            label: Which one to explain; None: the one decided for, or the likeliest.
            longest: Longest side of the pictures that are sent back.

        Raises:
            Problem: As `predict`, or there is no such label.
        """
        served = self.models.now
        number = self._label(served, label)
        explained = (served.bundle.info.explanation or {}) if served.bundle.explains else {}

        async def one(upload: Upload) -> dict[str, Any]:
            found, shown = await asyncio.gather(
                self._through(served, upload, served.bundle.explains, number),
                self._decode(lambda: drawing.png(self._picture(upload, longest))),
            )
            heat = None
            if isinstance(found, Explained):
                scores, which, heat = found.scores, found.label, drawing.grey(found.heat)
            else:
                scores = found
                which = self._chosen(served, scores[None], [number])[0]
            return {
                **answers.prediction(served.bundle, upload.name, scores),
                "label": served.bundle.info.labels[which],
                "cut": explained.get("cut"),
                "heat": None if heat is None else drawing.text(drawing.png(heat)),
                "picture": drawing.text(shown),
            }

        return {**served.header, "predictions": await self._each(uploads, one)}

    async def overlay(self, upload: Upload, label: str | None, longest: int) -> bytes:
        """A picture with what the model looked at laid over it, as a PNG.

        Raises:
            Problem: As `explain`, or the model has no explanation.
        """
        served = self.models.now
        number = self._label(served, label)
        if not served.bundle.explains:
            why = (served.bundle.info.explanation or {}).get("why") or "the bundle carries none"
            raise Problem(
                "no-explanation",
                f"The model can not say where it looked: {why}. Ask /v1/predict instead.",
            )

        letterbox = served.bundle.info.preprocessing.letterbox
        async with self._in_time():
            found, shown = await asyncio.gather(
                self._through(served, upload, True, number),
                self._decode(lambda: self._picture(upload, longest)),
            )
            assert isinstance(found, Explained)
            heat = found.heat
            drawn = await self._decode(
                lambda: drawing.png(
                    overlay(shown, place(heat, (shown.shape[0], shown.shape[1]), letterbox))
                )
            )
        self.metrics.pictures(1, 0)
        return drawn

    def _picture(self, upload: Upload, longest: int) -> NDArray[np.uint8]:
        return decoding.picture(upload.content, longest, self.settings.max_pixels)

    def _label(self, served: Served, label: str | None) -> int | None:
        labels = served.bundle.info.labels
        if label is not None and label not in labels:
            raise Problem("parameter", f"The model has no such label; it has {', '.join(labels)}.")
        return None if label is None else labels.index(label)

    async def _each(
        self, uploads: Sequence[Upload], one: Callable[[Upload], Awaitable[dict[str, Any]]]
    ) -> list[dict[str, Any]]:
        """Every file's answer, refusals in their places."""

        async def settled(upload: Upload) -> dict[str, Any] | Exception:
            try:
                return await one(upload)
            except Exception as error:
                return error

        async with self._in_time():
            if len(uploads) == 1:  # most requests; a task of its own would cost more
                found = [await settled(uploads[0])]
            else:
                found = await asyncio.gather(*map(settled, uploads))
        said: list[dict[str, Any]] = []
        refused = 0
        for upload, result in zip(uploads, found, strict=True):
            if isinstance(result, Problem):
                if len(uploads) == 1:
                    self.metrics.pictures(0, 1)
                    raise result
                refused += 1
                said.append(answers.refused(upload.name, result))
            elif isinstance(result, Exception):
                raise result
            else:
                said.append(result)
        self.metrics.pictures(len(said) - refused, refused)
        if refused == len(said):
            raise Problem(
                "nothing-usable",
                f"None of the {len(said)} files can be used; see what is said of each.",
                predictions=said,
            )
        return said

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Within, what takes too long is given up, and answered with 503."""
        try:
            async with asyncio.timeout(self.settings.timeout):
                yield
        except TimeoutError as error:
            seconds = str(self.admission.retry_after())
            raise Problem(
                "time",
                f"The answer took too long; try again in {seconds} s, or send fewer or smaller "
                "pictures.",
                {"Retry-After": seconds},
            ) from error

    async def _through(
        self, served: Served, upload: Upload, explain: bool, label: int | None
    ) -> Result:
        """One file through decoder and network."""
        how, most = served.bundle.info.preprocessing, self.settings.max_pixels
        with self.batcher.expecting():
            size, pixels = await self._decode(
                lambda: decoding.prepare(
                    upload.content, how.size, how.channels, how.letterbox, most
                )
            )
        return await self.batcher.submit((served, explain), (pixels, size, label))

    async def _decode(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work)

    def _run(self, key: Key, items: list[Item]) -> Sequence[Result]:
        """One batch through the network; in the thread of the batcher."""
        (served, explain), bundle = key, key[0].bundle
        pixels = np.stack([item[0] for item in items])  # (n, H, W, C)
        started = time.perf_counter()
        results: Sequence[Result]
        if explain:
            asked = [item[2] for item in items]
            # Which label is the likeliest has to be known before it can be explained.
            first = bundle.run(pixels) if None in asked else None
            labels = self._chosen(served, first, asked)
            scores, heat = bundle.explain(pixels, np.asarray(labels, np.int64))
            results = [Explained(*each) for each in zip(scores, labels, heat, strict=True)]
        else:
            scores = bundle.run(pixels)  # (n, 1 | K)
            results = list(scores)
        self.metrics.batch(len(items), time.perf_counter() - started)
        if not explain:  # who looks at an explanation has asked for the prediction before
            self._uncounted += zip(repeat(served), pixels, scores, [i[1] for i in items])
            if len(self._uncounted) > MOST_UNCOUNTED:
                self._count()
        return results

    def _chosen(
        self,
        served: Served,
        scores: NDArray[np.float32] | None,
        labels: Sequence[int | None],
    ) -> list[int]:
        """Which label to explain of each picture: as asked, else decided for, else likeliest."""
        if scores is None:
            return [label for label in labels if label is not None]  # all were asked for
        binary = served.bundle.info.task == "binary"
        likeliest = served.bundle.decide(scores) if binary else scores.argmax(axis=1)
        return [
            int(best) if label is None else label
            for best, label in zip(likeliest, labels, strict=True)
        ]

    def _changed(self, served: Served, worked: bool | None) -> None:
        self.metrics.model(served.bundle.info.name, served.bundle.id)
        if worked is not None:
            self.metrics.reload(worked)

    async def _often(self, seconds: float, work: Callable[[], None]) -> None:
        """Do something again and again, in a thread."""
        while True:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(work)

    def _count(self) -> None:
        """Add what was answered to the statistics."""
        with self._counting:
            while self._uncounted:
                some = [self._uncounted.popleft()]
                while self._uncounted and len(some) < TOGETHER:
                    if self._uncounted[0][0] is not some[0][0]:
                        break
                    some.append(self._uncounted.popleft())
                served = some[0][0]
                pixels = np.stack([one[1] for one in some])  # (n, H, W, C)
                scores = np.stack([one[2] for one in some])  # (n, 1 | K)
                try:
                    decided = served.bundle.decide(scores)
                    served.hourly.add(pixels, scores, decided, [one[3] for one in some])
                except Exception as error:  # no answer may fail of it
                    self.log.defect(error)
                self._unsaved.add(served.hourly)

    def _save(self) -> None:
        """Write the statistics."""
        self._count()
        for hourly in list(self._unsaved):
            self._unsaved.discard(hourly)
            try:
                hourly.save()
            except LayerwiseError as error:
                self._unsaved.add(hourly)
                self.log.event("statistics not written", error=str(error))

    def statistics(self) -> dict[str, Any]:
        """What was counted of the model that answers, saved or not."""
        self._count()
        hourly = self.models.now.hourly
        return {"bundle": hourly.bundle, **hourly.now().to_json()}

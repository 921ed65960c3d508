"""The model that answers, and how another one takes its place while requests are under way."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from layerwise.errors import LayerwiseError
from layerwise.serving.bundle import Bundle
from layerwise.serving.hourly import Hourly
from layerwise.serving.http import answers
from layerwise.serving.http.logs import Log
from layerwise.serving.http.settings import Settings
from layerwise.serving.registry.registry import is_registry, open_registry
from layerwise.serving.statistics import Statistics

AGAIN = 60.0
"""Seconds until a bundle that could not be loaded is tried again."""


class Source(Protocol):
    """Where bundles come from: a registry."""

    def champion(self) -> str | None:
        """The id of the bundle that is to answer."""

    def fetch(self, bundle: str) -> Path:
        """The folder of a bundle."""


@dataclass(frozen=True, eq=False)
class Served:
    """A loaded bundle and what belongs to it."""

    bundle: Bundle
    hourly: Hourly
    about: dict[str, Any]
    """What `GET /v1/model` says."""
    header: dict[str, Any]
    """What every answer says of the model."""


def open_source(where: str) -> Source | None:
    """The registry at a place, or None for a bundle's folder.

    Raises:
        LayerwiseError: Neither is there.
    """
    return open_registry(where) if is_registry(where) else None


def load(folder: Path, settings: Settings) -> Served:
    """Load and check a bundle, and let it answer once, so that the first client does not wait.

    Raises:
        BundleError: It can not be used.
    """
    bundle = Bundle.load(folder, settings.threads)
    how = bundle.info.preprocessing
    bundle.run(np.zeros((1, *how.size, how.channels), np.uint8))
    carried = bundle.info.statistics
    reference = (
        Statistics.from_json(carried, str(folder))
        if carried
        else Statistics(bundle.info.task, bundle.info.labels)
    )
    hourly = Hourly(settings.statistics, bundle.id, reference)
    return Served(bundle, hourly, answers.model(bundle, settings), answers.header(bundle))


class Models:
    """The model that answers now.

    A request keeps the one it began with: what is replaced lives until its last answer.
    """

    def __init__(self, where: str, settings: Settings, log: Log) -> None:
        """Load the first model.

        Args:
            where: A bundle's folder, or a registry.
            settings: `threads`, `poll` and `statistics`.
            log: Told of changes.

        Raises:
            LayerwiseError: There is no usable model.
        """
        self._settings, self._log = settings, log
        self._source = open_source(where)
        if self._source is None:
            self.now = load(Path(where), settings)
            return
        champion = self._source.champion()
        if champion is None:
            raise LayerwiseError(
                f"{where} has no champion yet; `layerwise promote BUNDLE --registry {where} "
                "--data DATA` makes one"
            )
        self.now = load(self._source.fetch(champion), settings)

    async def watch(self, changed: "Watcher") -> None:
        """Follow the registry's champion, for ever; what goes wrong is logged and the old stays.

        Args:
            changed: Told of every try.
        """
        failed: dict[str, float] = {}  # ids and when they may be tried again
        loop = asyncio.get_running_loop()
        while self._source is not None:
            await asyncio.sleep(self._settings.poll)
            champion: str | None = None
            try:
                champion = await asyncio.to_thread(self._source.champion)
                if champion is None or champion == self.now.bundle.id:
                    continue
                if failed.get(champion, 0.0) > loop.time():
                    continue
                new = await asyncio.to_thread(self._load, champion)
            except Exception as error:  # whatever it is, the old model goes on answering
                if champion is not None:
                    failed[champion] = loop.time() + AGAIN
                self._log.event(
                    "reload failed",
                    bundle=champion,
                    model=self.now.bundle.id,
                    error=str(error) if isinstance(error, LayerwiseError) else repr(error),
                )
                changed(self.now, False)
                continue
            old, self.now = self.now, new
            self._log.event("reloaded", model=new.bundle.id, previous=old.bundle.id)
            changed(new, True)

    def _load(self, champion: str) -> Served:
        assert self._source is not None
        return load(self._source.fetch(champion), self._settings)


class Watcher(Protocol):
    """Told of every change of the model."""

    def __call__(self, served: Served, worked: bool) -> None:
        """The model that answers now, and whether the change worked."""

"""The process: the socket, uvicorn, and how it stops. The only file that imports uvicorn."""

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from layerwise.errors import LayerwiseError
from layerwise.serving.http.app import build
from layerwise.serving.http.keys import Hosts, refuse_open_door
from layerwise.serving.http.logs import Handler, Log
from layerwise.serving.http.models import Models
from layerwise.serving.http.service import Service
from layerwise.serving.http.settings import Settings

BACKLOG = 1024
LINGER = 0.5
"""Seconds, of a server that stops, in which idle connections may still bring a request."""


def serve(
    where: str,
    host: str,
    port: int,
    keys: Sequence[bytes],
    allowed: Sequence[str],
    settings: Settings,
    log: Log,
    ready: Callable[[str], object],
) -> None:
    """Serve a bundle or a registry's champion until SIGTERM or SIGINT.

    Args:
        where: The bundle's folder, or the registry.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        keys: Any of them opens.
        allowed: Names under which the server answers beside its own.
        settings: Limits and pace.
        log: Told of everything.
        ready: Told the server's address when it answers.

    Raises:
        LayerwiseError: It can not listen there, others could reach it without a key, or there is
            no usable model.
    """
    refuse_open_door(host, keys)
    with listen(host, port) as listening:  # first: it is quick to tell
        models = Models(where, settings, log)
        service = Service(models, settings, log)
        app = build(service, keys, Hosts(host, allowed), log)
        _log_uvicorn(log)
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(2 * settings.timeout) + 1,
        )
        address = "http://{}:{}".format(
            f"[{host}]" if ":" in host else host, listening.getsockname()[1]
        )

        def started() -> None:
            bundle = models.now.bundle
            log.event("started", model=bundle.id, name=bundle.info.name, address=address)
            ready(address)

        # uvicorn raises the signal again once it has stopped; it has done its work by then.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _nothing)
        _Server(config, service, started).run([listening])
        log.event("stopped", model=models.now.bundle.id)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        LayerwiseError: The port is in use, or the address is not of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(BACKLOG)
        except OSError:
            found.close()
            raise
    except (OSError, OverflowError) as error:
        raise LayerwiseError(_no_socket(host, port, error)) from error
    return found


def _no_socket(host: str, port: int, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return f"port {port} of {host} is in use; stop what uses it, or take another with --port"
    if number in (errno.EACCES, errno.EPERM):
        return f"port {port} may not be used without more rights; take one above 1023 with --port"
    return f"--host {host} --port {port}: can not listen there ({error}); name an address of here"


def _nothing(number: int, frame: FrameType | None) -> None:
    """A signal that has done its work."""


def _log_uvicorn(log: Log) -> None:
    logger = logging.getLogger("uvicorn")
    logger.handlers, logger.propagate = [Handler(log)], False
    logger.setLevel(logging.WARNING)


class _Server(uvicorn.Server):
    """uvicorn's server, which tells when it has started and loses nothing when it stops."""

    def __init__(
        self, config: uvicorn.Config, service: Service, started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._service, self._when_started = service, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._when_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: first say so in every answer, so that clients leave by themselves."""
        self._service.draining = True
        self._service.log.event("stopping", in_hand=self._service.admission.pictures)
        await asyncio.sleep(LINGER)
        await super().shutdown(sockets)


class _Protocol(H11Protocol):
    """uvicorn's connection, with an end for clients that send nothing or never stop sending."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - asyncio's
        super().connection_made(transport)
        self._patience = self.loop.call_later(self.timeout_keep_alive, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        """Hang up if the first request has not begun."""
        if self.cycle is None:
            self.transport.abort()

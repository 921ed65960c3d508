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
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from layerwise.errors import LayerwiseError
from layerwise.serving.http.app import build
from layerwise.serving.http.keys import Hosts, refuse_open_door
from layerwise.serving.http.logs import Handler, Log
from layerwise.serving.http.models import Models
from layerwise.serving.http.service import Service
from layerwise.serving.http.settings import Settings

BACKLOG = 1024
LINGER = 0.5
"""Seconds, of a server that stops, in which connections may still bring a request."""
KEEP_ALIVE = 75
"""Seconds until an idle connection is closed; longer than most reverse proxies keep theirs."""
PATIENCE = 60.0
"""Seconds for a request to begin, for its head, and for the rest of a refused upload to pass by."""
MOST_HEAD = 65_536
"""Bytes of a head, and of all else in a request that is no body: the parser knows no bound."""


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
        server = Server(where, keys, Hosts(host, allowed), settings, log)
        name = f"[{host}]" if ":" in host else host
        server.when_started = lambda: ready(f"http://{name}:{listening.getsockname()[1]}")
        # uvicorn raises the signal again once it has stopped; it has done its work by then.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _nothing)
        server.run([listening])


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


class Server(uvicorn.Server):
    """uvicorn's server; it tells when it has started, and loses nothing when it stops."""

    def __init__(
        self, where: str, keys: Sequence[bytes], hosts: Hosts, settings: Settings, log: Log
    ) -> None:
        """Load the model; arguments as of `serve`, which runs it until a signal comes.

        Raises:
            LayerwiseError: There is no usable model.
        """
        self.service = Service(Models(where, settings, log), settings, log)
        self.when_started: Callable[[], object] = lambda: None
        for name in ("uvicorn", "asyncio"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [Handler(log)], False
        config = uvicorn.Config(
            build(self.service, keys, hosts, log),
            http=_Connection,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=int(2 * settings.timeout) + 1,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        bundle = self.service.models.now.bundle
        self.service.log.event("started", model=bundle.id, name=bundle.info.name)
        self.when_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: every answer says so for a moment, then what was taken is finished."""
        service = self.service
        service.draining = True
        service.log.event("stopping", in_hand=service.admission.pictures)
        await asyncio.sleep(LINGER)
        for listening in sockets or ():
            await self._take_in(listening)
        for server in self.servers:
            server.close()
        await asyncio.sleep(LINGER / 2)  # for the first request of whom was let in last
        await super().shutdown(sockets)
        service.log.event("stopped", model=service.models.now.bundle.id)

    async def _take_in(self, listening: socket.socket) -> None:
        """Accept whom the system has let in already: closing the socket would cut them off."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = listening.accept()
            except OSError:  # nobody is left
                return
            accepted.setblocking(False)
            await loop.connect_accepted_socket(self._connection, accepted)

    def _connection(self) -> asyncio.Protocol:
        """As uvicorn makes one for each client."""
        return _Connection(self.config, self.server_state, self.lifespan.state)


class _Connection(HttpToolsProtocol):
    """uvicorn's connection, with an end for clients that never begin, or never stop sending."""

    _patience: asyncio.TimerHandle | None = None
    _bare = 0  # bytes since the request began, or since the last one of its body
    _in_head = False

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - asyncio's
        """Wait for the first request, but not for ever."""
        super().connection_made(transport)
        self._wait_for(lambda: self.cycle is None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        if self._patience is not None:
            self._patience.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; a head that has no end is refused."""
        self._bare += len(data)
        super().data_received(data)
        if self._bare > MOST_HEAD and not self.transport.is_closing():
            self.send_400_response("The head of the request has too many bytes.")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._bare, self._in_head = 0, True
        self._wait_for(lambda: self._in_head)

    def on_headers_complete(self) -> None:
        """Its head has come."""
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Some of its body has come."""
        self._bare = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it has come, also where nobody reads it any more."""
        super().on_message_complete()
        passed = self.cycle
        passed.more_body = False
        if passed.response_complete:
            self._wait_for(lambda: self.cycle is passed)

    def on_response_complete(self) -> None:
        """Of an upload that was refused early, let the rest pass by, but not for ever.

        Hanging up at once would take the answer away from clients that read it when all is sent.
        """
        super().on_response_complete()
        refused = self.cycle
        if refused.more_body:
            self._wait_for(
                lambda: self.cycle is refused and refused.response_complete and refused.more_body
            )

    def _wait_for(self, unchanged: Callable[[], bool]) -> None:
        """Hang up if this is still so after a while."""
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self.loop.call_later(PATIENCE, self._hang_up, unchanged)

    def _hang_up(self, unchanged: Callable[[], bool]) -> None:
        if unchanged() and not self.transport.is_closing():
            self.transport.abort()

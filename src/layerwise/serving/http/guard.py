"""Around every request: who asks, how long it takes, what is logged, what headers the answer has.

Plain ASGI, since a middleware of a framework costs each request a task of its own.
"""

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from layerwise.serving.http.keys import Hosts, check_key
from layerwise.serving.http.logs import Log
from layerwise.serving.http.problems import TYPE, Problem
from layerwise.serving.http.service import Service

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

NOTES = "layerwise"
"""Where a route finds the dictionary, in its scope, of what it adds to the log."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)
_OPEN = ("/healthz", "/readyz", "/", "/docs", "/openapi.json")  # and the page's files
_ROUTES = (*_OPEN, "/metrics", "/v1/predict", "/v1/explain", "/v1/model", "/v1/statistics")
_ID = re.compile(rb"[0-9A-Fa-f-]{8,64}")  # what could be a name is not taken over


class Guard:
    """An ASGI application around another one."""

    def __init__(
        self,
        app: App,
        service: Service,
        keys: Sequence[bytes],
        hosts: Hosts,
        log: Log,
        straight: Mapping[tuple[str, str], App],
    ) -> None:
        """Say what is guarded.

        Args:
            app: The application.
            service: Asked which model answers and whether the server is stopping.
            keys: Any of them opens; none: everything is open.
            hosts: Under which names the server answers.
            log: Told of every request.
            straight: Method and path → what answers it without `app`.
        """
        self._app, self._service, self._log = app, service, log
        self._keys, self._hosts, self._straight = keys, hosts, straight

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        id = given if _ID.fullmatch(given) else secrets.token_hex(8).encode()
        notes: dict[str, Any] = {}
        scope[NOTES] = notes
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = self._with_ours(scope["path"], message["headers"], id)
            await send(message)

        try:
            self._hosts.check(headers)
            if scope["path"] not in _OPEN and not scope["path"].startswith("/static/"):
                check_key(headers, self._keys)
            app = self._straight.get((scope["method"], scope["path"]), self._app)
            await app(scope, receive, answer)
        except Problem as problem:
            await send_problem(problem, answer)
        except Exception as error:
            self._log.defect(error, request=id.decode())
            if not status:
                await send_problem(Problem("defect", "Tell whoever runs the server."), answer)
        finally:
            self._record(scope, id.decode(), status, time.perf_counter() - started, notes)

    def _with_ours(
        self,
        path: str,
        headers: Sequence[tuple[bytes, bytes]],
        id: bytes,
    ) -> list[tuple[bytes, bytes]]:
        """An answer's headers and those that every answer has."""
        own = {name.lower() for name, _ in headers}
        ours = [pair for pair in _HEADERS if pair[0] not in own]
        if self._service.draining:
            ours.append((b"connection", b"close"))
        # The page is asked for again after an update; of answers nobody keeps a copy.
        keep = b"no-cache" if path == "/" or path.startswith("/static/") else b"no-store"
        return [*headers, *ours, (b"cache-control", keep), (b"x-request-id", id)]

    def _record(
        self, scope: Message, id: str, status: int, seconds: float, notes: dict[str, Any]
    ) -> None:
        path = scope["path"]
        route = path if path in _ROUTES else "other"  # a path may hold anything
        if path.startswith("/static/"):
            route = "/static"
        self._service.metrics.request(route, status, seconds)
        self._log.request(
            request=id,
            method=scope["method"] if scope["method"] in _METHODS else "other",
            route=route,
            status=status,
            ms=round(seconds * 1000, 2),
            model=self._service.models.now.bundle.id,
            **notes,
        )


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


async def send_problem(problem: Problem, send: Send) -> None:
    """Answer with a refusal."""
    body = problem.body()
    headers = [
        (b"content-type", TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        *((k.lower().encode(), v.encode()) for k, v in problem.headers.items()),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

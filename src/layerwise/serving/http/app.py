"""The routes and their OpenAPI description; the only file that imports FastAPI."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from layerwise import __version__
from layerwise.serving.http import reference, schema
from layerwise.serving.http.admission import Place
from layerwise.serving.http.guard import NOTES, App, Guard, Message, Receive, Send
from layerwise.serving.http.keys import Hosts
from layerwise.serving.http.logs import Log
from layerwise.serving.http.metrics import CONTENT_TYPE
from layerwise.serving.http.problems import TYPE, Problem
from layerwise.serving.http.service import Service
from layerwise.serving.http.uploads import Upload, body, read_uploads

PAGE = Path(__file__).resolve().parents[1] / "page"
_ABOUT = """Ask a model of images, over HTTP.

Pictures may be JPEG, PNG, BMP, TIFF, WebP, GIF (8 or 16 bits) or DICOM. If the server has a key, \
send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`. What is refused is answered with a \
problem document (RFC 9457), whose detail says what to do. Nothing that is sent is kept."""
_UPLOAD = (
    "empty", "malformed", "key", "other-site", "slow", "too-large", "content-type", "no-picture",
    "host", "picture", "nothing-usable", "parameter", "busy", "time",
)  # fmt: skip
_ASKED = ("key", "other-site", "host")
_CURL = "curl -F files=@chest.png -F files=@other.dcm http://127.0.0.1:8000/v1/{}"


def build(service: Service, keys: Sequence[bytes], hosts: Hosts, log: Log) -> App:
    """The application, as uvicorn runs it.

    Args:
        service: What answers.
        keys: See `Guard`.
        hosts: See `Guard`.
        log: See `Guard`.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="Layerwise",
        version=__version__,
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own page loads its scripts from another host
        redoc_url=None,
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,  # they would hold the messages of errors
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    for kind in (Problem, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _refuse)
    predict = _pictures(app, service)
    _about(app, service)
    _page(app)
    _describe(app)
    # FastAPI describes it and has nothing to add; its layers would be a quarter of the work here.
    straight = {("POST", "/v1/predict"): predict}
    return Guard(app, service, keys, hosts, log, straight)


def _pictures(app: FastAPI, service: Service) -> App:
    """The routes that take pictures; of /v1/predict what FastAPI itself would end in."""

    @app.post(
        "/v1/predict",
        summary="What the model says of pictures",
        description="Probabilities of every label and the decision at the model's threshold, for "
        "one picture or several. One that can not be used is refused with its own status; among "
        "several, its place says why.",
        responses={
            200: schema.json_answer(schema.PREDICTIONS, "Of every file, in order."),
            **schema.problems(*_UPLOAD),
        },
        openapi_extra={"requestBody": schema.BODY, "x-curl": {"example": _CURL.format("predict")}},
    )
    async def predict(request: Request) -> Response:
        with service.admission.place() as place:
            uploads = await _uploads(service, request, place)
            return _json(await service.predict(uploads))

    async def straight(scope: Message, receive: Receive, send: Send) -> None:
        response = await predict(Request(scope, receive))
        await response(scope, receive, send)

    @app.post(
        "/v1/explain",
        summary="Where the model looked",
        description="As /v1/predict, with Grad-CAM at the model's explained layer and the picture "
        "itself. With `Accept: image/png` and one file: the one laid over the other.",
        responses={
            200: {
                **schema.json_answer(schema.EXPLANATIONS, "Of every file, in order; or a PNG."),
                "content": {
                    "application/json": {"schema": schema.EXPLANATIONS},
                    "image/png": {"schema": {"type": "string", "format": "binary"}},
                },
            },
            **schema.problems(*_UPLOAD, "no-explanation"),
        },
        openapi_extra={
            "requestBody": schema.BODY,
            "x-curl": {
                "example": "curl -H 'Accept: image/png' -F files=@chest.png -o heat.png "
                "http://127.0.0.1:8000/v1/explain"
            },
        },
    )
    async def explain(
        request: Request,
        label: Annotated[
            str | None,
            Query(description="The label to explain; default: the one decided for, or likeliest."),
        ] = None,
        size: Annotated[
            int, Query(ge=16, le=4096, description="The longest side of the picture sent back.")
        ] = 1024,
    ) -> Response:
        with service.admission.place() as place:
            uploads = await _uploads(service, request, place)
            if not _wants_png(request.headers.get("accept", "")):
                return _json(await service.explain(uploads, label, size))
            if len(uploads) > 1:
                raise Problem(
                    "parameter",
                    "A PNG can show one picture; send one file, or ask for application/json.",
                )
            return Response(await service.overlay(uploads[0], label, size), media_type="image/png")

    return straight


def _about(app: FastAPI, service: Service) -> None:
    """The routes that say how things are."""

    @app.get(
        "/v1/model",
        summary="The model that answers",
        description="What it is, what it is for, how well it did on pictures it had not seen, and "
        "the limits of this server.",
        responses={200: schema.json_answer(schema.MODEL, "The model."), **schema.problems(*_ASKED)},
    )
    async def model() -> Response:
        return _json(service.models.now.about)

    @app.get(
        "/v1/statistics",
        summary="Aggregate statistics",
        description="Histograms of what the pictures were like and of what was answered; no "
        "pictures and no names. `layerwise drift` compares them with the model's own.",
        responses={
            200: schema.json_answer({"type": "object"}, "Counts in fixed bins."),
            **schema.problems(*_ASKED),
        },
    )
    async def statistics() -> Response:
        return _json(await asyncio.to_thread(service.statistics))

    @app.get(
        "/healthz",
        summary="Whether the server runs",
        responses={
            200: schema.json_answer({"type": "object"}, "It does."),
            **schema.problems("other-site", "host"),
        },
    )
    async def healthz() -> Response:
        return _json({"status": "ok"})

    @app.get(
        "/readyz",
        summary="Whether the server takes requests",
        description="503 from the moment it is told to stop; then send no more.",
        responses={
            200: schema.json_answer({"type": "object"}, "It does."),
            **schema.problems("other-site", "host", "stopping"),
        },
    )
    async def readyz() -> Response:
        if service.draining:
            raise Problem("stopping", "Ask another server, or this one when it runs again.")
        return _json({"status": "ok", "model": service.models.now.bundle.id})

    @app.get(
        "/metrics",
        summary="Numbers for Prometheus",
        responses={
            200: {"description": "Text format.", "content": {"text/plain": {}}},
            **schema.problems(*_ASKED),
        },
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _page(app: FastAPI) -> None:
    """The page for people; none of it is part of the contract."""

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return FileResponse(PAGE / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(
            reference.page(app.openapi()), headers={"Content-Security-Policy": reference.POLICY}
        )

    app.mount("/static", StaticFiles(directory=PAGE))


def _describe(app: FastAPI) -> None:
    """Add the schema of refusals and the keys to the description."""
    plain: Callable[[], dict[str, Any]] = app.openapi

    def described() -> dict[str, Any]:
        said = plain()
        parts = said.setdefault("components", {})
        parts["schemas"] = {"Problem": schema.PROBLEM}  # FastAPI's own are never sent
        parts["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        said["security"] = [{}, {"bearer": []}, {"header": []}]
        return said

    app.openapi = described  # type: ignore[method-assign]


async def _uploads(service: Service, request: Request, place: Place) -> list[Upload]:
    """The files of a request; the place then has one picture for each."""
    headers, settings = request.headers, service.settings
    pieces = body(request.receive)
    try:
        async with asyncio.timeout(settings.timeout):
            uploads = await read_uploads(
                pieces,
                headers.get("content-type", ""),
                headers.get("content-length"),
                settings,
                place,
            )
    except TimeoutError as error:
        raise Problem(
            "slow", f"The upload took more than {settings.timeout:g} s; send fewer files at a time."
        ) from error
    place.take(len(uploads) - 1)
    request.scope[NOTES] |= {"pictures": len(uploads), "bytes": place.held}
    return uploads


def _wants_png(accept: str) -> bool:
    """Whether a client asks for a picture and not for JSON."""
    kinds = [kind.partition(";")[0].strip() for kind in accept.lower().split(",")]
    return "image/png" in kinds and "application/json" not in kinds


def _json(value: Any) -> Response:  # noqa: ANN401 - JSON-able
    """JSON, without FastAPI's second look at every value."""
    content = json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    return Response(content, media_type="application/json")


async def _refuse(request: Request, error: Exception) -> Response:
    """Every refusal in one form, FastAPI's own included."""
    headers = dict(getattr(error, "headers", None) or {})
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        error = Problem("parameter", f"{first['loc'][-1]}: {first['msg']}.")
    elif isinstance(error, HTTPException):
        kind = {404: "not-found", 405: "method"}.get(error.status_code, "malformed")
        error = Problem(kind, "See /docs for what this server answers.")
    elif not isinstance(error, Problem):
        error = Problem("defect", "Tell whoever runs the server.")
    return JSONResponse(error.content(), error.status, headers, TYPE)

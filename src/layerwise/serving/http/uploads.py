"""From the body of a request to files, read as it arrives and refused as soon as it is too large.

The only file that imports python-multipart. Nothing is written to disk, and no name is logged.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from layerwise.serving.http.admission import Place
from layerwise.serving.http.problems import Problem
from layerwise.serving.http.settings import MEGABYTE, Settings

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD = "files"
RAW = ("application/dicom", "application/octet-stream", "")
_HOW = (
    f"send multipart/form-data with the pictures in the field {FIELD!r}, or one picture as the "
    "body, as image/png, image/jpeg, application/dicom or application/octet-stream"
)
_LONGEST_NAME = 255
_OTHER_PARTS = 64  # of a form that are no files

# It quotes what it could not parse.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())
logging.getLogger("python_multipart").propagate = False


@dataclass(frozen=True)
class Upload:
    """A file as it was sent."""

    name: str
    """As the client calls it; it goes back to the client and nowhere else."""
    content: bytes


async def body(receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> AsyncIterator[bytes]:
    """The pieces of a request's body, from ASGI's `receive`.

    Raises:
        Problem: The client has gone; nobody will see it but the log.
    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem("malformed", "The connection was closed before the upload had ended.")
        more = message.get("more_body", False)
        if message.get("body"):
            yield message["body"]


async def read_uploads(
    pieces: AsyncIterator[bytes],
    content_type: str,
    length: str | None,
    settings: Settings,
    place: Place,
) -> list[Upload]:
    """Read the files of a request.

    Args:
        pieces: The body, as it arrives.
        content_type: The header, "" where it is missing.
        length: The header Content-Length, None where it is missing.
        settings: The limits.
        place: Told of the bytes as they come, so that all requests together stay bounded.

    Returns:
        At least one file.

    Raises:
        Problem: Another content type, too many bytes or files, malformed, or without files.
    """
    kind, options = parse_options_header(content_type)
    form = kind == b"multipart/form-data"
    if not form and kind.decode("latin-1") not in RAW and not kind.startswith(b"image/"):
        raise Problem("content-type", f"This content type is not read; {_HOW}.")
    if length is not None and length.isdecimal() and int(length) > settings.max_bytes:
        raise too_large(settings)
    pieces = _limited(pieces, settings, place)
    if form:
        return await _read_form(pieces, options.get(b"boundary", b""), settings)
    content = b"".join([piece async for piece in pieces])
    return [Upload("picture 1", content)]


def too_large(settings: Settings) -> Problem:
    """The refusal of a body with too many bytes."""
    most = settings.max_bytes / MEGABYTE
    return Problem(
        "too-large",
        f"The request has more than {most:g} megabytes; send fewer or smaller files, or start the "
        "server with a larger --max-megabytes.",
    )


async def _limited(
    pieces: AsyncIterator[bytes], settings: Settings, place: Place
) -> AsyncIterator[bytes]:
    """The same pieces, until they are too many."""
    total = 0
    async for piece in pieces:
        total += len(piece)
        if total > settings.max_bytes:
            raise too_large(settings)
        place.hold(len(piece))
        yield piece


async def _read_form(
    pieces: AsyncIterator[bytes], boundary: bytes, settings: Settings
) -> list[Upload]:
    if not boundary:
        raise Problem("malformed", f"The content type names no boundary; {_HOW}.")
    form = _Form(settings.max_files)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for piece in pieces:
            parser.write(piece)
    except FormParserError as error:
        raise Problem("malformed", f"The form does not follow RFC 7578; {_HOW}.") from error
    if not form.ended:
        raise Problem("malformed", "The form is cut off before its end; send it again.")
    if not form.files:
        raise Problem("empty", f"The form has no file in the field {FIELD!r}; {_HOW}.")
    return form.files


class _Form:
    """What a parser of multipart/form-data reports, put together."""

    def __init__(self, max_files: int) -> None:
        self.files: list[Upload] = []
        self.ended = False
        self._max, self._parts = max_files, 0
        self._header, self._value, self._disposition = bytearray(), bytearray(), b""
        self._name: str | None = None  # of a part that is a file for us
        self._pieces: list[bytes] = []

    def callbacks(self) -> "MultipartCallbacks":
        """For `MultipartParser`."""
        return {
            "on_part_begin": self.part_begin,
            "on_part_data": self.part_data,
            "on_part_end": self.part_end,
            "on_header_field": self.header_field,
            "on_header_value": self.header_value,
            "on_header_end": self.header_end,
            "on_headers_finished": self.headers_finished,
            "on_end": self.end,
        }

    def part_begin(self) -> None:
        self._parts += 1
        if self._parts > self._max + _OTHER_PARTS:
            raise Problem("too-large", f"The form has too many fields; send only {FIELD!r}.")
        self._disposition, self._name, self._pieces = b"", None, []

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        field, name = options.get(b"name", b""), options.get(b"filename")
        if field == FIELD.encode():
            if len(self.files) == self._max:
                raise Problem(
                    "too-large",
                    f"The request has more than {self._max} files; send them in several requests.",
                )
            self._name = _text(name or b"") or f"picture {len(self.files) + 1}"
        elif name is not None:  # other fields that are no files do no harm
            raise Problem("malformed", f"A file stands in another field than {FIELD!r}; {_HOW}.")

    def part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name is not None:
            self._pieces.append(data[start:end])

    def part_end(self) -> None:
        if self._name is not None:
            self.files.append(Upload(self._name, b"".join(self._pieces)))
            self._pieces = []

    def end(self) -> None:
        self.ended = True


def _text(name: bytes) -> str:
    """A file name as text; browsers send UTF-8."""
    return name.decode("utf-8", "replace")[:_LONGEST_NAME]

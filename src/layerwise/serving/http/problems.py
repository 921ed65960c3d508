"""What the server refuses, as problem documents (RFC 9457): a status, and what to do."""

import json
from typing import Any

TYPE = "application/problem+json"

KINDS: dict[str, tuple[int, str]] = {
    "empty": (400, "Nothing was sent"),
    "malformed": (400, "The request can not be read"),
    "key": (401, "A key is needed"),
    "other-site": (403, "Not from the page of another site"),
    "not-found": (404, "There is nothing here"),
    "method": (405, "Not with this method"),
    "slow": (408, "The upload took too long"),
    "no-explanation": (409, "This model is not explained"),
    "too-large": (413, "Too large"),
    "content-type": (415, "Not a kind of content that is read"),
    "no-picture": (415, "Not a picture"),
    "host": (421, "Not the host of this server"),
    "parameter": (422, "A parameter is wrong"),
    "picture": (422, "The picture can not be used"),
    "nothing-usable": (422, "None of the pictures can be used"),
    "busy": (429, "The server is busy"),
    "defect": (500, "The server has a defect"),
    "time": (503, "It took too long"),
    "stopping": (503, "The server is stopping"),
}
"""By the last part of `type`: the status and the title. `/docs` lists them."""


class Problem(Exception):
    """A refusal, as the client is to see it; the detail says what to do and quotes no content."""

    def __init__(
        self,
        kind: str,
        detail: str,
        headers: dict[str, str] | None = None,
        **more: Any,  # noqa: ANN401 - JSON-able values
    ) -> None:
        """Describe a refusal.

        Args:
            kind: A key of `KINDS`.
            detail: One or two sentences: what is wrong, and what to do.
            headers: Of the answer, such as Retry-After.
            more: Members of the document beside the standard's.
        """
        super().__init__(detail)
        self.kind, self.detail, self.headers, self.more = kind, detail, headers or {}, more
        self.status, self.title = KINDS[kind]

    def content(self) -> dict[str, Any]:
        """The document."""
        return {
            "type": f"/docs#{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }

    def body(self) -> bytes:
        """The document as it is sent."""
        return json.dumps(self.content()).encode()

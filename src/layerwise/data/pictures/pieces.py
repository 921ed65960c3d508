"""A picture's bytes, read in no more pieces than an honest picture has.

Readers go from piece to piece in Python, and a file may be nothing but empty pieces: a few
megabytes of them keep a thread busy for minutes, and a thread can not be stopped. A JPEG may also
say the same picture over and over, each time in a few bytes.
"""

import io

from layerwise.errors import DataError

MOST_READS = 300_000
"""About a second of reading. A PNG of 64 MB in chunks of 1 KB, the smallest that is usual, takes
260,000."""
MOST_SCANS = 100
"""Of a JPEG. A progressive one commonly has ten."""
_SCAN = b"\xff\xda"  # nothing else in the coded data of a JPEG, or of JPEG 2000, looks like it


class Pieces(io.BytesIO):
    """A file in memory; DataError once it has been read too often."""

    def __init__(self, content: bytes = b"") -> None:
        """Hold these bytes."""
        super().__init__(content)
        self._left = MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file."""
        self._left -= 1
        if self._left < 0:
            raise DataError("is made of more pieces than a picture; save it anew, as PNG")
        return super().read(size)


def refuse_scans(content: bytes) -> None:
    """DataError for a JPEG that says its picture too often."""
    if content.count(_SCAN) > MOST_SCANS:
        raise DataError("a JPEG of more scans than a picture needs; save it anew")

"""A picture's bytes, read in no more pieces than an honest picture has, and swollen to no more.

Readers go from piece to piece in Python, and a file may be nothing but empty pieces: 4 MB of them
take a PNG or JPEG 4 s, and no thread can be stopped. A JPEG may also say the same picture over and
over, each time in a few bytes (4 MB: more than a minute), and run lengths of DICOM stand for 64
times their own size. So much is refused before anything is decoded.
"""

import io
import struct

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


def refuse_runs(frame: bytes, pixels: int) -> None:
    """DataError for run lengths of DICOM (PS3.5, annex G) that stand for more than the picture.

    Args:
        frame: The coded picture: 64 bytes that say where its segments start, and these.
        pixels: Of the picture; a segment has one byte of each, and may have some padding.
    """
    count, *starts = struct.unpack("<16L", frame[:64].ljust(64, b"\0"))
    for start, end in zip(starts[:count], [*starts[1:count], len(frame)], strict=False):
        at, total, end = start, 0, min(end, len(frame))
        while at < end and total <= 2 * pixels:
            head = frame[at]  # so many others follow, or one that is repeated, or nothing
            total += head + 1 if head < 128 else 257 - head if head > 128 else 0
            at += head + 2 if head < 128 else 2 if head > 128 else 1
        if total > 2 * pixels:
            raise DataError("its pixels do not fit its header; replace the file")

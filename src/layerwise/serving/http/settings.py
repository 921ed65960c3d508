"""How a server is set up: its limits and its pace."""

from dataclasses import dataclass
from pathlib import Path

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Settings:
    """What `layerwise serve` is told; every limit is per server, not per client."""

    max_bytes: int = 64 * MEGABYTE
    """Of one request, all its files together."""
    max_pixels: int = 64_000_000
    """Of one picture; a mammogram has 28 million."""
    max_files: int = 64
    """Of one request."""
    timeout: float = 30.0
    """Seconds for an upload to arrive, and again for its answer."""
    batch: int = 16
    """The most pictures that go through the network together."""
    wait: float = 0.005
    """Seconds that a picture may wait for others that are being decoded."""
    queue: int = 256
    """The most pictures taken and not yet answered."""
    poll: float = 5.0
    """Seconds between two looks at the registry's champion."""
    threads: int | None = None
    """Of ONNX Runtime; None leaves the number to it."""
    statistics: Path | None = None
    """The folder for aggregate statistics."""

    @property
    def max_held(self) -> int:
        """Bytes of uploads in memory at a time, of all requests together."""
        return 8 * self.max_bytes

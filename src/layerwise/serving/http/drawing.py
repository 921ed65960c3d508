"""Pictures as they are sent: PNG, and as text."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def png(pixels: Pixels) -> bytes:
    """uint8 (H, W) or (H, W, 3) as a PNG; quick rather than small."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def text(content: bytes) -> str:
    """Base64."""
    return base64.b64encode(content).decode("ascii")


def grey(heat: NDArray[np.float32]) -> Pixels:
    """Heat (H, W), 0 to 1, as grey."""
    return np.asarray((heat.clip(0, 1) * 255).round(), np.uint8)

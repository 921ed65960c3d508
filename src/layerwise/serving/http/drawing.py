"""Pictures for people: PNG, and heat laid over a picture."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

_OPACITY = 0.5


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


def overlay(picture: Pixels, heat: NDArray[np.float32], letterbox: bool) -> Pixels:
    """Lay heat over a picture: red, then yellow, then white; nothing where there is none.

    Args:
        picture: uint8 (H, W) or (H, W, 3).
        heat: (h, w), 0 to 1, of what the network saw.
        letterbox: Whether that had black bars, which are cut off first.

    Returns:
        uint8 (H, W, 3).
    """
    height, width = picture.shape[:2]
    if letterbox:  # as `images.resize` fits it in
        factor = min(heat.shape[0] / height, heat.shape[1] / width)
        inner = (max(1, round(height * factor)), max(1, round(width * factor)))
        top, left = (heat.shape[0] - inner[0]) // 2, (heat.shape[1] - inner[1]) // 2
        heat = heat[top : top + inner[0], left : left + inner[1]]
    image = Image.fromarray(heat.clip(0, 1).astype(np.float32))
    warm = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))[:, :, None]
    colour = (3 * warm - np.arange(3, dtype=np.float32)).clip(0, 1)  # (H, W, 3)
    below = (picture if picture.ndim == 3 else picture[:, :, None]).astype(np.float32)
    alpha = _OPACITY * warm
    return np.asarray((below * (1 - alpha) + 255 * colour * alpha).round(), np.uint8)

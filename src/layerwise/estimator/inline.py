"""Pictures that a notebook shows where they are made, and that a script can save."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.errors import OutputError
from layerwise.evaluation.overlay import overlay
from layerwise.reporting.evidence import ProfilePoint
from layerwise.reporting.figures import depth_profile
from layerwise.reporting.page import is_small, picture_address
from layerwise.reporting.study_page import standalone

SIDE = 160  # pixels of a picture in a notebook


@dataclass(frozen=True)
class Inline:
    """A picture as HTML.

    Attributes:
        html: What a notebook shows; pictures are inside it.
        svg: The figure as a file of its own; "" where it is no figure.
    """

    html: str
    svg: str = ""

    def _repr_html_(self) -> str:
        return self.html

    def save(self, path: str | Path) -> Path:
        """Write an SVG where it is a figure, else a page.

        Raises:
            OutputError: It can not be written.
        """
        path = Path(path)
        try:
            path.write_text(self.svg or _PAGE.format(self.html), encoding="utf-8")
        except OSError as error:
            raise OutputError(
                f"{path}: can not be written ({error.strerror}); name another place"
            ) from error
        return path


_PAGE = (
    '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Layerwise</title>\n{}\n</html>\n'
)


def profile_picture(profile: Sequence[dict[str, Any]]) -> Inline:
    """The depth profile, as the report has it."""
    points = [
        ProfilePoint(
            one["cut"],
            one["channels"],
            one["stride"],
            one["parameters"],
            one["macs"],
            {"value": one["auroc"], "low": one["low"], "high": one["high"]},
            one["chosen"],
        )
        for one in profile
    ]
    svg = standalone(depth_profile(points))
    # As an image, or ids of two figures in one notebook would be taken for each other's.
    address = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    words = f"Validation AUROC of a linear probe at each of {len(points)} depths"
    return Inline(f'<img alt="{words}" style="max-width: 100%" src="{address}">', svg)


def heat_pictures(
    images: NDArray[np.uint8], heat: NDArray[np.float32], captions: Sequence[str]
) -> Inline:
    """Each picture beside itself with its heat map laid over it.

    Args:
        images: uint8 (n, H, W, C).
        heat: (n, H, W) from 0 to 1.
        captions: One a picture.
    """
    style = f"width: {SIDE}px; margin: 2px"
    if len(images) and is_small(images[0]):
        style += "; image-rendering: pixelated"
    shown = []
    for image, warm, caption in zip(images, heat, captions, strict=True):
        pair = (picture_address(image), picture_address(overlay(image, warm)))
        tags = "".join(f'<img alt="" style="{style}" src="{address}">' for address in pair)
        words = html.escape(caption)
        shown.append(
            f'<figure style="display: inline-block; margin: 8px">{tags}'
            f"<figcaption>{words}</figcaption></figure>"
        )
    return Inline("<div>" + "".join(shown) + "</div>")

"""What every page of ours shares: one HTML file that opens offline and asks for nothing.

Styles, script, figures and pictures are inside the page, and a content security policy in its head
makes the browser refuse anything else.
"""

import base64
import hashlib
import io
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from PIL import Image

from layerwise.errors import OutputError

HERE = Path(__file__).parent
LIBRARIES = ("layerwise", "torch", "timm", "torchvision", "onnxruntime", "numpy", "scikit-learn")
LARGEST = 384  # of a picture's sides in the page, pixels


def render_page(template: str, styles: Sequence[str] = ("report.css",), **values: Any) -> str:  # noqa: ANN401
    """A page as text.

    Args:
        template: A file beside this one. It is given `style`, `script`, `script_hash`, `versions`
            and the values; what is missing is an error.
        styles: Style sheets beside this file, in order.
        values: What the template is given.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (HERE / "report.js").read_text(encoding="utf-8")
    return environment.get_template(template).render(
        style=Markup("".join((HERE / name).read_text(encoding="utf-8") for name in styles)),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        versions=versions(),
        **values,
    )


def write_page(path: Path, page: str) -> None:
    """Write a page, whole or not at all.

    Raises:
        OutputError: The file can not be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(page, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path}: the report can not be written ({error.strerror}); free space there or name "
            "another folder with --out"
        ) from error


def picture_address(
    picture: npt.NDArray[np.uint8], largest: int = LARGEST, quality: int | None = None
) -> Markup:
    """A picture as a data address.

    Args:
        picture: uint8 (H, W), (H, W, 1) or (H, W, 3).
        largest: Neither side becomes longer than this.
        quality: Of JPEG, 1 … 95; None keeps every pixel (PNG).
    """
    flat = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    image = Image.fromarray(np.ascontiguousarray(flat))
    image.thumbnail((largest, largest))
    out = io.BytesIO()
    if quality is None:
        image.save(out, "PNG", optimize=True)
    else:
        image.save(out, "JPEG", quality=quality)
    kind = "png" if quality is None else "jpeg"
    return Markup(f"data:image/{kind};base64," + base64.b64encode(out.getvalue()).decode())


def is_small(picture: npt.NDArray[np.uint8]) -> bool:
    """Whether a picture is so small that its pixels should stay sharp."""
    return bool(max(picture.shape[:2]) < 100)


def versions() -> list[tuple[str, str]]:
    """Python and the libraries that results depend on, as far as they are installed."""
    found = [("Python", python_version())]
    for library in LIBRARIES:
        try:
            found.append((library, metadata.version(library)))
        except metadata.PackageNotFoundError:
            continue
    return found

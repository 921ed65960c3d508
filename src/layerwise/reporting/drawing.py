"""From a matplotlib figure to an SVG that lives inside a page.

The colours are CSS variables with a value to fall back on, so that one drawing suits a light
page, a dark one and paper, and stands alone in a file too. Text stays text. The same figure gives
the same bytes: no date, ids that follow from its name alone.
"""

import functools
import html
import io
import re
from collections.abc import Callable
from typing import Any, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, SOFT, GRID, PAPER = "#1b1f24", "#59636e", "#d5dbe1", "#fefefe"
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = (  # Okabe & Ito 2008
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
)
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1)), "--")
MARKERS = ("o", "s", "^", "D", "v", "P")

_VARIABLES = {
    INK: "ink",
    SOFT: "soft",
    GRID: "grid",
    PAPER: "paper",
    BLUE: "c1",
    VERMILION: "c2",
    GREEN: "c3",
    PURPLE: "c4",
    ORANGE: "c5",
    SKY: "c6",
}
_STYLE: Any = {
    "text.parse_math": False,  # a label may hold a dollar sign
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "svg.fonttype": "none",
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
}


P = ParamSpec("P")


def styled(draw: Callable[P, str]) -> Callable[P, str]:
    """A drawing function in the style of the report, whatever matplotlib's settings are."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> str:
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return wrapped


def canvas(
    width: float,
    height: float,
    rows: int = 1,
    **options: Any,  # noqa: ANN401 - matplotlib's own
) -> tuple[Figure, list[Axes]]:
    """A figure of its own, outside pyplot's global state, and its axes from the top down."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(rows, 1, squeeze=False, **options)
    return figure, [row[0] for row in axes]


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an SVG element.

    Args:
        figure: What `canvas` made.
        name: The element's id, and the beginning of every id in it: unique in a page.
        description: What the figure says, for those who can not see it.
    """
    salt: Any = {"svg.hashsalt": name}
    out = io.StringIO()
    with matplotlib.rc_context(salt):
        figure.savefig(
            out,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    return _embed(out.getvalue(), name, description)


def _embed(svg: str, name: str, description: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    prefix = f"{name}-"
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", svg)
    for colour, variable in _VARIABLES.items():
        svg = re.sub(rf"{colour}\b", f"var(--{variable}, {colour})", svg, flags=re.I)
    svg = svg.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans'")
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert box is not None
    head = (
        f'<svg id="{name}" class="figure" role="img" aria-label="{html.escape(description)}" '
        f'viewBox="0 0 {box[1]} {box[2]}" style="--natural: {float(box[1]):.0f}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return head + svg[svg.index(">") + 1 :]


def plain(text: str, longest: int = 24, tail: bool = False) -> str:
    """A label as it may be drawn: on one line, and not too long; ``tail`` keeps its end."""
    text = " ".join(text.split()) or " "
    if tail and len(text) > longest:
        return "…" + text[1 - longest :]
    return text if len(text) <= longest else text[: longest - 1] + "…"

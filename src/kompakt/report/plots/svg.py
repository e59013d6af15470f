"""A matplotlib figure as an element of a page: no prologue, the page's colours, ids of its own, a text alternative."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from kompakt.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# matplotlib takes colours only: these stand for the page's variables until the SVG is written.
INK, MUTED, RULE, ACCENT, BAD = "#010101", "#020202", "#030303", "#040404", "#050505"
VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", ACCENT: "--accent", BAD: "--bad"}

LABEL_SIZE = 12.5
LABEL_LENGTH = 32


def inline_svg(draw: Callable[[], Figure], *, name: str, title: str, text: str) -> str:
    """What ``draw`` makes, as an ``<svg>`` element with a title and a description.

    Args:
        name: begins every id in it; each plot of a page has one of its own.
        title, text: what it is, and what it shows in words; escaped here.
    """
    from matplotlib import style

    # The user's own matplotlib settings (usetex, a dark style) must not reach the page. A fixed salt makes
    # the same run give the same bytes.
    with style.context(["default", {"svg.fonttype": "none", "svg.hashsalt": "kompakt"}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+")  # the browser has a font for it
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure = draw()
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata=_NO_METADATA)
    width, height = (round(72 * inches) for inches in figure.get_size_inches())
    return _inline(file.getvalue(), name, width, height, title, text)


def new_figure(width: int, height: int, *, left: int, bottom: int, right: int, top: int) -> tuple[Figure, Axes]:
    """An empty figure of so many pixels, and its axes with these margins.

    Example:
        >>> float(new_figure(100, 50, left=10, bottom=10, right=10, top=10)[1].bbox.width)
        80.0
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    axes = figure.add_axes(box)
    axes.tick_params(which="both", colors=MUTED, labelsize=LABEL_SIZE, length=0, pad=6)
    axes.grid(axis="both", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    return figure, axes


def short(label: str, length: int = LABEL_LENGTH) -> str:
    """``label``, cut where it is longer than ``length``, and printable.

    Example:
        >>> short("abcdef", 4)
        'abc…'
    """
    label = printable(label)
    return label if len(label) <= length else label[: length - 1] + "…"


_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def _inline(svg: str, name: str, width: int, height: int, title: str, text: str) -> str:
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    for color, variable in VARIABLES.items():
        body = body.replace(f": {color}", f": var({variable})")
    body = _own_ids(re.sub(r"font-family: [^;\"]*;? ?", "", body), name)
    return (
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-title {name}-text">'
        f'<title id="{name}-title">{html.escape(title)}</title>'
        f'<desc id="{name}-text">{html.escape(text)}</desc>{body}'
    )


def _own_ids(body: str, name: str) -> str:
    """Ids that something refers to begin with ``name``; the others go."""
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", body))
    body = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", body)
    return re.sub(r"(url\(|href=\")#", rf"\g<1>#{name}-", body)

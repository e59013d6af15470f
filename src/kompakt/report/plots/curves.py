"""A training metric by epoch, small: one panel of several."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from kompakt.report.facts import Panel
from kompakt.report.plots.svg import ACCENT, MUTED, inline_svg, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (300, 150)
LOG_FROM = 20.0
"""Values that differ by more than this factor get a logarithmic axis."""
MARKED = 40
"""Up to so many epochs each has a marker."""
COLORS = (ACCENT, MUTED)
"""Of the metric in training, and on the validation data."""


def panel_svg(panel: Panel, name: str, title: str, text: str) -> str:
    """An ``<svg>`` element of one panel. Args: name: of its ids. text: the curves in words."""
    return inline_svg(functools.partial(panel_figure, panel), name=name, title=title, text=text)


def panel_figure(panel: Panel) -> Figure:
    """The panel as a matplotlib figure."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_figure(*SIZE, left=52, bottom=26, right=10, top=10)
    longest = max(len(curve.values) for curve in panel.curves)
    for curve, color in zip(panel.curves, COLORS, strict=False):
        values = [value if curve.lowest <= value <= curve.highest else math.nan for value in curve.values]
        marker = "o" if len(values) <= MARKED else ""
        style = "--" if color == MUTED else "-"
        axes.plot(range(1, len(values) + 1), values, style, marker=marker, markersize=3, color=color, linewidth=1.4)
    axes.set_xlim(1 - 0.03 * longest, longest * 1.03)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    _upright(axes, panel)
    return figure


def _upright(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    low, high = min(c.lowest for c in panel.curves), max(c.highest for c in panel.curves)
    if low == high:
        axes.set_ylim(low - (0.1 * abs(low) or 1.0), high + (0.1 * abs(high) or 1.0))
        axes.set_yticks([low])
    elif low > 0 and high / low > LOG_FROM:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=5))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.4g}"))

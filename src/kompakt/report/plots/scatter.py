"""Files by a cost and by quality, with the Pareto front."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kompakt.report.facts import Plane, Point, is_baseline
from kompakt.report.plots.labels import MARKER, NEAR, Box, merge_labels, near_end, place_labels
from kompakt.report.plots.svg import ACCENT, BAD, INK, LABEL_SIZE, MUTED, inline_svg, new_figure, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, NARROW = (960, 440), (360, 340)
"""Pixels of the plot, and of the one for phones, which names the front and float alone."""
LOG_FROM = 12.0
"""Costs that differ by more than this factor get a logarithmic axis."""


class Scale(NamedTuple):
    """What costs are divided by and values multiplied with, and the words for both."""

    unit: float
    factor: float
    across: str
    up: str


def plane_svg(plane: Plane, name: str, title: str, text: str, *, narrow: bool = False) -> str:
    """An ``<svg>`` element of a plane with points.

    Args:
        name: of its ids. text: the plot in words. narrow: for a phone.
    """
    draw = functools.partial(plane_figure, plane, narrow=narrow)
    return inline_svg(draw, name=name, title=title, text=text)


def plane_figure(plane: Plane, *, narrow: bool = False) -> Figure:
    """The plot as a matplotlib figure."""
    width, height = NARROW if narrow else WIDE
    figure, axes = new_figure(width, height, left=46 if narrow else 53, bottom=53, right=14, top=40)
    scale = _scale(plane, narrow)
    _draw_axes(axes, plane, scale)
    axes.text(6 - axes.bbox.x0, axes.bbox.height + 18, scale.up, transform=_pixels(axes), **_QUIET)
    axes.set_xlabel(scale.across, color=MUTED, fontsize=LABEL_SIZE, loc="right")
    _draw_points(axes, plane, scale)
    figure.draw_without_rendering()  # puts the numbers of the scale where they will stand
    named = set(plane.front) if narrow else set(plane.points)
    shown = [point for point in plane.points if point in named or is_baseline(point.label)]
    _draw_labels(axes, plane, shown, scale, width, longest=22 if narrow else 32)
    return figure


_QUIET: dict[str, Any] = {"color": MUTED, "fontsize": LABEL_SIZE, "parse_math": False}


def _pixels(axes: Axes) -> Any:
    from matplotlib.transforms import Affine2D

    return Affine2D().translate(axes.bbox.x0, axes.bbox.y0)


def _scale(plane: Plane, narrow: bool) -> Scale:
    metric = plane.metric
    unit, name = _unit(plane)
    factor = 100.0 if metric.is_accuracy else 1.0
    better = "lower is better" if metric.lower_is_better else "higher is better"
    measured = short(metric.name, 20 if narrow else 60)
    up = f"{measured}{', %' if metric.is_accuracy else ''} ({better})"
    return Scale(unit, factor, f"{plane.cost}, {name}", up)


def _unit(plane: Plane) -> tuple[float, str]:
    if plane.unit != "bytes":
        return 1.0, "ratio to float's" if plane.unit == "of float" else plane.unit
    largest = max(point.cost for point in plane.points)
    if largest < 10_000:
        return 1.0, "bytes"
    return (1000.0, "kB") if largest < 10_000_000 else (1_000_000.0, "MB")


def _draw_axes(axes: Axes, plane: Plane, scale: Scale) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    costs = [p.cost / scale.unit for p in plane.points]
    axes.set_ylim(
        *_limits([p.value * scale.factor for p in plane.points], least=1.0 if plane.metric.is_accuracy else 0.0)
    )
    if min(costs) > 0 and max(costs) / min(costs) > LOG_FROM:
        axes.set_xscale("log")
        axes.set_xlim(min(costs) / 1.5, max(costs) * 1.5)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(*_limits(costs, least=0.0))
        axes.xaxis.set_major_locator(MaxNLocator(max(3, int(axes.bbox.width // 100))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}"))
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)


def _limits(values: Sequence[float], least: float) -> tuple[float, float]:
    """Room on both sides, and at least ``least`` of it: noise must not look like a difference."""
    low, high = min(values), max(values)
    pad = max(0.12 * (high - low), (least - (high - low)) / 2) or 0.02 * abs(high) or 1.0
    return low - pad, high + pad


def _draw_points(axes: Axes, plane: Plane, scale: Scale) -> None:
    if plane.front:
        xs, ys = _steps(axes, plane, scale)
        axes.plot(xs, ys, drawstyle="steps-post", color=ACCENT, linewidth=1.0, alpha=0.55)
    for point in plane.points:
        x, y = point.cost / scale.unit, point.value * scale.factor
        if point.spread:
            half = point.spread / scale.unit
            axes.errorbar(x, y, xerr=[[min(half, x)], [half]], capsize=3, ecolor=MUTED, elinewidth=0.8, capthick=0.8)
        axes.plot(
            x,
            y,
            marker="X" if point.breached else "o",
            markersize=MARKER + (1.5 if point.breached else 0),
            color=BAD if point.breached else ACCENT if point in plane.front else MUTED,
            markeredgewidth=0,
        )


def _steps(axes: Axes, plane: Plane, scale: Scale) -> tuple[list[float], list[float]]:
    """The corners of the front, up to the right edge: what costs more and is no better than its last is dominated."""
    xs = [p.cost / scale.unit for p in plane.front] + [axes.get_xlim()[1]]
    return xs, [p.value * scale.factor for p in plane.front] + [plane.front[-1].value * scale.factor]


def _front_lines(axes: Axes, plane: Plane, scale: Scale) -> list[Box]:
    """The front as it is drawn, as thin boxes."""
    if not plane.front:
        return []
    corners = axes.transData.transform(list(zip(*_steps(axes, plane, scale), strict=True))).tolist()
    lines = []
    for (x, y), (after, beyond) in itertools.pairwise(corners):
        lines += [Box(x, y - 1, after, y + 1), Box(after - 1, min(y, beyond), after + 1, max(y, beyond))]
    return lines


def _spread_boxes(axes: Axes, plane: Plane, scale: Scale) -> list[Box]:
    """The lines that say what a cost is measured to."""
    boxes = []
    for point in plane.points:
        if point.spread:
            x, y = point.cost / scale.unit, point.value * scale.factor
            ends = [(max(x - point.spread / scale.unit, axes.get_xlim()[0]), y), (x + point.spread / scale.unit, y)]
            (left, height), (right, _) = axes.transData.transform(ends).tolist()
            boxes.append(Box(left, height - 3, right, height + 3))
    return boxes


def _scale_boxes(axes: Axes) -> list[Box]:
    """Where the numbers of the upright axis stand."""
    extents = [tick.get_window_extent() for tick in axes.get_yticklabels() if tick.get_text()]
    return [Box(extent.x0, extent.y0, extent.x1, extent.y1) for extent in extents]


def _draw_labels(axes: Axes, plane: Plane, shown: Sequence[Point], scale: Scale, width: int, longest: int) -> None:
    points = [(point.cost / scale.unit, point.value * scale.factor) for point in shown]
    if not points:
        return
    places = [(float(x), float(y)) for x, y in axes.transData.transform(points)]
    groups = merge_labels(places, [short(point.label, longest) for point in shown])
    style: dict[str, Any] = {"fontsize": LABEL_SIZE, "color": INK, "transform": None, "parse_math": False}
    texts = [axes.text(0, 0, "\n".join(names), **style) for names in groups.values()]
    extents = [text.get_window_extent() for text in texts]
    frame = Box(4, axes.bbox.y0 + 2, width - 4, axes.bbox.y1 + 2)
    lines = [*_front_lines(axes, plane, scale), *_spread_boxes(axes, plane, scale), *_scale_boxes(axes)]
    anchors = list(groups)
    sizes = [(extent.width + 2, extent.height) for extent in extents]
    boxes = place_labels(anchors, sizes, frame, lines, _unnamed(axes, plane, shown, scale))
    for text, extent, anchor, box in zip(texts, extents, anchors, boxes, strict=True):
        text.set_position((box.left + 1, box.bottom - extent.y0))
        _draw_leader(axes, anchor, near_end(anchor, box))


def _unnamed(axes: Axes, plane: Plane, shown: Sequence[Point], scale: Scale) -> list[tuple[float, float]]:
    """Where the markers are that get no label."""
    rest = [(p.cost / scale.unit, p.value * scale.factor) for p in plane.points if p not in shown]
    return [(float(x), float(y)) for x, y in axes.transData.transform(rest)] if rest else []


def _draw_leader(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    from matplotlib.lines import Line2D

    if math.dist(start, end) > NEAR:
        line = Line2D([start[0], end[0]], [start[1], end[1]], color=MUTED, linewidth=0.7, transform=None)
        line.set_zorder(1)
        axes.add_artist(line)

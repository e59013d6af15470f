"""File size against accuracy, as inline SVG. Its colours are variables of the page and follow its theme."""

from __future__ import annotations

import html
import io
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kompakt.records import Run
from kompakt.report import facts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# matplotlib takes colours only: these stand for the page's variables until the SVG is written.
INK, MUTED, RULE, ACCENT = "#010101", "#020202", "#030303", "#040404"
VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", ACCENT: "--accent"}

WIDTH, HEIGHT = 960, 440
MARKER = 7.5
LABEL_SIZE = 12.5
LABEL_LENGTH = 32
LOG_FROM = 12.0
"""Sizes that differ by more than this factor get a logarithmic axis."""


class Box(NamedTuple):
    """A rectangle in points, from the lower left corner of the figure."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share any area.

        Example:
            >>> Box(0, 0, 2, 2).overlaps(Box(1, 1, 3, 3)), Box(0, 0, 1, 1).overlaps(Box(1, 0, 2, 1))
            (True, False)
        """
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def inside(self, frame: Box) -> bool:
        """Whether ``frame`` holds all of this.

        Example:
            >>> Box(1, 1, 2, 2).inside(Box(0, 0, 3, 3))
            True
        """
        return (
            frame.left <= self.left
            and self.right <= frame.right
            and frame.bottom <= self.bottom
            and self.top <= frame.top
        )


def size_against_metric(run: Run) -> str:
    """An ``<svg>`` element with title and description, or "" where no file has both a size and the metric.

    Example:
        >>> size_against_metric(Run(title="empty", trials=()))
        ''
    """
    points = facts.points(run)
    if not points:
        return ""
    from matplotlib import style

    metric = facts.metric(run)
    # The user's own matplotlib settings (usetex, a dark style) must not reach the page. A fixed salt makes
    # the same run give the same bytes.
    with style.context(["default", {"svg.fonttype": "none", "svg.hashsalt": "kompakt"}]):
        figure = _figure(points, metric)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata=_NO_METADATA)
    return _inline(file.getvalue(), description(points, metric))


def description(points: Sequence[facts.Point], metric: facts.Metric) -> str:
    """What the plot shows, in words.

    Example:
        >>> description([facts.Point(index=0, label="float", size=4000, value=0.975)], facts.Metric())
        'float: 4,000 bytes, 97.50 %.'
    """
    lines = []
    for point in points:
        value = f"{point.value:.2%}".replace("%", " %") if metric.is_accuracy else f"{point.value:.4g}"
        lines.append(f"{point.label}: {point.size:,.0f} bytes, {value}{', breach' if point.breached else ''}")
    return "; ".join(lines) + "."


def merge_labels(places: Sequence[tuple[float, float]], labels: Sequence[str]) -> dict[tuple[float, float], list[str]]:
    """Labels by place; markers that the eye can't tell apart share the first one's.

    Example:
        >>> merge_labels([(10, 10), (11, 10), (50, 10)], ["a", "b", "c"])
        {(10, 10): ['a', 'b'], (50, 10): ['c']}
    """
    groups: dict[tuple[float, float], list[str]] = {}
    for place, label in zip(places, labels, strict=True):
        near = next((known for known in groups if math.dist(known, place) < MARKER / 2), place)
        groups.setdefault(near, []).append(label)
    return groups


def place_labels(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    lines: Sequence[Box] = (),
) -> tuple[Box, ...]:
    """A box for each label, near its anchor, inside ``frame`` and clear of markers and other labels.

    The nearest free place on growing rings round the anchor is taken, off the ``lines`` and one whose leader
    crosses no label if there is one. Where nothing is free, the label goes right of its anchor and overlaps.

    Example:
        >>> place_labels([(50, 50)], [(20, 10)], Box(0, 0, 100, 100))[0].left > 50
        True
    """
    taken = [_around(x, y, MARKER / 2 + 1) for x, y in anchors]
    placed: list[Box] = []
    for anchor, size in zip(anchors, sizes, strict=True):
        candidates = list(_candidates(anchor, size))
        free = [box for box in candidates if box.inside(frame) and not _hits([box], taken)]
        free = [box for box in free if not _hits([box], lines)] or free
        clear = (box for box in free if not _hits(_leader(anchor, box), placed))
        box = next(clear, (free or candidates)[0])
        placed.append(box)
        taken += [box, *_leader(anchor, box)]
    return tuple(placed)


_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_RINGS = (8.0, 15.0, 24.0, 36.0, 50.0, 66.0, 84.0, 104.0, 128.0, 156.0)
_ANGLES = (0, 180, 90, 270, 30, 330, 150, 210, 60, 300, 120, 240)


def _candidates(anchor: tuple[float, float], size: tuple[float, float]) -> Iterable[Box]:
    width, height = size
    for ring in _RINGS:
        for angle in _ANGLES:
            dx, dy = ring * math.cos(math.radians(angle)), ring * math.sin(math.radians(angle))
            # The label hangs on its near edge, so that a ring means the same on all sides.
            left = anchor[0] + dx - width * (0.5 if abs(dx) < 0.01 else dx < 0)
            bottom = anchor[1] + dy - height * (1 - math.sin(math.radians(angle))) / 2
            yield Box(left, bottom, left + width, bottom + height)


def _hits(boxes: Iterable[Box], others: Sequence[Box]) -> bool:
    return any(box.overlaps(other) for box in boxes for other in others)


def _around(x: float, y: float, radius: float) -> Box:
    return Box(x - radius, y - radius, x + radius, y + radius)


def _near_end(anchor: tuple[float, float], box: Box) -> tuple[float, float]:
    x = min(max(anchor[0], box.left), box.right)
    return x, min(max(anchor[1], box.bottom + 2), box.top - 2)


def _leader(anchor: tuple[float, float], box: Box) -> list[Box]:
    """The line from an anchor to its label, as small boxes."""
    end = _near_end(anchor, box)
    count = int(math.dist(anchor, end) // 4)
    shares = [step / count for step in range(1, count)]
    return [_around(anchor[0] + (end[0] - anchor[0]) * t, anchor[1] + (end[1] - anchor[1]) * t, 1) for t in shares]


def _figure(points: Sequence[facts.Point], metric: facts.Metric) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
    axes = figure.add_axes((0.055, 0.12, 0.93, 0.79))
    unit, name = _unit(max(p.size for p in points))
    factor = 100.0 if metric.is_accuracy else 1.0
    _draw_axes(axes, points, metric, unit, factor)
    axes.set_xlabel(f"file size, {name}", color=MUTED, fontsize=LABEL_SIZE, loc="right")
    _draw_points(axes, points, metric, unit, factor)
    figure.draw_without_rendering()  # puts the numbers of the scale where they will stand
    _draw_labels(axes, points, metric, unit, factor)
    return figure


def _unit(largest: float) -> tuple[float, str]:
    if largest < 10_000:
        return 1.0, "bytes"
    return (1000.0, "kB") if largest < 10_000_000 else (1_000_000.0, "MB")


def _draw_axes(axes: Axes, points: Sequence[facts.Point], metric: facts.Metric, unit: float, factor: float) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    sizes = [p.size / unit for p in points]
    values = [p.value * factor for p in points]
    axes.set_ylim(*_limits(values, least=1.0 if metric.is_accuracy else 0.0))
    if min(sizes) > 0 and max(sizes) / min(sizes) > LOG_FROM:
        axes.set_xscale("log")
        axes.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(*_limits(sizes, least=0.0))
        axes.ticklabel_format(axis="x", style="plain", useOffset=False)
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    better = "lower is better" if metric.lower_is_better else "higher is better"
    title = f"{metric.name} in LiteRT{', %' if metric.is_accuracy else ''} ({better})"
    axes.text(-0.055, 1.05, title, transform=axes.transAxes, color=MUTED, fontsize=LABEL_SIZE, parse_math=False)
    axes.tick_params(colors=MUTED, labelsize=LABEL_SIZE, length=0, pad=6)
    axes.grid(axis="both", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def _limits(values: Sequence[float], least: float) -> tuple[float, float]:
    """Room on both sides, and at least ``least`` of it: noise must not look like a difference."""
    low, high = min(values), max(values)
    pad = max(0.12 * (high - low), (least - (high - low)) / 2) or 0.02 * abs(high) or 1.0
    return low - pad, high + pad


def _draw_points(axes: Axes, points: Sequence[facts.Point], metric: facts.Metric, unit: float, factor: float) -> None:
    front = facts.pareto(points, lower_is_better=metric.lower_is_better)
    if front:
        xs, ys = _steps(axes, front, unit, factor)
        axes.plot(xs, ys, drawstyle="steps-post", color=ACCENT, linewidth=1.0, alpha=0.55)
    on_front = {p.index for p in front}
    for point in points:
        axes.plot(
            point.size / unit,
            point.value * factor,
            marker="X" if point.breached else "o",
            markersize=MARKER,
            color=ACCENT if point.index in on_front else MUTED,
            markeredgewidth=0,
        )


def _steps(axes: Axes, front: Sequence[facts.Point], unit: float, factor: float) -> tuple[list[float], list[float]]:
    """The corners of the front, up to the right edge: a larger file no better than its last is dominated too."""
    xs = [p.size / unit for p in front] + [axes.get_xlim()[1]]
    return xs, [p.value * factor for p in front] + [front[-1].value * factor]


def _front_lines(
    axes: Axes, points: Sequence[facts.Point], metric: facts.Metric, unit: float, factor: float
) -> list[Box]:
    """The front as it is drawn, as thin boxes."""
    front = facts.pareto(points, lower_is_better=metric.lower_is_better)
    if not front:
        return []
    corners = axes.transData.transform(list(zip(*_steps(axes, front, unit, factor), strict=True))).tolist()
    lines = []
    for (x, y), (after, beyond) in itertools.pairwise(corners):
        lines += [Box(x, y - 1, after, y + 1), Box(after - 1, min(y, beyond), after + 1, max(y, beyond))]
    return lines


def _scale_boxes(axes: Axes) -> list[Box]:
    """Where the numbers of the upright axis stand."""
    extents = [tick.get_window_extent() for tick in axes.get_yticklabels() if tick.get_text()]
    return [Box(extent.x0, extent.y0, extent.x1, extent.y1) for extent in extents]


def _draw_labels(axes: Axes, points: Sequence[facts.Point], metric: facts.Metric, unit: float, factor: float) -> None:
    shown = [(point.size / unit, point.value * factor) for point in points]
    places = [(float(x), float(y)) for x, y in axes.transData.transform(shown)]
    groups = merge_labels(places, [_short(point.label) for point in points])
    texts = [
        axes.text(0, 0, "\n".join(names), fontsize=LABEL_SIZE, color=INK, transform=None, parse_math=False)
        for names in groups.values()
    ]
    extents = [text.get_window_extent() for text in texts]
    anchors = list(groups)
    frame = Box(4, axes.bbox.y0 + 2, WIDTH - 4, axes.bbox.y1 + 2)
    lines = [*_front_lines(axes, points, metric, unit, factor), *_scale_boxes(axes)]
    boxes = place_labels(anchors, [(extent.width + 2, extent.height) for extent in extents], frame, lines)
    for text, extent, anchor, box in zip(texts, extents, anchors, boxes, strict=True):
        text.set_position((box.left + 1, box.bottom - extent.y0))
        _draw_leader(axes, anchor, _near_end(anchor, box))


def _draw_leader(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    from matplotlib.lines import Line2D

    if math.dist(start, end) > _RINGS[1]:
        line = Line2D([start[0], end[0]], [start[1], end[1]], color=MUTED, linewidth=0.7, transform=None)
        line.set_zorder(1)
        axes.add_artist(line)


def _short(label: str) -> str:
    return label if len(label) <= LABEL_LENGTH else label[: LABEL_LENGTH - 1] + "…"


def _inline(svg: str, text: str) -> str:
    """matplotlib's document as an element of an HTML page: no prologue, our colours, a text alternative."""
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    for color, variable in VARIABLES.items():
        body = body.replace(f": {color}", f": var({variable})")
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="plot-title plot-text">'
        f'<title id="plot-title">File size against quality</title>'
        f'<desc id="plot-text">{html.escape(text)}</desc>{body}'
    )

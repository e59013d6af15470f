"""Size, and latency, against how good a file is."""

from __future__ import annotations

from kompakt.report.blocks import Block, Cell, Column, Fold, Line, Picture, Section, Table, Words
from kompakt.report.facts import Facts, Plane, Point
from kompakt.report.facts.speed import RULE
from kompakt.report.sections.words import listed, name, numbers, numeric, quality_text, quality_title


def size(facts: Facts) -> Section:
    """File size against the metric."""
    return _section("size", f"Size against {facts.metric.name}", "a size", facts.size)


def latency(facts: Facts) -> Section:
    """Latency against the metric."""
    return _section("latency", f"Latency against {facts.metric.name}", "a measured latency", facts.latency)


def plane_text(plane: Plane) -> str:
    """What a plane shows, in words: every point with its numbers, then the front.

    Example:
        >>> from kompakt.report.facts import Metric
        >>> point = Point(index=0, label="float", cost=4000, value=0.975)
        >>> plane_text(Plane(cost="file size", unit="bytes", metric=Metric(), points=(point,), front=(point,)))
        'float: 4,000 bytes, 97.50 %. On the Pareto front, from the smallest: float.'
    """
    told = [
        f"{p.label}: {_cost(p, plane)}, {quality_text(p.value, plane.metric)}{', breach' if p.breached else ''}"
        for p in plane.points
    ]
    least = "smallest" if plane.unit == "bytes" else "fastest"
    front = f"On the Pareto front, from the {least}: {listed([p.label for p in plane.front])}."
    return f"{'; '.join(told)}. {front if plane.front else 'No file is on the Pareto front.'}"


def _cost(point: Point, plane: Plane) -> str:
    if plane.unit == "bytes":
        return f"{point.cost:,.0f} bytes"
    spread = f" ± {point.spread:.2g}" if point.spread is not None else ""
    if plane.unit == "of float":
        return f"{point.cost:.3g}{spread} times float's latency"
    return f"{point.cost:.4g}{spread} {plane.unit}"


def _section(key: str, title: str, needed: str, plane: Plane) -> Section:
    if not plane.points:
        none = Words(text=f"No file has both {needed} and a measured {plane.metric.name}.")
        return Section(key=key, title=title, blocks=(none,))
    picture = _picture(key, title, plane)
    blocks: tuple[Block, ...] = (picture, Fold(summary="The numbers of this plot", blocks=(_table(title, plane),)))
    return Section(key=key, title=title, blocks=blocks)


def _picture(key: str, title: str, plane: Plane) -> Picture:
    text = plane_text(plane)

    def draw(name: str, narrow: bool) -> str:
        from kompakt.report.plots.scatter import plane_svg

        return plane_svg(plane, name, title, text, narrow=narrow)

    caption = "Blue points and the stepped line: the Pareto front, those that no other file beats in both."
    if any(point.breached for point in plane.points):
        caption += " A red cross: a file that breaks a limit."
    if any(point.spread is not None for point in plane.points):
        caption += f" Lines through points: half the interquartile range on both sides. {RULE}"
    if plane.where:
        caption += f" Measured in {plane.where}."
    return Picture(key=key, title=title, text=text, draw=draw, caption=caption, narrow=True)


def _table(title: str, plane: Plane) -> Table:
    unit = {"bytes": ("file size, bytes", "{:,.0f}"), "of float": ("latency / float", "{:.3f}")}
    head, pattern = unit.get(plane.unit, (f"{plane.cost}, {plane.unit}", "{:.4g}"))
    factor, shown = (100, "{:.2f}") if plane.metric.is_accuracy else (1, "{:.4g}")
    measured = any(p.spread is not None for p in plane.points)
    spread = pattern if plane.unit == "of float" else "{:.2g}"
    lines = tuple(
        Line(
            cells=(
                name(p.label),
                numeric(p.cost, pattern),
                *([numeric(p.spread, spread)] if measured else []),
                numeric(p.value, shown, factor),
                Cell(text="yes" if p in plane.front else "no"),
                Cell(text="yes", bad=True) if p.breached else Cell(text="no"),
            )
        )
        for p in plane.points
    )
    heads = (head, *(["±"] if measured else []), quality_title(plane.metric))
    columns = (Column(title="recipe"), *numbers(*heads))
    return Table(
        label=f"{title}: the numbers",
        columns=(*columns, Column(title="on the front"), Column(title="breaks a limit")),
        lines=lines,
    )

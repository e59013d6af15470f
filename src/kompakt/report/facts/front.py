"""Files in a plane of what they cost and how good they are, and the front that no other file is ahead of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass

from kompakt.records import Run, Trial
from kompakt.report.facts.metric import Metric, metric, quality

LARGEST = 1e18
"""A cost above this is no fact of a file, and no plot shows it."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One file; ``index`` is its trial's place in the Run, ``cost`` its size or latency, ``value`` its metric.

    ``spread``: what the cost is measured to, half the interquartile range; None where it is exact or was not measured.
    """

    index: int
    label: str
    cost: float
    value: float
    breached: bool = False
    spread: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Files by a cost and by the metric.

    Attributes:
        cost: what it is, "file size" or "latency"; unit: of it.
        where: how it was measured, or "".
        front: those of ``points`` that no other is ahead of, the cheapest first.
    """

    cost: str
    unit: str
    metric: Metric
    where: str = ""
    points: tuple[Point, ...] = ()
    front: tuple[Point, ...] = ()


def size_plane(run: Run) -> Plane:
    """File size against the metric.

    Example:
        >>> size_plane(Run(title="empty", trials=())).points
        ()
    """
    return _plane(run, "file size", "bytes", points(run))


def latency_plane(run: Run) -> Plane:
    """Latency against the metric: as a ratio to the float file where each file has that, else in milliseconds.

    Example:
        >>> latency_plane(Run(title="empty", trials=())).unit
        'of float'
    """
    timed = [t for t in run.trials if any(t.value(name) is not None for name, _ in _LATENCIES)]
    # A file of another target than float's has milliseconds alone.
    name, unit = max(_LATENCIES, key=lambda pair: sum(t.value(pair[0]) is not None for t in timed))
    found = tuple(
        dataclasses.replace(point, spread=_spread(run.trials[point.index].value(f"{name}_spread")))
        for point in _points(run, [trial.value(name) for trial in run.trials])
    )
    said = [m.where for t in run.trials for m in t.measurements if m.name == name and m.where]
    return _plane(run, "latency", unit, found, where="; ".join(dict.fromkeys(said)))


_LATENCIES = (("latency_ratio", "of float"), ("latency_ms", "ms"))


def points(run: Run) -> tuple[Point, ...]:
    """The trials that have both a file and its metric in its runtime, by the file's size.

    Example:
        >>> points(Run(title="empty", trials=()))
        ()
    """
    return _points(run, [trial.artifact.bytes if trial.artifact else None for trial in run.trials])


def pareto(candidates: Iterable[Point], *, lower_is_better: bool = False) -> tuple[Point, ...]:
    """The points that no other point dominates, the cheapest first.

    One point dominates another where it costs no more and is no worse, and is better in one of the two: Pareto's
    definition, so that of two equal points both stay. A file with a breach is no candidate: it isn't what was asked
    for.

    Example:
        >>> big = Point(index=0, label="a", cost=9, value=0.9)
        >>> small = Point(index=1, label="b", cost=5, value=0.9)
        >>> [point.label for point in pareto([big, small])]
        ['b']
    """
    sign = -1.0 if lower_is_better else 1.0
    sound = [p for p in candidates if not p.breached and math.isfinite(p.cost) and math.isfinite(p.value)]
    kept: list[Point] = []
    for point in sorted(sound, key=lambda p: (p.cost, -sign * p.value)):
        better = not kept or sign * point.value > sign * kept[-1].value
        if better or (point.cost, point.value) == (kept[-1].cost, kept[-1].value):
            kept.append(point)
    return tuple(kept)


def _spread(value: float | None) -> float | None:
    return value if value is not None and 0 <= value < LARGEST else None


def _plane(run: Run, cost: str, unit: str, found: tuple[Point, ...], where: str = "") -> Plane:
    shown = metric(run)
    front = pareto(found, lower_is_better=shown.lower_is_better)
    return Plane(cost=cost, unit=unit, metric=shown, where=where, points=found, front=front)


def _points(run: Run, costs: list[float | None]) -> tuple[Point, ...]:
    shown = metric(run)
    found = (_point(i, trial, cost, shown) for i, (trial, cost) in enumerate(zip(run.trials, costs, strict=True)))
    return tuple(point for point in found if point is not None)


def _point(index: int, trial: Trial, cost: float | None, shown: Metric) -> Point | None:
    value = quality(trial, shown)
    if trial.artifact is None or value is None or cost is None:
        return None
    if not math.isfinite(value) or not abs(value) < LARGEST or not 0 <= cost < LARGEST:
        return None
    return Point(index=index, label=trial.recipe, cost=float(cost), value=value, breached=bool(trial.artifact.breaches))

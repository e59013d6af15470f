"""What a report says, computed from one run or several. Pure functions and frozen records; nothing here renders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kompakt.records import Run
from kompakt.records_layers import LayerSensitivity
from kompakt.report.facts.agreement import Agreed, agreements
from kompakt.report.facts.combine import combined, named
from kompakt.report.facts.curves import Curve, Panel, panels
from kompakt.report.facts.front import Plane, Point, latency_plane, pareto, points, size_plane
from kompakt.report.facts.layers import FileLayers, LayerRow, files
from kompakt.report.facts.metric import Metric, metric
from kompakt.report.facts.provenance import FileSource, Source, file_sources, source, versions
from kompakt.report.facts.undone import Undone, undone
from kompakt.report.facts.variants import BASELINE, Row, is_baseline, rows
from kompakt.report.facts.verdict import verdict

__all__ = [
    "BASELINE",
    "Agreed",
    "Curve",
    "Facts",
    "FileLayers",
    "FileSource",
    "LayerRow",
    "Metric",
    "Panel",
    "Plane",
    "Point",
    "Row",
    "Sensitive",
    "Source",
    "Undone",
    "Verdict",
    "compute",
    "is_baseline",
    "latency_plane",
    "metric",
    "pareto",
    "points",
    "rows",
    "size_plane",
    "undone",
    "verdict",
    "versions",
]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One run in one sentence; ``label`` is "" where there is only one."""

    label: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Sensitive:
    """The layers of one run's float model, the most sensitive first."""

    label: str
    rows: tuple[LayerSensitivity, ...]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that a report says, a field a section; JSON by :func:`kompakt.records.to_json`."""

    title: str
    created: str
    metric: Metric
    verdicts: tuple[Verdict, ...]
    rows: tuple[Row, ...]
    size: Plane
    latency: Plane
    layers: tuple[FileLayers, ...]
    sensitivity: tuple[Sensitive, ...]
    agreement: tuple[Agreed, ...]
    curves: tuple[Panel, ...]
    undone: tuple[Undone, ...]
    sources: tuple[Source, ...]
    files: tuple[FileSource, ...]


def compute(runs: Sequence[Run], labels: Sequence[str] = ()) -> Facts:
    """The facts of one run, or of several compared.

    Args:
        labels: a name for each of several runs; by default their titles.

    Raises:
        InputError: there is no run, or they are judged by different metrics.

    Example:
        >>> compute([Run(title="empty", trials=())]).verdicts[0].text
        'No recipe was tried, so there is nothing to compare.'
    """
    told = named(runs, labels)
    run = combined(runs, told)
    return Facts(
        title=run.title,
        created=run.created,
        metric=metric(run),
        verdicts=tuple(Verdict(label=label, text=verdict(each)) for label, each in zip(told, runs, strict=True)),
        rows=rows(run),
        size=size_plane(run),
        latency=latency_plane(run),
        layers=files(run),
        sensitivity=tuple(
            Sensitive(label=label, rows=each.sensitivity)
            for label, each in zip(told, runs, strict=True)
            if each.sensitivity
        ),
        agreement=agreements(run),
        curves=panels(run),
        undone=undone(run),
        sources=tuple(source(each, label) for label, each in zip(told, runs, strict=True)),
        files=file_sources(run),
    )

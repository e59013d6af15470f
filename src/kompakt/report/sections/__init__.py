"""The sections of a report, each a function of the facts. A new one is a file here and a row in :data:`SECTIONS`."""

from __future__ import annotations

from collections.abc import Callable

from kompakt.report.blocks import Section
from kompakt.report.facts import Facts
from kompakt.report.sections.agreement import agreement
from kompakt.report.sections.curves import curves
from kompakt.report.sections.layers import layers
from kompakt.report.sections.planes import latency, size
from kompakt.report.sections.provenance import provenance
from kompakt.report.sections.sensitivity import sensitivity
from kompakt.report.sections.undone import undone
from kompakt.report.sections.variants import variants

SECTIONS: tuple[Callable[[Facts], Section], ...] = (
    variants,
    size,
    latency,
    layers,
    sensitivity,
    agreement,
    curves,
    undone,
    provenance,
)
"""In the order of the page, below the verdict."""


def sections(facts: Facts) -> tuple[Section, ...]:
    """All sections of a report.

    Example:
        >>> from kompakt.records import Run
        >>> from kompakt.report.facts import compute
        >>> [section.key for section in sections(compute([Run(title="empty", trials=())]))][:3]
        ['variants', 'size', 'latency']
    """
    return tuple(make(facts) for make in SECTIONS)

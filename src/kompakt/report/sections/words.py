"""Numbers and names as cells of a table."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

from kompakt.report.blocks import Cell, Column
from kompakt.report.facts import Metric
from kompakt.report.table import MISSING


def numeric(value: float | None, pattern: str = "{:,}", factor: float = 1) -> Cell:
    """A number by a pattern; a dash where there is none.

    Example:
        >>> numeric(1234).text, numeric(0.5, "{:.1f}", 100).text, numeric(None).text
        ('1,234', '50.0', '–')
    """
    if value is None:
        return Cell(text=MISSING)
    if not math.isfinite(value):
        return Cell(text="NaN" if math.isnan(value) else str(value), bad=True)
    return Cell(text=_minus(pattern.format(value * factor)), value=value)


def _minus(text: str) -> str:
    """A minus as wide as a digit, where a number is below 0."""
    return f"−{text[1:]}" if text.startswith("-") else text


def between(low: float, high: float) -> str:
    """The range of some values.

    Example:
        >>> between(-5.703, 12.5), between(0, 6)
        ('−5.7 to 12.5', '0 to 6')
    """
    return f"{_minus(f'{low:.3g}')} to {_minus(f'{high:.3g}')}"


def plain_time(text: str) -> str:
    """A time for people; what is none stays as it is.

    Example:
        >>> plain_time("2026-11-29T07:05:23+00:00"), plain_time("2026-11-29T07:05:23+02:00"), plain_time("today")
        ('2026-11-29 07:05 UTC', '2026-11-29 07:05 UTC+02:00', 'today')
    """
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        return text
    return text if time.tzinfo is None else f"{time:%Y-%m-%d %H:%M} {time.tzname()}"


def name(text: str) -> Cell:
    """A name that someone chose: of a layer, a file, a recipe."""
    return Cell(text=text, value=text, name=True)


def quality_text(value: float, metric: Metric) -> str:
    """A metric as text.

    Example:
        >>> quality_text(0.975, Metric())
        '97.50 %'
    """
    return f"{100 * value:.2f} %" if metric.is_accuracy else f"{value:.4g}"


def quality_title(metric: Metric) -> str:
    """The heading of a column of a metric."""
    return f"{metric.name}, %" if metric.is_accuracy else metric.name


def numbers(*titles: str, group: str = "") -> tuple[Column, ...]:
    """Columns of numbers."""
    return tuple(Column(title=title, group=group, numeric=True) for title in titles)


def listed(values: Sequence[str]) -> str:
    """Names in a row.

    Example:
        >>> listed(["a", "b", "c"]), listed(["a"]), listed([])
        ('a, b and c', 'a', '')
    """
    return " and ".join(part for part in (", ".join(values[:-1]), *values[-1:]) if part)

"""What a variant is beside the float file, as text: its difference, whether that is chance, its latency."""

from __future__ import annotations

import math

from kompakt.report.facts import Metric, Row
from kompakt.report.table import MISSING


def to_float(row: Row, metric: Metric) -> str:
    """The difference of the file's metric to that of the float file, with its interval.

    Example:
        >>> to_float(Row(recipe="qat", to_float=-0.0022, to_float_low=-0.012, to_float_high=0.0117), Metric())
        '-0.22 (-1.20..+1.17)'
    """
    if row.to_float is None:
        return MISSING
    pattern, factor = ("{:+.2f}", 100) if metric.is_accuracy else ("{:+.3g}", 1)
    text = pattern.format(factor * row.to_float)
    if row.to_float_low is None or row.to_float_high is None:
        return text
    return f"{text} ({pattern.format(factor * row.to_float_low)}..{pattern.format(factor * row.to_float_high)})"


def chance(row: Row) -> str:
    """The p value of the difference, with a star where chance is an unlikely reason.

    Example:
        >>> chance(Row(recipe="qat", p=0.0063, told_apart=True)), chance(Row(recipe="qat", p=1.0, told_apart=False))
        ('0.0063*', '1')
    """
    star = "*" if row.told_apart else ""
    return star or MISSING if row.p is None else f"{row.p:.2g}{star}"


def latency(row: Row) -> str:
    """The ratio of latencies with its interval; with its spread where there is none. Milliseconds where that is all.

    Example:
        >>> latency(Row(recipe="qat", latency_ratio=0.44, latency_low=0.43, latency_high=0.45))
        '0.44 (0.43..0.45)'
    """
    if row.latency_ratio is None:
        return MISSING if row.latency_ms is None else f"{row.latency_ms:.3g} ms"
    ratio = _ratio(row.latency_ratio)
    if row.latency_low is not None and row.latency_high is not None:
        return f"{ratio} ({_ratio(row.latency_low)}..{_ratio(row.latency_high)})"
    return ratio if row.latency_spread is None else f"{ratio} ±{_ratio(row.latency_spread)}"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "NaN" if math.isnan(value) else str(value)

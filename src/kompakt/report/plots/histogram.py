"""A histogram as a small drawing in a table's cell, and in words."""

from __future__ import annotations

import html

from kompakt.records_layers import Histogram

HEIGHT = 24
LEAST = 0.8
"""Height of a part that is not empty: one value of many still shows."""


def histogram_svg(histogram: Histogram) -> str:
    """An ``<svg>`` element: a bar for each part, the tallest as high as the drawing.

    Example:
        >>> "M0 24V12h1V24" in histogram_svg(Histogram(low=0, high=1, counts=(1, 2)))
        True
    """
    counts = histogram.counts
    most = max(*counts, 1)
    bars = [max(HEIGHT * n / most, LEAST) if n else 0.0 for n in counts]
    path = "".join(f"M{i} {HEIGHT}V{HEIGHT - bar:.3g}h1V{HEIGHT}" for i, bar in enumerate(bars) if bar)
    words = html.escape(histogram_text(histogram))
    return (
        f'<svg class="bars" viewBox="0 0 {len(counts)} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{words}"><path d="{path}"/></svg>'
    )


def histogram_text(histogram: Histogram) -> str:
    """What a histogram shows, in words with numbers.

    Example:
        >>> histogram_text(Histogram(low=-4, high=3, counts=(0, 6, 2, 0), integers=True))
        '8 integers from −4 to 3 in 4 parts: most in −2 to −1 (6), half of all from −2 to −1, 2 parts empty'
    """
    counts, total = histogram.counts, sum(histogram.counts)
    kind = "integers" if histogram.integers else "values"
    text = f"{total:,} {kind} from {_number(histogram.low)} to {_number(histogram.high)}"
    if len(counts) < 2 or not total:
        return text
    top = counts.index(max(counts))
    half = _span(histogram, _part_of(counts, 0.25 * total), _part_of(counts, 0.75 * total))
    empty = counts.count(0)
    return (
        f"{text} in {len(counts)} parts: most in {_span(histogram, top, top)} ({counts[top]:,}), "
        f"half of all from {half}, {empty} {'part' if empty == 1 else 'parts'} empty"
    )


def _part_of(counts: tuple[int, ...], rank: float) -> int:
    seen = 0
    for part, count in enumerate(counts):
        seen += count
        if seen >= rank:
            return part
    return len(counts) - 1


def _span(histogram: Histogram, first: int, last: int) -> str:
    extra = 1 if histogram.integers else 0  # the last integer of a part belongs to it
    each = (histogram.high - histogram.low + extra) / len(histogram.counts)
    low, high = histogram.low + first * each, histogram.low + (last + 1) * each - extra
    return f"{_number(low)} to {_number(high)}" if low != high else _number(low)


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")

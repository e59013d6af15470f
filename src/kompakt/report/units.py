"""Numbers with few signs, for tables."""

from __future__ import annotations

import math

from kompakt.report.terminal import MISSING


def milliseconds(value: float | None, digits: int = 3) -> str:
    """Milliseconds to so many digits, without an exponent.

    Example:
        >>> milliseconds(0.0040372), milliseconds(1234.4), milliseconds(0.0000213, 1)
        ('0.00404', '1234', '0.00002')
    """
    if value is None:
        return MISSING
    if value <= 0.0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(value)))
    return f"{value:.{places}f}"


def plus_minus(spread: float, value: str) -> str:
    """A spread with as many decimal places as the text of the value that it belongs to.

    Example:
        >>> plus_minus(0.000213, "0.00404"), plus_minus(26.0, "1234")
        ('0.00021', '26')
    """
    return f"{spread:.{len(value.partition('.')[2])}f}"


def microseconds(value: float | None, digits: int = 3) -> str:
    """Milliseconds as microseconds to so many digits."""
    return MISSING if value is None else milliseconds(1e3 * value, digits)


def count(value: int | None) -> str:
    """All digits of a number."""
    return "unknown" if value is None else f"{value:,}"


def short(value: int) -> str:
    """A count in at most six signs.

    Example:
        >>> short(950), short(13824), short(568_740_352)
        ('950', '13.8k', '569M')
    """
    for size, word in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{word}"
    return str(value)


def size(value: int) -> str:
    """Bytes, all digits of them below a million."""
    return f"{value:,}" if value < 1e6 else in_bytes(value)


def in_bytes(value: int) -> str:
    """Bytes in a unit for people, of powers of ten.

    Example:
        >>> in_bytes(950), in_bytes(3_579_904)
        ('950 B', '3.58 MB')
    """
    for size, word in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{value / size:.3g} {word}"
    return f"{value} B"

"""Whether a file is faster than another: where the interval of the ratio leaves out 1, which is 1 % away or more."""

from __future__ import annotations

import math

from kompakt.records import Trial

FASTER, SLOWER, NOT_TOLD_APART = "faster", "slower", "not told apart"

LEAST = 0.01
"""Smallest difference that is one: where a file lies in memory makes as much (docs/profiling.md)."""

RULE = (
    "A file is faster or slower where the interval of the ratio leaves out 1 and the ratio is 1 % or more away from it."
)
"""The same for people."""


def speed(trial: Trial) -> str:
    """What the ratio of a trial's latency to float's shows: "" where it has no interval.

    Example:
        >>> speed(Trial(recipe="float"))
        ''
    """
    ratio = trial.measurement("latency_ratio")
    return "" if ratio is None else told(ratio.value, ratio.low, ratio.high)


def told(ratio: float, low: float | None, high: float | None) -> str:
    """The same of a ratio with the interval in which it lies.

    Example:
        >>> told(0.44, 0.43, 0.45), told(1.01, 0.99, 1.03), told(1.003, 1.001, 1.005), told(2.0, None, None)
        ('faster', 'not told apart', 'not told apart', '')
    """
    if low is None or high is None or not all(math.isfinite(x) and x > 0 for x in (ratio, low, high)):
        return ""
    if abs(ratio - 1) < LEAST:
        return NOT_TOLD_APART
    return FASTER if high < 1 else SLOWER if low > 1 else NOT_TOLD_APART


def in_words(ratio: float, low: float | None, high: float | None) -> str:
    """How many times faster or slower; "" where that cannot be told.

    Example:
        >>> in_words(0.44, 0.43, 0.45), in_words(1.25, 1.2, 1.3), in_words(1.01, 0.99, 1.03)
        ('2.27 times faster', '1.25 times slower', '')
    """
    found = told(ratio, low, high)
    if found not in (FASTER, SLOWER):
        return ""
    return f"{1 / ratio if found == FASTER else ratio:.3g} times {found}"

"""Latency, measured so that a noisy machine tells little lies: two sides alternate in one run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kompakt.records_profile import Timing

Timer = Callable[[int], float]
"""``timer(n)`` runs ``n`` times and gives the seconds it took."""

Laps = Callable[[int], np.ndarray]
"""``laps(n)`` runs ``n`` times and gives the seconds of each run."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Latency of one side over the other's, and how far it can be trusted.

    Attributes:
        ratio: median over the rounds of (this / other); below 1 is faster. spread: half the interquartile range.
        low, high: where the median of very many rounds lies, with 95 % confidence.
        milliseconds, other: median latency of one run on each side.
    """

    ratio: float
    spread: float
    low: float
    high: float
    milliseconds: float
    other: float


def in_turn(this: Timer, other: Timer, *, rounds: int, seconds: float = 0.02) -> tuple[list[float], list[float]]:
    """Time both sides in turn for ``rounds`` rounds of about ``seconds`` each, after a warm-up.

    Which side goes first changes from round to round: what the first one leaves in caches and clocks falls on both.

    Returns:
        Seconds of one run on each side, one value a round.

    Example:
        >>> in_turn(lambda n: n * 2.0, lambda n: n * 4.0, rounds=2)
        ([2.0, 2.0], [4.0, 4.0])
    """
    count_this, count_other = _enough(this, seconds), _enough(other, seconds)
    mine, others = [], []
    for turn in range(rounds):
        if turn % 2:
            others.append(other(count_other) / count_other)
        mine.append(this(count_this) / count_this)
        if not turn % 2:
            others.append(other(count_other) / count_other)
    return mine, others


def ratio_of(mine: Sequence[float], others: Sequence[float]) -> Ratio:
    """The record of seconds that were read in turn.

    Example:
        >>> ratio_of([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]).ratio
        1.0
    """
    ratios = [a / b for a, b in zip(mine, others, strict=True)]
    low, high = median_interval(ratios)
    return Ratio(
        ratio=statistics.median(ratios),
        spread=half_iqr(ratios),
        low=low,
        high=high,
        milliseconds=1e3 * statistics.median(mine),
        other=1e3 * statistics.median(others),
    )


def timing(laps: Laps, *, threads: int = 1, rounds: int = 15, seconds: float = 0.02) -> Timing:
    """Time each run by itself, for ``rounds`` rounds of about ``seconds`` each, after a warm-up.

    Example:
        >>> timing(lambda n: np.full(n, 0.002), rounds=4).median
        2.0
    """
    count = _enough(typical(laps), seconds)
    found = 1e3 * np.concatenate([laps(count) for _ in range(rounds)])
    return Timing(
        threads=threads,
        runs=found.size,
        minimum=float(found.min()),
        median=float(np.median(found)),
        p95=float(np.quantile(found, 0.95)),
        spread=half_iqr(found.tolist()),
    )


def typical(laps: Laps) -> Timer:
    """A timer whose n runs all take as long as the median of them: what interrupts one of them changes nothing.

    Example:
        >>> typical(lambda n: np.array([1.0, 1.0, 9.0]))(3)
        3.0
    """
    return lambda n: n * float(np.median(laps(n)))


def half_iqr(values: Sequence[float]) -> float:
    """Half the distance of the quartiles; 0 of one value.

    Example:
        >>> half_iqr([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
        2.0
    """
    if len(values) < 2:
        return 0.0
    quarters = statistics.quantiles(values, n=4)
    return (quarters[2] - quarters[0]) / 2


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Two of ``values`` between which the median of their distribution lies, whatever that is.

    The k-th smallest and the k-th largest, with the largest k for which a fair coin shows fewer than k heads in n
    throws with a chance of at most (1 - confidence) / 2 (the sign test turned round: Conover 1999, "Practical
    Nonparametric Statistics", section 3.2). Too few values give the smallest and the largest, which is less sure.

    Example:
        >>> median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])
        (2.0, 8.0)
    """
    ordered, n = sorted(values), len(values)
    tail, k = 0.0, 0
    while k < n // 2 and tail + math.comb(n, k) / 2**n <= (1 - confidence) / 2:
        tail += math.comb(n, k) / 2**n
        k += 1
    k = max(k, 1)
    return ordered[k - 1], ordered[n - k]


def _enough(timer: Timer, seconds: float) -> int:
    """How often to run for a reading of ``seconds``; the probing is the warm-up."""
    once = min(timer(1) for _ in range(3))
    return max(1, round(seconds / max(once, 1e-9)))

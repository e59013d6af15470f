"""Latency, measured so that a noisy machine tells little lies: two sides alternate in one run."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

Timer = Callable[[int], float]
"""``timer(n)`` runs ``n`` times and gives the seconds it took."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Latency of one side over the other's, and how far it can be trusted.

    Attributes:
        ratio: median over the rounds of (this / other); below 1 is faster. spread: half the interquartile range.
        milliseconds, other: median latency of one run on each side.
    """

    ratio: float
    spread: float
    milliseconds: float
    other: float


def latency_ratio(this: Timer, other: Timer, *, rounds: int = 15, seconds: float = 0.02) -> Ratio:
    """Time both sides in turn for ``rounds`` rounds of about ``seconds`` each, after a warm-up.

    Example:
        >>> latency_ratio(lambda n: n * 2.0, lambda n: n * 4.0, rounds=4).ratio
        0.5
    """
    count_this, count_other = _enough(this, seconds), _enough(other, seconds)
    mine, others = [], []
    for _ in range(rounds):
        mine.append(this(count_this) / count_this)
        others.append(other(count_other) / count_other)
    ratios = [a / b for a, b in zip(mine, others, strict=True)]
    quarters = statistics.quantiles(ratios, n=4)
    return Ratio(
        ratio=statistics.median(ratios),
        spread=(quarters[2] - quarters[0]) / 2,
        milliseconds=1e3 * statistics.median(mine),
        other=1e3 * statistics.median(others),
    )


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds of one run: the median over the rounds, and half their interquartile range."""

    milliseconds: float
    spread: float


def latency(timer: Timer, *, rounds: int = 15, seconds: float = 0.02) -> Latency:
    """Time one side for ``rounds`` rounds of about ``seconds`` each, after a warm-up.

    Example:
        >>> latency(lambda n: n * 0.002, rounds=4).milliseconds
        2.0
    """
    count = _enough(timer, seconds)
    found = [1e3 * timer(count) / count for _ in range(rounds)]
    quarters = statistics.quantiles(found, n=4)
    return Latency(milliseconds=statistics.median(found), spread=(quarters[2] - quarters[0]) / 2)


def _enough(timer: Timer, seconds: float) -> int:
    """How often to run for a reading of ``seconds``; the probing is the warm-up."""
    once = min(timer(1) for _ in range(3))
    return max(1, round(seconds / max(once, 1e-9)))

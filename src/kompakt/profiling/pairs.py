"""Latency of one artifact, and of two in turn: the one way in which it is measured."""

from __future__ import annotations

from collections.abc import Sequence

from kompakt.measure import in_turn, ratio_of, timing, typical
from kompakt.profiling.subject import Subject
from kompakt.records_profile import LatencyRatio, Timing

SITTINGS = 3
"""Pairs of processes that share the rounds of a ratio: where one lies in memory makes it up to 1 % faster."""


def alone(side: Subject, *, threads: int = 1, rounds: int) -> Timing:
    """Single runs of one batch after a warm-up, in the process that the runtime has.

    Args:
        rounds: readings of about 20 ms.
    """
    return timing(side.profiler.laps(side.data, side.inputs, threads=threads), threads=threads, rounds=rounds)


def in_pairs(this: Subject, other: Subject, *, threads: int = 1, rounds: int) -> LatencyRatio:
    """Latency of ``this`` over that of ``other``, run in turn, each in a process of its own, begun three times.

    It takes the starts of six processes, and 40 ms a round or two runs where these are longer.

    Args:
        rounds: readings of each, the median of its runs.
    """
    sides = (this, other)
    shares = [rounds * (i + 1) // SITTINGS - rounds * i // SITTINGS for i in range(SITTINGS)]
    read = [_sitting(sides, threads, share) for share in shares if share]
    found = ratio_of([x for mine, _ in read for x in mine], [x for _, others in read for x in others])
    return LatencyRatio(
        path=this.path,
        other=other.path,
        threads=threads,
        rounds=rounds,
        ratio=found.ratio,
        spread=found.spread,
        low=found.low,
        high=found.high,
        milliseconds=found.milliseconds,
        other_milliseconds=found.other,
    )


def _sitting(sides: Sequence[Subject], threads: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of one run of each side, in processes that are ended afterwards."""
    words = [f"side {i}" for i in range(len(sides))]
    try:
        laps = [
            side.profiler.laps(side.data, side.inputs, threads=threads, process=word)
            for side, word in zip(sides, words, strict=True)
        ]
        return in_turn(*map(typical, laps), rounds=rounds)
    finally:
        for side, word in zip(sides, words, strict=True):
            side.profiler.end(threads=threads, process=word)

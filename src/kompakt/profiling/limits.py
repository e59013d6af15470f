"""What a machine could do at the best with a file: rooflines. Numbers in, records out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from kompakt.records_profile import Operators, OperatorTime, Roofline
from kompakt.targets.profiler import Work

Peak = Callable[[str], float]
"""Kind of arithmetic -> multiply-accumulates a second."""

Bandwidth = Callable[[int], float]
"""Bytes that are touched -> bytes a second."""


def roofline(
    macs: Mapping[str, int], traffic: int, measured: float, peak: Peak, bandwidth: Bandwidth, *, threads: int = 1
) -> Roofline:
    """The bound of one run; see :class:`kompakt.records_profile.Roofline`.

    Args:
        macs: kind -> multiply-accumulates of one run. traffic: bytes. measured: milliseconds of the fastest run.

    Example:
        >>> made = roofline({"int8": 4_000_000}, 1000, 5.0, lambda kind: 1e9, lambda size: 1e6)
        >>> made.compute, made.memory, made.bound, made.share
        (4.0, 1.0, 4.0, 0.8)
    """
    peaks = {kind: peak(kind) for kind, count in macs.items() if count}
    speed = bandwidth(traffic)
    return Roofline(
        threads=threads,
        macs=dict(macs),
        peak=peaks,
        traffic=traffic,
        bandwidth=speed,
        compute=1e3 * sum(count / peaks[kind] for kind, count in macs.items() if count),
        memory=1e3 * traffic / speed,
        measured=measured,
    )


def macs_by_kind(work: Sequence[Work]) -> dict[str, int]:
    """Kind of arithmetic -> multiply-accumulates of one run, without operators whose number is not known.

    Example:
        >>> rows = [Work(name="CONV_2D", layer="a", output="a", macs=n, arithmetic="int8") for n in (2, 3)]
        >>> macs_by_kind(rows)
        {'int8': 5}
    """
    found: dict[str, int] = {}
    for each in work:
        if each.macs:
            found[each.arithmetic] = found.get(each.arithmetic, 0) + each.macs
    return found


def with_bounds(operators: Operators, work: Sequence[Work], peak: Peak, bandwidth: Bandwidth) -> Operators:
    """Each operator with the bound of its own roofline."""

    def bounded(row: OperatorTime, each: Work) -> OperatorTime:
        if row.macs is None:
            return row
        compute = row.macs / peak(each.arithmetic) if row.macs else 0.0
        return replace(row, bound=1e3 * max(compute, row.traffic / bandwidth(row.traffic)))

    return replace(operators, rows=tuple(map(bounded, operators.rows, work)))

"""Processes begun to see how long an artifact takes from nothing, and how much memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from kompakt.profiling.profiled import Profiled
from kompakt.records_profile import ColdStart, Memory
from kompakt.targets.profiler import FirstRun

STARTS, ENOUGH = 3, 5.0
"""Processes that are begun, and seconds after which no more are."""


def first_runs(profiled: Profiled) -> list[FirstRun]:
    """What several processes took, one after the other."""
    begun = time.perf_counter()
    found: list[FirstRun] = []
    while len(found) < STARTS and (not found or time.perf_counter() - begun < ENOUGH):
        found.append(profiled.profiler.first_run(profiled.data, profiled.inputs))
    return found


def cold_start(runs: Sequence[FirstRun]) -> ColdStart:
    """The median of each time.

    Example:
        >>> run = FirstRun(total=0.5, runtime=0.2, first=0.1, growth=None, process=None)
        >>> cold_start([run]).total
        500.0
    """
    return ColdStart(
        total=1e3 * statistics.median(run.total for run in runs),
        runtime=1e3 * statistics.median(run.runtime for run in runs),
        first=1e3 * statistics.median(run.first for run in runs),
        repeats=len(runs),
    )


def memory(runs: Sequence[FirstRun], arena: int | None) -> Memory:
    """The median of each size: pages that are shared or not yet written make it differ by some.

    Example:
        >>> run = FirstRun(total=0.5, runtime=0.2, first=0.1, growth=4096, process=8192)
        >>> memory([run], None).growth
        4096
    """
    growth = [run.growth for run in runs if run.growth is not None]
    process = [run.process for run in runs if run.process is not None]
    return Memory(
        growth=int(statistics.median(growth)) if growth else None,
        process=int(statistics.median(process)) if process else None,
        arena=arena,
    )

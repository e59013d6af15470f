"""Runs timed one by one, in the process of a runtime."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from kompakt.isolated import Answer


def lapped(run: Callable[[], object], times: int, *, before: Callable[[], object] | None = None) -> Answer:
    """([seconds of each of ``times`` runs], seconds of all of them).

    Args:
        before: called before each run, which is not timed.

    Example:
        >>> laps, total = lapped(lambda: None, 3)
        >>> laps[0].shape, total == float(laps[0].sum())
        ((3,), True)
    """
    laps = np.empty(times)
    for i in range(times):
        if before is not None:
            before()
        start = time.perf_counter()
        run()
        laps[i] = time.perf_counter() - start
    return [laps], float(laps.sum())

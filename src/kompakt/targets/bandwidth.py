"""How fast memory of some size is copied, measured in a process of its own. NumPy alone."""

from __future__ import annotations

import threading
import time

import numpy as np

from kompakt.isolated import Answer

MOVED = 1 << 28
"""Bytes that one reading moves, so that small sizes are copied often."""

READINGS = 9


def copied(_: list[np.ndarray], *, size: int, threads: int) -> Answer:
    """Bytes a second, read and written, of copies within ``size`` bytes in all; the best of some readings."""
    each = max(1, size // threads // 2)
    times = max(1, MOVED // (2 * each * threads))
    halves = [(np.ones(each, "uint8"), np.zeros(each, "uint8")) for _ in range(threads)]
    taken = min(_together(halves, times) for _ in range(READINGS))
    return [], 2 * each * threads * times / taken


def _together(halves: list[tuple[np.ndarray, np.ndarray]], times: int) -> float:
    """Seconds from the first to begin to the last to end."""
    barrier, begun, ended = threading.Barrier(len(halves)), [], []

    def work(source: np.ndarray, target: np.ndarray) -> None:
        barrier.wait()
        begun.append(time.perf_counter())
        for _ in range(times):
            np.copyto(target, source)  # lets other threads run
        ended.append(time.perf_counter())

    workers = [threading.Thread(target=work, args=pair) for pair in halves]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(ended) - min(begun)

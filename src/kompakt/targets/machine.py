"""What this machine can do at the best, by two simple measurements: multiply-accumulates and bytes a second."""

from __future__ import annotations

import functools

import numpy as np

from kompakt.isolated import call
from kompakt.targets.tflite_build import product

LITERT = "kompakt.targets.litert:seconds"
BANDWIDTH = "kompakt.targets.bandwidth:copied"
ROWS, INNER, COLUMNS = 256, 1024, 1024
TIMES, READINGS = 40, 3
"""Runs a reading, and readings: the fastest run counts, since what slows one down is not the machine's limit."""

LEAST = 1 << 18
"""Bytes from which on a copy takes so long that the call of it does not count."""


def peak(kind: str, threads: int) -> float:
    """Multiply-accumulates a second of a 256 x 1024 by 1024 x 1024 product in LiteRT, "float32" or "int8".

    A product of matrices is what linear algebra libraries are tuned for: little else reaches as much. Several threads
    can do what one does, at the least.
    """
    return max(_peak(kind, count) for count in {1, threads})


def bandwidth(size: int, threads: int) -> float:
    """Bytes a second that are read or written when ``size`` bytes are touched again and again.

    Half of them are copied to the other half, so that it is the bandwidth of the cache into which they fit, or of
    memory. To a power of two, and of 256 KiB at the least.
    """
    rounded = max(LEAST, 1 << (size - 1).bit_length())
    return max(_bandwidth(rounded, count) for count in {1, threads})


@functools.lru_cache(maxsize=32)
def _peak(kind: str, threads: int) -> float:
    file = np.frombuffer(product(kind, ROWS, INNER, COLUMNS), "uint8")
    given = np.random.default_rng(0).standard_normal((ROWS, INNER)).astype("float32")

    def fastest() -> float:
        (laps,), _ = call(LITERT, [file, given], of="LiteRT", names=None, threads=threads, times=TIMES)
        return float(laps.min())

    return ROWS * INNER * COLUMNS / min(fastest() for _ in range(READINGS))


@functools.lru_cache(maxsize=64)
def _bandwidth(size: int, threads: int) -> float:
    return float(call(BANDWIDTH, [], of="copying", size=size, threads=threads)[1])

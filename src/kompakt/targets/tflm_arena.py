"""The smallest arena in which TensorFlow Lite Micro runs a file."""

from __future__ import annotations

import functools

import numpy as np

from kompakt.errors import InputError
from kompakt.isolated import call
from kompakt.targets.tflm_runtime import STEP

RUNTIME = "kompakt.targets.tflm_runtime"
NAME = "TensorFlow Lite Micro"


@functools.lru_cache(maxsize=4)
def smallest_arena(data: bytes) -> int:
    """Bytes of the smallest arena in which a file is loaded and runs, to :data:`STEP`, by bisection.

    It begins at what the runtime's recording allocator has counted, which mostly is the answer.

    Raises:
        InputError: the runtime does not take the file.
    """
    high: int = call(f"{RUNTIME}:counted", [np.frombuffer(data, "uint8")], of=NAME)[1]
    low = max(0, high - STEP)
    while not fits(data, high):
        low, high = high, 2 * high
    if low == high - STEP and not fits(data, low):
        return high
    low = 0 if low == high - STEP else low
    while high - low > STEP:
        middle = (low + high) // 2 // STEP * STEP
        low, high = (low, middle) if fits(data, middle) else (middle, high)
    return high


def fits(data: bytes, arena: int) -> bool:
    """Whether a file is loaded and runs in so many bytes; in too few the runtime says so, or crashes."""
    try:
        call(f"{RUNTIME}:runs_in", [np.frombuffer(data, "uint8")], of=NAME, arena=arena)
    except InputError:
        return False
    return True

"""Ranges that move: the pure functions of :class:`kompakt.transforms.FakeQuant`."""

from __future__ import annotations

import functools
from typing import Any

from keras import ops

from kompakt.compiled import compiled
from kompakt.numerics import integer_limits, scale_from_range
from kompakt.transform import Tensor


def moved(old: Tensor, new: Tensor, keep: Tensor) -> Tensor:
    """``keep`` of the old and the rest of the new.

    Example:
        >>> moved(2.0, 6.0, 0.75)
        3.0
    """
    return keep * old + (1.0 - keep) * new


def evened(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The least range around ``[low, high]`` in which 0 is in the middle of the integers.

    Example:
        >>> [round(float(end), 4) for end in evened(ops.array(-0.5), ops.array(1.27), 8)]
        [-1.28, 1.27]
    """
    least, most = integer_limits(bits, symmetric=False)
    step = ops.maximum(low / least, high / most)
    return step * least, step * most


@functools.cache
def moved_grid(bits: int, centered: bool, even: bool) -> Any:
    """(low, high, batch's low, batch's high, keep) -> (low, high, scale, zero point), in one piece."""

    def made(low: Tensor, high: Tensor, new_low: Tensor, new_high: Tensor, keep: Tensor) -> tuple[Tensor, ...]:
        low, high = moved(low, new_low, keep), moved(high, new_high, keep)
        ends = evened(low, high, bits) if even and not centered else (low, high)
        return (low, high, *scale_from_range(*ends, bits, symmetric=centered))

    return compiled(made)

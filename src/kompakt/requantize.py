"""From a 32-bit sum to an integer of the output's grid: the roundings of the runtimes' kernels.

Jacob et al. 2018, arXiv:1712.05877, section 2.2, equation (6): the multiplier :math:`M = 2^{n} M_0` with
:math:`M_0` in [0.5, 1) held as an integer of 31 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

Rounded = Callable[[Any], Any]
"""From sums, whole numbers in float64, to whole numbers in float32."""

LEAST_STEP = 2.0**-9
"""Least step of a summand in steps of the sum: XNNPACK refuses a file where one is under 2**-10."""


def once(multiplier: Any) -> Rounded:
    """One rounding, the product in float32: XNNPACK's ``fp32`` requantization.

    Args:
        multiplier: float32, one or one a channel (the last axis of the sums).

    Example:
        >>> ops.convert_to_numpy(once(np.float32(0.25))(ops.array([9.0, 11.0]))).tolist()
        [2.0, 3.0]
    """
    factor = np.asarray(multiplier, "float32")
    return lambda total: ops.round(ops.cast(total, "float32") * factor)


def twice(multiplier: Any, *, halves: str = "away") -> Rounded:
    r"""Two roundings, :math:`round(round(x M_0) 2^{n})`: TFLite's own kernels.

    Args:
        halves: in the second, "away" from zero, or "up", as its matrix products (ruy) do.

    Example:
        >>> ops.convert_to_numpy(twice(0.25)(ops.array([9.0, 11.0], "float64"))).tolist()  # 2.25: 4.5, 5, 2.5, 3
        [3.0, 3.0]
    """
    return _twice(*_split(multiplier), halves)


def mean(multiplier: Any, count: int) -> Rounded:
    """The sum of ``count`` integers to their mean, as :func:`twice`, with ``count`` taken into the multiplier.

    Example:
        >>> ops.convert_to_numpy(mean(1.0, 3)(ops.array([9.0, 10.0], "float64"))).tolist()
        [3.0, 3.0]
    """
    mantissa, exponent = _split(multiplier)
    shift = int(count).bit_length() - 1
    return _twice(np.floor(mantissa * 2.0**shift / count), exponent - shift, "away")


def _twice(mantissa: np.ndarray, exponent: np.ndarray, halves: str) -> Rounded:
    left, right = 2.0 ** np.maximum(exponent, 0), 2.0 ** np.maximum(-exponent, 0)

    def rounded(total: Any) -> Any:
        high = _half_up(ops.cast(total, "float64") * left * (mantissa / 2.0**31))
        if halves == "up":
            return ops.cast(_half_up(high / right), "float32")
        return ops.cast(ops.sign(high) * ops.floor(ops.abs(high) / right + 0.5), "float32")

    return rounded


def nearest(multiplier: Any) -> Rounded:
    r"""One rounding, :math:`round(x M)` with halves up: TFLite's 16-bit sums put their terms on one scale
    so, and its dense layers with a bias their results.

    Returns:
        whole numbers in float64.

    Example:
        >>> ops.convert_to_numpy(nearest(0.25)(ops.array([9.0, 10.0], "float64"))).tolist()
        [2.0, 3.0]
    """
    mantissa, exponent = _split(multiplier)
    factor = mantissa / 2.0 ** (31 - exponent)
    return lambda total: _half_up(ops.cast(total, "float64") * factor)


def wide(multiplier: Any) -> Rounded:
    r"""One rounding with :math:`M_0` cut to 15 bits, halves up: TFLite's kernels for 16-bit activations.

    Example:
        >>> ops.convert_to_numpy(wide(0.25)(ops.array([9.0, 11.0], "float64"))).tolist()
        [2.0, 3.0]
    """
    mantissa, exponent = _split(multiplier)
    cut = np.where(mantissa < 0x7FFF0000, np.floor((mantissa + 2.0**15) / 2.0**16), 0x7FFF)
    unit = 2.0 ** (15 - exponent)
    return lambda total: ops.cast(_half_up(ops.cast(total, "float64") * cut / unit), "float32")


def _half_up(x: Any) -> Any:
    return ops.floor(x + 0.5)


def _split(multiplier: Any) -> tuple[np.ndarray, np.ndarray]:
    """(31-bit integer mantissa, exponent) of ``multiplier``, both float64."""
    fraction, exponent = np.frexp(np.asarray(multiplier, "float64"))
    mantissa = np.round(fraction * 2.0**31)
    carried = mantissa == 2.0**31
    return np.where(carried, 2.0**30, mantissa), (exponent + carried).astype("float64")

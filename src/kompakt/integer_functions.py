"""Functions of 16-bit integers, as TFLite's own kernels compute them: from tables and by shifts, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers, ops

from kompakt.numerics import WIDE
from kompakt.records import Encoding

UNITS = 12288.0
"""Units of the number that a table is read at: 3 * 2^12 to 1."""

PLACES = 256
"""Entries of the table of the sigmoid: at 0, 1/24, 2/24, ..."""

LAST = 65535.0

FRACTION = 2.0**15
"""Steps of 1 in what these functions make."""


def sigmoid_table() -> np.ndarray:
    r"""The sigmoid from 0 up in steps of 1/24, in units of 2^-16: (257,) float64, the last entry twice.

    An entry is moved by half of what the middle of the chord to the next one is off, so that what is read between
    two entries errs to both sides:

    .. math:: t_i = round(f_i - ((f_i + f_{i+1}) / 2 - f_{i+1/2}) / 2), \quad f_i = 2^{16} / (1 + e^{-i/24})

    Example:
        >>> sigmoid_table()[:3].tolist()
        [32768.0, 33451.0, 34133.0]
    """
    at = np.arange(PLACES, dtype="float64")

    def f(x: np.ndarray) -> np.ndarray:
        return 65536.0 / (1.0 + np.exp(-x / 24.0))

    table = np.round(f(at) - ((f(at) + f(at + 1.0)) / 2.0 - f(at + 0.5)) / 2.0)
    table[-1] = LAST
    return np.append(table, LAST)


def table_units(step: float) -> tuple[float, float]:
    """(multiplier, divisor): ``floor(q * multiplier / divisor + 1/2)`` are the units of ``q`` steps.

    The divisor is a power of two, the multiplier a whole number of at most 15 bits.

    Example:
        >>> table_units(1e-4)
        (20132.0, 16384.0)
    """
    multiplier, divisor = step * UNITS, 1.0
    while multiplier <= 32767.0 / 2.0:
        multiplier, divisor = 2.0 * multiplier, 2.0 * divisor
    return float(np.floor(multiplier)), divisor


def has_own_kernel(step: float) -> bool:
    """Whether a step is, but for a thousandth of an octave, 2^-12 or 2^-11, for which there is no table.

    Example:
        >>> has_own_kernel(2.0**-11), has_own_kernel(2.0**-10), has_own_kernel(3e-4)
        (True, False, False)
    """
    octaves = np.log2(step)
    return bool(abs(octaves - np.round(octaves)) < 1e-3 and np.round(octaves) in (-12, -11))


class WideFunction(layers.Layer):  # type: ignore[misc]
    r"""``tanh`` or ``sigmoid`` of 16-bit integers: :math:`\tanh(x) = 2 \sigma(2 x) - 1`, both from one table.

    Between two entries of :func:`sigmoid_table` the value lies on their chord, cut to 15 bits behind the point.

    Args:
        function: a key of FUNCTIONS. given: the grid of the input; that of the output is 2^-15.
    """

    def __init__(self, name: str, function: str, given: Encoding) -> None:
        super().__init__(name=name, dtype="float32")
        self.step = np.float32(given.scale[0])
        self.multiplier, self.divisor = table_units(float(self.step))
        self.table, self.read = sigmoid_table(), FUNCTIONS[function]

    def call(self, x: Any) -> Any:
        steps = ops.cast(ops.round(ops.cast(x, "float32") / self.step), "float64")
        units = ops.floor(steps * self.multiplier / self.divisor + 0.5)
        return ops.cast(self.read(self.table, units), "float32") / np.float32(FRACTION)

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def _between(table: np.ndarray, units: Any, width: float, end: float) -> Any:
    """On the chord of the entries about ``units``, times ``width``; ``end`` from the last entry on."""
    place = ops.floor(units / width)
    index = ops.cast(ops.minimum(place, PLACES - 1.0), "int32")
    entries = ops.convert_to_tensor(table)
    low, high = ops.take(entries, index, axis=0), ops.take(entries, index + 1, axis=0)
    return ops.where(place >= PLACES - 1.0, end, low * width + (units - place * width) * (high - low))


def _tanh(table: np.ndarray, units: Any) -> Any:
    size = _between(table, ops.abs(units), 256.0, LAST * 256.0) - 2.0**23
    return ops.floor((ops.where(units >= 0, size, -size - 1.0) + 2.0**7) / 2.0**8)


def _sigmoid(table: np.ndarray, units: Any) -> Any:
    size = _between(table, ops.abs(units), 512.0, 32767.0 * 1024.0)
    return ops.floor((ops.where(units >= 0, size, 2.0**25 - size - 1.0) + 2.0**9) / 2.0**10)


FUNCTIONS = {"tanh": _tanh, "sigmoid": _sigmoid}
"""Name of a Keras activation -> how it is read from the table: units in, steps of 2^-15 out."""


def is_known_wide(layer: Any) -> bool:
    """Whether a layer is a function whose 16-bit form is simulated here.

    Example:
        >>> is_known_wide(layers.Activation("tanh")), is_known_wide(layers.Softmax())
        (True, False)
    """
    return isinstance(layer, layers.Activation) and _name(layer) in FUNCTIONS


def _name(layer: Any) -> str:
    return str(getattr(layer.activation, "__name__", ""))


def wide_function(layer: Any, given: Encoding, result: Encoding) -> WideFunction | None:
    """What a layer computes on 16-bit integers; None where that is not known to the bit.

    Args:
        layer: plain. given, result: the grids of its input and output.
    """
    pinned = np.float32(result.scale[0]) == np.float32(1.0 / FRACTION)
    if not is_known_wide(layer) or not pinned or has_own_kernel(float(given.scale[0])):
        return None
    return WideFunction(layer.name, _name(layer), given) if given.bits == result.bits == WIDE else None

"""Pure functions of ``keras.ops``: the same numbers on TensorFlow, JAX and torch.

``scale`` always multiplies the integer. Tensors are float32 unless said otherwise. Where a function takes
an ``axis`` it is a tuple of the axes that keep their own value (the channels); () means one for the tensor.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from keras import ops

from kompakt.axes import Tensor, reduce_axes
from kompakt.compiled import compiled

WIDE = 16
"""Bits of the finer activations: runtimes have no zero point for them, and XNNPACK no kernels."""

SMALLEST_RANGE = 1e-8
"""A range narrower than this is widened to it: a dead channel must not divide by zero."""


def integer_limits(bits: int, *, symmetric: bool) -> tuple[int, int]:
    """Smallest and largest signed integer of a grid; a symmetric one of up to 8 bits leaves out the lowest.

    Those of 16 bits hold activations, which TFLite's kernels clip at -32768 while the step is that of 32767.

    Example:
        >>> integer_limits(8, symmetric=False), integer_limits(8, symmetric=True)
        ((-128, 127), (-127, 127))
        >>> integer_limits(16, symmetric=True)
        (-32768, 32767)
    """
    top = 2 ** (bits - 1) - 1
    return (-top, top) if symmetric and bits != WIDE else (-top - 1, top)


def incoming(args: Sequence[Tensor], upstream: Tensor | None) -> Tensor:
    """The gradient that Keras hands to a ``custom_gradient``: as ``upstream`` on torch, by place elsewhere."""
    return args[0] if upstream is None else upstream


def live_reach(reach: Tensor) -> Tensor:
    """``reach`` (largest magnitude of each channel) with dead channels given one that a bias can live with.

    A bias is stored in 32 bits on the grid of step ``input scale * weight scale``: a channel of zeros, or
    next to zero, would have a step so small that the bias overflows. A channel of zeros takes the largest
    reach of the tensor, and none is less than a 65,536th of it; a tensor of zeros takes 1.

    Example:
        >>> ops.convert_to_numpy(live_reach(ops.array([0.0, 0.5, 2.0]))).tolist()
        [2.0, 0.5, 2.0]
    """
    largest = ops.max(reach)
    largest = ops.where(largest > 0, largest, ops.ones_like(largest))
    return ops.where(reach > 0, ops.maximum(reach, largest * 2.0**-16), largest)


def scale_from_range(low: Tensor, high: Tensor, bits: int, *, symmetric: bool) -> tuple[Tensor, Tensor]:
    r"""Scale and zero point of the grid that covers ``[low, high]`` and holds 0.0 exactly.

    Asymmetric: :math:`s = (max(h,0) - min(l,0)) / (2^b - 1)`, :math:`z = round(q_{min} - min(l,0)/s)`;
    symmetric: :math:`s = max(|l|, |h|) / (2^{b-1} - 1)`, :math:`z = 0`.
    Jacob et al. 2018, section 3 and appendix; narrow range after TensorFlow Lite's int8 specification.

    Args:
        low, high: float tensors of any one shape.
        bits: width, 2..16.
        symmetric: narrow symmetric grid.

    Returns:
        (scale, zero_point), float tensors of the shape of ``low``; the zero point holds whole numbers.

    Example:
        >>> s, z = scale_from_range(ops.array(0.0), ops.array(255.0), 8, symmetric=False)
        >>> float(s), float(z)
        (1.0, -128.0)
    """
    q_min, q_max = integer_limits(bits, symmetric=symmetric)
    if symmetric:
        reach = ops.maximum(ops.maximum(ops.abs(low), ops.abs(high)), SMALLEST_RANGE)
        return reach / q_max, ops.zeros_like(reach)
    low, high = ops.minimum(low, 0.0), ops.maximum(high, 0.0)
    scale = ops.maximum(high - low, SMALLEST_RANGE) / (q_max - q_min)
    return scale, ops.clip(ops.round(q_min - low / scale), q_min, q_max)


TIE = 2.0**-10
"""How near to a half counts as one: more than float32 loses in a mean, less than a mean of 500 can be off."""


def round_half_away(x: Tensor) -> Tensor:
    """Round half away from zero, as TFLite's integer average pooling divides.

    Example:
        >>> ops.convert_to_numpy(round_half_away(ops.array([0.5, -2.5, 1.2]))).tolist()
        [1.0, -3.0, 1.0]
    """
    return ops.sign(x) * ops.floor(ops.abs(x) + (0.5 + TIE))


def round_half_up(x: Tensor) -> Tensor:
    """Round half towards plus infinity, as XNNPACK's integer resizing does.

    Example:
        >>> ops.convert_to_numpy(round_half_up(ops.array([0.5, -2.5, 1.2]))).tolist()
        [1.0, -2.0, 1.0]
    """
    return ops.floor(x + (0.5 + TIE))


def quantize(x: Tensor, scale: Tensor, zero_point: Tensor, bits: int, *, symmetric: bool) -> Tensor:
    r"""Whole numbers :math:`q = clip(round(x / s) + z, q_{min}, q_{max})`, as floats of the shape of ``x``.

    Halves are rounded to even, as XNNPACK does, before the zero point is added: in float32 a sum with it would
    make halves of what is near one.

    Args:
        scale, zero_point: broadcast against ``x``.
    """
    q_min, q_max = integer_limits(bits, symmetric=symmetric)
    return ops.clip(ops.round(x / scale) + zero_point, q_min, q_max)


def dequantize(q: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Real numbers ``scale * (q - zero_point)``."""
    return (q - zero_point) * scale


def inside_grid(x: Tensor, scale: Tensor, zero_point: Tensor, bits: int, *, symmetric: bool) -> Tensor:
    """Where ``x`` is not clipped; half a step beyond the last integer still rounds onto it.

    Example:
        >>> inside = inside_grid(ops.array([3.7, 3.8]), ops.array(0.5), ops.array(0.0), 4, symmetric=True)
        >>> ops.convert_to_numpy(inside).tolist()
        [True, False]
    """
    q_min, q_max = integer_limits(bits, symmetric=symmetric)
    low, high = (q_min - zero_point - 0.5) * scale, (q_max - zero_point + 0.5) * scale
    return ops.logical_and(x >= low, x <= high)


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, bits: int, *, symmetric: bool) -> Tensor:
    """``dequantize(quantize(x))``, straight through inside the grid's range, gradient zero outside it.

    ``scale`` and ``zero_point`` get no gradient.

    Example:
        >>> y = fake_quantize(ops.array([0.26, 9.0]), ops.array(0.5), ops.array(0.0), 4, symmetric=True)
        >>> ops.convert_to_numpy(y).tolist()
        [0.5, 3.5]
    """

    def forward(x: Tensor, scale: Tensor, zero_point: Tensor) -> Any:
        def backward(*args: Tensor, upstream: Tensor = None) -> tuple[Tensor, Tensor, Tensor]:
            gradient = incoming(args, upstream)
            inside = inside_grid(x, scale, zero_point, bits, symmetric=symmetric)
            return ops.where(inside, gradient, 0.0), ops.zeros_like(scale), ops.zeros_like(zero_point)

        integers = quantize(x, scale, zero_point, bits, symmetric=symmetric)
        return dequantize(integers, scale, zero_point), backward

    x, scale, zero_point = (ops.cast(t, "float32") for t in (x, scale, zero_point))
    return ops.custom_gradient(forward)(x, ops.stop_gradient(scale), ops.stop_gradient(zero_point))


def fake_quantize_weight(x: Tensor, bits: int, axis: Sequence[int]) -> Tensor:
    r"""A weight on the symmetric grid of its own reach, :math:`s = \max|x| / (2^{b-1} - 1)` a channel.

    Nothing is outside that grid, so the gradient is straight through everywhere.

    Args:
        axis: the channels, () for one scale.

    Example:
        >>> y = fake_quantize_weight(ops.array([[0.5, -1.27], [0.004, 0.1]]), 8, (-1,))
        >>> ops.convert_to_numpy(ops.round(y * 1e4)).tolist()
        [[5000.0, -12700.0], [39.0, 1000.0]]
    """
    on_grid = _on_own_grid(bits, tuple(axis))

    def forward(x: Tensor) -> Any:
        def backward(*args: Tensor, upstream: Tensor = None) -> Tensor:
            return incoming(args, upstream)

        return on_grid(x), backward

    return ops.custom_gradient(forward)(ops.cast(x, "float32"))


@functools.cache
def _on_own_grid(bits: int, axis: tuple[int, ...]) -> Any:
    def on_grid(x: Tensor) -> Tensor:
        reach = own_reach(x, axis)
        scale, zero_point = scale_from_range(-reach, reach, bits, symmetric=True)
        return dequantize(quantize(x, scale, zero_point, bits, symmetric=True), scale, zero_point)

    return compiled(on_grid)


def own_reach(x: Tensor, axis: Sequence[int]) -> Tensor:
    """Largest magnitude of each channel, kept broadcastable, dead channels as in :func:`live_reach`."""
    reduced = reduce_axes(len(x.shape), axis)
    magnitude = ops.abs(x)
    return live_reach(ops.max(magnitude, axis=reduced, keepdims=True) if reduced else magnitude)


def fake_quantize_learned(
    x: Tensor, scale: Tensor, zero_point: Tensor, bits: int, *, symmetric: bool, gain: float = 1.0
) -> Tensor:
    r"""``fake_quantize`` whose scale and zero point are learned.

    With :math:`v = x / s` and :math:`q` the integer that :math:`x` gets, less the zero point,

    .. math::

        \frac{\partial y}{\partial s} = q - v \text{ inside, } q \text{ outside}, \quad
        \frac{\partial y}{\partial z} = 0 \text{ inside, } -s \text{ outside},

    each times ``gain``. Esser et al. 2020, "Learned Step Size Quantization", arXiv:1902.08153, equation (3); the
    zero point as the offset of Bhalgat et al. 2020, "LSQ+", arXiv:2004.09576, section 3.1, kept a whole number.

    Args:
        scale, zero_point: of one shape, () or the rank of ``x`` with ones; the zero point is rounded here, straight
            through.
        gain: on the gradients of both.

    Example:
        >>> y = fake_quantize_learned(ops.array([0.26, 9.0]), ops.array(0.5), ops.array(0.2), 4, symmetric=True)
        >>> ops.convert_to_numpy(y).tolist()
        [0.5, 3.5]
    """
    shape = tuple(scale.shape)
    summed = tuple(i for i, n in enumerate(shape) if n == 1) if shape else None

    def forward(x: Tensor, scale: Tensor, zero_point: Tensor) -> Any:
        zero = ops.round(zero_point)
        level = quantize(x, scale, zero, bits, symmetric=symmetric) - zero

        def total(values: Tensor) -> Tensor:
            if summed is None:
                return gain * ops.sum(values)
            return gain * (ops.sum(values, axis=summed, keepdims=True) if summed else values)

        def backward(*args: Tensor, upstream: Tensor = None) -> tuple[Tensor, Tensor, Tensor]:
            gradient = incoming(args, upstream)
            inside = inside_grid(x, scale, zero, bits, symmetric=symmetric)
            to_scale = gradient * (level - ops.where(inside, x / scale, 0.0))
            to_zero = ops.where(inside, 0.0, -gradient * scale)
            return ops.where(inside, gradient, 0.0), total(to_scale), total(to_zero)

        return level * scale, backward

    x, scale, zero_point = (ops.cast(t, "float32") for t in (x, scale, zero_point))
    return ops.custom_gradient(forward)(x, scale, zero_point)


SHARES = tuple(1.0 - 0.01 * i for i in range(81))
"""Ranges tried for a channel of a weight, as shares of its reach: of two bits the best is about a third."""


def best_step(x: Tensor, bits: int, axis: Sequence[int]) -> Tensor:
    r"""Step of a symmetric grid for ``x`` a channel, the one with the least squared error.

    Of :math:`c \max|x| / q_{max}` with :math:`c` from 1 down to 0.2. Where learning starts from
    :math:`2 \overline{|x|} / \sqrt{q_{max}}` instead (Esser et al. 2020, section 2.1), a normal weight of 4 bits has
    a step 1.8 times as long and more than twice the error.

    Returns:
        float32 of the rank of ``x``, ones where there is no channel; above 0.

    Example:
        >>> round(float(best_step(ops.array([[0.5, -1.27], [0.004, 0.1]]), 8, ())[0, 0]), 6)
        0.01
    """
    reduced = reduce_axes(len(x.shape), axis)
    whole = own_reach(x, axis) / integer_limits(bits, symmetric=True)[1]

    def error(step: Tensor) -> Tensor:
        apart = (x - dequantize(quantize(x, step, 0.0, bits, symmetric=True), step, 0.0)) ** 2
        return ops.sum(apart, axis=reduced, keepdims=True) if reduced else apart

    best, least = whole, error(whole)
    for share in SHARES[1:]:
        found = error(whole * share)
        best, least = ops.where(found < least, whole * share, best), ops.minimum(found, least)
    return best

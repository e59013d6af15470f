"""Layers that compute on integers as the runtime's kernels do; what comes in and goes out is off its grid."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import layers, ops

from kompakt import requantize
from kompakt.axes import along
from kompakt.copies import copy_layer
from kompakt.numerics import WIDE, fake_quantize, round_half_away, round_half_up
from kompakt.records import Encoding
from kompakt.rewrite.elementwise import Mean

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D)
"""Layers that XNNPACK does not compute with 4-bit weights: TFLite's own kernels do."""

NARROW_BITS = 4
"""Most bits of a weight that is stored in 4."""


class IntegerLayer(layers.Layer):  # type: ignore[misc]
    r"""A linear layer in integers, as the runtime computes it.

    .. math:: acc = \sum q_w (q_x - z_x) + b_q, \quad y = s_y \cdot round(acc \cdot (s_x s_w / s_y))

    Jacob et al. 2018, section 2.2, equations (4) and (7), and :math:`b_q = round(b / (s_x s_w))`, section 2.4. The
    sum is exact (float64); the product is rounded as the kernel does (:mod:`kompakt.requantize`): XNNPACK's in
    float32, of 4-bit convolutions twice, of 16-bit activations with 16-bit multipliers. Training leaves these
    roundings out; they move a value in a thousand by one step, but each layer multiplies that.

    Args:
        layer: plain, its weights on the grid of ``kernel``. given, result: the grids of its input and output.
        twice: round as TFLite's reference kernels do, and those of TensorFlow Lite Micro.
    """

    def __init__(self, layer: Any, kernel: Encoding, given: Encoding, result: Encoding, *, twice: bool = False) -> None:
        super().__init__(name=layer.name, dtype="float32")
        self.activation = layer.activation
        self.step_in, self.step_out = np.float32(given.scale[0]), np.float32(result.scale[0])
        scale = np.asarray(kernel.scale, "float32")
        multiplier = self.step_in * scale / self.step_out
        exact = np.float64(self.step_in) * scale.astype("float64") / np.float64(self.step_out)
        if result.bits == WIDE:
            self.rounded = _wide_product(layer)(exact)
        elif (kernel.bits or 8) <= NARROW_BITS and isinstance(layer, CONVOLUTIONS):
            self.rounded = requantize.twice(exact, halves="away" if twice else "up")
        elif twice:
            self.rounded = requantize.twice(exact)
        else:
            self.rounded = requantize.once(multiplier)
        config = {**layer.get_config(), "dtype": "float64", "activation": None}
        self.exact = layer.__class__.from_config(config)
        self.exact.build(layer._build_shapes_dict["input_shape"])
        weight = np.asarray(ops.convert_to_numpy(layer.kernel), "float64")
        self.exact.kernel.assign(np.round(weight / along(scale.astype("float64"), weight.shape, kernel.axis)))
        if layer.use_bias:
            self.exact.bias.assign(integer_bias(np.asarray(layer.bias), kernel, given))

    def call(self, x: Any) -> Any:
        steps = ops.round(ops.cast(x, "float32") / self.step_in)
        total = self.exact(ops.cast(steps, "float64"))
        return self.activation(ops.cast(self.rounded(total), "float32") * self.step_out)

    def compute_output_shape(self, shape: Any) -> Any:
        return self.exact.compute_output_shape(shape)


def _wide_product(layer: Any) -> Callable[[Any], requantize.Rounded]:
    """How TFLite's kernels take the sums of a linear layer to 16 bits: measured, no step is off in tests/parity."""
    if not isinstance(layer, layers.Dense):
        return requantize.wide
    # A bias, of 64 bits, takes a dense layer to other code; the converter leaves one of zeros out.
    biased = layer.use_bias and np.asarray(ops.convert_to_numpy(layer.bias)).any()
    return requantize.nearest if biased else functools.partial(requantize.twice, halves="up")


class IntegerAdd(layers.Layer):  # type: ignore[misc]
    r"""The sum or difference of two tensors in integers, as XNNPACK computes it.

    .. math:: y = s_y \lfloor (m_a (q_a - z_a) \pm m_b (q_b - z_b) + 2^{n-1}) / 2^n \rfloor,
        \quad m_i = round(2^n s_i / s_y)

    with :math:`n = 20 - \lfloor \log_2 \max(s_a, s_b) / s_y \rfloor`, so that the multipliers have 21 bits.

    In 16 bits as TFLite's own kernel does: each term times 2^15 and rounded to twice the larger step first, once
    (its AVX2 form; the plain one rounds twice, and is a step away in seven sums of a million). The plain one for 8 bits
    is the same with 2^20.

    Args:
        twice: as the plain kernels.
    """

    def __init__(
        self,
        name: str,
        given: tuple[Encoding, Encoding],
        result: Encoding,
        *,
        sign: float = 1.0,
        twice: bool = False,
    ) -> None:
        super().__init__(name=name, dtype="float32")
        self.steps = [np.float32(g.scale[0]) for g in given]
        self.step_out = np.float32(result.scale[0])
        ratios = [step / self.step_out for step in self.steps]
        shift = 20 - int(np.floor(np.log2(max(ratios))))
        self.unit = 2.0**shift
        self.multipliers = [float(np.round(np.float64(ratio) * self.unit)) for ratio in ratios]
        self.multipliers[1] *= sign
        self.wide = None
        if result.bits == WIDE:
            self.wide = _wide_sum(self.steps, self.step_out, sign, requantize.nearest, WIDE_SHIFT)
        elif twice:
            self.wide = _wide_sum(self.steps, self.step_out, sign, requantize.twice, SHIFT)

    def call(self, inputs: Any) -> Any:
        integers = [
            ops.cast(ops.round(ops.cast(x, "float32") / step), "float64")
            for x, step in zip(inputs, self.steps, strict=True)
        ]
        if self.wide is not None:
            return self.wide(integers) * self.step_out
        terms = [x * multiplier for x, multiplier in zip(integers, self.multipliers, strict=True)]
        steps = ops.floor((terms[0] + terms[1] + self.unit / 2) / self.unit)
        return ops.cast(steps, "float32") * self.step_out

    def compute_output_shape(self, shapes: Any) -> Any:
        return layers.Add().compute_output_shape(shapes)


WIDE_SHIFT, SHIFT = 2.0**15, 2.0**20
"""What TFLite's own kernels multiply the terms of a sum by first, 16-bit and 8-bit ones."""


def _wide_sum(
    steps: Sequence[np.float32],
    step_out: np.float32,
    sign: float,
    to: Callable[[np.float64], requantize.Rounded],
    shift: float,
) -> Callable[[Sequence[Any]], Any]:
    """The sum of two tensors of integers in steps of the result; terms of 30 bits, more than float32 holds."""
    twice = 2.0 * max(float(step) for step in steps)
    scaled = [to(np.float64(step) / twice) for step in steps]
    last = requantize.twice(np.float64(twice / (shift * float(step_out))))

    def total(integers: Sequence[Any]) -> Any:
        first, second = (ops.cast(each(x * shift), "float64") for each, x in zip(scaled, integers, strict=True))
        return last(first + sign * second)

    return total


class IntegerMerge(layers.Layer):  # type: ignore[misc]
    r"""A layer whose inputs and output are on one grid: each input is put on it, as XNNPACK does.

    .. math:: q_y = \lfloor (m (q_x - z_x) + 128) / 256 \rfloor + z_y, \quad m = round(256 s_x / s_y)

    Args:
        layer: plain. given: the grid of each input, None where it is made on the ``result`` grid.
        twice: round as TFLite's plain kernels do, which XNNPACK leaves 16-bit integers to.
    """

    def __init__(self, layer: Any, given: Sequence[Encoding | None], result: Encoding, *, twice: bool = False) -> None:
        super().__init__(name=layer.name, dtype="float32")
        self.merge = copy_layer(layer)
        self.given, self.result, self.twice = list(given), result, twice

    def call(self, inputs: Any) -> Any:
        return self.merge([self._onto(x, grid) for x, grid in zip(inputs, self.given, strict=True)])

    def _onto(self, x: Any, grid: Encoding | None) -> Any:
        step, zero = np.float32(self.result.scale[0]), np.float32(self.result.zero_point[0])
        if grid is None:
            return fake_quantize(x, step, zero, self.result.bits or 8, symmetric=self.result.symmetric)
        old = np.float32(grid.scale[0])
        if self.result.bits == WIDE:
            wide = requantize.twice(np.float64(old) / np.float64(step))(ops.round(x / old))
            return ops.clip(wide, -32768.0, 32767.0) * step
        if self.twice or grid.bits == WIDE:
            steps = requantize.twice(np.float64(old) / np.float64(step))(ops.round(x / old))
            return (ops.clip(steps + zero, -128.0, 127.0) - zero) * step
        multiplier = np.float32(np.round(256.0 * old / step))
        steps = ops.floor((ops.round(x / old) * multiplier + 128.0) / 256.0)
        return (ops.clip(steps + zero, -128.0, 127.0) - zero) * step

    def compute_output_shape(self, shapes: Any) -> Any:
        return self.merge.compute_output_shape(shapes)


class IntegerLeaky(layers.Layer):  # type: ignore[misc]
    r"""A leaky ReLU in integers, as XNNPACK computes it.

    .. math:: q_y = \lfloor (m (q_x - z_x) + 128) / 256 \rfloor + z_y, \quad m = round(256 a s_x / s_y)

    where :math:`a` is 1 for what is not negative and the slope for the rest.

    Args:
        twice: round as TFLite's plain kernels do.
    """

    def __init__(self, layer: Any, given: Encoding, result: Encoding, *, twice: bool = False) -> None:
        super().__init__(name=layer.name, dtype="float32")
        self.step_in, self.step_out = np.float32(given.scale[0]), np.float32(result.scale[0])
        ratio = 256.0 * self.step_in / self.step_out
        self.above, self.below = np.round(ratio), np.round(ratio * np.float32(layer.negative_slope))
        self.wide: tuple[Any, ...] = ()
        if result.bits == WIDE or twice:
            exact = np.float64(self.step_in) / np.float64(self.step_out)
            slope = np.float64(np.float32(layer.negative_slope))
            self.wide = requantize.twice(exact), requantize.twice(exact * slope)

    def call(self, x: Any) -> Any:
        steps = ops.round(ops.cast(x, "float32") / self.step_in)
        if self.wide:
            above, below = self.wide
            return ops.where(steps >= 0, above(steps), below(steps)) * self.step_out
        scaled = steps * ops.where(steps >= 0, self.above, self.below)
        return ops.floor((scaled + 128.0) / 256.0) * self.step_out

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class Requantize(layers.Layer):  # type: ignore[misc]
    """Integers of one width put on a grid of another, as TFLite's own kernel does."""

    def __init__(self, layer: Any, given: Encoding, result: Encoding) -> None:
        super().__init__(name=layer.name, dtype="float32")
        self.step_in, self.step_out = np.float32(given.scale[0]), np.float32(result.scale[0])
        self.rounded = requantize.twice(np.float64(self.step_in) / np.float64(self.step_out))

    def call(self, x: Any) -> Any:
        return self.rounded(ops.round(x / self.step_in)) * self.step_out

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class EnterWide(layers.Layer):  # type: ignore[misc]
    """Floats put on a 16-bit grid as the QUANTIZE operator does: times the inverse of the step, all in float32.

    Of a number of 15 bits before the point float32 holds 9 behind it: a quotient is another integer once in a
    thousand.
    """

    def __init__(self, layer: Any, result: Encoding) -> None:
        super().__init__(name=layer.name, dtype="float32")
        self.step = np.float32(result.scale[0])

    def call(self, x: Any) -> Any:
        return ops.round(ops.cast(x, "float32") * (np.float32(1.0) / self.step)) * self.step

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class IntegerMean(layers.Layer):  # type: ignore[misc]
    r"""A mean over some axes in integers, :math:`y = s_y \cdot round(\sum (q_x - z_x) \cdot s_x / (s_y n))`.

    XNNPACK rounds once, in float32; TFLite's own kernel, which 16-bit integers get, twice.

    Args:
        twice: as that kernel.
    """

    def __init__(self, layer: Any, given: Encoding, result: Encoding, *, twice: bool = False) -> None:
        super().__init__(name=layer.name, dtype="float32")
        self.mean = copy_layer(layer)
        self.wide = result.bits == WIDE or twice
        self.step_in, self.step_out = np.float32(given.scale[0]), np.float32(result.scale[0])

    def call(self, x: Any, mask: Any = None) -> Any:
        if mask is not None:
            return self.mean(x, mask=mask)
        axes = _averaged(self.mean, len(x.shape))
        count = int(np.prod([x.shape[a] for a in axes]))
        keep = isinstance(self.mean, Mean) or self.mean.keepdims
        total = ops.sum(ops.cast(ops.round(x / self.step_in), "float64"), axis=axes, keepdims=keep)
        if self.wide:
            rounded = requantize.mean(float(self.step_in) / float(self.step_out), count)
        else:
            rounded = requantize.once(self.step_in / self.step_out / np.float32(count))
        return rounded(total) * self.step_out

    def compute_output_shape(self, shape: Any) -> Any:
        return self.mean.compute_output_shape(shape)


def _averaged(layer: Any, rank: int) -> tuple[int, ...]:
    """The axes that a mean goes over."""
    if isinstance(layer, Mean):
        return tuple(a % rank for a in layer.axes)
    return tuple(range(2, rank)) if layer.data_format == "channels_first" else tuple(range(1, rank - 1))


class IntegerProduct(layers.Layer):  # type: ignore[misc]
    r"""A product of two tensors in integers, of their numbers or as matrices.

    .. math:: y = s_y \cdot round\left(\sum (q_a - z_a)(q_b - z_b) \cdot s_a s_b / s_y\right)

    The sums are exact; XNNPACK multiplies and rounds once, in float32. Numbers of 16 bits TFLite's own kernel rounds
    twice, with a multiplier that it too has in float32; of matrices of 16 bits that is not known.

    Args:
        product: the plain layer, which has no weights. twice: round numbers of 8 bits twice too.
    """

    def __init__(
        self, product: Any, given: tuple[Encoding, Encoding], result: Encoding, *, twice: bool = False
    ) -> None:
        super().__init__(name=product.name, dtype="float32")
        self.product = product.__class__.from_config({**product.get_config(), "dtype": "float64"})
        self.steps = [np.float32(g.scale[0]) for g in given]
        self.step_out = np.float32(result.scale[0])
        multiplier = self.steps[0] * self.steps[1] / self.step_out
        if twice and result.bits != WIDE:
            self.rounded = requantize.twice(np.prod([np.float64(s) for s in self.steps]) / np.float64(self.step_out))
        else:
            self.rounded = (requantize.twice if result.bits == WIDE else requantize.once)(multiplier)

    def call(self, inputs: Any) -> Any:
        steps = [
            ops.cast(ops.round(ops.cast(x, "float32") / s), "float64") for x, s in zip(inputs, self.steps, strict=True)
        ]
        return self.rounded(self.product(steps)) * self.step_out

    def compute_output_shape(self, shapes: Any) -> Any:
        return self.product.compute_output_shape(shapes)


class IntegerAverage(layers.Layer):  # type: ignore[misc]
    r"""A pooling or resizing layer whose result stays on the grid of its input.

    .. math:: y = s (round(f(x) / s + z) - z)

    TFLite's average pooling rounds halves away from the integer 0, XNNPACK's resizing rounds them up.
    """

    def __init__(self, layer: Any, grid: Encoding) -> None:
        super().__init__(name=layer.name, dtype="float32")
        self.average = copy_layer(layer)
        self.rounded = round_half_up if isinstance(layer, layers.Resizing) else round_half_away
        self.step, self.zero = np.float32(grid.scale[0]), np.float32(grid.zero_point[0])

    def call(self, x: Any) -> Any:
        return (self.rounded(self.average(x) / self.step + self.zero) - self.zero) * self.step

    def compute_output_shape(self, shape: Any) -> Any:
        return self.average.compute_output_shape(shape)


def integer_bias(bias: np.ndarray, kernel: Encoding, given: Encoding) -> np.ndarray:
    """Whole numbers ``round(bias / (input scale * weight scale))``, (channels,) float64.

    Example:
        >>> grid = Encoding(bits=8, scale=(0.5,), zero_point=(0,))
        >>> integer_bias(np.array([0.3, 0.9]), grid, grid).tolist()
        [1.0, 4.0]
    """
    return np.round(np.asarray(bias, "float64") / (np.asarray(kernel.scale, "float64") * given.scale[0]))

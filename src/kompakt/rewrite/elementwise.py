"""Operations on each number alone, as layers: they have a site, and so a grid."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from kompakt.errors import InputError

FUNCTIONS = (
    "abs", "square", "sqrt", "rsqrt", "exp", "expm1", "log", "log1p", "sin", "cos", "tan", "arctan", "sinh",
    "cosh", "arcsinh", "erf", "sign", "floor", "ceil", "round", "reciprocal", "power", "clip", "maximum", "minimum",
    "multiply", "gelu_tanh",
)  # fmt: skip
"""Functions that map each number alone: of ``keras.ops`` by their names there, but for "gelu_tanh"."""

TINY = 1e-12


@keras.saving.register_keras_serializable(package="kompakt")
class Elementwise(layers.Layer):  # type: ignore[misc]
    r"""``keras.ops.<function>`` on each number: :math:`y_i = f(x_i, a)`.

    Args:
        function: one of FUNCTIONS; "gelu_tanh" is :math:`x/2 (1 + \tanh(\sqrt{2/\pi} (x + 0.044715 x^3)))`, the
            approximation of Hendrycks and Gimpel 2016, section 2. arguments: numbers that it takes behind the tensor;
            for "rsqrt" a and b of :math:`(a x + b)^{-1/2}`.

    Example:
        >>> layer = Elementwise("clip", (-1.0, 1.0))
        >>> keras.ops.convert_to_numpy(layer(ops.array([-3.0, 0.5]))).tolist()
        [-1.0, 0.5]
    """

    def __init__(self, function: str, arguments: tuple[float, ...] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if function not in FUNCTIONS:
            raise InputError(f"function {function!r}: expected one of {', '.join(FUNCTIONS)}")
        self.function, self.arguments = function, tuple(float(a) for a in arguments)

    def call(self, x: Any) -> Any:
        if self.function == "rsqrt":
            factor, offset = self.arguments or (1.0, 0.0)
            return ops.rsqrt(ops.maximum(factor * x + offset, TINY))
        if self.function == "gelu_tanh":
            return ops.gelu(x, approximate=True)
        if self.function == "square":
            return ops.multiply(x, x)  # a square of a difference is one operator in TFLite, which has no 16-bit form
        return getattr(ops, self.function)(x, *self.arguments)

    def compute_output_shape(self, shape: Any) -> Any:
        return shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "function": self.function, "arguments": list(self.arguments)}


@keras.saving.register_keras_serializable(package="kompakt")
class Mean(layers.Layer):  # type: ignore[misc]
    """The mean over some axes, which stay with length 1.

    Example:
        >>> keras.ops.convert_to_numpy(Mean((-1,))(ops.array([[1.0, 3.0]]))).tolist()
        [[2.0]]
    """

    def __init__(self, axes: tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axes = tuple(int(a) for a in axes)

    def call(self, x: Any) -> Any:
        return ops.mean(x, axis=self.axes, keepdims=True)

    def compute_output_shape(self, shape: Any) -> Any:
        gone = {a % len(shape) for a in self.axes}
        return tuple(1 if i in gone else n for i, n in enumerate(shape))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axes": list(self.axes)}

"""Turn operations (``a + b``, ``ops.relu(x)``) into the layers that compute the same, which have sites."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from kompakt.graph import Call, Copier, Names, rebuild
from kompakt.rewrite.elementwise import Elementwise
from kompakt.rewrite.matrix_product import MatMul

Made = tuple[Any, Any]
"""A layer, and what it is called on."""

Number = Any
"""A float, or an array with one for each channel."""

Scaled = Callable[[Number, bool], "tuple[Number, Number] | None"]
"""(the number, whether the tensor comes first) -> (scale, offset) that the operation is, or None."""


def layered_operations(model: keras.Model) -> keras.Model:
    """``model`` with layers in place of the operations that a Keras layer computes exactly.

    An operation that no layer stands for is left as it is: it has no site, and so no grid of its own.

    Example:
        >>> i = keras.Input((4,))
        >>> m = layered_operations(keras.Model(i, keras.ops.relu(i + i)))
        >>> [type(layer).__name__ for layer in m.layers]
        ['InputLayer', 'Add', 'ReLU']
    """
    names, copier = Names(model), Copier()

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(call.layer, layers.Layer):
            return copier(call.layer)(*args, **kwargs)
        made = _layer_for(call.layer, [*args, *kwargs.values()], names)
        if made is None:
            return call.layer(*args, **kwargs)
        layer, given = made
        layer.name = names.free(call.layer.name)
        return layer(given)

    return rebuild(model, visit)


def _layer_for(operation: Any, values: list[Any], names: Names) -> Made | None:
    kind = type(operation).__name__
    if not type(operation).__module__.startswith("keras."):
        return None
    if kind in WITH_NUMBER and len(values) == 2 and _is_tensor(values[0]) and not _is_tensor(values[1]):
        loose = np.ndim(values[1]) or not keras.backend.is_float_dtype(values[0].dtype)
        return None if loose else (Elementwise(WITH_NUMBER[kind], (float(values[1]),)), values[0])
    if kind in OF_TENSORS and all(_is_tensor(t) for t in keras.tree.flatten(values)):
        return OF_TENSORS[kind](operation, values, names)
    if kind in BINARY and len(values) == 2:
        return _merge(*BINARY[kind], *values)
    if kind not in UNARY or len(values) != 1 or not _is_tensor(values[0]):
        return None
    layer = UNARY[kind](operation, values[0])
    return None if layer is None else (layer, values[0])


def _merge(make: type | None, scaled: Scaled, a: Any, b: Any) -> Made | None:
    """For ``a op b``: two tensors of one rank are merged, a tensor with a number, or one a channel, is rescaled."""
    if _is_tensor(a) and _is_tensor(b):
        return (make(), [a, b]) if make is not None and len(a.shape) == len(b.shape) else None
    tensor, given = (a, b) if _is_tensor(a) else (b, a)
    number = _number_of(given, tensor)
    if number is None or not keras.backend.is_float_dtype(tensor.dtype):
        return None
    found = scaled(number, tensor is a)
    return None if found is None else (layers.Rescaling(found[0], offset=found[1]), tensor)


def _number_of(value: Any, tensor: Any) -> Number | None:
    """``value`` as a float, or as an array with one for each channel of ``tensor``; None where it is neither."""
    if not np.ndim(value):
        return float(value)
    numbers = np.asarray(value, "float32")
    last = keras.config.image_data_format() == "channels_last" and len(tensor.shape) in (2, 3, 4)
    each = numbers.ndim <= len(tensor.shape) and numbers.size == numbers.shape[-1] == tensor.shape[-1]
    return numbers.ravel() if last and each else None


def _is_tensor(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def _concatenate(operation: Any, values: list[Any], _: Names) -> Made:
    return layers.Concatenate(axis=operation.axis), values[0]


def _stack(operation: Any, values: list[Any], names: Names) -> Made | None:
    """Tensors with one axis more each, put end to end."""
    tensors = values[0]
    shape = list(tensors[0].shape[1:])
    at = operation.axis % (len(shape) + 2) - 1
    if at < 0 or None in shape:
        return None
    longer = layers.Reshape((*shape[:at], 1, *shape[at:]), name=names.free(f"{operation.name}_reshape"))
    return layers.Concatenate(axis=at + 1), [longer(t) for t in tensors]


def _divide(operation: Any, values: list[Any], names: Names) -> Made | None:
    """``a / b`` as ``a * (1 / b)``: the runtime divides in floats alone."""
    a, b = values
    if len(a.shape) != len(b.shape) or not keras.backend.is_float_dtype(a.dtype):
        return None
    return layers.Multiply(), [a, Elementwise("reciprocal", name=names.free(f"{operation.name}_reciprocal"))(b)]


def _largest(operation: Any, values: list[Any], names: Names) -> Made | None:
    """The maximum over axes side by side, as a max-pooling of the tensor seen as (before, those, after).

    As it is, the quantizer gives the operator's result a grid of its own, which the runtime takes no notice of.
    """
    x = values[0]
    rank = len(x.shape)
    axes = sorted(a % rank for a in operation.axis) if operation.axis else list(range(rank))
    if 0 in axes or axes != list(range(axes[0], axes[-1] + 1)) or None in x.shape[1:] or operation.initial is not None:
        return None
    if not keras.backend.is_float_dtype(x.dtype):
        return None
    count = math.prod(x.shape[a] for a in axes)
    seen = (math.prod(x.shape[1 : axes[0]]), count, math.prod(x.shape[axes[-1] + 1 :]))
    image = layers.Reshape(seen, name=names.free(f"{operation.name}_image"))(x)
    pooled = layers.MaxPooling2D((1, count), name=names.free(f"{operation.name}_pool"))(image)
    kept = [1 if a in axes else x.shape[a] for a in range(1, rank) if a not in axes or operation.keepdims]
    return layers.Reshape(kept), pooled


def _matmul(_operation: Any, values: list[Any], _names: Names) -> Made | None:
    a, b = values
    stacks = len(a.shape) == len(b.shape) > 2 and a.shape[1:-2] == b.shape[1:-2]
    return (MatMul(), [a, b]) if stacks else None


def _mean(operation: Any, x: Any) -> Any:
    """Global average pooling, where the mean goes over all axes but the samples and channels."""
    rank = len(x.shape)
    pools = {3: layers.GlobalAveragePooling1D, 4: layers.GlobalAveragePooling2D}
    axes = sorted(a % rank for a in operation.axis or ())
    if rank not in pools or axes != list(range(1, rank - 1)):
        return None
    return pools[rank](keepdims=operation.keepdims)


def _reshape(operation: Any, x: Any) -> Any:
    """A reshape that keeps the samples apart: -1 for their number, and as many values a sample as before."""
    shape, before = tuple(operation.newshape), tuple(x.shape[1:])
    if len(shape) < 2 or shape[0] not in (-1, x.shape[0]):
        return None
    if shape[0] == -1 and (None in before or math.prod(shape[1:]) != math.prod(before)):
        return None
    return layers.Reshape(shape[1:])


def _softmax(operation: Any, _: Any) -> Any:
    return layers.Softmax(axis=operation.axis)


def _number(function: str, *arguments: str) -> Callable[[Any, Any], Any]:
    """A function of each number, with the operation's own ``arguments`` where these are numbers."""

    def make(operation: Any, x: Any) -> Any:
        if not keras.backend.is_float_dtype(x.dtype):
            return None
        values = [getattr(operation, name) for name in arguments]
        return Elementwise(function, tuple(values)) if all(np.ndim(v) == 0 for v in values) else None

    return make


def _activation(name: str) -> Callable[[Any, Any], Any]:
    return lambda _operation, _x: layers.Activation(name)


BINARY: dict[str, tuple[type | None, Scaled]] = {
    "Add": (layers.Add, lambda c, _: (1.0, c)),
    "Subtract": (layers.Subtract, lambda c, first: (1.0, -c) if first else (-1.0, c)),
    "Multiply": (layers.Multiply, lambda c, _: (c, 0.0)),
    "Divide": (None, lambda c, first: (1.0 / c, 0.0) if first and np.all(c) else None),
    "TrueDivide": (None, lambda c, first: (1.0 / c, 0.0) if first and np.all(c) else None),
    "Maximum": (layers.Maximum, lambda _c, _first: None),
    "Minimum": (layers.Minimum, lambda _c, _first: None),
}
"""Operation on two values -> (layer that merges two tensors, what it is with a number)."""

OF_TENSORS: dict[str, Callable[[Any, list[Any], Names], Made | None]] = {
    "Concatenate": _concatenate,
    "Stack": _stack,
    "Divide": _divide,
    "TrueDivide": _divide,
    "Matmul": _matmul,
    "Max": _largest,
}
"""Operation on tensors alone -> its layer and what that is called on, or None."""

WITH_NUMBER = {"Maximum": "maximum", "Minimum": "minimum", "Power": "power"}
"""Operation on a tensor and a number -> the function of each number that it is."""

UNARY: dict[str, Callable[[Any, Any], Any]] = {
    "Relu": lambda _operation, _x: layers.ReLU(),
    "Relu6": lambda _operation, _x: layers.ReLU(max_value=6.0),
    "LeakyRelu": lambda operation, _: layers.LeakyReLU(negative_slope=operation.negative_slope),
    "Sigmoid": _activation("sigmoid"),
    "Tanh": _activation("tanh"),
    "Silu": _activation("silu"),
    "HardSilu": _activation("hard_silu"),
    "Softmax": _softmax,
    "Negative": lambda _operation, _x: layers.Rescaling(-1.0),
    "Mean": _mean,
    "Reshape": _reshape,
    "Absolute": _number("abs"),
    "Clip": _number("clip", "x_min", "x_max"),
    "Square": _number("square"),
    "Sqrt": _number("sqrt"),
    "Rsqrt": _number("rsqrt"),
    "Exp": _number("exp"),
    "Expm1": _number("expm1"),
    "Log": _number("log"),
    "Log1p": _number("log1p"),
    "Sin": _number("sin"),
    "Cos": _number("cos"),
    "Arctan": _number("arctan"),
    "Erf": _number("erf"),
    "Sign": _number("sign"),
    "Floor": _number("floor"),
    "Ceil": _number("ceil"),
    "Reciprocal": _number("reciprocal"),
    "Elu": lambda operation, _: layers.ELU(alpha=operation.alpha),
    "Gelu": lambda operation, _: Elementwise("gelu_tanh") if operation.approximate else layers.Activation("gelu"),
    **{
        kind: _activation(name)
        for kind, name in {
            "Selu": "selu",
            "Softplus": "softplus",
            "Softsign": "softsign",
            "HardSigmoid": "hard_sigmoid",
            "HardTanh": "hard_tanh",
            "LogSigmoid": "log_sigmoid",
            "TanhShrink": "tanh_shrink",
        }.items()
    },
}
"""Operation on one tensor -> the layer that it is, or None."""

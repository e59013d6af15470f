"""A layer outside Keras that only adds and multiplies becomes layers with one operator of the runtime each."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops, tree

from kompakt.graph import Call, Copier, Names, call_counts, calls, rebuild, walk
from kompakt.rewrite.trace import is_own, symbolic_call

MERGES: dict[str, Any] = {"Add": layers.Add, "Subtract": layers.Subtract, "Multiply": layers.Multiply}
"""Operation on two tensors of one shape -> the layer that it is."""

COMMUTES = ("Add", "Multiply")


def own_arithmetic(model: keras.Model) -> keras.Model:
    r"""Layers such as ConvNeXt's ``LayerScale`` (:math:`g_c x_c`) and Inception-ResNet's (:math:`a + s b`) in steps.

    What they multiply by, a number or a weight a channel, becomes a BatchNormalization with mean 0 and variance 1,
    which goes into the linear layer before it or stands as a 1x1 depthwise convolution. A converter would melt it
    into a kernel that no layer has. Weights go on training. The last step keeps the layer's name.

    Layers are left as they are whose ``call`` does anything else, looks at ``training``, or works on shapes that
    :func:`kompakt.rewrite.affine_to_depthwise.affine_to_depthwise` does not take.

    Args:
        model: flat and functional. BatchNormalizations that this makes have to be folded or replaced.

    Example:
        >>> class Shift(keras.layers.Layer):
        ...     def call(self, x):
        ...         return x[0] + 0.5 * x[1]
        >>> i = keras.Input((4,))
        >>> [type(layer).__name__ for layer in own_arithmetic(keras.Model(i, Shift()([i, i]))).layers[1:]]
        ['BatchNormalization', 'Add']
    """
    names, copier, count = Names(model), Copier(), call_counts(model)

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        steps = _steps(call.layer, args, kwargs) if count[id(call.layer)] == 1 else None
        return copier(call.layer)(*args, **kwargs) if steps is None else _made(steps, call.layer, args[0], names)

    return rebuild(model, visit)


def _steps(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> keras.Model | None:
    """The operations of a layer as a graph; None where it is not to be opened."""
    if not is_own(layer) or isinstance(layer, keras.Model) or layer._call_has_training_arg:
        return None
    if kwargs or len(args) != 1 or len(list(layer._flatten_layers())) > 1 or layer.losses:
        return None
    if not all(_is_plain(t) for t in tree.flatten(args[0])):
        return None
    steps = symbolic_call(layer, args, {})
    if steps is None or len(steps.outputs) != 1:
        return None
    found = list(calls(steps))
    return steps if found and all(_is_arithmetic(call, layer) for call in found) else None


def _is_plain(tensor: Any) -> bool:
    """Whether a scale a channel of it can be a depthwise convolution."""
    shape = tuple(getattr(tensor, "shape", ()))
    last = keras.config.image_data_format() == "channels_last"
    return last and 2 <= len(shape) <= 4 and None not in shape[1:] and keras.backend.is_float_dtype(tensor.dtype)


def _is_arithmetic(call: Call, layer: Any) -> bool:
    """Whether a step merges two tensors of one shape, or one with a number or a weight a channel."""
    kind = type(call.layer).__name__
    values = [*call.node.arguments.args, *call.node.arguments.kwargs.values()]
    if kind not in MERGES or len(values) != 2 or not _is_plain(call.outputs[0]):
        return False
    tensors = [v for v in values if isinstance(v, keras.KerasTensor)]
    if any(tuple(t.shape) != tuple(call.outputs[0].shape) for t in tensors):
        return False
    if len(tensors) == 2:
        return True
    other = next(v for v in values if not isinstance(v, keras.KerasTensor))
    own = any(other is weight for weight in layer.weights)
    if not own and not isinstance(other, (int, float, np.number)):
        return False
    size = int(np.prod(getattr(other, "shape", ()) or (1,)))
    laid = tuple(getattr(other, "shape", ()))[-1:] in ((), (1,), (tensors[0].shape[-1],))
    return laid and size in (1, tensors[0].shape[-1]) and (kind in COMMUTES or values[0] is tensors[0])


def _made(steps: keras.Model, layer: Any, given: Any, names: Names) -> Any:
    last = next(call.layer for call in calls(steps) if call.outputs[0] is steps.outputs[0])

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kind, values = type(call.layer).__name__, [*args, *kwargs.values()]
        name = layer.name if call.layer is last else names.free(f"{layer.name}_{kind.lower()}")
        tensors = [v for v in values if isinstance(v, keras.KerasTensor)]
        if len(tensors) == 2:
            return MERGES[kind](name=name)(values)
        other = next(v for v in values if not isinstance(v, keras.KerasTensor))
        return _affine(kind, other, tensors[0].shape, name, trains=layer.trainable)(tensors[0])

    found = {id(t): new for t, new in zip(steps.inputs, tree.flatten(given), strict=True)}
    return walk(steps, found, visit)


def _affine(kind: str, other: Any, shape: tuple[int, ...], name: str, *, trains: bool) -> Any:
    """:math:`x g`, :math:`x + o` or :math:`x - o` as a BatchNormalization."""
    values = np.broadcast_to(np.asarray(ops.convert_to_numpy(other), "float32").ravel(), shape[-1:])
    own = isinstance(other, keras.Variable) and trains and other.trainable
    norm = layers.BatchNormalization(epsilon=0.0, name=name, trainable=own)
    norm.build(shape)
    if kind == "Multiply":
        norm.gamma.assign(values)
    else:
        norm.beta.assign(values if kind == "Add" else -values)
    return norm

"""Normalization over the channels of a sample becomes its steps, each with a tensor of its own; the same function."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from keras.src.ops.nn import Normalize

from kompakt.graph import Call, Copier, Names, on_image, rebuild
from kompakt.rewrite.elementwise import Elementwise, Mean


def normalization_steps(model: keras.Model) -> keras.Model:
    r"""``LayerNormalization``, ``RMSNormalization``, ``GroupNormalization`` and ``UnitNormalization`` in steps.

    .. math:: y = g (x - \mu) (\sigma^2 + \epsilon)^{-1/2} + o

    as mean, difference, square, mean, root (a table in the file), product, and an affine 1x1 depthwise
    convolution, which keeps the layer's name. Layers over other axes than the last are left as they are.

    Args:
        model: flat and functional.

    Example:
        >>> i = keras.Input((4, 6))
        >>> m = normalization_steps(keras.Model(i, layers.UnitNormalization(name="u")(i)))
        >>> [layer.name for layer in m.layers[1:]]
        ['u_square', 'u_power', 'u_root', 'u']
    """
    names, copier = Names(model), Copier()
    affine: dict[int, Any] = {}

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer, x = call.layer, args[0] if args else None
        rule = RULES.get(type(layer))
        if rule is None or x is None or None in x.shape[1:] or len(x.shape) > 4:
            return copier(layer)(*args, **kwargs)
        made = rule(layer, x, names, affine)
        return copier(layer)(*args, **kwargs) if made is None else made

    return rebuild(model, visit)


def _last(layer: Any, x: Any) -> bool:
    axis = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    return [a % len(x.shape) for a in axis] == [len(x.shape) - 1]


def _layer(layer: Any, x: Any, names: Names, affine: dict[int, Any]) -> Any:
    if not _last(layer, x) or getattr(layer, "rms_scaling", False):
        return None
    centred = _centred(layer, x, (-1,), names)
    scaled = _scaled(layer, centred, (-1,), (1.0, layer.epsilon), names.free(f"{layer.name}_scaled"), names)
    return _affine(layer, scaled, layer.gamma, layer.beta, names, affine)


def _rms(layer: Any, x: Any, names: Names, affine: dict[int, Any]) -> Any:
    if not _last(layer, x):
        return None
    scaled = _scaled(layer, x, (-1,), (1.0, layer.epsilon), names.free(f"{layer.name}_scaled"), names)
    return _affine(layer, scaled, layer.scale, None, names, affine)


def _unit(layer: Any, x: Any, names: Names, _: dict[int, Any]) -> Any:
    if not _last(layer, x):
        return None
    return _scaled(layer, x, (-1,), (float(x.shape[-1]), 0.0), layer.name, names)


def _normalize(operation: Any, x: Any, names: Names, affine: dict[int, Any]) -> Any:
    return _unit(operation, x, names, affine) if operation.order == 2 else None


def _group(layer: Any, x: Any, names: Names, affine: dict[int, Any]) -> Any:
    channels = x.shape[-1]
    if layer.axis % len(x.shape) != len(x.shape) - 1:
        return None
    groups = channels if layer.groups == -1 else layer.groups
    places = math.prod(x.shape[1:-1])
    apart = layers.Reshape((places, groups, channels // groups), name=names.free(f"{layer.name}_groups"))(x)
    centred = _centred(layer, apart, (1, 3), names)
    scaled = _scaled(layer, centred, (1, 3), (1.0, layer.epsilon), names.free(f"{layer.name}_scaled"), names)
    whole = layers.Reshape(x.shape[1:], name=names.free(f"{layer.name}_whole"))(scaled)
    return _affine(layer, whole, layer.gamma, layer.beta, names, affine)


def _centred(layer: Any, x: Any, axes: tuple[int, ...], names: Names) -> Any:
    mean = Mean(axes, name=names.free(f"{layer.name}_mean"))(x)
    return layers.Subtract(name=names.free(f"{layer.name}_centred"))([x, mean])


def _scaled(layer: Any, x: Any, axes: tuple[int, ...], root: tuple[float, float], name: str, names: Names) -> Any:
    r""":math:`x (a \cdot mean(x^2) + b)^{-1/2}`."""
    square = Elementwise("square", name=names.free(f"{layer.name}_square"))(x)
    power = Mean(axes, name=names.free(f"{layer.name}_power"))(square)
    inverse = Elementwise("rsqrt", root, name=names.free(f"{layer.name}_root"))(power)
    return layers.Multiply(name=name)([x, inverse])


def _affine(layer: Any, x: Any, gamma: Any, beta: Any, names: Names, made: dict[int, Any]) -> Any:
    """Gain and offset a channel; none where the layer has neither."""
    channels = x.shape[-1]
    if gamma is None and beta is None:
        return layers.Activation("linear", name=names.free(layer.name) if id(layer) in made else layer.name)(x)
    if id(layer) not in made:
        scale = layers.DepthwiseConv2D(1, use_bias=beta is not None, name=layer.name, trainable=layer.trainable)
        scale.build((None, 1, 1, channels))
        gain = np.ones(channels) if gamma is None else np.asarray(ops.convert_to_numpy(gamma)).ravel()
        scale.kernel.assign(gain.reshape(1, 1, -1, 1))
        if beta is not None:
            scale.bias.assign(np.asarray(ops.convert_to_numpy(beta)).ravel())
        made[id(layer)] = scale
    return on_image(made[id(layer)], x, names, layer.name)


RULES: dict[type, Any] = {
    layers.LayerNormalization: _layer,
    layers.RMSNormalization: _rms,
    layers.GroupNormalization: _group,
    layers.UnitNormalization: _unit,
    Normalize: _normalize,
}
"""Layer, or operation -> its steps."""

"""A leaky ReLU with slopes of its own becomes two ReLUs and a scale a channel, which integer files compute."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kompakt.graph import Call, Copier, Names, rebuild


def prelu_steps(model: keras.Model) -> keras.Model:
    r"""``PReLU`` as :math:`\max(x, 0) - a \max(-x, 0)`; the same function, :math:`a` trains on.

    He et al. 2015, arXiv:1502.01852, equation (1). The slopes are the kernel of a 1x1 depthwise convolution.

    On rows of numbers it is left as it is: LiteRT refuses the file that comes of it.

    Args:
        model: flat and functional.

    Example:
        >>> i = keras.Input((2, 4))
        >>> m = prelu_steps(keras.Model(i, layers.PReLU(name="p")(i)))
        >>> [layer.name for layer in m.layers[-1:]], m.count_params()
        (['p'], 8)
    """
    names, copier = Names(model), Copier()
    slopes: dict[int, Any] = {}

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer, x = call.layer, args[0] if args else None
        if x is None or not isinstance(layer, layers.PReLU) or len(x.shape) < 3 or None in x.shape[1:]:
            return copier(layer)(*args, **kwargs)
        first = id(layer) not in slopes
        if first:
            slopes[id(layer)] = _slope(layer, x, names.free(f"{layer.name}_slope"))
        wide = layers.Reshape(_wide(layer, x), name=names.free(f"{layer.name}_in"))(x)
        above = layers.ReLU(name=names.free(f"{layer.name}_above"))(wide)
        turned = layers.Rescaling(-1.0, name=names.free(f"{layer.name}_turned"))(wide)
        below = slopes[id(layer)](layers.ReLU(name=names.free(f"{layer.name}_below"))(turned))
        total = layers.Add(name=names.free(f"{layer.name}_sum"))([above, below])
        return layers.Reshape(x.shape[1:], name=layer.name if first else names.free(layer.name))(total)

    return rebuild(model, visit)


def _wide(layer: Any, x: Any) -> tuple[int, ...]:
    """The shape in which the last axis has a slope each."""
    shape = tuple(x.shape[1:])
    if _by_channel(layer):
        return (1, math.prod(shape[:-1]), shape[-1])
    return (1, 1, math.prod(shape))


def _by_channel(layer: Any) -> bool:
    return all(n == 1 for n in layer.alpha.shape[:-1])


def _slope(layer: Any, x: Any, name: str) -> Any:
    alpha = np.asarray(ops.convert_to_numpy(layer.alpha))
    alpha = np.broadcast_to(alpha, (*alpha.shape[:-1], x.shape[-1]))
    if not _by_channel(layer):
        alpha = np.broadcast_to(alpha, tuple(x.shape[1:]))
    scale = layers.DepthwiseConv2D(1, use_bias=False, name=name, trainable=layer.trainable)
    scale.build((None, 1, 1, alpha.size))
    scale.kernel.assign(-alpha.reshape(1, 1, -1, 1))
    return scale

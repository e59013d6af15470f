"""A scale and an offset a channel become a 1x1 depthwise convolution, which integer files compute exactly."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kompakt.copies import copy_layer
from kompakt.graph import Call, Copier, Names, batchnorm_gain, on_image, rebuild


def affine_to_depthwise(model: keras.Model) -> keras.Model:
    r"""``BatchNormalization`` that no layer took in, ``Rescaling``, ``Normalization``: :math:`y_c = g_c x_c + o_c`.

    As a convolution each channel has its own weight scale and a 32-bit offset; multiplied and added as two
    tensors, both would be rounded to 8 bits with one scale. Inputs of rank 2 and 3 are reshaped around it.
    The convolution keeps the layer's name; that of the other two does not train.

    Args:
        model: flat and functional, BatchNormalizations folded where they can be.

    Example:
        >>> i = keras.Input((8, 8, 3))
        >>> m = keras.Model(i, keras.layers.Rescaling(1 / 255, name="r")(i))
        >>> type(affine_to_depthwise(m).get_layer("r")).__name__
        'DepthwiseConv2D'
    """
    names, copier = Names(model), Copier(copy_layer)
    made: dict[int, Any] = {}

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer, x = call.layer, args[0] if args else None
        affine = None if x is None else _affine(layer, x)
        if x is None or affine is None:
            return copier(layer)(*args, **kwargs)
        if id(layer) not in made:
            made[id(layer)] = _depthwise(layer, *affine)
        return on_image(made[id(layer)], x, names, layer.name)

    return rebuild(model, visit)


def _affine(layer: Any, x: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """(g, o), one value a channel of ``x``, where ``layer`` is such a map; float64."""
    rank = len(getattr(x, "shape", ()))
    if rank and not keras.backend.is_float_dtype(x.dtype):
        return None  # a convolution takes no whole numbers
    if rank not in (2, 3, 4) or None in x.shape[1:] or keras.config.image_data_format() != "channels_last":
        return None
    channels = x.shape[-1]
    if isinstance(layer, layers.Rescaling):
        return _spread(layer.scale, channels), _spread(layer.offset, channels)
    if isinstance(layer, layers.Normalization):
        return _standardized(layer, channels)
    if not isinstance(layer, layers.BatchNormalization):
        return None
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    if axis % rank != rank - 1:
        return None
    return batchnorm_gain(layer)


def _standardized(layer: Any, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Those of a ``Normalization``; None where it has more numbers than channels."""
    mean, variance = (np.asarray(ops.convert_to_numpy(v), "float64") for v in (layer.mean, layer.variance))
    if any(v.size not in (1, channels) for v in (mean, variance)):
        return None
    spread = np.maximum(np.sqrt(_spread(variance, channels)), keras.config.epsilon())
    if layer.invert:
        return spread, _spread(mean, channels)
    return 1.0 / spread, -_spread(mean, channels) / spread


def _spread(value: Any, channels: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(value, "float64").ravel(), (channels,))


def _depthwise(layer: Any, factor: np.ndarray, offset: np.ndarray) -> Any:
    trains = layer.trainable and isinstance(layer, layers.BatchNormalization)
    depthwise = layers.DepthwiseConv2D(1, name=layer.name, trainable=trains)
    depthwise.build((None, None, None, len(factor)))
    depthwise.kernel.assign(factor.reshape(1, 1, -1, 1))
    depthwise.bias.assign(offset)
    return depthwise

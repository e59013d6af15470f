"""A copy that computes in float32: converters and integer kernels know no half precision."""

from __future__ import annotations

from typing import Any

import keras
from keras import tree

from kompakt.copies import copy_layer
from kompakt.graph import Copier, as_functional, rebuild
from kompakt.sites import is_graph

FULL = "float32"


def full_precision(model: keras.Model) -> keras.Model:
    """``model`` with every dtype policy float32, its weights cast; the model itself where it is that already.

    Predictions are those of ``model`` to the rounding of its own precision.

    Args:
        model: any built model, attached ones too; not changed.

    Raises:
        InputError: a layer's config cannot be read back.

    Example:
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, dtype="mixed_float16")])
        >>> [layer.compute_dtype for layer in full_precision(m).layers if layer.weights]
        ['float32']
    """
    if not any(_other(layer) for layer in model._flatten_layers()):
        return model
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(FULL)  # for layers that a subclassed model makes itself
        return _copy(model)
    finally:
        keras.config.set_dtype_policy(before)


def _copy(layer: Any) -> Any:
    if not is_graph(layer):
        return copy_layer(layer, change=_in_full)
    copier = Copier(_copy)
    return rebuild(
        as_functional(layer),
        lambda call, args, kwargs: copier(call.layer)(*args, **kwargs),
        dtype_of=lambda tensor: FULL if _is_other_float(tensor.dtype) else tensor.dtype,
    )


def _other(layer: Any) -> bool:
    return any(_is_other_float(dtype) for dtype in (layer.compute_dtype, layer.variable_dtype))


def _is_other_float(dtype: Any) -> bool:
    return dtype is not None and keras.backend.is_float_dtype(dtype) and keras.backend.standardize_dtype(dtype) != FULL


def _in_full(config: Any) -> Any:
    """A layer's config, and those of the layers inside it, with every dtype that is a float's float32."""
    if isinstance(config, (list, tuple)):
        return type(config)(map(_in_full, config))
    if not isinstance(config, dict):
        return config
    return {key: FULL if key == "dtype" and _names_float(value) else _in_full(value) for key, value in config.items()}


def _names_float(value: Any) -> bool:
    """Whether a serialized dtype or policy ("mixed_float16") is one of floats."""
    return any(isinstance(leaf, str) and "float" in leaf for leaf in tree.flatten(value))

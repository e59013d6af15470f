"""Pixels that come as whole numbers and are rescaled at once come as floats: then the input has a grid."""

from __future__ import annotations

import keras
from keras import layers

from kompakt.graph import Copier, rebuild, users


def float_inputs(model: keras.Model) -> keras.Model:
    """``model`` with a float input in place of each integer one that only ``Rescaling`` layers read.

    They cast it to float themselves, so the model computes the same. In an integer file that cast would be a
    float island; a float input is put on a grid, of step 1 for 0..255.

    Args:
        model: flat and functional.

    Example:
        >>> i = keras.Input((8, 8, 3), dtype="uint8")
        >>> float_inputs(keras.Model(i, keras.layers.Rescaling(1 / 255)(i))).inputs[0].dtype
        'float32'
    """
    readers, copier = users(model), Copier()
    pixels = {
        id(t)
        for t in model.inputs
        if not keras.backend.is_float_dtype(t.dtype)
        and all(call is not None and isinstance(call.layer, layers.Rescaling) for call in readers[id(t)])
    }
    if not pixels:
        return model
    return rebuild(
        model,
        lambda call, args, kwargs: copier(call.layer)(*args, **kwargs),
        dtype_of=lambda tensor: "float32" if id(tensor) in pixels else tensor.dtype,
    )

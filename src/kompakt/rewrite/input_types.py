"""Inputs of the type that an integer file can take: pixels as floats with a grid, indices as integers without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from kompakt.errors import InputError
from kompakt.graph import Copier, readers_beyond, rebuild, users

MOVES = (layers.Flatten, layers.Reshape, layers.Permute, layers.RepeatVector, layers.Dropout, layers.Identity)
MOVING = ("Cast", "ExpandDims", "Flip", "GetItem", "Reshape", "Split", "Squeeze", "Transpose")
"""Layers and operations through which indices are still indices."""


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
    readers = users(model)

    def are_pixels(tensor: Any) -> bool:
        after = readers[id(tensor)]
        return not _is_float(tensor) and all(c is not None and isinstance(c.layer, layers.Rescaling) for c in after)

    return _retyped(model, are_pixels, "float32")


def index_inputs(model: keras.Model) -> keras.Model:
    """``model`` with an int32 input in place of each float one that only ``Embedding`` layers read.

    They cast it themselves, so the model computes the same. Keras' inputs are floats where no dtype is given; on a
    grid of 8 bits most indices would become others.

    Args:
        model: flat and functional.

    Raises:
        InputError: another layer reads the input too.

    Example:
        >>> i = keras.Input((8,))
        >>> index_inputs(keras.Model(i, keras.layers.Embedding(5000, 4)(i))).inputs[0].dtype
        'int32'
    """
    readers = users(model)

    def are_indices(tensor: Any) -> bool:
        found = readers_beyond([tensor], readers, _moves)[1] if _is_float(tensor) else []
        after = [None if call is None else call.layer for call in found]
        tables = [layer for layer in after if isinstance(layer, layers.Embedding)]
        masks = [layer for layer in after if type(layer).__name__ == "NotEqual"]  # of a table with mask_zero=True
        if tables and len(tables) + len(masks) < len(after):
            raise InputError(
                f"{tables[0].name!r} reads its indices from the float input {tensor.name!r}, which other layers read "
                "too: the file's grid for it would change indices; give them an input of their own, "
                "keras.Input(..., dtype='int32')"
            )
        return bool(tables)

    return _retyped(model, are_indices, "int32")


def _retyped(model: keras.Model, meant: Callable[[Any], bool], dtype: str) -> keras.Model:
    """``model`` with inputs of ``dtype`` in place of those that are ``meant``."""
    found, copier = {id(tensor) for tensor in model.inputs if meant(tensor)}, Copier()
    if not found:
        return model
    return rebuild(
        model,
        lambda call, args, kwargs: copier(call.layer)(*args, **kwargs),
        dtype_of=lambda tensor: dtype if id(tensor) in found else tensor.dtype,
    )


def _is_float(tensor: Any) -> bool:
    return bool(keras.backend.is_float_dtype(tensor.dtype))


def _moves(operation: Any) -> bool:
    return isinstance(operation, MOVES) or type(operation).__name__ in MOVING

"""A copy with inputs of fixed sizes, where the model leaves some open: a length, an image's height."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from kompakt.errors import InputError, first_line
from kompakt.graph import Copier, as_functional, rebuild, symbolic_inputs


def open_sizes(model: keras.Model) -> list[str]:
    """A text for each input of ``model`` that has an open size beside the batch, with its shape.

    Example:
        >>> open_sizes(keras.Sequential([keras.Input((None, 4), name="words"), keras.layers.GRU(3)]))
        ['words: (None, 4)']
    """
    tensors = keras.tree.flatten(symbolic_inputs(model))
    return [f"{t.name.split(':')[0]}: {tuple(t.shape[1:])}" for t in tensors if None in t.shape[1:]]


def fixed_sizes(model: keras.Model, samples: Any) -> keras.Model:
    """``model`` for inputs as large as ``samples``; the model itself where it leaves no size open.

    Args:
        model: any built model, attached ones too; not changed. samples: in the structure that it takes.

    Raises:
        InputError: it cannot be called on that size.

    Example:
        >>> import numpy as np
        >>> m = keras.Sequential([keras.Input((None, 4)), keras.layers.GRU(3)])
        >>> fixed_sizes(m, np.zeros((2, 7, 4), "float32")).input_shape
        (None, 7, 4)
    """
    if not open_sizes(model):
        return model
    shapes: list[Sequence[int]] = [leaf.shape[1:] for leaf in keras.tree.flatten(samples)]
    given, copier = iter(shapes), Copier()
    try:
        return rebuild(
            as_functional(model),
            lambda call, args, kwargs: copier(call.layer)(*args, **kwargs),
            shape_of=lambda tensor: (tensor.shape[0], *next(given)),
        )
    except (ValueError, TypeError) as error:
        raise InputError(
            f"the model {model.name!r} cannot be called on samples of shape {', '.join(map(str, shapes))}: "
            f"{first_line(error)}"
        ) from error

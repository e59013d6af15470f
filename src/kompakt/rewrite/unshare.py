"""Give every call of a shared layer a layer of its own, as a file has an operator for each."""

from __future__ import annotations

from typing import Any

import keras

from kompakt.copies import copy_layer
from kompakt.graph import Call, Names, rebuild


def unshare(model: keras.Model) -> keras.Model:
    """A copy of a flat ``model`` in which each layer is called once; the first call keeps the name.

    The copies start equal and train apart: for models that are done with training.

    Example:
        >>> i, d = keras.Input((4,)), keras.layers.Dense(4, name="d")
        >>> [layer.name for layer in unshare(keras.Model(i, d(d(i)))).layers[1:]]
        ['d', 'd_1']
    """
    names = Names(model)
    called: set[int] = set()

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer = copy_layer(call.layer)
        if id(call.layer) in called:
            rename(layer, names.free(call.layer.name))
        called.add(id(call.layer))
        return layer(*args, **kwargs)

    return rebuild(model, visit)


def rename(layer: Any, name: str) -> None:
    """Call ``layer``, and the layer that it wraps, ``name``."""
    layer.name = name
    inner = getattr(layer, "transformed_layer", None)
    if inner is not None:
        inner.name = name

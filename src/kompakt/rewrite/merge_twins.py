"""The same activation twice on one tensor becomes one."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from kompakt.graph import Call, Copier, rebuild


def merge_twins(model: keras.Model) -> keras.Model:
    """One activation where several of one kind read one tensor, under the name of one of them.

    A converter merges them too, and then fuses the one into the layer before it, whose own output is no integer in
    the file any more: with two of them a model would round there once more than the file.

    Args:
        model: flat and functional, activations in layers of their own.

    Example:
        >>> i = keras.Input((4,))
        >>> a, b = layers.ReLU(name="a")(i), layers.Activation("relu", name="b")(i)
        >>> len(keras.Model(i, [a, b]).layers), len(merge_twins(keras.Model(i, [a, b])).layers)
        (3, 2)
    """
    copier = Copier()
    made: dict[tuple[int, str], Any] = {}

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kind = _kind(call.layer)
        if kind is None or len(args) != 1 or kwargs:
            return copier(call.layer)(*args, **kwargs)
        key = (id(args[0]), kind)
        if key not in made:
            made[key] = copier(call.layer)(*args)
        return made[key]

    return rebuild(model, visit)


def _kind(layer: Any) -> str | None:
    """What an activation does; None where ``layer`` is none, or only carries a tensor on."""
    if type(layer) is layers.ReLU:
        config = (layer.max_value, float(layer.negative_slope), float(layer.threshold))
        return {(None, 0.0, 0.0): "relu", (6.0, 0.0, 0.0): "relu6"}.get(config, f"relu{config}")
    if type(layer) is not layers.Activation:
        return None
    name = keras.activations.serialize(layer.activation)
    return name if isinstance(name, str) and name != "linear" else None

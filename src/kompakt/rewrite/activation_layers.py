"""A layer that is another's activation (``Dense(4, activation=LeakyReLU())``) becomes a layer behind it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kompakt.copies import copy_layer
from kompakt.graph import Call, Copier, Names, rebuild


def activation_layers(model: keras.Model) -> keras.Model:
    """``model`` with a layer of its own for each activation that is one; the same function.

    It is called ``<layer>_activation``. Recurrent layers are left as they are.

    Args:
        model: flat and functional.

    Example:
        >>> i = keras.Input((4,))
        >>> d = keras.layers.Dense(2, activation=keras.layers.LeakyReLU(0.2), name="d")
        >>> [type(layer).__name__ for layer in activation_layers(keras.Model(i, d(i))).layers]
        ['InputLayer', 'Dense', 'LeakyReLU']
    """
    names = Names(model)
    after: dict[str, Any] = {}

    def make(layer: Any) -> Any:
        if not has_layer(layer):
            return copy_layer(layer)
        after[layer.name] = copy_layer(layer.activation)
        after[layer.name].name = names.free(f"{layer.name}_activation")
        return _linear(layer)

    copier = Copier(make)

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        outputs = copier(call.layer)(*args, **kwargs)
        return after[call.layer.name](outputs) if call.layer.name in after else outputs

    return rebuild(model, visit)


def has_layer(layer: Any) -> bool:
    """Whether the activation of ``layer`` is a layer."""
    inside = getattr(layer, "activation", None)
    return isinstance(inside, keras.layers.Layer) and not isinstance(layer, keras.layers.RNN)


def _linear(layer: Any) -> Any:
    """``layer`` without its activation, of which it keeps no trace."""
    made = type(layer).from_config({**layer.get_config(), "activation": None})
    made.build_from_config(layer.get_build_config())
    gone = {id(variable) for variable in layer.activation.variables}
    kept = [variable for variable in layer.variables if id(variable) not in gone]
    for old, new in zip(kept, made.variables, strict=True):
        new.assign(np.array(keras.ops.convert_to_numpy(old)))
    return made

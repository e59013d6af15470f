"""Give every activation that the runtime does not fuse a layer of its own."""

from __future__ import annotations

from typing import Any

import keras

from kompakt.copies import copy_layer
from kompakt.graph import Call, Copier, Names, rebuild

FUSED = ("linear", "relu", "relu6")
"""Activations that TFLite computes inside the operator before it: no integer tensor lies between."""


def fused(layer: Any) -> bool:
    """Whether ``layer`` is an activation that TFLite fuses into the operator before it."""
    if isinstance(layer, keras.layers.ReLU):
        return layer.max_value in (None, 6.0) and not layer.negative_slope and not layer.threshold
    if isinstance(layer, keras.layers.Activation):
        return keras.activations.serialize(layer.activation) in FUSED[1:]
    return False


def split_activation(model: keras.Model) -> keras.Model:
    """``Dense(activation="softmax")`` becomes ``Dense`` and ``Activation("softmax")``; the same function.

    So that the tensor between the two, which the file stores as integers, has a site. The activation's layer
    is called ``<layer>_<activation>``. Layers with several activations inside (LSTM) are left as they are.

    Example:
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax", name="d")])
        >>> from kompakt.rewrite.inline import inline
        >>> [layer.name for layer in split_activation(inline(m)[0]).layers[1:]]
        ['d', 'd_softmax']
    """
    names = Names(model)
    activations: dict[str, Any] = {}

    def make(layer: Any) -> Any:
        copy = copy_layer(layer)
        if has_to_split(copy):
            name = names.free(f"{layer.name}_{getattr(copy.activation, '__name__', 'activation')}")
            activations[copy.name] = keras.layers.Activation(copy.activation, name=name)
            copy.activation = keras.activations.linear
        return copy

    copier = Copier(make)

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        outputs = copier(call.layer)(*args, **kwargs)
        after = activations.get(call.layer.name)
        return outputs if after is None else after(outputs)

    return rebuild(model, visit)


def has_to_split(layer: Any) -> bool:
    """Whether ``layer`` computes an activation that the runtime does not fuse into it."""
    if isinstance(layer, (keras.layers.Activation, keras.layers.RNN)) or not hasattr(layer, "activation"):
        return False
    activation = layer.activation
    return activation is not None and keras.activations.serialize(activation) not in FUSED

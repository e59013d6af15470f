"""A layer over time becomes the layer itself, once on all steps or on each of them: the same function."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras import layers

from kompakt.copies import copy_layer
from kompakt.graph import Call, Copier, Names, rebuild
from kompakt.sites import sites, weight_slots

LONGEST = 64
"""Steps up to which an inner layer is called one by one."""

ANY_RANK = (layers.Dense, layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Dropout)
"""Layers that do with a sequence what they do with each step of it."""


def time_distributed(model: keras.Model) -> tuple[keras.Model, dict[str, str]]:
    """``TimeDistributed(Dense)`` becomes ``Dense``; around other layers, calls on the steps, which share it.

    The inner layer takes the outer one's name; a model stays nested, and what is over time in it as it is. Left as it
    is: an unknown number of steps, or more than 64.

    Returns:
        (a new model, {site of ``model``: its name in the new one} for the sites that moved).

    Example:
        >>> i = keras.Input((3, 4))
        >>> m, moved = time_distributed(keras.Model(i, layers.TimeDistributed(layers.Dense(2), name="t")(i)))
        >>> m.layers[-1].name, moved
        ('t', {'t/layer/kernel': 't/kernel'})
    """
    names, copier = Names(model), Copier()
    inner: dict[int, Any] = {}

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer, x = call.layer, args[0] if args else None
        if not _known(layer, x):
            return copier(layer)(*args, **kwargs)
        if id(layer) not in inner:
            inner[id(layer)] = copy_layer(layer.layer)
            inner[id(layer)].name = layer.name
        if isinstance(layer.layer, ANY_RANK):
            return inner[id(layer)](x)
        return _steps(layer, inner[id(layer)], x, names)

    new = rebuild(model, visit)
    return new, _moved(new, inner.values())


def _moved(model: keras.Model, inner: Iterable[Any]) -> dict[str, str]:
    """{site that a weight of an ``inner`` layer of ``model`` had: its name now}."""
    now = {id(site.variable): site.name for site in sites(model)}
    return {
        f"{layer.name}/layer/{slot}": now[id(variable)]
        for layer in inner
        for slot, (_, variable, _) in weight_slots(layer).items()
    }


def _known(layer: Any, x: Any) -> bool:
    if not isinstance(layer, layers.TimeDistributed) or getattr(x, "_keras_mask", None) is not None:
        return False
    steps = x.shape[1] if x is not None else None
    return steps is not None and (steps <= LONGEST or isinstance(layer.layer, ANY_RANK))


def _steps(layer: Any, inner: Any, x: Any, names: Names) -> Any:
    made = [inner(x[:, t]) for t in range(x.shape[1])]
    row = layers.Reshape((1, *made[0].shape[1:]), name=names.free(f"{layer.name}_row"))
    rows = [row(each) for each in made]
    return layers.Concatenate(axis=1, name=names.free(f"{layer.name}_rows"))(rows) if len(rows) > 1 else rows[0]

"""Enter nested and subclassed models: one flat functional graph of leaf layers."""

from __future__ import annotations

from typing import Any

import keras

from kompakt.graph import Call, Copier, as_functional, copy_layer, rebuild, walk
from kompakt.sites import is_graph


def inline(model: keras.Model) -> tuple[keras.Model, dict[int, str]]:
    """A flat functional model with copies of the layers of ``model``; a shared layer stays shared.

    Names of layers of nested models become ``outer_inner`` where they would clash.

    Returns:
        (flat model, {id of a layer of ``model``: name of its copy}).

    Raises:
        InputError: a subclassed model's call cannot be followed.

    Example:
        >>> inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> outer = keras.Sequential([keras.Input((4,)), inner])
        >>> [layer.name for layer in inline(outer)[0].layers[1:]]
        ['d']
    """
    taken: set[str] = set()
    prefix: list[str] = []
    names: dict[int, str] = {}

    def make(layer: Any) -> Any:
        copy = copy_layer(layer)
        name = layer.name
        if name in taken:
            name = "_".join([*prefix, name])
        count = 1
        while name in taken:
            count += 1
            name = f"{'_'.join([*prefix, layer.name])}_{count}"
        taken.add(name)
        copy.name = names[id(layer)] = name
        return copy

    copier = Copier(make)

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not is_graph(call.layer):
            return copier(call.layer)(*args, **kwargs)
        prefix.append(call.layer.name)
        inner = as_functional(call.layer)
        given = keras.tree.flatten(args[0] if args else next(iter(kwargs.values())))
        outputs = walk(inner, {id(t): new for t, new in zip(inner.inputs, given, strict=True)}, visit)
        prefix.pop()
        return outputs

    return rebuild(as_functional(model), visit), names

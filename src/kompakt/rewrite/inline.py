"""Enter nested and subclassed models: one flat functional graph of leaf layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from kompakt.copies import copy_layer
from kompakt.graph import Call, Copier, as_functional, rebuild, walk
from kompakt.rewrite.trace import traced
from kompakt.sites import inner_layers, is_graph


def inline(model: keras.Model) -> tuple[keras.Model, dict[int, str]]:
    """A flat functional model with copies of the layers of ``model``; a shared layer stays shared.

    Layers and models of the user's own are entered too, where their ``call`` can be followed (:func:`traced`). Names
    of layers of nested models become ``outer_inner`` where they would clash, those in a layer of one's own are always
    ``outer_attribute``.

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
    within: list[tuple[str, Any]] = []
    names: dict[int, str] = {}

    def make(layer: Any) -> Any:
        copy = copy_layer(layer)
        name = _name_in(within, layer)
        whole = "_".join([*(outer for outer, _ in within), name])
        if name in taken or not all(is_graph(outer) for _, outer in within):
            name = whole
        count = 1
        while name in taken:
            count += 1
            name = f"{whole}_{count}"
        taken.add(name)
        copy.name = names[id(layer)] = name
        return copy

    copier = Copier(make)

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inner = as_functional(call.layer) if is_graph(call.layer) else traced(call.layer, args, kwargs)
        if inner is None:
            return copier(call.layer)(*args, **kwargs)
        given = [t for t in keras.tree.flatten((args, kwargs)) if isinstance(t, keras.KerasTensor)]
        within.append((_name_in(within, call.layer), call.layer))
        outputs = walk(inner, {id(t): new for t, new in zip(inner.inputs, given, strict=True)}, visit)
        within.pop()
        return outputs

    return rebuild(as_functional(model), visit), names


def _name_in(within: Sequence[tuple[str, Any]], layer: Any) -> str:
    """The name of ``layer``; in a layer of one's own its attribute there, by which its sites go: names are made up anew
    in every copy.
    """
    if not within or is_graph(within[-1][1]):
        return str(layer.name)
    paths = (path for path, inner in inner_layers(within[-1][1]) if inner is layer)
    return next(paths, str(layer.name)).replace("/", "_")

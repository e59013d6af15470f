"""Put the identity in the place of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import tree

from kompakt.copies import copy_layer
from kompakt.graph import Call, Copier, as_functional, calls, rebuild, symbolic_inputs
from kompakt.rewrite.repeated_blocks import Block
from kompakt.sites import is_graph


def remove_blocks(model: keras.Model, blocks: Sequence[Block]) -> keras.Model:
    """A copy of ``model`` in which each of ``blocks`` gives what it is given.

    Args:
        model: functional or sequential; not changed. Nested and sequential models stay what they are.
        blocks: of :func:`~kompakt.rewrite.repeated_blocks.find_stages` of this very model.

    Example:
        >>> from kompakt.rewrite.repeated_blocks import find_stages
        >>> wide = [keras.layers.Dense(4, name=name) for name in "abc"]
        >>> m = keras.Sequential([keras.Input((2,)), *wide])
        >>> [layer.name for layer in remove_blocks(m, find_stages(m)[0].blocks).layers]
        ['a', 'c']
    """
    passing: dict[int, set[int]] = {}
    for block in blocks:
        same = {id(block.source), *(id(tensor) for call in block.calls for tensor in call.outputs)}
        passing |= {id(call.outputs[0]): same for call in block.calls}
    copier = Copier(lambda layer: without(layer) if is_graph(layer) else copy_layer(layer))

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        same = passing.get(id(call.outputs[0]))
        if same is None:
            return copier(call.layer)(*args, **kwargs)
        given = [leaf for leaf in tree.flatten((args, kwargs)) if isinstance(leaf, keras.KerasTensor)]
        source = next(new for old, new in zip(call.inputs, given, strict=True) if id(old) in same)
        return [source] * len(call.outputs)

    def without(each: keras.Model) -> keras.Model:
        if not isinstance(each, keras.Sequential):
            return rebuild(each, visit)
        left = [call.layer for call in calls(as_functional(each)) if id(call.outputs[0]) not in passing]
        return keras.Sequential([symbolic_inputs(each), *map(copier, left)], name=each.name)

    return without(model)

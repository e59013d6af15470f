"""Layers that converters decompose become layers with one operator of the runtime each; the same function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from kompakt.copies import copy_layer
from kompakt.graph import Call, Copier, Names, rebuild
from kompakt.rewrite.elementwise import Elementwise

Replacement = Callable[[Any, Any, Names], Any]
"""(layer, its new input, free names) -> its new output, or None to leave the layer as it is."""


def plain_operators(model: keras.Model) -> keras.Model:
    """Up-sampling as resizing, global maxima and adaptive pools as pools, merges of many tensors two by two.

    Args:
        model: flat and functional.

    Example:
        >>> i = keras.Input((4,))
        >>> m = plain_operators(keras.Model(i, keras.layers.Add(name="a")([i, i, i])))
        >>> [layer.name for layer in m.layers[1:]]
        ['a_1', 'a']
    """
    names, copier = Names(model), Copier()
    replaced: set[int] = set()

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer = call.layer
        rule = next((rule for kind, rule in RULES.items() if type(layer) is kind), None)
        if id(layer) in replaced:  # shared: each call gets layers of its own, which have no weights
            layer = copy_layer(layer)
            layer.name = names.free(layer.name)
        made = None if rule is None or not args else rule(layer, args[0], names)
        if made is None:
            return copier(call.layer)(*args, **kwargs)
        replaced.add(id(call.layer))
        return made

    return rebuild(model, visit)


def _pairwise(layer: Any, tensors: Any, names: Names) -> Any:
    """``a + b + c`` as ``(a + b) + c``: the integer operators take two tensors."""
    if len(tensors) < 3:
        return None
    total = tensors[0]
    for tensor in tensors[1:-1]:
        total = type(layer)(name=names.free(f"{layer.name}_1"))([total, tensor])
    return type(layer)(name=layer.name)([total, tensors[-1]])


def _average(layer: Any, tensors: Any, names: Names) -> Any:
    """The sum, two by two, and a share of it."""
    total = tensors[0]
    for tensor in tensors[1:]:
        total = layers.Add(name=names.free(f"{layer.name}_sum"))([total, tensor])
    return Elementwise("multiply", (1.0 / len(tensors),), name=layer.name)(total)


def _adaptive(kind: Any) -> Replacement:
    """An adaptive pool whose output's size divides its input's: windows side by side."""

    def rule(layer: Any, x: Any, _: Names) -> Any:
        shape, sizes = x.shape[1:-1], _sizes(layer.output_size, len(x.shape) - 2)
        if (
            layer.data_format != "channels_last"
            or None in shape
            or any(n % k for n, k in zip(shape, sizes, strict=True))
        ):
            return None
        window = tuple(n // k for n, k in zip(shape, sizes, strict=True))
        return kind(window if len(window) > 1 else window[0], name=layer.name)(x)

    return rule


def _sizes(given: Any, rank: int) -> tuple[int, ...]:
    return (given,) * rank if isinstance(given, int) else tuple(given)


def _resize(layer: Any, x: Any, _: Names) -> Any:
    """Nearest and bilinear up-sampling have an operator; as Keras calls it, it becomes tiles and reshapes."""
    _, height, width, _ = x.shape
    if layer.interpolation not in ("nearest", "bilinear") or layer.data_format != "channels_last":
        return None
    if height is None or width is None:
        return None
    return layers.Resizing(
        height * layer.size[0], width * layer.size[1], interpolation=layer.interpolation, name=layer.name
    )(x)


def _max_1d(layer: Any, x: Any, names: Names) -> Any:
    return _max(layer, x, names, layers.MaxPooling1D, x.shape[1])


def _max_2d(layer: Any, x: Any, names: Names) -> Any:
    return _max(layer, x, names, layers.MaxPooling2D, tuple(x.shape[1:3]))


def _max(layer: Any, x: Any, names: Names, kind: Any, window: Any) -> Any:
    if layer.data_format != "channels_last" or None in x.shape[1:]:
        return None
    if layer.keepdims:
        return kind(window, name=layer.name)(x)
    pooled = kind(window, name=names.free(f"{layer.name}_pool"))(x)
    return layers.Flatten(name=layer.name)(pooled)


RULES: dict[type, Replacement] = {
    layers.Add: _pairwise,
    layers.Multiply: _pairwise,
    layers.Maximum: _pairwise,
    layers.Minimum: _pairwise,
    layers.Average: _average,
    layers.UpSampling2D: _resize,
    layers.AdaptiveAveragePooling1D: _adaptive(layers.AveragePooling1D),
    layers.AdaptiveAveragePooling2D: _adaptive(layers.AveragePooling2D),
    layers.AdaptiveMaxPooling1D: _adaptive(layers.MaxPooling1D),
    layers.AdaptiveMaxPooling2D: _adaptive(layers.MaxPooling2D),
    layers.GlobalMaxPooling1D: _max_1d,
    layers.GlobalMaxPooling2D: _max_2d,
}
"""Layer -> what stands for it."""

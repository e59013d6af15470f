"""What layers and operations without weights do with channels: pass, join, move, merge or mix them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import tree

from kompakt.rewrite import channel_labels
from kompakt.rewrite.channel_labels import Axes, Traced, broadcast
from kompakt.rewrite.channel_scope import OUTPUT, NewShape, NotFollowed, Scope, activated, at, channel_axis

Layer = Any


def same(scope: Scope) -> Axes:
    """Each value by itself."""
    return scope.x.axes


def stays(verb: str) -> Callable[[Scope], Axes]:
    """The shape stays and so do all channels."""

    def follow_call(scope: Scope) -> Axes:
        for labels in scope.x.axes:
            scope.fix(labels, verb)
        return scope.x.axes

    return follow_call


def activation(scope: Scope) -> Axes:
    """An activation layer."""
    return activated(scope, scope.x.axes)


def softmax(scope: Scope) -> Axes:
    """Mixes the positions of its axes."""
    axis = scope.layer.axis
    for place in [axis] if isinstance(axis, int) else axis or range(len(scope.x.axes)):
        scope.fix(scope.x.axes[place], "mixes them")
    return scope.x.axes


def dropout(scope: Scope) -> Axes:
    """Each value by itself, unless the noise has sizes of its own."""
    if any(size not in (None, 1) for size in scope.layer.noise_shape or ()):
        raise NotFollowed("its noise_shape holds sizes")
    return scope.x.axes


def rescaling(scope: Scope) -> Axes:
    """One number for all, or one for each channel, which then stay."""
    if np.size(scope.layer.scale) > 1 or np.size(scope.layer.offset) > 1:
        scope.fix(scope.x.axes[-1], "has a number for each of them")
    return scope.x.axes


def pool(scope: Scope) -> Axes:
    """Along the other axes, in each channel by itself."""
    rank = len(scope.x.axes)
    axis = channel_axis(scope, rank)
    return at(rank, axis, scope.alone(scope.x, axis))


def global_pool(scope: Scope) -> Axes:
    """The axes but that of the channels are gone, or of size 1."""
    axis = channel_axis(scope, len(scope.x.axes))
    rank = len(scope.shapes[0])
    return at(rank, axis if rank > 2 else 1, scope.alone(scope.x, axis))


def merge(scope: Scope) -> Axes:
    """Elementwise on tensors of one rank."""
    tensors = scope.tensors
    if len({len(tensor.shape) for tensor in tensors}) > 1:
        raise NotFollowed("it merges tensors of several ranks")
    return broadcast(scope.channels, tensors, _joins(scope))


def concatenate(scope: Scope) -> Axes:
    """Tensors end to end."""
    if not all(isinstance(leaf, Traced) for leaf in tree.flatten(scope.args)):
        raise NotFollowed("it takes constants")
    return channel_labels.concatenate(scope.channels, scope.tensors, scope.layer.axis, _joins(scope))


def _joins(scope: Scope) -> str:
    return f"{scope.who} joins them with what stays"


def reshape(scope: Scope) -> Axes:
    """A reshape or flatten."""
    if getattr(scope.layer, "data_format", None) == "channels_first" and len(scope.x.axes) > 2:
        raise NotFollowed("it moves the channels to the end before")
    axes = channel_labels.reshape(scope.channels, scope.x, scope.shapes[0], f"{scope.who} mixes them with other axes")
    return scope.sized(axes)


def reshaped(key: str, first: int) -> Callable[[Layer, NewShape], dict[str, Any]]:
    """Config of a reshape whose ``key`` holds the sizes of the axes from ``first``."""

    def config(layer: Layer, shape: NewShape) -> dict[str, Any]:
        held = layer.get_config()[key]
        new = shape(OUTPUT)[first:]
        return {key: tuple(old if old == -1 else n for old, n in zip(held, new, strict=True))}

    return config


def moved(order: Callable[[Layer, int], list[int]]) -> Callable[[Scope], Axes]:
    """Axes in another order."""
    return lambda scope: tuple(scope.x.axes[place] for place in order(scope.layer, len(scope.x.axes)))


def swapped(layer: Layer, rank: int) -> list[int]:
    """Two axes change places."""
    order = list(range(rank))
    a, b = layer.axis1 % rank, layer.axis2 % rank
    order[a], order[b] = b, a
    return order


def expand(scope: Scope) -> Axes:
    """New axes of size 1."""
    axis = scope.layer.axis
    rank = len(scope.shapes[0])
    new = {place % rank for place in ([axis] if isinstance(axis, int) else axis)}
    rest = iter(scope.x.axes)
    return tuple(None if place in new else next(rest) for place in range(rank))


def squeeze(scope: Scope) -> Axes:
    """Axes of size 1 go."""
    axis, rank = scope.layer.axis, len(scope.x.axes)
    if axis is None:
        raise NotFollowed("it names no axis")
    gone = {place % rank for place in ([axis] if isinstance(axis, int) else axis)}
    return tuple(labels for place, labels in enumerate(scope.x.axes) if place not in gone)


def repeat_vector(scope: Scope) -> Axes:
    """A new axis before the channels."""
    return (scope.x.axes[0], None, scope.x.axes[1])


def reduce(scope: Scope) -> Axes:
    """A mean, sum or the like over axes, which stay as they are."""
    x, axis = scope.x, scope.layer.axis
    places = range(len(x.axes)) if axis is None else [place % len(x.axes) for place in np.atleast_1d(axis)]
    for place in places:
        scope.fix(x.axes[place], "is taken over them")
    if scope.layer.keepdims:
        return tuple(None if place in places else labels for place, labels in enumerate(x.axes))
    return tuple(labels for place, labels in enumerate(x.axes) if place not in places)


def binary(scope: Scope) -> Axes:
    """Elementwise on two tensors, or a tensor and a constant; a constant with channels of its own keeps them."""
    tensors = []
    for value in tree.flatten((scope.args, dict(scope.kwargs))):
        size = np.shape(value) if not isinstance(value, Traced) else None
        tensors.append(value if size is None else Traced(shape=tuple(size), axes=(None,) * len(size)))
    return broadcast(scope.channels, tensors, _joins(scope))


def divide(scope: Scope) -> Axes:
    """What it divides by must not be a channel that is removed: zero divided by zero is no number."""
    values = tree.flatten((scope.args, dict(scope.kwargs)))
    if isinstance(values[1], Traced):
        for labels in values[1].axes:
            scope.fix(labels, "divides by them")
    return binary(scope)


def parts(scope: Scope) -> list[Axes]:
    """Equal parts keep the same places, so that the parts stay equal."""
    x, axis, count = scope.x, scope.layer.axis % len(scope.x.axes), scope.layer.indices_or_sections
    if not isinstance(count, int):
        raise NotFollowed("it splits at given places")
    labels = x.axes[axis]
    if labels is not None:
        labels = labels.reshape(count, -1)
        scope.channels.tie(labels)
        labels = labels[0]
    return [tuple(labels if place == axis else each for place, each in enumerate(x.axes))] * count


def get_item(scope: Scope) -> Axes:
    """Slices and indices of axes without channels; whole axes pass."""
    x, key = scope.tensors[0], scope.args[1] if len(scope.args) > 1 else scope.kwargs["key"]
    keys = list(key) if isinstance(key, (tuple, list)) else [key]
    if len(scope.tensors) > 1 or not all(isinstance(each, (int, slice, type(...))) for each in keys):
        raise NotFollowed("it is indexed with more than slices and numbers")
    if ... not in keys:
        keys.append(...)
    split = keys.index(...)
    keys[split : split + 1] = [slice(None)] * (len(x.axes) - len(keys) + 1)
    axes = []
    for labels, each in zip(x.axes, keys, strict=True):
        if each != slice(None):
            scope.fix(labels, "takes some of them")
        if isinstance(each, slice):
            axes.append(labels if each == slice(None) else None)
    return tuple(axes)

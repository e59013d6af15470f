"""What layers with weights do with channels: linear, recurrent, attention and normalization layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kompakt.rewrite.channel_labels import Axes, Labels
from kompakt.rewrite.channel_scope import (
    CARRIES,
    ELEMENTWISE,
    MAKES,
    OUTPUT,
    READS,
    NewShape,
    NotFollowed,
    Scope,
    activated,
    at,
    channel_axis,
)

Layer = Any


def _finished(scope: Scope, rank: int, axis: int, made: Labels) -> Axes:
    """Bias and activation of a linear layer whose channels are on one axis."""
    scope.carries("bias", -1, made)
    return activated(scope, at(rank, axis, made))


def dense(scope: Scope) -> Axes:
    """Reads the last axis and makes a new one."""
    x = scope.x
    scope.reads("kernel", 0, x.axes[-1])
    made = scope.weight("kernel", 1, MAKES)
    scope.carries("bias", -1, made)
    return activated(scope, (*x.axes[:-1], made))


def convolution(scope: Scope) -> Axes:
    """Reads and makes channels; in groups where it has them."""
    rank = len(scope.x.axes)
    axis = channel_axis(scope, rank)
    given, made = scope.alone(scope.x, axis), scope.weight("kernel", -1, MAKES)
    if scope.layer.groups == 1:
        scope.reads("kernel", -2, given)
    else:
        _grouped(scope, given, made)
    return _finished(scope, rank, axis, made)


def _grouped(scope: Scope, given: Labels, made: Labels) -> None:
    """Whole groups go, with what they read, or the same places in every group: whichever cuts finer."""
    groups = scope.layer.groups
    if given is None:
        raise NotFollowed("it has groups and reads what stays")
    reads, makes = given.reshape(groups, -1), made.reshape(groups, -1)
    if _by_groups(scope.layer):
        scope.channels.tie(np.concatenate([reads, makes], axis=1).T)
    else:
        scope.channels.tie(reads)
        scope.channels.tie(makes)
        scope.reads("kernel", -2, reads[0])


def _by_groups(layer: Layer) -> bool:
    return layer.groups >= layer.kernel.shape[-2]


def convolution_config(layer: Layer, shape: NewShape) -> dict[str, Any]:
    """Filters, and groups where whole groups go."""
    filters = shape("kernel")[-1]
    if layer.groups == 1 or not _by_groups(layer):
        return {"filters": filters}
    return {"filters": filters, "groups": filters * layer.groups // layer.filters}


def transposed(scope: Scope) -> Axes:
    """As a convolution, with a kernel the other way round."""
    rank = len(scope.x.axes)
    axis = channel_axis(scope, rank)
    scope.reads("kernel", -1, scope.alone(scope.x, axis))
    return _finished(scope, rank, axis, scope.weight("kernel", -2, MAKES))


def depthwise(scope: Scope) -> Axes:
    """Carries each channel into ``depth_multiplier`` of them."""
    rank = len(scope.x.axes)
    axis = channel_axis(scope, rank)
    given = scope.alone(scope.x, axis)
    scope.carries("kernel", -2, given)
    made = scope.weight("kernel", -2, CARRIES)
    return _finished(scope, rank, axis, np.repeat(made, scope.layer.depth_multiplier))


def separable(scope: Scope) -> Axes:
    """Carries the channels, then reads them and makes new ones."""
    rank = len(scope.x.axes)
    axis = channel_axis(scope, rank)
    scope.reads("depthwise_kernel", -2, scope.alone(scope.x, axis))
    spread = np.repeat(scope.weight("depthwise_kernel", -2, READS), scope.layer.depth_multiplier)
    scope.reads("pointwise_kernel", -2, spread)
    return _finished(scope, rank, axis, scope.weight("pointwise_kernel", -1, MAKES))


def einsum(scope: Scope) -> Axes:
    """By the letters of its equation."""
    layer, x = scope.layer, scope.x
    data, kernel, result = _letters(layer.equation, len(x.axes))
    known = dict(zip(data, x.axes, strict=True))
    for letter in set(data) - set(kernel) - set(result):
        scope.fix(known.pop(letter), "sums over them")
    for place, letter in enumerate(kernel):
        if letter in data and letter in result:
            scope.carries("kernel", place, known[letter])
        elif letter in data:
            scope.reads("kernel", place, known[letter])
        elif letter in result:
            known[letter] = scope.weight("kernel", place, MAKES)
    axes = scope.sized(tuple(known[letter] for letter in result))
    bias = layer.bias
    for place in range(-len(bias.shape), 0) if bias is not None else ():
        if bias.shape[place] > 1:
            scope.carries("bias", place, axes[place])
    return activated(scope, axes)


def _letters(equation: str, rank: int) -> tuple[str, str, str]:
    """Letters of the data, the kernel and the result; those that "..." stands for are digits."""
    inputs, result = equation.replace(" ", "").split("->")
    data, kernel = inputs.split(",")
    hidden = "0123456789"[: rank - len(data.replace("...", ""))]
    return data.replace("...", hidden), kernel, result.replace("...", hidden)


def einsum_config(layer: Layer, shape: NewShape) -> dict[str, Any]:
    """Sizes of the output that the config holds."""
    held = layer.get_config()["output_shape"]
    held = (held,) if isinstance(held, int) else tuple(held)
    new = shape(OUTPUT)[-len(held) :]
    return {"output_shape": tuple(None if old is None else n for old, n in zip(held, new, strict=True))}


def embedding(scope: Scope) -> Axes:
    """Makes channels for each index."""
    return (*scope.x.axes, scope.weight("embeddings", 1, MAKES))


def attention(scope: Scope) -> Axes | list[Axes]:
    """Whole heads go; the size of a head stays, since attention divides by its root."""
    layer = scope.layer
    bound = {**dict(zip(("query", "value", "key"), scope.args, strict=False)), **scope.kwargs}
    query, value = bound["query"], bound["value"]
    key = value if bound.get("key") is None else bound["key"]
    for tensor in scope.tensors:
        last = any(tensor is each for each in (query, value, key))
        for labels in tensor.axes[: len(tensor.axes) - last]:
            scope.fix(labels, "works across them")
    gates = {"_gate_dense": query} if layer.get_config().get("use_gate") else {}
    heads = scope.weight("query_dense/kernel", 1, MAKES, layer.key_dim)
    for name, tensor in {"query_dense": query, "key_dense": key, "value_dense": value, **gates}.items():
        scope.reads(f"{name}/kernel", 0, tensor.axes[-1])
        scope.channels.join(scope.weight(f"{name}/kernel", 1, MAKES, layer.key_dim), heads, scope.who)
        scope.carries(f"{name}/bias", 0, heads)
    scope.reads("output_dense/kernel", 0, heads)
    rank = len(query.axes)
    if len(layer.output_dense.kernel.shape) != 3:
        raise NotFollowed("its output has several axes of channels")
    made = scope.weight("output_dense/kernel", -1, MAKES)
    scope.carries("output_dense/bias", -1, made)
    if len(scope.shapes) == 1:
        return at(rank, -1, made)
    scope.fix(heads, "gives its scores of each of them")
    return [at(rank, -1, made), (None,) * len(scope.shapes[1])]


def attention_config(_: Layer, shape: NewShape) -> dict[str, Any]:
    """Heads, and the size of the output."""
    return {"num_heads": shape("query_dense/kernel")[1], "output_shape": (shape("output_dense/kernel")[-1],)}


def recurrent(gates: int) -> Callable[[Scope], Axes | list[Axes]]:
    """A recurrent layer: its units are the rows of the recurrent kernel, and of each gate's columns."""

    def follow_call(scope: Scope) -> Axes | list[Axes]:
        layer, x = scope.layer, scope.x
        if layer.stateful:
            raise NotFollowed("it is stateful")
        if not all(id(f) in ELEMENTWISE for f in (layer.activation, getattr(layer, "recurrent_activation", None)) if f):
            raise NotFollowed("its activation is not known to work on each value by itself")
        scope.reads("cell/kernel", 0, scope.alone(x, -1))
        units = scope.weight("cell/recurrent_kernel", 0, MAKES)
        for name in ("cell/kernel", "cell/recurrent_kernel"):
            scope.channels.join(scope.weight(name, 1, MAKES), np.tile(units, gates), scope.who)
        scope.carries("cell/bias", -1, np.tile(units, gates))
        return [at(len(shape), -1, units) for shape in scope.shapes]

    return follow_call


def recurrent_config(_: Layer, shape: NewShape) -> dict[str, Any]:
    """The units that are left."""
    return {"units": shape("cell/recurrent_kernel")[0]}


def batchnorm(scope: Scope) -> Axes:
    """Carries the channels of its axis."""
    axis = scope.layer.axis if isinstance(scope.layer.axis, int) else scope.layer.axis[0]
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        scope.carries(name, 0, scope.x.axes[axis])
    return scope.x.axes


def layernorm(scope: Scope) -> Axes:
    """Its mean and variance change with what they are taken over, so the channels stay unless that is wanted."""
    x, axis = scope.x, scope.layer.axis
    places = [axis] if isinstance(axis, int) else list(axis)
    for place, labels in enumerate(x.axes):
        if place not in [p % len(x.axes) for p in places]:
            continue
        if not scope.layer_norms or len(places) > 1 or scope.layer.rms_scaling:
            scope.fix(labels, "averages over them")
    for name in ("gamma", "beta"):
        for order, place in enumerate(places):
            scope.carries(name, order, x.axes[place])
    return scope.sized(x.axes) if scope.layer_norms and len(places) == 1 else x.axes


def groupnorm(scope: Scope) -> Axes:
    """Whole groups go: each has statistics of its own."""
    labels = scope.alone(scope.x, scope.layer.axis)
    axes = at(len(scope.x.axes), scope.layer.axis, labels)
    if labels is not None:
        scope.channels.tie(labels.reshape(scope.layer.groups, -1).T)
        axes = scope.sized(axes)
    for name in ("gamma", "beta"):
        scope.carries(name, 0, labels)
    return axes


def groupnorm_config(layer: Layer, shape: NewShape) -> dict[str, Any]:
    """The groups that are left."""
    # As a layer's output has its input's shape, the number of channels before is that of its input spec.
    before = layer.input_spec.axes[layer.axis]
    return {"groups": shape(OUTPUT)[layer.axis] * layer.groups // before}


def layer_scale(scope: Scope) -> Axes:
    """Carries the channels."""
    scope.carries("gamma", 0, scope.x.axes[-1])
    return scope.x.axes


def prelu(scope: Scope) -> Axes:
    """Carries the axes that it has a slope for."""
    alpha = scope.layer.alpha
    for place, size in enumerate(alpha.shape):
        if size > 1:
            scope.carries("alpha", place, scope.x.axes[place + 1])
    return scope.x.axes

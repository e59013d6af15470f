"""Fold each BatchNormalization into the linear layer before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from kompakt.axes import along
from kompakt.copies import copy_layer
from kompakt.graph import Call, Copier, batchnorm_gain, call_counts, calls, rebuild, users
from kompakt.sites import TABLE

LINEAR = (
    layers.Dense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
)
"""Layers of one kernel whose bias is one value an output channel."""

FOLDABLE = (*LINEAR, layers.SeparableConv1D, layers.SeparableConv2D)
"""Layers that are linear up to the bias, with one output channel a bias value."""


@dataclass(frozen=True, kw_only=True)
class Folded:
    """A BatchNormalization that went into the layer before it."""

    layer: str
    batchnorm: str


def fold_batchnorm(model: keras.Model) -> tuple[keras.Model, tuple[Folded, ...]]:
    r"""Fold :math:`y = \gamma (Wx + b - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta` into one linear layer.

    .. math:: W' = W \cdot g, \quad b' = (b - \mu) g + \beta, \quad g = \gamma / \sqrt{\sigma^2 + \epsilon}

    Jacob et al. 2018, arXiv:1712.05877, section 3.2, equation (14). A BatchNormalization is folded where its
    input is the one use of one call of a linear layer without activation; any other is left as it is.

    Args:
        model: flat and functional (see :func:`kompakt.rewrite.inline.inline`).

    Returns:
        (a new model, what was folded). The folded layer keeps its name and gets a bias.

    Example:
        >>> i = keras.Input((8, 8, 3))
        >>> c = keras.layers.Conv2D(4, 3, name="c", use_bias=False)(i)
        >>> m = keras.Model(i, keras.layers.BatchNormalization(name="b")(c))
        >>> fold_batchnorm(m)[1]
        (Folded(layer='c', batchnorm='b'),)
    """
    pairs = _pairs(model)
    by_linear = {id(linear): norm for linear, norm in pairs}
    norms = {id(norm) for _, norm in pairs}

    def make(layer: Any) -> Any:
        norm = by_linear.get(id(layer))
        return copy_layer(layer) if norm is None else _fold(layer, norm)

    copier = Copier(make)

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[0] if id(call.layer) in norms else copier(call.layer)(*args, **kwargs)

    folded = tuple(Folded(layer=linear.name, batchnorm=norm.name) for linear, norm in pairs)
    return rebuild(model, visit), folded


def _pairs(model: keras.Model) -> list[tuple[Any, Any]]:
    readers, count = users(model), call_counts(model)
    pairs = []
    for call in calls(model):
        if not _linear(call.layer) or count[id(call.layer)] > 1:
            continue
        after = readers[id(call.outputs[0])]
        if len(after) != 1 or after[0] is None:
            continue
        norm = after[0].layer
        if _foldable_norm(norm, call.outputs[0]) and count[id(norm)] == 1:
            pairs.append((call.layer, norm))
    return pairs


def _linear(layer: Any) -> bool:
    activation = getattr(layer, "activation", None)
    last = getattr(layer, "data_format", "channels_last") == "channels_last"
    return isinstance(layer, FOLDABLE) and last and activation in (None, keras.activations.linear)


def _foldable_norm(norm: Any, tensor: Any) -> bool:
    if not isinstance(norm, layers.BatchNormalization):
        return False
    rank = len(tensor.shape)
    axis = norm.axis if isinstance(norm.axis, int) else norm.axis[0]
    return axis % rank == rank - 1 and keras.config.image_data_format() == "channels_last"


def _fold(layer: Any, norm: Any) -> Any:
    factor, offset = batchnorm_gain(norm)
    config = {**layer.get_config(), "use_bias": True}
    folded = layer.__class__.from_config(config)
    folded.build(layer._build_shapes_dict["input_shape"])
    slot = list(next(row for kind, row in TABLE.items() if isinstance(layer, kind)))
    values = {name: ops.convert_to_numpy(getattr(layer, name)) for name in slot}
    last = slot[-1]
    axis = TABLE[next(kind for kind in TABLE if isinstance(layer, kind))][last](layer)
    values[last] = values[last] * along(factor, values[last].shape, axis)
    for name, value in values.items():
        getattr(folded, name).assign(value)
    bias = ops.convert_to_numpy(layer.bias) if layer.use_bias else 0.0
    folded.bias.assign(bias * factor + offset)
    return folded

"""What a model costs before it is deployed: parameters, multiply-accumulates, float bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from kompakt.graph import as_functional, calls
from kompakt.sites import is_graph, weight_slots

Layer = Any
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """Cost of one call of one layer, for one sample.

    Attributes:
        parameters: values in its weights. macs: multiply-accumulates, or None where no rule is known.
    """

    layer: str
    kind: str
    parameters: int
    macs: int | None


Sizes = Callable[[Any], Shape]
"""Variable -> its shape, or the one that it would have."""

Inputs = Sequence[Shape]


def _each_output(layer: Layer, size: Sizes, _: Inputs, output: Shape) -> int:
    """Every output value is a sum over one filter."""
    return math.prod(output) // layer.kernel.shape[-1] * math.prod(size(layer.kernel))


def _each_input(layer: Layer, size: Sizes, inputs: Inputs, _: Shape) -> int:
    """Every input value is spread over one filter (transposed convolution)."""
    return math.prod(inputs[0]) // layer.kernel.shape[-1] * math.prod(size(layer.kernel))


def _depthwise(layer: Layer, size: Sizes, _: Inputs, output: Shape) -> int:
    return math.prod(output) // math.prod(layer.kernel.shape[-2:]) * math.prod(size(layer.kernel))


def _separable(layer: Layer, size: Sizes, _: Inputs, output: Shape) -> int:
    kernels = math.prod(size(layer.depthwise_kernel)) + math.prod(size(layer.pointwise_kernel))
    return math.prod(output) // layer.pointwise_kernel.shape[-1] * kernels


def _einsum(layer: Layer, size: Sizes, inputs: Inputs, _: Shape) -> int:
    free = [n for i, n in enumerate(layer.kernel.shape) if i - len(layer.kernel.shape) in _kernel_only(layer)]
    return math.prod(inputs[0]) * math.prod(free) * math.prod(size(layer.kernel)) // math.prod(layer.kernel.shape)


def _kernel_only(layer: Layer) -> tuple[int, ...]:
    return next(axis for _, _, axis in weight_slots(layer).values())


def _attention(layer: Layer, size: Sizes, inputs: Inputs, _: Shape) -> int:
    """The four projections, and for each head every query with every key and the values that it weighs."""
    at, to = inputs[0][:-1], inputs[min(1, len(inputs) - 1)][:-1]
    queries, keys = math.prod(at), math.prod(to)
    over = {axis - 1 for axis in layer._attention_axes or range(1, len(at) + 1)}  # of the others each place by itself
    pairs = queries * math.prod(n for axis, n in enumerate(to) if axis in over)
    query, value = size(layer.query_dense.kernel), size(layer.value_dense.kernel)
    at_queries = math.prod(query) + math.prod(size(layer.output_dense.kernel))
    at_keys = math.prod(size(layer.key_dense.kernel)) + math.prod(value)
    return queries * at_queries + keys * at_keys + pairs * query[1] * (query[2] + value[2])


def _dot_attention(_: Layer, __: Sizes, inputs: Inputs, ___: Shape) -> int:
    """Every query with every key, and the values that it weighs."""
    query, value, key = inputs[0], inputs[1], inputs[min(2, len(inputs) - 1)]
    return math.prod(query[:-1]) * math.prod(key[len(query) - 2 : -1]) * (query[-1] + value[-1])


def _matrix_product(_: Layer, __: Sizes, inputs: Inputs, output: Shape) -> int:
    """Every output value is a sum over the last axis of the first factor."""
    return math.prod(output) * inputs[0][-1]


def _recurrent(layer: Layer, size: Sizes, inputs: Inputs, _: Shape) -> int | None:
    """Each step takes the inputs and the states into all gates."""
    step = _cell(layer.cell, size)
    return None if step is None else inputs[0][0] * step


def _cell(cell: Layer, size: Sizes) -> int | None:
    """Multiply-accumulates of one step; None for a cell that is not known."""
    if isinstance(cell, layers.StackedRNNCells):
        steps = [_cell(each, size) for each in cell.cells]
        return None if None in steps else sum(step for step in steps if step is not None)
    if not isinstance(cell, CELLS):
        return None
    return math.prod(size(cell.kernel)) + math.prod(size(cell.recurrent_kernel))


CELLS = (layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell)


def _both_ways(layer: Layer, size: Sizes, inputs: Inputs, output: Shape) -> int | None:
    ways = [_recurrent(each, size, inputs, output) for each in (layer.forward_layer, layer.backward_layer)]
    return None if None in ways else sum(way for way in ways if way is not None)


RULES: dict[type, Callable[[Layer, Sizes, Inputs, Shape], int | None]] = {
    layers.Dense: _each_output,
    layers.EinsumDense: _einsum,
    layers.Conv1D: _each_output,
    layers.Conv2D: _each_output,
    layers.Conv3D: _each_output,
    layers.Conv1DTranspose: _each_input,
    layers.Conv2DTranspose: _each_input,
    layers.Conv3DTranspose: _each_input,
    layers.DepthwiseConv1D: _depthwise,
    layers.DepthwiseConv2D: _depthwise,
    layers.SeparableConv1D: _separable,
    layers.SeparableConv2D: _separable,
    layers.MultiHeadAttention: _attention,
    layers.Attention: _dot_attention,
    keras.src.ops.numpy.Matmul: _matrix_product,
    layers.SimpleRNN: _recurrent,
    layers.LSTM: _recurrent,
    layers.GRU: _recurrent,
    layers.RNN: _recurrent,
    layers.Bidirectional: _both_ways,
}
"""Layer type -> (layer, shapes of its weights, shapes of its inputs, of its output), all without the batch ->
multiply-accumulates a sample. The shapes of inputs and output are those of the layer as it is: a rule takes from them
how often a weight is used, and the number of weights from the second argument.
"""

MULTIPLY = (
    layers.Attention,
    layers.AdditiveAttention,
    layers.Dot,
    keras.src.ops.numpy.Matmul,
    keras.src.ops.numpy.Einsum,
    keras.src.ops.numpy.Tensordot,
    keras.src.ops.numpy.Dot,
)
"""What multiplies without weights of its own: it has a row too, with None where there is no rule."""

LEAST_INPUTS = {layers.Attention: 2, keras.src.ops.numpy.Matmul: 2}
"""Inputs without which a rule knows too little: the other factor is a constant."""

FREE = (
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.GroupNormalization,
    layers.RMSNormalization,
    layers.Normalization,
    layers.PReLU,
    layers.Embedding,
)
"""Layers with weights that count as none: folded into another, a few operations a value, or a look-up."""


def layer_costs(model: keras.Model, shapes: Mapping[int, Shape] | None = None) -> tuple[LayerCost, ...]:
    """One row for each call of a layer that has parameters, nested models entered.

    ``macs`` is None where the kind has no rule: a total over such a model is a lower bound.

    Args:
        shapes: id of a variable -> a shape that it has not got yet: what the layers would cost if it had.

    Raises:
        InputError: the model has no weights yet, or is subclassed and cannot be followed.

    Example:
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> layer_costs(m)
        (LayerCost(layer='d', kind='Dense', parameters=10, macs=8),)
    """
    rows: list[LayerCost] = []
    new = shapes or {}

    def size(variable: Any) -> Shape:
        return new.get(id(variable)) or tuple(variable.shape)

    def walk(inner: keras.Model, prefix: str) -> None:
        for call in calls(as_functional(inner)):
            if is_graph(call.layer):
                walk(call.layer, f"{prefix}{call.layer.name}/")
            elif getattr(_inside(call.layer), "weights", None) or isinstance(call.layer, MULTIPLY):
                rows.append(_row(call, prefix, size))

    walk(model, "")
    return tuple(rows)


def _inside(layer: Layer) -> Layer:
    return getattr(layer, "transformed_layer", layer)


def _row(call: Any, prefix: str, size: Sizes) -> LayerCost:
    layer = _inside(call.layer)
    rule = next((r for kind, r in RULES.items() if isinstance(layer, kind)), None)
    inputs, output = [tensor.shape[1:] for tensor in call.inputs], call.outputs[0].shape[1:]
    known = None not in [n for shape in inputs for n in shape]
    known = known and len(inputs) >= LEAST_INPUTS.get(type(layer), 1)
    macs = rule(layer, size, inputs, output) if rule and known else (0 if isinstance(layer, FREE) else None)
    return LayerCost(
        layer=prefix + layer.name,
        kind=type(layer).__name__,
        parameters=sum(math.prod(size(v)) for v in getattr(layer, "weights", ())),
        macs=macs,
    )

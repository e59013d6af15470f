"""What a model costs before it is deployed: parameters, multiply-accumulates, float bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
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


def _each_output(layer: Layer, _: Shape, output: Shape) -> int:
    """Every output value is a sum over one filter."""
    kernel = layer.kernel.shape
    return math.prod(output) * math.prod(kernel[:-1])


def _each_input(layer: Layer, given: Shape, _: Shape) -> int:
    """Every input value is spread over one filter (transposed convolution)."""
    kernel = layer.kernel.shape
    return math.prod(given) * math.prod(kernel[:-1])


def _depthwise(layer: Layer, _: Shape, output: Shape) -> int:
    return math.prod(output) * math.prod(layer.kernel.shape[:-2])


def _separable(layer: Layer, _: Shape, output: Shape) -> int:
    pixels = math.prod(output[:-1])
    depth = math.prod(layer.depthwise_kernel.shape)
    return pixels * (depth + math.prod(layer.pointwise_kernel.shape))


def _einsum(layer: Layer, given: Shape, _: Shape) -> int:
    free = [n for i, n in enumerate(layer.kernel.shape) if i - len(layer.kernel.shape) in _kernel_only(layer)]
    return math.prod(given) * math.prod(free)


def _kernel_only(layer: Layer) -> tuple[int, ...]:
    return next(axis for _, _, axis in weight_slots(layer).values())


RULES: dict[type, Callable[[Layer, Shape, Shape], int]] = {
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
}
"""Layer type -> (layer, input shape, output shape), both without the batch -> multiply-accumulates a sample."""


def layer_costs(model: keras.Model) -> tuple[LayerCost, ...]:
    """One row for each call of a layer that has parameters, nested models entered.

    ``macs`` is None where the kind has no rule: a total over such a model is a lower bound.

    Raises:
        InputError: the model has no weights yet, or is subclassed and cannot be followed.

    Example:
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> layer_costs(m)
        (LayerCost(layer='d', kind='Dense', parameters=10, macs=8),)
    """
    rows: list[LayerCost] = []

    def walk(inner: keras.Model, prefix: str) -> None:
        for call in calls(as_functional(inner)):
            if is_graph(call.layer):
                walk(call.layer, f"{prefix}{call.layer.name}/")
            elif getattr(_inside(call.layer), "weights", None):
                rows.append(_row(call, prefix))

    walk(model, "")
    return tuple(rows)


def _inside(layer: Layer) -> Layer:
    return getattr(layer, "transformed_layer", layer)


def _row(call: Any, prefix: str) -> LayerCost:
    layer = _inside(call.layer)
    rule = next((r for kind, r in RULES.items() if isinstance(layer, kind)), None)
    given, output = call.inputs[0].shape[1:], call.outputs[0].shape[1:]
    free = isinstance(layer, (layers.BatchNormalization, layers.Embedding))  # folded, or a look-up
    macs = rule(layer, given, output) if rule and None not in given else (0 if free else None)
    return LayerCost(
        layer=prefix + layer.name,
        kind=type(layer).__name__,
        parameters=sum(math.prod(v.shape) for v in layer.weights),
        macs=macs,
    )

"""The integer file, in Keras: an attached model computing as the runtime's integer kernels do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kompakt.attach import Transformed
from kompakt.copies import copy_layer
from kompakt.graph import map_layers
from kompakt.inference import infer
from kompakt.integer_functions import wide_function
from kompakt.integer_layers import (
    EnterWide,
    IntegerAdd,
    IntegerAverage,
    IntegerLayer,
    IntegerLeaky,
    IntegerMean,
    IntegerMerge,
    IntegerProduct,
    Requantize,
)
from kompakt.numerics import WIDE, fake_quantize, scale_from_range
from kompakt.placement import AVERAGES, SAME_GRID, input_grids, is_marker, output_grids
from kompakt.records import Encoding
from kompakt.rewrite.elementwise import Mean
from kompakt.rewrite.matrix_product import MatMul
from kompakt.sites import BOTH, OUTPUT
from kompakt.targets.quiet import quiet

LINEAR = (
    layers.Dense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv2DTranspose,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
)
"""Layers that the runtime computes in 32-bit integers and requantizes with one multiplier a channel."""


MEANS = (layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D, Mean)

SUMS: dict[type, float] = {layers.Add: 1.0, layers.Subtract: -1.0}
"""Layer of two tensors -> the sign of the second."""

PRODUCTS = (layers.Multiply, MatMul)
WIDE_PRODUCTS = (layers.Multiply,)
"""Layers of two tensors whose products of 8-bit integers are known, and of 16-bit ones."""


class DynamicLayer(layers.Layer):  # type: ignore[misc]
    r"""A linear layer with int8 weights whose input is put on a grid of its own, sample by sample, at run time.

    .. math:: s = (\max(x, 0) - \min(x, 0)) / 255, \quad y = W s (round(x / s + z) - z) + b
    """

    def __init__(self, layer: Any) -> None:
        super().__init__(name=layer.name, dtype="float32")
        self.linear = copy_layer(layer)
        self.by_row = isinstance(layer, layers.Dense) or _is_pointwise(layer)

    def call(self, x: Any) -> Any:
        axes = (-1,) if self.by_row else tuple(range(1, len(x.shape)))
        low = ops.minimum(ops.min(x, axis=axes, keepdims=True), 0.0)
        high = ops.maximum(ops.max(x, axis=axes, keepdims=True), 0.0)
        step, zero = scale_from_range(low, high, 8, symmetric=False)
        return self.linear(fake_quantize(x, step, zero, 8, symmetric=False))

    def compute_output_shape(self, shape: Any) -> Any:
        return self.linear.compute_output_shape(shape)


def simulation(
    model: keras.Model, plain: keras.Model, encodings: Mapping[str, Encoding], *, twice: bool = False
) -> keras.Model:
    """A copy of an attached ``model`` in which linear layers compute in integers, as the file does.

    Args:
        model: from ``quantize``. plain, encodings: from ``finalize(model)``.
        twice: round as TFLite's reference kernels and those of TensorFlow Lite Micro do, rather than XNNPACK's.
    """
    given, result = input_grids(model), output_grids(model)

    def grid(site: str | None) -> Encoding | None:
        found = encodings.get(site or "")
        return found if found is not None and found.scale else None

    def make(layer: Any) -> Any:
        inner = getattr(layer, "transformed_layer", layer)
        kernel, after = encodings.get(f"{layer.name}/kernel"), grid(result.get(layer.name))
        before = [grid(site) for site in given.get(layer.name, ())]
        if isinstance(inner, AVERAGES) and before and before[0] is not None:
            return IntegerAverage(inner, before[0])
        both = grid(f"{layer.name}/{BOTH}")
        if isinstance(inner, SAME_GRID) and both is not None:
            return IntegerMerge(inner, before, both, twice=twice)
        integer = _integer(layer.name, inner, before, after, kernel, plain, twice)
        if integer is None:
            return copy_layer(layer)
        chain = getattr(layer, "chains", {}).get(OUTPUT)
        return integer if chain is None else Transformed(integer, {OUTPUT: copy_layer(chain)})

    return map_layers(model, make)


def _integer(
    name: str,
    inner: Any,
    before: Sequence[Encoding | None],
    after: Encoding | None,
    kernel: Encoding | None,
    plain: keras.Model,
    twice: bool,
) -> Any:
    """A layer that computes as the integer kernel does; None where fake quantization is all that is known of it."""
    known = [each for each in before if each is not None]
    if is_marker(inner) and after is not None and after.bits == WIDE and not known:
        return EnterWide(inner, after)
    if after is None or not known or len(known) < len(before):
        return None
    if isinstance(inner, LINEAR) and kernel is not None and kernel.scale:
        return IntegerLayer(plain.get_layer(name), kernel, known[0], after, twice=twice)
    if isinstance(inner, layers.LeakyReLU):
        return IntegerLeaky(inner, known[0], after, twice=twice)
    if is_marker(inner):
        return Requantize(inner, known[0], after)
    if isinstance(inner, MEANS):
        return IntegerMean(inner, known[0], after, twice=twice)
    if type(inner) in SUMS and len(known) == 2:
        return IntegerAdd(name, (known[0], known[1]), after, sign=SUMS[type(inner)], twice=twice)
    return _product_or_function(inner, known, after, twice)


def _product_or_function(inner: Any, known: Sequence[Encoding], after: Encoding, twice: bool) -> Any:
    """What of 8 bits is known of products, and of 16 bits of products and functions."""
    wide = after.bits == WIDE
    if len(known) == 2 and type(inner) in (WIDE_PRODUCTS if wide else PRODUCTS):
        return IntegerProduct(inner, (known[0], known[1]), after, twice=twice)
    return wide_function(inner, known[0], after) if wide else None


def _is_pointwise(layer: Any) -> bool:
    """Whether a convolution is a matrix product of its own for each pixel."""
    kinds = (layers.Conv1D, layers.Conv2D)
    return isinstance(layer, kinds) and {*layer.kernel_size, *layer.strides, layer.groups} == {1}


def dynamic_simulation(model: keras.Model) -> keras.Model:
    """A copy of a plain ``model`` that puts the inputs of linear layers on grids, as a dynamic_int8 file does."""

    def make(layer: Any) -> Any:
        return DynamicLayer(layer) if isinstance(layer, LINEAR) else copy_layer(layer)

    return map_layers(model, make)


def simulate(model: keras.Model, inputs: Any, batch_size: int = 256) -> list[np.ndarray]:
    """Outputs of a Keras model at inference, one float array an output."""
    with quiet():  # TensorFlow warns of models that come one after the other
        return infer(model, inputs, batch_size)


def at_sites(model: keras.Model, sites: Sequence[str]) -> keras.Model:
    """The functional ``model`` with what the layer of each site makes as its outputs."""
    return keras.Model(model.inputs, [model.get_layer(site.rsplit("/", 1)[0]).output for site in sites])

"""Bias correction: what rounding the weights does to the mean of each channel, taken back in the bias."""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np

from kompakt.copies import copy_layer
from kompakt.gauges import settled
from kompakt.graph import map_layers
from kompakt.repairs.walk import (
    CALLED_AGAIN,
    Given,
    Visit,
    bare,
    check_attached,
    layer_by_layer,
    with_layer,
    without_grids,
)
from kompakt.rewrite.fold_batchnorm import LINEAR
from kompakt.transforms.quantize import FakeQuant

log = logging.getLogger("kompakt")

LEFT = "%s: bias correction left it as it is (%s has no bias of one value an output channel)"
"""What is said of other layers with a weight on a grid."""


def correct_bias(model: keras.Model, data: Any, *, reference: keras.Model | None = None) -> keras.Model:
    r"""A copy of a quantized ``model`` whose biases take back the mean error of each output channel.

    .. math:: b' = b + E[W x + b] - E[\tilde{W} \tilde{x} + b]

    before the activation, layer after layer: :math:`\tilde{x}` is what the corrected layers before it make. Nagel
    et al. 2019, arXiv:1906.04721, section 4.2, with the means measured on ``data`` (appendix D). Where activations
    have ranges already, their rounding is corrected too. Linear layers that have no bias get one;
    other layers are left, and named in the log.

    Args:
        model: from ``kompakt.quantize`` or :func:`kompakt.attach`; not changed.
        data: some hundred samples of real input (arrays), or an iterable of batches.
        reference: the model to agree with, of the same layers; by default ``model`` without its grids.

    Raises:
        InputError: a model without grids, a reference with other layers, or bad data.

    Example:
        >>> from kompakt.attach import attach
        >>> from kompakt.transforms.quantize import FakeQuant
        >>> m = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="d")])
        >>> m.get_layer("d").set_weights([np.array([[3.0], [0.4]]), np.zeros(1)])
        >>> q = attach(m, {"d/kernel": [FakeQuant(3)]})  # the grid -3, -2 .. 3: 0.4 becomes 0
        >>> mended = correct_bias(q, np.array([[0.0, 1.0], [0.0, 2.0]], "float32"))
        >>> round(float(mended.layers[0].transformed_layer.bias[0]), 4)  # 0.4 times the mean 1.5
        0.6
    """
    check_attached(model, "correct_bias")
    model = settled(model)
    float_model = without_grids(model) if reference is None else reference
    copy = map_layers(model, _with_bias)

    def visit(at: Visit) -> None:
        inner = getattr(at.layer, "transformed_layer", None)
        if inner is None or not _on_grid(at.layer):
            return
        if not isinstance(inner, LINEAR):
            log.warning(LEFT, at.name, type(inner).__name__)
            return
        if not at.alone:
            log.warning(CALLED_AGAIN, at.name, "bias correction")
            return
        before = _mean(bare(at.reference), at.expected_given, at.reference)
        after = _mean(with_layer(at.layer, bare(inner), ("kernel",)), at.given, inner)
        inner.bias.assign(np.asarray(keras.ops.convert_to_numpy(inner.bias), "float64") + before - after)

    layer_by_layer(copy, data, visit, reference=float_model)
    return copy


def _on_grid(layer: Any) -> bool:
    """Whether a weight of the Transformed ``layer`` is on a grid."""
    return any(isinstance(t, FakeQuant) and t.on_weights for chain in layer.chains.values() for t in chain)


def _with_bias(layer: Any) -> Any:
    inner = getattr(layer, "transformed_layer", layer)
    if inner is layer or not isinstance(inner, LINEAR) or inner.use_bias:
        return copy_layer(layer)
    biased = inner.__class__.from_config({**inner.get_config(), "use_bias": True})
    biased.build(inner._build_shapes_dict["input_shape"])
    biased.kernel.assign(np.array(keras.ops.convert_to_numpy(inner.kernel)))
    return with_layer(layer, biased)


def _mean(layer: Any, given: Given, kind: Any) -> np.ndarray:
    """Mean of each output channel of ``layer``, (channels,) float64."""
    total, count = 0.0, 0
    first = getattr(kind, "data_format", "channels_last") == "channels_first"
    for args, kwargs in given:
        y = np.asarray(keras.ops.convert_to_numpy(layer(*args, **kwargs)), "float64")
        kept = 1 if first else y.ndim - 1
        total = total + y.sum(axis=tuple(a for a in range(y.ndim) if a != kept))
        count += y.size // y.shape[kept]
    return np.asarray(total) / count

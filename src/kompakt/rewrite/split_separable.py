"""Separable convolutions become the two convolutions they are, which is what files hold."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from kompakt.copies import copy_layer
from kompakt.graph import Call, Copier, Names, rebuild

PARTS = {
    layers.SeparableConv1D: (layers.DepthwiseConv1D, layers.Conv1D),
    layers.SeparableConv2D: (layers.DepthwiseConv2D, layers.Conv2D),
}


def split_separable(model: keras.Model) -> tuple[keras.Model, dict[str, str]]:
    """``SeparableConv2D`` becomes ``DepthwiseConv2D`` and a 1x1 ``Conv2D``; the same function.

    The second keeps the layer's name, the first is called ``<name>_depthwise``.

    Returns:
        (a new model, {site of ``model``: its name in the new one} for the sites that moved).

    Example:
        >>> i = keras.Input((8, 8, 3))
        >>> m = keras.Model(i, keras.layers.SeparableConv2D(4, 3, name="s")(i))
        >>> split_separable(m)[1]
        {'s/depthwise_kernel': 's_depthwise/kernel', 's/pointwise_kernel': 's/kernel'}
    """
    names = Names(model)
    moved: dict[str, str] = {}
    pairs: dict[str, tuple[Any, Any]] = {}

    def make(layer: Any) -> Any:
        kinds = next((two for kind, two in PARTS.items() if isinstance(layer, kind)), None)
        if kinds is None:
            return copy_layer(layer)
        depthwise, pointwise = _parts(layer, kinds, names.free(f"{layer.name}_depthwise"))
        pairs[layer.name] = (depthwise, pointwise)
        moved[f"{layer.name}/depthwise_kernel"] = f"{depthwise.name}/kernel"
        moved[f"{layer.name}/pointwise_kernel"] = f"{pointwise.name}/kernel"
        return pointwise

    copier = Copier(make)

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer = copier(call.layer)
        if call.layer.name not in pairs:
            return layer(*args, **kwargs)
        depthwise, pointwise = pairs[call.layer.name]
        return pointwise(depthwise(args[0]))

    return rebuild(model, visit), moved


def _parts(layer: Any, kinds: tuple[Any, Any], name: str) -> tuple[Any, Any]:
    """The two convolutions of ``layer``, with its weights."""
    shared = {"trainable": layer.trainable, "dtype": layer.dtype_policy, "data_format": layer.data_format}
    depthwise = kinds[0](
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.depth_multiplier,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        name=name,
        **shared,
    )
    pointwise = kinds[1](
        layer.filters, 1, use_bias=layer.use_bias, activation=layer.activation, name=layer.name, **shared
    )
    shape = layer._build_shapes_dict["input_shape"]
    depthwise.build(shape)
    pointwise.build(depthwise.compute_output_shape(shape))
    depthwise.kernel.assign(ops.convert_to_numpy(layer.depthwise_kernel))
    pointwise.kernel.assign(ops.convert_to_numpy(layer.pointwise_kernel))
    if layer.use_bias:
        pointwise.bias.assign(ops.convert_to_numpy(layer.bias))
    return depthwise, pointwise

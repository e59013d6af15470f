"""Policies: which weights are worth pruning for one runtime, and whether it can gain from them at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from kompakt.errors import InputError
from kompakt.graph import Call, as_functional, calls, users

Layer = Any
Check = Callable[[Call, Any], bool]
"""``check(call, call before or None)``: whether a sparse kernel of the runtime can take this call."""

ACTIVATIONS = ("linear", "relu", "relu6", "elu", "leaky_relu", "sigmoid", "hard_silu")
"""Activations that XNNPACK's sparse inference takes."""


def _activation(layer: Layer) -> bool:
    function = getattr(layer, "activation", None)
    return function is None or keras.activations.serialize(function) in ACTIVATIONS


def _symmetric(call: Call, before: Any) -> bool:
    """Padding of half the kernel on every side: by ZeroPadding2D, or by "same" where that comes to it."""
    layer = call.layer
    half = layer.kernel_size[0] // 2
    if layer.padding == "valid":
        pads = isinstance(getattr(before, "layer", None), layers.ZeroPadding2D)
        return pads and before.layer.padding == ((half, half), (half, half))
    sizes = call.inputs[0].shape[1:3]
    return layer.strides == (1, 1) or all(n is not None and n % 2 == 1 for n in sizes)


def _starts(call: Call, before: Any) -> bool:
    layer = call.layer
    if not isinstance(layer, layers.Conv2D) or isinstance(layer, layers.DepthwiseConv2D):
        return False
    form = (layer.kernel_size, layer.strides, layer.dilation_rate, call.inputs[0].shape[-1])
    return form == ((3, 3), (2, 2), (1, 1), 3) and _symmetric(call, before) and _activation(layer)


def _pointwise(call: Call, _: Any = None) -> bool:
    layer = call.layer
    form = (layer.kernel_size, layer.strides, layer.groups)
    return form == ((1, 1), (1, 1), 1) and _activation(layer)


def _depthwise(call: Call, before: Any) -> bool:
    layer = call.layer
    form = layer.kernel_size in ((3, 3), (5, 5)) and layer.strides in ((1, 1), (2, 2))
    plain = layer.dilation_rate in (1, (1, 1)) and layer.depth_multiplier == 1
    return form and plain and _symmetric(call, before) and _activation(layer)


def _relu(call: Call, _: Any) -> bool:
    layer = call.layer
    return layer.max_value in (None, 6.0) and not layer.negative_slope and not layer.threshold


def _yes(_: Call, __: Any) -> bool:
    return True


RUNS: dict[type, Check] = {
    layers.DepthwiseConv2D: _depthwise,
    layers.Conv2D: _pointwise,
    layers.BatchNormalization: _yes,
    layers.Dropout: _yes,
    layers.SpatialDropout2D: _yes,
    layers.ZeroPadding2D: _yes,
    layers.ReLU: _relu,
    layers.LeakyReLU: _yes,
    layers.ELU: _yes,
    layers.Activation: lambda call, _: _activation(call.layer),
    layers.Add: _yes,
    layers.Multiply: _yes,
}
"""Layer type -> whether a sparse subgraph may hold a call of it."""


def xnnpack(model: keras.Model) -> list[str]:
    """The kernels of the 1x1 convolutions that XNNPACK can run sparse.

    Sparse inference runs a float subgraph that starts with a 3x3 convolution of stride 2 on 3 channels, padded by
    1 on every side, holds 1x1 and depthwise convolutions and elementwise operators alone, and ends with global
    average pooling; two thirds of its 1x1 weights must be zero, stored sparse (Elsen et al. 2019, "Fast Sparse
    ConvNets", arXiv:1911.09723; TensorFlow Lite's XNNPACK README, "Sparse Inference"). On x86 with AVX XNNPACK
    keeps to dense kernels: only Arm and WebAssembly gain.

    Args:
        model: functional or sequential.

    Returns:
        Site names, in the order of the graph.

    Raises:
        InputError: the model has no such subgraph; the text says what is in the way.

    Example:
        >>> i = keras.Input((33, 33, 3))
        >>> x = layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(i)
        >>> x = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 1, name="point")(x))
        >>> xnnpack(keras.Model(i, layers.Dense(2)(x)))
        ['point/kernel']
    """
    flat = as_functional(model)
    made = {id(tensor): call for call in calls(flat) for tensor in call.outputs}
    readers = users(flat)
    start = next((call for call in calls(flat) if _starts(call, _before(call, made))), None)
    if start is None:
        raise _refusal("it has no 3x3 convolution of stride 2 on 3 channels, padded by 1 on every side, to start from")
    found: dict[str, None] = {}
    seen: set[int] = set()
    ahead = list(readers[id(start.outputs[0])])
    while ahead:
        call = ahead.pop(0)
        if call is None:
            raise _refusal("it ends without the global average pooling that a sparse subgraph ends with")
        if isinstance(call.layer, layers.GlobalAveragePooling2D) or id(call.node) in seen:
            continue
        seen.add(id(call.node))
        check = next((rule for kind, rule in RUNS.items() if isinstance(call.layer, kind)), None)
        if check is None or not check(call, _before(call, made)):
            raise _refusal(f"no sparse kernel for the layer {call.layer.name!r} ({type(call.layer).__name__})")
        if isinstance(call.layer, layers.Conv2D) and not isinstance(call.layer, layers.DepthwiseConv2D):
            found[f"{call.layer.name}/kernel"] = None
        ahead += [reader for tensor in call.outputs for reader in readers[id(tensor)]]
    if not found:
        raise _refusal("there is no 1x1 convolution between its first one and the pooling")
    return list(found)


def _before(call: Call, made: dict[int, Call]) -> Call | None:
    return made.get(id(call.inputs[0])) if call.inputs else None


def _refusal(reason: str) -> InputError:
    return InputError(
        f"policy 'xnnpack' cannot help this model: {reason}; leave policy out to prune for size, or use kompakt.shrink"
    )


POLICIES: dict[str, Callable[[keras.Model], list[str]]] = {"xnnpack": xnnpack}
"""Name -> model -> the weight sites worth pruning."""

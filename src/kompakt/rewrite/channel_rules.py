"""The only table from layer type to what it does with channels, and how its config says their number.

A rule follows one call: it takes the tensors with their labels, says which axes of the layer's weights belong to
which labels, and gives the axes of the output. Anything without a rule, or used in a way that its rule does not
know, is closed: the channels that it reads stay, and so does what it makes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from kompakt.rewrite import channel_linear as linear
from kompakt.rewrite import channel_moves as moves
from kompakt.rewrite.channel_labels import Axes, Shape, Traced
from kompakt.rewrite.channel_scope import OUTPUT, NewShape, NotFollowed, Scope, at, variable_of

Layer = Any


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a kind of layer does with channels.

    Attributes:
        follow: (one call) -> axes of its output, or a list of them where it has several outputs.
        config: (layer, new shapes of its tensors) -> what changes in its config.
    """

    follow: Callable[[Scope], Axes | list[Axes]]
    config: Callable[[Layer, NewShape], dict[str, Any]] = lambda _layer, _shape: {}


def follow(scope: Scope) -> list[Axes]:
    """The axes of each output of one call."""
    rule = rule_of(scope.layer)
    if rule is None:
        return scope.close("what it does with channels is not known")
    try:
        made = rule.follow(scope)
        _check_all_weights(scope)
    except NotFollowed as error:
        return scope.close(str(error))
    rows = made if isinstance(made, list) else [made]
    if len(rows) != len(scope.shapes) or not all(map(_fits, rows, scope.shapes)):
        return scope.close("it is called in a way that is not known")
    return rows


def _fits(axes: Axes, shape: Shape) -> bool:
    """Whether the labels are those of a tensor of this shape."""
    return len(axes) == len(shape) and all(
        labels is None or size in (None, len(labels)) for labels, size in zip(axes, shape, strict=True)
    )


def _check_all_weights(scope: Scope) -> None:
    """A weight that the rule does not speak of, beside others that it does, comes with an option it does not know."""
    named = [tensor for layer, tensor in scope.weights if layer == scope.name and tensor != OUTPUT]
    known = {id(variable_of(scope.layer, tensor)) for tensor in named}
    other = [weight.name for weight in scope.layer.weights if id(weight) not in known] if known else []
    if other:
        raise NotFollowed(f"its weight {other[0]!r} is not known")


def rule_of(layer: Layer) -> Rule | None:
    """The row for exactly this kind of layer: what a subclass changed is not known."""
    if getattr(layer, "quantization_mode", None) is not None or getattr(layer, "lora_enabled", False):
        return None
    kind = type(layer)
    if kind in TABLE:
        return TABLE[kind]
    return BY_NAME.get(kind.__name__) if kind.__module__.startswith("keras.") else None


def resized_config(layer: Layer, shape: NewShape) -> dict[str, Any]:
    """The config of ``layer`` for tensors of new shapes."""
    rule = rule_of(layer)
    return layer.get_config() if rule is None else {**layer.get_config(), **rule.config(layer, shape)}


def _bidirectional(scope: Scope) -> Axes:
    """Both directions keep the same number of units, so that one config makes them."""
    layer, mode = scope.layer, scope.layer.merge_mode
    if layer.return_state or mode is None:
        raise NotFollowed("it gives several tensors")
    (shape,) = scope.shapes
    ways = []
    for path in ("forward_layer", "backward_layer"):
        inner = rule_of(getattr(layer, path))
        if inner is None:
            raise NotFollowed("what its layer does with channels is not known")
        made = inner.follow(scope.within(path, (scope.x,), (shape,)))
        ways.append(made[0] if isinstance(made, list) else made)
    scope.channels.join(ways[0][-1], ways[1][-1], scope.who)
    last = np.concatenate([ways[0][-1], ways[1][-1]]) if mode == "concat" else ways[0][-1]
    return at(len(shape), -1, last)


def _time_distributed(scope: Scope) -> Axes:
    x, inner = scope.x, rule_of(scope.layer.layer)
    if inner is None:
        raise NotFollowed("what its layer does with channels is not known")
    step = Traced(shape=(None, *x.shape[2:]), axes=(None, *x.axes[2:]))
    (shape,) = scope.shapes
    made = inner.follow(scope.within("layer", (step,), ((None, *shape[2:]),)))
    axes = made[0] if isinstance(made, list) else made
    if (scope.name, f"layer/{OUTPUT}") in scope.weights:
        raise NotFollowed(f"it is around the layer type {type(scope.layer.layer).__name__}")
    return (None, x.axes[1], *axes[1:])


def _wraps(**paths: str) -> Callable[[Layer, NewShape], dict[str, Any]]:
    """Config of a layer whose config holds those of the layers at ``paths``."""

    def config(layer: Layer, shape: NewShape) -> dict[str, Any]:
        return {key: _resized(getattr(layer, path), _below(path, shape)) for key, path in paths.items()}

    return config


def _below(path: str, shape: NewShape) -> NewShape:
    return lambda tensor: shape(f"{path}/{tensor}")


def _resized(layer: Layer, shape: NewShape) -> dict[str, Any]:
    held = keras.saving.serialize_keras_object(layer)
    # Without "build_config", which would give it the old shapes.
    return {**{k: v for k, v in held.items() if k != "build_config"}, "config": resized_config(layer, shape)}


CONVOLUTION = Rule(follow=linear.convolution, config=linear.convolution_config)
TRANSPOSED = Rule(follow=linear.transposed, config=lambda _, shape: {"filters": shape("kernel")[-2]})
DEPTHWISE = Rule(follow=linear.depthwise)
SEPARABLE = Rule(follow=linear.separable, config=lambda _, shape: {"filters": shape("pointwise_kernel")[-1]})
SAME = Rule(follow=moves.same)
DROPOUT = Rule(follow=moves.dropout)
MERGE = Rule(follow=moves.merge)
POOL = Rule(follow=moves.pool)
GLOBAL_POOL = Rule(follow=moves.global_pool)
BINARY = Rule(follow=moves.binary)
REDUCE = Rule(follow=moves.reduce)

TABLE: dict[type, Rule] = {
    layers.Dense: Rule(follow=linear.dense, config=lambda _, shape: {"units": shape("kernel")[-1]}),
    layers.EinsumDense: Rule(follow=linear.einsum, config=linear.einsum_config),
    layers.Embedding: Rule(follow=linear.embedding, config=lambda _, shape: {"output_dim": shape("embeddings")[1]}),
    layers.Conv1D: CONVOLUTION,
    layers.Conv2D: CONVOLUTION,
    layers.Conv3D: CONVOLUTION,
    layers.Conv1DTranspose: TRANSPOSED,
    layers.Conv2DTranspose: TRANSPOSED,
    layers.Conv3DTranspose: TRANSPOSED,
    layers.DepthwiseConv1D: DEPTHWISE,
    layers.DepthwiseConv2D: DEPTHWISE,
    layers.SeparableConv1D: SEPARABLE,
    layers.SeparableConv2D: SEPARABLE,
    layers.MultiHeadAttention: Rule(follow=linear.attention, config=linear.attention_config),
    layers.SimpleRNN: Rule(follow=linear.recurrent(1), config=linear.recurrent_config),
    layers.LSTM: Rule(follow=linear.recurrent(4), config=linear.recurrent_config),
    layers.GRU: Rule(follow=linear.recurrent(3), config=linear.recurrent_config),
    layers.Bidirectional: Rule(
        follow=_bidirectional, config=_wraps(layer="forward_layer", backward_layer="backward_layer")
    ),
    layers.TimeDistributed: Rule(follow=_time_distributed, config=_wraps(layer="layer")),
    layers.BatchNormalization: Rule(follow=linear.batchnorm),
    layers.LayerNormalization: Rule(follow=linear.layernorm),
    layers.GroupNormalization: Rule(follow=linear.groupnorm, config=linear.groupnorm_config),
    layers.RMSNormalization: Rule(follow=moves.stays("averages over them")),
    layers.UnitNormalization: Rule(follow=moves.stays("averages over them")),
    layers.Normalization: Rule(follow=moves.stays("has numbers for each of them")),
    layers.PReLU: Rule(follow=linear.prelu),
    layers.Activation: Rule(follow=moves.activation),
    layers.ReLU: SAME,
    layers.LeakyReLU: SAME,
    layers.ELU: SAME,
    layers.Softmax: Rule(follow=moves.softmax),
    layers.Identity: SAME,
    layers.ActivityRegularization: SAME,
    layers.Rescaling: Rule(follow=moves.rescaling),
    layers.Dropout: DROPOUT,
    layers.AlphaDropout: DROPOUT,
    layers.GaussianDropout: SAME,
    layers.GaussianNoise: SAME,
    layers.SpatialDropout1D: SAME,
    layers.SpatialDropout2D: SAME,
    layers.SpatialDropout3D: SAME,
    layers.AveragePooling1D: POOL,
    layers.AveragePooling2D: POOL,
    layers.AveragePooling3D: POOL,
    layers.MaxPooling1D: POOL,
    layers.MaxPooling2D: POOL,
    layers.MaxPooling3D: POOL,
    layers.ZeroPadding1D: POOL,
    layers.ZeroPadding2D: POOL,
    layers.ZeroPadding3D: POOL,
    layers.Cropping1D: POOL,
    layers.Cropping2D: POOL,
    layers.Cropping3D: POOL,
    layers.UpSampling1D: POOL,
    layers.UpSampling2D: POOL,
    layers.UpSampling3D: POOL,
    layers.Resizing: POOL,
    layers.GlobalAveragePooling1D: GLOBAL_POOL,
    layers.GlobalAveragePooling2D: GLOBAL_POOL,
    layers.GlobalAveragePooling3D: GLOBAL_POOL,
    layers.GlobalMaxPooling1D: GLOBAL_POOL,
    layers.GlobalMaxPooling2D: GLOBAL_POOL,
    layers.GlobalMaxPooling3D: GLOBAL_POOL,
    layers.Add: MERGE,
    layers.Subtract: MERGE,
    layers.Multiply: MERGE,
    layers.Average: MERGE,
    layers.Maximum: MERGE,
    layers.Minimum: MERGE,
    layers.Concatenate: Rule(follow=moves.concatenate),
    layers.Flatten: Rule(follow=moves.reshape),
    layers.Reshape: Rule(follow=moves.reshape, config=moves.reshaped("target_shape", 1)),
    layers.Permute: Rule(follow=moves.moved(lambda layer, _: [0, *layer.dims])),
    layers.RepeatVector: Rule(follow=moves.repeat_vector),
}
"""Layer type -> its rule."""

BY_NAME: dict[str, Rule] = {
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Maximum", "Minimum"), BINARY),
    **dict.fromkeys(("Divide", "TrueDivide"), Rule(follow=moves.divide)),
    **dict.fromkeys(
        ("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Silu", "Softplus", "Softsign"), SAME
    ),
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "HardSilu", "HardTanh", "LogSigmoid", "Tanh", "Exp", "Square"), SAME),
    **dict.fromkeys(("Absolute", "Negative", "Sqrt", "Clip", "Cast", "Erf", "StopGradient"), SAME),
    **dict.fromkeys(("Mean", "Sum", "Max", "Min", "Amax", "Amin", "Prod"), REDUCE),
    **dict.fromkeys((f"AdaptiveAveragePooling{n}D" for n in (1, 2, 3)), POOL),
    **dict.fromkeys((f"AdaptiveMaxPooling{n}D" for n in (1, 2, 3)), POOL),
    "Softmax": Rule(follow=moves.softmax),
    "LogSoftmax": Rule(follow=moves.softmax),
    "Concatenate": Rule(follow=moves.concatenate),
    "Split": Rule(follow=moves.parts),
    "GetItem": Rule(follow=moves.get_item),
    "Reshape": Rule(follow=moves.reshape, config=moves.reshaped("newshape", 0)),
    "Transpose": Rule(follow=moves.moved(lambda layer, rank: list(layer.axes or reversed(range(rank))))),
    "Swapaxes": Rule(follow=moves.moved(moves.swapped)),
    "ExpandDims": Rule(follow=moves.expand),
    "Squeeze": Rule(follow=moves.squeeze),
    "LayerScale": Rule(follow=linear.layer_scale, config=lambda _, shape: {"projection_dim": shape("gamma")[0]}),
    "StochasticDepth": SAME,
    "CustomScaleLayer": MERGE,  # a + scale * b, of InceptionResNetV2
}
"""Class name -> rule, of the operations (``a + b``, ``keras.ops``) and layers that Keras has no public type for,
or has it only in newer versions."""

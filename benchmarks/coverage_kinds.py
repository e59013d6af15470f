"""Small models, one a layer kind: an input, the kind, and a head that puts its numbers into logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers as L
from keras import ops

IMAGE = (8, 8, 4)
ROWS = (8, 6)
VOLUME = (4, 4, 4, 3)
WORDS = 20
CHANNELS = np.linspace(0.5, 2.0, 4).astype("float32")
"""One number for each channel that comes out of the first layer."""

Make = Callable[[], keras.Model]


def head(x: Any) -> Any:
    """Five logits of whatever the kind made."""
    return L.Dense(5, name="logits")(x if len(x.shape) == 2 else L.Flatten()(x))


def around(kind: Callable[[Any], Any], shape: tuple[int, ...] = IMAGE, *, stem: bool = True) -> Make:
    """input -> a linear layer -> the kind -> logits; ``kind`` is a layer or a function of tensors."""

    def make() -> keras.Model:
        i = keras.Input(shape)
        x = _stem(shape)(i) if stem else i
        return keras.Model(i, head(kind(x)))

    return make


def layer(make: Callable[[], Any], shape: tuple[int, ...] = IMAGE, *, stem: bool = True) -> Make:
    """The same for a layer, made anew in each model and called ``kind``."""

    def kind(x: Any) -> Any:
        made = make()
        made.name = "kind"
        return made(x)

    return around(kind, shape, stem=stem)


def _stem(shape: tuple[int, ...]) -> Any:
    if len(shape) == 1:
        return L.Dense(shape[-1], name="stem")
    convolution = {2: L.Conv1D, 3: L.Conv2D, 4: L.Conv3D}[len(shape)]
    return convolution(shape[-1], 1, name="stem")


def two(merge: Callable[[Any, Any], Any], shape: tuple[int, ...] = IMAGE) -> Make:
    """The kind takes two tensors."""

    def make() -> keras.Model:
        i = keras.Input(shape)
        convolution = {1: L.Dense, 2: L.Conv1D, 3: L.Conv2D}[len(shape)]
        size = () if len(shape) == 1 else (1,)
        # Names that no error has as a word.
        a, b = (convolution(shape[-1], *size, name=name)(i) for name in ("stem_a", "stem_b"))
        return keras.Model(i, head(merge(a, b)))

    return make


def embedding() -> keras.Model:
    """Ids, looked up."""
    i = keras.Input((8,), dtype="int32")
    return keras.Model(i, head(L.Embedding(WORDS, 6, name="kind")(i)))


def nested() -> keras.Model:
    """A model in a model."""
    inner = keras.Sequential([keras.Input(IMAGE), L.Conv2D(6, 3), L.BatchNormalization(), L.ReLU()], name="kind")
    i = keras.Input(IMAGE)
    return keras.Model(i, head(inner(i)))


def frame() -> keras.Model:
    """What a CNN-LSTM does with each image."""
    parts = [L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU(), L.GlobalAveragePooling2D(), L.Dense(4)]
    return keras.Sequential([keras.Input(VOLUME[1:]), *parts])


@keras.saving.register_keras_serializable(package="coverage")
class Block(keras.Model):
    """A subclassed model with a residual and an operation."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first, self.norm = L.Conv2D(4, 3, padding="same"), L.BatchNormalization()
        self.flat, self.logits = L.Flatten(), L.Dense(5)

    def call(self, x: Any) -> Any:
        return self.logits(self.flat(ops.relu(self.norm(self.first(x)) + x)))


@keras.saving.register_keras_serializable(package="coverage")
class Residual(keras.Model):
    """A subclassed model that is used as a layer."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first, self.norm = L.Conv2D(4, 3, padding="same", use_bias=False), L.BatchNormalization()

    def call(self, x: Any, training: bool | None = None) -> Any:
        return ops.relu(self.norm(self.first(x), training=training) + x)


@keras.saving.register_keras_serializable(package="coverage")
class OfLayers(L.Layer):  # type: ignore[misc]
    """A layer of the user's own with layers inside."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner, self.norm = L.Dense(8), L.BatchNormalization()

    def build(self, shape: Any) -> None:
        self.inner.build(shape)
        self.norm.build(shape)

    def call(self, x: Any, training: bool | None = None) -> Any:
        return ops.gelu(self.norm(self.inner(x), training=training))


def subclassed() -> keras.Model:
    """A Block, built."""
    model = Block()
    model(keras.ops.zeros((1, *IMAGE)))
    return model


def shared() -> keras.Model:
    """One layer, called twice."""
    i, d = keras.Input((8,)), L.Dense(8, activation="relu", name="kind")
    return keras.Model(i, head(d(d(i))))


def mixed() -> keras.Model:
    """Half precision, but for the logits."""
    policy = "mixed_float16"
    i = keras.Input(IMAGE)
    x = L.Conv2D(6, 3, dtype=policy)(i)
    x = L.ReLU(dtype=policy)(L.BatchNormalization(dtype=policy)(x))
    return keras.Model(i, L.Dense(5, dtype="float32")(L.Flatten(dtype=policy)(x)))


def normalization() -> keras.Model:
    """Statistics given in advance, at the input."""
    import numpy as np

    i = keras.Input(IMAGE)
    norm = L.Normalization(mean=np.arange(4) / 4, variance=np.arange(1, 5) / 2, name="kind")
    return keras.Model(i, head(L.Conv2D(6, 3)(norm(i))))


def squeeze_excite(gate: str) -> Make:
    """Channels weighted by their means."""

    def kind(x: Any) -> Any:
        s = L.Conv2D(4, 1, activation=gate, name="gate")(L.GlobalAveragePooling2D(keepdims=True)(x))
        return L.Multiply(name="kind")([x, s])

    return around(kind)


def cross_attention(a: Any, b: Any) -> Any:
    """Made at each call: a layer keeps what it was first built on."""
    return L.MultiHeadAttention(2, 4, name="kind")(a, b)


def stochastic_depth(x: Any) -> Any:
    """A block that is left out in training, now and then."""
    return L.Add()([x, L.Dropout(0.2, noise_shape=(None, 1, 1, 1))(L.Conv2D(4, 3, padding="same")(x))])


ARGUMENTS = (
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "hard_silu", "hard_sigmoid",
    "softplus", "softsign", "tanh", "sigmoid", "softmax", "exponential", "log_sigmoid", "log_softmax", "hard_tanh",
    "hard_shrink", "soft_shrink", "tanh_shrink", "squareplus", "sparse_plus", "sparse_sigmoid",
)  # fmt: skip

KINDS: dict[str, Make] = {
    "Dense, rank 2": layer(lambda: L.Dense(6), (8,)),
    "Dense, rank 3": layer(lambda: L.Dense(6), ROWS),
    "Dense, rank 4": layer(lambda: L.Dense(6)),
    "Dense without bias": layer(lambda: L.Dense(6, use_bias=False), (8,)),
    "Dense + BatchNormalization": around(lambda x: L.ReLU()(L.BatchNormalization()(L.Dense(6)(x))), (8,)),
    "EinsumDense": layer(lambda: L.EinsumDense("abc,cd->abd", output_shape=(8, 6), bias_axes="d"), ROWS),
    "EinsumDense, two axes out": layer(lambda: L.EinsumDense("abc,cde->abde", output_shape=(8, 2, 3)), ROWS),
    "Conv1D": layer(lambda: L.Conv1D(6, 3), ROWS),
    "Conv1D, causal": layer(lambda: L.Conv1D(6, 3, padding="causal"), ROWS),
    "Conv1D, dilated": layer(lambda: L.Conv1D(6, 3, dilation_rate=2), ROWS),
    "Conv2D": layer(lambda: L.Conv2D(6, 3)),
    "Conv2D, dilated": layer(lambda: L.Conv2D(6, 3, dilation_rate=2)),
    "Conv2D, grouped": layer(lambda: L.Conv2D(6, 3, groups=2)),
    "Conv2D + BatchNormalization": around(lambda x: L.ReLU()(L.BatchNormalization()(L.Conv2D(6, 3)(x)))),
    "Conv3D": layer(lambda: L.Conv3D(4, 2), VOLUME, stem=False),
    "Conv1DTranspose": layer(lambda: L.Conv1DTranspose(6, 3, strides=2), ROWS),
    "Conv2DTranspose": layer(lambda: L.Conv2DTranspose(6, 3, strides=2, padding="same")),
    "Conv2DTranspose + BatchNormalization": around(
        lambda x: L.ReLU()(L.BatchNormalization()(L.Conv2DTranspose(6, 3, strides=2)(x)))
    ),
    "Conv3DTranspose": layer(lambda: L.Conv3DTranspose(4, 2), VOLUME, stem=False),
    "DepthwiseConv1D": layer(lambda: L.DepthwiseConv1D(3), ROWS),
    "DepthwiseConv2D": layer(lambda: L.DepthwiseConv2D(3)),
    "DepthwiseConv2D, multiplier 2": layer(lambda: L.DepthwiseConv2D(3, depth_multiplier=2)),
    "DepthwiseConv2D, dilated": layer(lambda: L.DepthwiseConv2D(3, dilation_rate=2)),
    "SeparableConv1D": layer(lambda: L.SeparableConv1D(6, 3), ROWS),
    "SeparableConv2D": layer(lambda: L.SeparableConv2D(6, 3)),
    "MultiHeadAttention, self": around(lambda x: L.MultiHeadAttention(2, 4, name="kind")(x, x), ROWS),
    "MultiHeadAttention, cross": two(cross_attention, ROWS),
    "GroupQueryAttention": around(lambda x: L.GroupQueryAttention(4, 4, 2, name="kind")(x, x), ROWS),
    "Attention": two(lambda a, b: L.Attention(name="kind")([a, b]), ROWS),
    "Embedding": embedding,
    "LSTM": layer(lambda: L.LSTM(5), ROWS),
    "LSTM, sequences": layer(lambda: L.LSTM(5, return_sequences=True), ROWS),
    "GRU": layer(lambda: L.GRU(5), ROWS),
    "GRU, reset before": layer(lambda: L.GRU(5, reset_after=False), ROWS),
    "SimpleRNN": layer(lambda: L.SimpleRNN(5), ROWS),
    "Bidirectional LSTM": layer(lambda: L.Bidirectional(L.LSTM(4, return_sequences=True)), ROWS),
    "Bidirectional GRU": layer(lambda: L.Bidirectional(L.GRU(4)), ROWS),
    "RNN of two cells": layer(lambda: L.RNN([L.LSTMCell(4), L.GRUCell(4)]), ROWS),
    "LSTM behind a Masking": around(lambda x: L.LSTM(5, name="kind")(L.Masking()(x)), ROWS, stem=False),
    "average over masked steps": around(
        lambda x: L.GlobalAveragePooling1D(name="kind")(L.Masking()(x)), ROWS, stem=False
    ),
    "activation that is a layer": layer(lambda: L.Dense(5, activation=L.LeakyReLU(0.2)), ROWS),
    "ConvLSTM1D": layer(lambda: L.ConvLSTM1D(3, 3), (3, 8, 4), stem=False),
    "ConvLSTM2D": layer(lambda: L.ConvLSTM2D(3, 3), VOLUME, stem=False),
    "TimeDistributed Dense": layer(lambda: L.TimeDistributed(L.Dense(5)), ROWS),
    "TimeDistributed Conv2D": layer(lambda: L.TimeDistributed(L.Conv2D(4, 3)), VOLUME, stem=False),
    "TimeDistributed nested model": layer(lambda: L.TimeDistributed(frame()), VOLUME, stem=False),
    "BatchNormalization alone": layer(L.BatchNormalization, stem=False),
    "LayerNormalization": layer(L.LayerNormalization, ROWS),
    "LayerNormalization, image": layer(L.LayerNormalization),
    "RMSNormalization": layer(L.RMSNormalization, ROWS),
    "GroupNormalization": layer(lambda: L.GroupNormalization(2)),
    "UnitNormalization": layer(L.UnitNormalization, (8,)),
    **{f"activation {name}": layer(lambda name=name: L.Dense(6, activation=name), (8,)) for name in ARGUMENTS},
    **{
        f"{make.__name__} layer": layer(make)
        for make in (L.ReLU, L.LeakyReLU, L.PReLU, L.ELU, L.Softmax)
    },
    "PReLU, a slope a channel": layer(lambda: L.PReLU(alpha_initializer="uniform", shared_axes=[1, 2])),
    "ReLU, threshold and slope": layer(lambda: L.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.1)),
    "Activation('gelu') layer": layer(lambda: L.Activation("gelu")),
    "ops.gelu, approximate": around(ops.gelu),
    "MaxPooling1D": layer(lambda: L.MaxPooling1D(2), ROWS),
    "MaxPooling2D": layer(lambda: L.MaxPooling2D(2)),
    "MaxPooling3D": layer(lambda: L.MaxPooling3D(2), VOLUME, stem=False),
    "AveragePooling1D": layer(lambda: L.AveragePooling1D(2), ROWS),
    "AveragePooling2D": layer(lambda: L.AveragePooling2D(2)),
    "AveragePooling3D": layer(lambda: L.AveragePooling3D(2), VOLUME, stem=False),
    "GlobalAveragePooling1D": layer(L.GlobalAveragePooling1D, ROWS),
    "GlobalAveragePooling2D": layer(L.GlobalAveragePooling2D),
    "GlobalAveragePooling3D": layer(L.GlobalAveragePooling3D, VOLUME, stem=False),
    "GlobalMaxPooling1D": layer(L.GlobalMaxPooling1D, ROWS),
    "GlobalMaxPooling2D": layer(L.GlobalMaxPooling2D),
    "GlobalMaxPooling3D": layer(L.GlobalMaxPooling3D, VOLUME, stem=False),
    "AdaptiveAveragePooling2D": layer(lambda: L.AdaptiveAveragePooling2D(2)),
    "ZeroPadding1D": layer(lambda: L.ZeroPadding1D(1), ROWS),
    "ZeroPadding2D": layer(lambda: L.ZeroPadding2D(1)),
    "ZeroPadding3D": layer(lambda: L.ZeroPadding3D(1), VOLUME, stem=False),
    "Cropping1D": layer(lambda: L.Cropping1D(1), ROWS),
    "Cropping2D": layer(lambda: L.Cropping2D(1)),
    "Cropping3D": layer(lambda: L.Cropping3D(1), VOLUME, stem=False),
    "UpSampling1D": layer(lambda: L.UpSampling1D(2), ROWS),
    "UpSampling2D, nearest": layer(lambda: L.UpSampling2D(2)),
    "UpSampling2D, bilinear": layer(lambda: L.UpSampling2D(2, interpolation="bilinear")),
    "UpSampling3D": layer(lambda: L.UpSampling3D(2), VOLUME, stem=False),
    "Resizing": layer(lambda: L.Resizing(12, 12)),
    "Rescaling": layer(lambda: L.Rescaling(2.0, offset=-0.5), stem=False),
    "Normalization": normalization,
    "Add": two(lambda a, b: L.Add(name="kind")([a, b])),
    "Subtract": two(lambda a, b: L.Subtract(name="kind")([a, b])),
    "Multiply": two(lambda a, b: L.Multiply(name="kind")([a, b])),
    "Average": two(lambda a, b: L.Average(name="kind")([a, b])),
    "Maximum": two(lambda a, b: L.Maximum(name="kind")([a, b])),
    "Minimum": two(lambda a, b: L.Minimum(name="kind")([a, b])),
    "Concatenate": two(lambda a, b: L.Concatenate(name="kind")([a, b])),
    "Dot": two(lambda a, b: L.Dot(axes=1, name="kind")([a, b]), (8,)),
    "squeeze and excite, sigmoid": squeeze_excite("sigmoid"),
    "squeeze and excite, hard_sigmoid": squeeze_excite("hard_sigmoid"),
    "a + b": two(lambda a, b: a + b),
    "(a - array) / array": around(lambda x: (x - CHANNELS) / CHANNELS),
    "a * 2 + 1": around(lambda x: x * 2.0 + 1.0),
    "a / b": two(lambda a, b: a / (ops.abs(b) + 1.0)),
    "a @ b": two(lambda a, b: ops.matmul(a, ops.transpose(b, (0, 2, 1))), ROWS),
    "x[:, 1:3]": around(lambda x: x[:, 1:3]),
    "ops.reshape": around(lambda x: ops.reshape(x, (-1, 64, 4))),
    "ops.transpose": around(lambda x: ops.transpose(x, (0, 2, 1, 3))),
    "ops.mean": around(lambda x: ops.mean(x, axis=(1, 2))),
    "ops.sum": around(lambda x: ops.sum(x, axis=-1)),
    "ops.max": around(lambda x: ops.max(x, axis=-1)),
    "ops.abs": around(ops.abs),
    "ops.sqrt": around(lambda x: ops.sqrt(ops.abs(x) + 1.0)),
    "ops.square": around(ops.square),
    "ops.exp": around(ops.exp),
    "ops.split": around(lambda x: ops.add(*ops.split(x, 2, axis=-1))),
    "ops.stack": two(lambda a, b: ops.stack([a, b], axis=1)),
    "ops.pad": around(lambda x: ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))),
    "ops.concatenate": two(lambda a, b: ops.concatenate([a, b], axis=-1)),
    "ops.where": two(lambda a, b: ops.where(a > 0, a, b)),
    "ops.clip": around(lambda x: ops.clip(x, -0.5, 0.5)),
    "Reshape": layer(lambda: L.Reshape((16, 16))),
    "Permute": layer(lambda: L.Permute((2, 1)), ROWS),
    "Flatten": layer(L.Flatten),
    "RepeatVector": layer(lambda: L.RepeatVector(3), (8,)),
    "Dropout": layer(lambda: L.Dropout(0.3)),
    "SpatialDropout2D": layer(lambda: L.SpatialDropout2D(0.3)),
    "GaussianNoise": layer(lambda: L.GaussianNoise(0.1)),
    "stochastic depth": around(stochastic_depth),
    "nested model": nested,
    "subclassed model": subclassed,
    "subclassed model as a layer": layer(Residual),
    "own layer of layers": layer(OfLayers, (8,)),
    "shared layer": shared,
    "mixed_float16": mixed,
    "Lambda": layer(lambda: L.Lambda(lambda t: t * 0.5)),
}  # fmt: skip
"""Name of a kind -> its model, made anew at each call."""

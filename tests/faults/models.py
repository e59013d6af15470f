"""Models of the fault suite, small, with data that looks like something."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers as L

SAMPLES = 96


def images(shape: tuple[int, ...], seed: int = 0, samples: int = SAMPLES) -> np.ndarray:
    """Smooth blobs, 0..1: neighbours are alike, as in pictures."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, n) for n in shape[:2]], indexing="ij"), -1)
    centres = random.random((samples, shape[-1], 3, 2))
    distance = ((grid[None, None, None] - centres[..., None, None, :]) ** 2).sum(-1)
    return np.moveaxis(np.exp(-distance / 0.03).max(2), 1, -1).astype("float32")


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(SAMPLES, *shape)).astype("float32")


def cnn() -> keras.Model:
    i = keras.Input((12, 12, 1), name="image")
    x = L.Conv2D(8, 3, activation="relu", name="conv1")(i)
    x = L.MaxPooling2D(2, name="pool1")(x)
    x = L.Conv2D(8, 3, padding="same", activation="relu", name="conv2")(x)
    x = L.Conv2D(8, 3, padding="same", activation="relu", name="conv3")(x)
    x = L.AveragePooling2D(5, name="pool2")(x)
    x = L.Dense(10, name="logits")(L.Flatten(name="flat")(x))
    return keras.Model(i, L.Softmax(name="classes")(x))


def residual() -> keras.Model:
    i = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(i)
    x = a = L.ReLU(name="stem_relu")(L.BatchNormalization(name="stem_norm")(x))
    x = L.DepthwiseConv2D(3, padding="same", activation="relu", name="depth")(x)
    x = L.Conv2D(8, 1, name="point")(x)
    x = L.ReLU(name="sum_relu")(L.Add(name="sum")([a, x]))
    x = L.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(i, L.Dense(6, name="logits")(x))


def two_by_two() -> keras.Model:
    a, b = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    x = L.Dense(8, activation="relu", name="left_dense")(a)
    y = L.Dense(8, activation="relu", name="right_dense")(b)
    z = L.Concatenate(name="both")([x, y])
    return keras.Model([a, b], [L.Dense(4, name="first")(z), L.Dense(4, name="second")(z)])


def autoencoder() -> keras.Model:
    i = keras.Input((24,), name="frame")
    x = L.Dense(16, activation="relu", name="enc")(i)
    x = L.Dense(6, activation="relu", name="code")(x)
    x = L.Dense(16, activation="relu", name="dec")(x)
    return keras.Model(i, L.Dense(24, name="frame_again")(x))


MODELS = {"cnn": cnn, "residual": residual, "two": two_by_two, "autoencoder": autoencoder}


def made(name: str, real: bool = True) -> tuple[keras.Model, Any]:
    """(model with weights and biases that are not all alike, its inputs)."""
    keras.utils.set_random_seed(3)
    model = MODELS[name]()
    random = np.random.default_rng(4)
    for layer in model.layers:
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(random.uniform(-0.1, 0.3, layer.bias.shape))
        if isinstance(layer, L.BatchNormalization):
            layer.gamma.assign(random.uniform(0.7, 1.4, layer.gamma.shape))
            layer.moving_variance.assign(random.uniform(0.5, 1.5, layer.gamma.shape))
            layer.moving_mean.assign(random.uniform(-0.2, 0.2, layer.gamma.shape))
    shapes = [tuple(t.shape[1:]) for t in model.inputs]
    draw = images if real and len(shapes[0]) == 3 else noise
    inputs = [draw(shape, seed) for seed, shape in enumerate(shapes)]
    if real and name == "autoencoder":
        inputs = [np.cumsum(inputs[0], axis=1) / 3]
    return model, inputs if len(inputs) > 1 else inputs[0]

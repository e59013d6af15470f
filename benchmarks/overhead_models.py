"""The two models whose training steps are timed, in a Keras of any generation."""

from __future__ import annotations

from typing import Any


def resnet8(keras: Any) -> Any:
    """The image classifier of MLPerf Tiny: ResNet-8 for (32, 32, 3) inputs, 78,666 parameters."""
    layers = keras.layers
    decay = keras.regularizers.L2(1e-4)

    def convolution(x: Any, filters: int, size: int, strides: int = 1) -> Any:
        return layers.Conv2D(filters, size, strides=strides, padding="same", kernel_regularizer=decay)(x)

    def normalized(x: Any) -> Any:
        return layers.Activation("relu")(layers.BatchNormalization()(x))

    inputs = keras.Input((32, 32, 3))
    x = normalized(convolution(inputs, 16, 3))
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        y = normalized(convolution(x, filters, 3, strides))
        y = layers.BatchNormalization()(convolution(y, filters, 3))
        if strides > 1:
            x = convolution(x, filters, 1, strides)
        x = layers.Activation("relu")(layers.Add()([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="resnet8")


def dense(keras: Any) -> Any:
    """784 -> 1024 -> 1024 -> 10: 1.9 million weights, each used once a sample."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(1024, activation="relu"),
            layers.Dense(1024, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ],
        name="dense",
    )


MODELS = {"ResNet-8": resnet8, "two Dense(1024)": dense}
"""Name in the table -> function of a keras module."""

BATCH = 32
"""Samples a step."""

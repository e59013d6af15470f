"""Digits, and small models for them, as tfmot's guides have MNIST."""

import keras
import numpy as np
from sklearn.datasets import load_digits


def digits():
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype("float32").reshape(-1, 8, 8, 1), y


def net(name="net"):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(12, 3, activation="relu", name="conv"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu", name="hidden"),
            keras.layers.Dense(10, name="dense"),
        ],
        name=name,
    )


def fitted(model, epochs, rate=1e-3, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(*digits(), epochs=epochs, verbose=0, **options)
    return model


def accuracy(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["accuracy"])
    return float(model.evaluate(*digits(), verbose=0)[1])


def sparsity(array):
    return float((np.asarray(array) == 0).mean())


def kernels(model):
    """Name of a layer -> share of zeros in its kernel."""
    return {layer.name: sparsity(layer.get_weights()[0]) for layer in model.layers if layer.get_weights()}

"""What the examples share: scikit-learn's digits, a small CNN trained on them, and a line about a file."""

import gzip
import sys
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import kompakt as kp

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def digits():
    """x_train, x_test, y_train, y_test: images (n, 8, 8, 1) float32 in 0..1, and their classes."""
    bunch = load_digits()
    images = (bunch.images / 16).astype("float32")[..., None]
    return train_test_split(images, bunch.target, test_size=0.25, random_state=0, stratify=bunch.target)


def network(width=16, name="digits"):
    """A CNN that is not trained."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            keras.layers.Conv2D(width, 3, activation="relu", name="conv1"),
            keras.layers.Conv2D(2 * width, 3, activation="relu", name="conv2"),
            keras.layers.Flatten(),
            keras.layers.Dense(4 * width, activation="relu", name="dense"),
            keras.layers.Dense(10, name="logits"),
        ],
        name=name,
    )


def compiled(model, rate=1e-3):
    """``model``, compiled."""
    model.compile(keras.optimizers.Adam(rate), LOSS, metrics=["accuracy"])
    return model


def trained(width=16, epochs=15):
    """A CNN that knows the digits."""
    keras.utils.set_random_seed(0)
    x, _, y, _ = digits()
    model = compiled(network(width))
    model.fit(x, y, epochs=epochs, verbose=0)
    return model


def show(name, path):
    """Print the size of a file, as it is and gzipped, and its accuracy in LiteRT."""
    _, x, _, y = digits()
    found = kp.evaluate(path, (x, y))
    held = Path(path).read_bytes()
    print(f"{name:<28} {len(held):>7,} bytes {len(gzip.compress(held)):>7,} gzipped  accuracy", end=" ")
    print(f"{found.value('accuracy'):.4f}", flush=True)
    return {"bytes": len(held), "gzip": len(gzip.compress(held)), "accuracy": found.value("accuracy")}


def distinct(model, layer):
    """How many values the kernel of a layer has."""
    return len(np.unique(model.get_layer(layer).get_weights()[0]))


def folder():
    """Where files go: the first argument, else build/examples."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "build/examples")
    path.mkdir(parents=True, exist_ok=True)
    return path

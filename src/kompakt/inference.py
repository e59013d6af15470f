"""What a Keras model predicts, as arrays."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kompakt.scopes import tensorflow_names


def infer(model: keras.Model, inputs: Any, batch_size: int = 256) -> list[np.ndarray]:
    """Outputs of ``model`` at inference, one float array an output.

    One batch is computed at once: on TensorFlow ``predict`` compiles the model first, which takes seconds for a
    model of many layers, each time.

    Args:
        inputs: arrays in the structure that the model takes.

    Example:
        >>> m = keras.Sequential([keras.Input((2,)), keras.layers.ReLU()])
        >>> infer(m, np.array([[-1.0, 2.0]], "float32"))[0].tolist()
        [[0.0, 2.0]]
    """
    if len(tree.flatten(inputs)[0]) <= batch_size and keras.backend.backend() == "tensorflow":
        return outputs_of(model, inputs, batch_size)
    with tensorflow_names(model):
        made = model.predict(inputs, batch_size=batch_size, verbose=0)
    return [np.asarray(v) for v in tree.flatten(made)]


def outputs_of(model: keras.Model, inputs: Any, batch_size: int = 256) -> list[np.ndarray]:
    """Outputs at inference without a compiled function, which would not see a grid go off."""
    rows = []
    for start in range(0, len(tree.flatten(inputs)[0]), batch_size):
        batch = tree.map_structure(lambda a, start=start: ops.convert_to_tensor(a[start : start + batch_size]), inputs)
        rows.append([np.asarray(ops.convert_to_numpy(t)) for t in tree.flatten(model(batch, training=False))])
    return [np.concatenate(column) for column in zip(*rows, strict=True)]

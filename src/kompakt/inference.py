"""What a Keras model predicts, as arrays."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops, tree


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
    few = len(tree.flatten(inputs)[0]) <= batch_size
    if few and keras.backend.backend() == "tensorflow":
        found = model(inputs, training=False)
    else:
        found = model.predict(inputs, batch_size=batch_size, verbose=0)
    return [np.asarray(ops.convert_to_numpy(value)) for value in tree.flatten(found)]

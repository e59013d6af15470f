"""The matrix product of two tensors, as a layer: it has a site, and so a grid."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="kompakt")
class MatMul(layers.Layer):  # type: ignore[misc]
    """The matrix product of two tensors over their last two axes.

    Example:
        >>> MatMul()([ops.ones((1, 2, 3)), ops.ones((1, 3, 4))]).shape
        TensorShape([1, 2, 4])
    """

    def call(self, inputs: Any) -> Any:
        return ops.matmul(inputs[0], inputs[1])

    def compute_output_shape(self, shapes: Any) -> Any:
        return (*shapes[0][:-1], shapes[1][-1])

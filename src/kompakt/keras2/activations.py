"""Functions of Keras 2 whose name means another one in Keras 3."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kompakt", name="keras2_hard_sigmoid")  # type: ignore[untyped-decorator]
def hard_sigmoid(x: Any) -> Any:
    """``clip(0.2 x + 0.5, 0, 1)``: the hard sigmoid of Keras 2, and so of its LSTM and GRU up to version 2.2.

    Keras 3's of that name is ``clip(x / 6 + 0.5, 0, 1)``.

    Args:
        x: of any shape.

    Example:
        >>> import numpy as np
        >>> [round(float(y), 2) for y in hard_sigmoid(np.array([-3.0, 1.0, 3.0], "float32"))]
        [0.0, 0.7, 1.0]
    """
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)

"""Ways of resizing pictures: which of them Keras 3 has, and which it computes otherwise than TensorFlow."""

from __future__ import annotations

import keras
import numpy as np

APART = {"jax": {"bicubic": 0.0015}}
"""Backend -> interpolation -> how far it is from TensorFlow's, which goes by a table of weights: of values from -1 to
1, at most, over 150 sizes."""

OTHERWISE = {"torch": ("bicubic",)}
"""Backend -> interpolations that are others there: cubics with -0.75 in place of -0.5, a tenth of the values away."""


def resizes(interpolation: str) -> bool:
    """Whether Keras 3 computes that interpolation on this backend as Keras 2 did.

    It is asked to, for a layer that has one it does not know is made without a word.

    Example:
        >>> resizes("bilinear"), resizes("mitchellcubic")
        (True, False)
    """
    if interpolation in OTHERWISE.get(keras.backend.backend(), ()):
        return False
    try:
        keras.ops.image.resize(np.zeros((1, 2, 2, 1), "float32"), (3, 3), interpolation=interpolation)
    except (ValueError, NotImplementedError):
        return False
    return True


def apart(interpolation: str) -> str | None:
    """What there is to tell of an interpolation that this backend computes a little otherwise than TensorFlow.

    Example:
        >>> apart("bilinear") is None
        True
    """
    backend = keras.backend.backend()
    found = APART.get(backend, {}).get(interpolation)
    if found is None:
        return None
    return f"{interpolation} resizing differs on {backend} from TensorFlow's by up to {found:g} of the largest value"


def why_not(interpolation: str) -> str:
    """What is wrong with an interpolation that this backend does not compute, and what to do.

    Example:
        >>> why_not("gaussian")[:52]
        "interpolation='gaussian', which Keras 3 does not com"
    """
    backend = keras.backend.backend()
    other = "" if backend == "tensorflow" else "set KERAS_BACKEND=tensorflow, or "
    return (
        f"interpolation={interpolation!r}, which Keras 3 does not compute as Keras 2 did on {backend}; {other}in Keras "
        "2 give it 'bilinear' or 'nearest', and save the model again"
    )

"""Ways of resizing pictures: which of them Keras 3 has, and which it computes otherwise than TensorFlow."""

from __future__ import annotations

import keras
import numpy as np

APART: dict[str, dict[str, str]] = {
    "jax": {"bicubic": "0.003", "lanczos3": "0.02", "lanczos5": "0.02"},
    "torch": {"bicubic": "0.003"},
}
"""Backend -> interpolation -> how far its values of the order of 1 are from TensorFlow's."""


def resizes(interpolation: str) -> bool:
    """Whether Keras 3 has that interpolation on this backend: asked, for it says so only when it computes.

    Example:
        >>> resizes("bilinear"), resizes("mitchellcubic")
        (True, False)
    """
    try:
        keras.ops.image.resize(np.zeros((1, 2, 2, 1), "float32"), (3, 3), interpolation=interpolation)
    except (ValueError, NotImplementedError):
        return False
    return True


def apart(interpolation: str) -> str | None:
    """What there is to tell of an interpolation that this backend computes otherwise than TensorFlow.

    Example:
        >>> apart("bilinear") is None
        True
    """
    backend = keras.backend.backend()
    found = APART.get(backend, {}).get(interpolation)
    return found and f"{interpolation} resizing on {backend} differs from TensorFlow's by up to {found} of the values"

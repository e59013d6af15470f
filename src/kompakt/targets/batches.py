"""Batches as a runtime takes them. Nothing is imported but NumPy: processes of their own start with it."""

from __future__ import annotations

import numpy as np


def filled(values: np.ndarray, size: int) -> np.ndarray:
    """The last batch filled up to ``size`` by repeating its last sample.

    Example:
        >>> filled(np.array([[1], [2]]), 3).tolist(), filled(np.array([[1], [2]]), 0).tolist()
        ([[1], [2], [2]], [[1], [2]])
    """
    missing = size - len(values)
    return values if missing <= 0 else np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])

"""Batches as a runtime takes them. Nothing is imported but NumPy: processes of their own start with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def filled(values: np.ndarray, size: int) -> np.ndarray:
    """The last batch filled up to ``size`` by repeating its last sample.

    Example:
        >>> filled(np.array([[1], [2]]), 3).tolist(), filled(np.array([[1], [2]]), 0).tolist()
        ([[1], [2], [2]], [[1], [2]])
    """
    missing = size - len(values)
    return values if missing <= 0 else np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])


def in_batches(
    once: Callable[[list[np.ndarray]], list[np.ndarray]], given: Sequence[np.ndarray], batch: int
) -> list[np.ndarray]:
    """What ``once`` gives for all samples, ``batch`` at a time; what fills up the last batch is cut off again.

    Example:
        >>> in_batches(lambda few: [few[0] + few[1]], [np.arange(3), np.arange(3)], 2)
        [array([0, 2, 4])]
    """
    rows = []
    for start in range(0, len(given[0]), batch):
        few = [filled(values[start : start + batch], batch) for values in given]
        count = min(batch, len(given[0]) - start)
        rows.append([values[:count] for values in once(few)])
    return [np.concatenate(column) for column in zip(*rows, strict=True)]

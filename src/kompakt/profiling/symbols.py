"""How much the stored numbers of a tensor say. Pure functions of arrays."""

from __future__ import annotations

import math

import numpy as np


def counts(values: np.ndarray) -> np.ndarray:
    """How often each symbol occurs. Symbols are bit patterns: 0.0 and -0.0 are two, as they are in a file.

    Example:
        >>> counts(np.array([3, 1, 3, 3], "int8")).tolist()
        [1, 3]
    """
    flat = np.ascontiguousarray(values).ravel()
    if flat.dtype.kind == "f":
        flat = flat.view(f"u{flat.dtype.itemsize}")
    return np.unique(flat, return_counts=True)[1]


def entropy(occurrences: np.ndarray) -> float:
    r"""Bits a symbol, of symbols that occur so often.

    .. math:: H = -\sum_i p_i \log_2 p_i

    Shannon 1948, "A Mathematical Theory of Communication", section 6: no code that takes symbols one by one, and knows
    how often each occurs, has fewer bits a symbol on average (theorem 9).

    Example:
        >>> entropy(np.array([1, 1, 2]))
        1.5
    """
    total = int(occurrences.sum())
    if not total:
        return 0.0
    shares = occurrences / total
    return float(max(0.0, -(shares * np.log2(shares)).sum()))


def bound(occurrences: np.ndarray) -> int:
    """Bytes of all these symbols at their entropy, without the table that says which they are.

    Example:
        >>> bound(np.array([100, 100, 200]))
        75
    """
    return math.ceil(entropy(occurrences) * int(occurrences.sum()) / 8 - 1e-9)


def zeros(values: np.ndarray, zero: float = 0.0) -> int:
    """How many of ``values`` stand for 0.0."""
    return int(np.count_nonzero(values == zero))

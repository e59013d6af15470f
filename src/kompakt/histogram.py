"""Histograms of weights as a file stores them. Pure functions of NumPy."""

from __future__ import annotations

import numpy as np

from kompakt.records_layers import Histogram

PARTS = 64
"""Parts of a histogram; of integers of fewer bits than six, one a value."""


def weight_histogram(values: np.ndarray, bits: int | None = None, *, parts: int = PARTS) -> Histogram | None:
    """The values of a tensor over equal parts: of integers over the whole range of their type, else from least to most.

    Args:
        values: as they lie in the file, of any shape. bits: width of the stored integer where the array's is wider
            (4-bit integers come as int8).

    Returns:
        None where there is no finite value. NaN and infinity are not counted: a file with them has a breach.

    Example:
        >>> weight_histogram(np.array([-8, 0, 0, 7], "int8"), bits=4).counts
        (1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1)
        >>> weight_histogram(np.array([0.0, 1.0, 1.0]), parts=2)
        Histogram(low=0.0, high=1.0, counts=(1, 2), integers=False)
    """
    values = np.asarray(values).ravel()
    if values.dtype.kind in "iu":
        return _of_integers(values, bits or 8 * values.dtype.itemsize, parts) if values.size else None
    values = values[np.isfinite(values)].astype("float64")
    if not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    if low == high:
        return Histogram(low=low, high=high, counts=(int(values.size),))
    counts, _ = np.histogram(values, bins=parts, range=(low, high))
    return Histogram(low=low, high=high, counts=tuple(map(int, counts)))


def _of_integers(values: np.ndarray, bits: int, parts: int) -> Histogram:
    low = -(2 ** (bits - 1)) if values.dtype.kind == "i" else 0
    parts = min(parts, 2**bits)
    place = (values.astype("int64") - low) // (2**bits // parts)
    counts = np.bincount(np.clip(place, 0, parts - 1), minlength=parts)
    return Histogram(low=float(low), high=float(low + 2**bits - 1), counts=tuple(map(int, counts)), integers=True)

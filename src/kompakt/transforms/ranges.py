"""From the values that a tensor took to the range of its integer grid: NumPy, over a histogram.

Minimum and maximum hold every value, and pay for one outlier with a coarse grid for all others. These clip: what
they lose at the ends they gain in the middle. Wu et al. 2020, "Integer Quantization for Deep Learning Inference:
Principles and Empirical Evaluation", arXiv:2004.09602, section 3.2 ("max", "entropy", "percentile").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
BINS = 4096
"""Of a histogram: sixteen for each integer of an 8-bit grid that holds it all."""

LEFT_OUT = 1e-4
"""Share of the values that "percentile" clips, half of it at each end."""

TRIED = np.linspace(1.0, 0.1, 91)
"""Shares of the whole range that "mse" and "entropy" try."""


class Histogram:
    """How often each value of a tensor was seen, in ``BINS`` bins over a range that grows by doubling.

    Doubling puts two bins together, so that nothing has to be looked at twice.

    Example:
        >>> seen = Histogram()
        >>> seen.add(np.array([0.0, 1.0]))
        >>> seen.add(np.array([3.0]))
        >>> seen.low, seen.high >= 3.0, int(seen.counts.sum())
        (0.0, True, 3)
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS)
        self.low, self.width = 0.0, 0.0
        self.least, self.most = np.inf, -np.inf

    @property
    def high(self) -> float:
        return self.low + BINS * self.width

    @property
    def centres(self) -> Array:
        """(BINS,) float64."""
        return self.low + (np.arange(BINS) + 0.5) * self.width

    def add(self, values: Array) -> None:
        """Take ``values``, finite, of any shape."""
        values = np.asarray(values, "float64").ravel()
        least, most = float(values.min()), float(values.max())
        if not self.width:
            self.low, self.width = least, max(most - least, 1e-12) / BINS
        while least < self.low:
            self._double(BINS // 2)
            self.low -= self.width * BINS / 2
        while most > self.high:
            self._double(0)
        self.counts += np.histogram(values, BINS, (self.low, self.high))[0]
        self.least, self.most = min(self.least, least), max(self.most, most)

    def _double(self, at: int) -> None:
        pairs = self.counts.reshape(-1, 2).sum(-1)
        self.counts = np.zeros(BINS)
        self.counts[at : at + BINS // 2] = pairs
        self.width *= 2.0


def percentile(seen: Histogram, bits: int) -> tuple[float, float]:
    """What is left when the ``LEFT_OUT`` share of the values is clipped, half of it at each end.

    An end that many values are at (the zero of a ReLU) stays where it is.

    Example:
        >>> seen = Histogram()
        >>> seen.add(np.append(np.linspace(0.0, 1.0, 100_000), 50.0))
        >>> low, high = percentile(seen, 8)
        >>> low < 0.02, 0.98 < high < 1.1
        (True, True)
    """
    share = np.cumsum(seen.counts) / seen.counts.sum()
    first, last = np.searchsorted(share, (LEFT_OUT / 2, 1.0 - LEFT_OUT / 2))
    return max(seen.least, seen.low + first * seen.width), min(seen.most, seen.low + (last + 1) * seen.width)


def mse(seen: Histogram, bits: int) -> tuple[float, float]:
    r"""The range of least :math:`\sum_v n_v (v - q(v))^2`, rounding and clipping together.

    Both ends are moved in together, then each by itself. Banner et al. 2019, arXiv:1810.05723, section 3.
    """
    centres, counts = _present(seen)

    def error(low: float, high: float) -> float:
        on_grid = _on_grid(centres, low, high, bits)
        return float((counts * (centres - on_grid) ** 2).sum())

    return _best(seen, error)


def entropy(seen: Histogram, bits: int) -> tuple[float, float]:
    r"""The range whose integers tell most of the values: least :math:`KL(P \| Q) = \sum_v P_v \log (P_v / Q_v)`.

    P is the histogram with what is clipped put at the ends; Q is what P is when each integer's share is spread
    evenly over the bins that round to it and that P has something in. Zeros are left out: they are exact on every
    grid, and there are many behind a ReLU. Migacz 2017, "8-bit Inference with TensorRT", GTC San Jose, slides 19
    to 40.
    """
    centres, counts = _present(seen, zero=False)
    if not len(centres):
        return seen.least, seen.most

    def divergence(low: float, high: float) -> float:
        inside = (centres >= low) & (centres <= high)
        if not inside.any():
            return np.inf
        p = counts * inside
        kept = np.flatnonzero(inside)
        p[kept[0]] += counts[: kept[0]].sum()
        p[kept[-1]] += counts[kept[-1] + 1 :].sum()
        step = (high - low) / (2**bits - 1)
        integer = np.round((centres[kept] - low) / step).astype(int)
        # The clipped mass counts in P, not in Q: that is what clipping costs.
        mass = np.bincount(integer, counts[kept])
        share = (mass / np.maximum(np.bincount(integer), 1))[integer]
        p, q = p[kept] / p.sum(), share / share.sum()
        return float((p * np.log(p / q)).sum())

    return _best(seen, divergence)


def _present(seen: Histogram, *, zero: bool = True) -> tuple[Array, Array]:
    """(centres, counts) of the bins that hold something, or all but the one with zero; ends as they were seen."""
    held = seen.counts > 0
    at_zero = int(np.floor(-seen.low / seen.width)) if seen.width else 0
    if not zero and 0 <= at_zero < BINS:
        held[at_zero] = False
    return np.clip(seen.centres[held], seen.least, seen.most), seen.counts[held]


def _on_grid(values: Array, low: float, high: float, bits: int) -> Array:
    """``values`` on the asymmetric grid of ``[low, high]``, zero among its integers."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = max(high - low, 1e-12) / (2**bits - 1)
    zero = np.round(-low / step)
    return (np.clip(np.round(values / step) + zero, 0, 2**bits - 1) - zero) * step


def _best(seen: Histogram, cost: Callable[[float, float], float]) -> tuple[float, float]:
    """The least cost among ranges with both ends moved in, then with each of them moved by itself."""
    low, high = seen.least, seen.most
    if not high > low:
        return low, high
    tried = [(low * s if low < 0 else low, high * s if high > 0 else high) for s in TRIED]
    low, high = min(tried, key=lambda ends: cost(*ends))
    if low < 0 < high:
        low = min((seen.least * s for s in TRIED), key=lambda end: cost(end, high))
        high = min((seen.most * s for s in TRIED), key=lambda end: cost(low, end))
    return float(low), float(high)


METHODS: dict[str, Callable[[Histogram, int], tuple[float, float]]] = {
    "percentile": percentile,
    "mse": mse,
    "entropy": entropy,
}
"""Name of a calibration -> (what was seen, bits) -> the two ends of the range."""

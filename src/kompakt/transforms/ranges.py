"""From the values that a tensor took to the range of its integer grid: NumPy, over a histogram.

Minimum and maximum hold every value, and pay for one outlier with a coarse grid for all others. These clip: what
they lose at the ends they gain in the middle. Wu et al. 2020, "Integer Quantization for Deep Learning Inference:
Principles and Empirical Evaluation", arXiv:2004.09602, section 3.2 ("max", "entropy", "percentile").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kompakt.numerics import integer_limits

Array = Any
BINS = 4096
"""Of a histogram: sixteen for each integer of an 8-bit grid that holds it all."""

LEFT_OUT = 1e-4
"""Share of the values that "percentile" clips, half of it at each end."""

TRIED = np.linspace(1.0, 0.1, 91)
"""Shares of the whole range that "mse" and "entropy" try."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The integers that a range is for: ``centered`` ones have no zero point.

    Example:
        >>> Grid(bits=2, centered=True).nearest(np.array([-3.0, 0.4, 0.6]), -1.0, 1.0).tolist()
        [-1.0, 0.0, 1.0]
    """

    bits: int
    centered: bool = False

    def nearest(self, values: Array, low: float, high: float) -> Array:
        """``values``, float64, on the grid of ``[low, high]``, zero among its integers."""
        least, most = integer_limits(self.bits, symmetric=self.centered)
        if self.centered:
            step, zero = max(-low, high, 1e-12) / most, 0.0
        else:
            low, high = min(low, 0.0), max(high, 0.0)
            step = max(high - low, 1e-12) / (most - least)
            zero = np.round(least - low / step)
        return (np.clip(np.round(values / step) + zero, least, most) - zero) * step


class Histogram:
    """How often each value of a tensor was seen, in ``BINS`` bins over a range that grows by doubling.

    Doubling puts two bins together, so that nothing has to be looked at twice. Zeros, of which there are many
    behind a ReLU, are counted apart: they are exact on every grid.

    Example:
        >>> seen = Histogram()
        >>> seen.add(np.array([0.0, 1.0]))
        >>> seen.add(np.array([3.0]))
        >>> seen.least, seen.most, seen.zeros, int(seen.counts.sum())
        (0.0, 3.0, 1, 2)
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS)
        self.low, self.width = 0.0, 0.0
        self.zeros, self.faults = 0, 0
        self.least, self.most = np.inf, -np.inf

    @property
    def high(self) -> float:
        """The end of the last bin."""
        return self.low + BINS * self.width

    @property
    def present(self) -> tuple[Array, Array]:
        """(centres, counts) of the bins that hold something; no centre is outside of what was seen."""
        held = self.counts > 0
        centres = self.low + (np.flatnonzero(held) + 0.5) * self.width
        return np.clip(centres, self.least, self.most), self.counts[held]

    def add(self, values: Array) -> None:
        """Take ``values``, of any shape; NaN and infinities are counted as ``faults`` and left out."""
        values = np.asarray(values).ravel()
        finite = np.isfinite(values)
        if not finite.all():
            self.faults += int((~finite).sum())
            values = values[finite]
        if not values.size:
            return
        self.least, self.most = min(self.least, float(values.min())), max(self.most, float(values.max()))
        counted = values[values != 0].astype("float64")
        self.zeros += values.size - counted.size
        if not counted.size:
            return
        self._reach(float(counted.min()), float(counted.max()))
        index = ((counted - self.low) / self.width).astype("int64")
        self.counts += np.bincount(np.clip(index, 0, BINS - 1), minlength=BINS)

    def _reach(self, least: float, most: float) -> None:
        """Grow until ``[least, most]`` is inside."""
        if not self.width:
            span = max(most - least, 1e-9 * max(abs(least), abs(most)), 1e-30)
            self.low, self.width = least, span / BINS
        while least < self.low:
            self._double(BINS // 2)
            self.low -= self.width * BINS / 2
        while most > self.high:
            self._double(0)

    def _double(self, at: int) -> None:
        pairs = self.counts.reshape(-1, 2).sum(-1)
        self.counts = np.zeros(BINS)
        self.counts[at : at + BINS // 2] = pairs
        self.width *= 2.0


Range = tuple[float, float]


def percentile(seen: Histogram, grid: Grid) -> Range:
    """What is left when the ``LEFT_OUT`` share of the values is clipped, half of it at each end.

    An end that many values are at (the zero of a ReLU) stays where it is.

    Example:
        >>> seen = Histogram()
        >>> seen.add(np.append(np.linspace(0.0, 1.0, 100_000), 50.0))
        >>> low, high = percentile(seen, Grid(bits=8))
        >>> low < 0.02, 0.98 < high < 1.1
        (True, True)
    """
    centres, counts = seen.present
    values = np.append(centres, 0.0) if seen.zeros else centres
    counts = np.append(counts, float(seen.zeros)) if seen.zeros else counts
    if grid.centered:
        reach = _quantile(np.abs(values), counts, 1.0 - LEFT_OUT) + seen.width / 2
        reach = min(reach, max(-seen.least, seen.most))
        return -reach, reach
    low = _quantile(values, counts, LEFT_OUT / 2) - seen.width / 2
    high = _quantile(values, counts, 1.0 - LEFT_OUT / 2) + seen.width / 2
    return max(seen.least, low), min(seen.most, high)


def _quantile(values: Array, counts: Array, share: float) -> float:
    order = np.argsort(values)
    below = np.cumsum(counts[order])
    return float(values[order][min(np.searchsorted(below, share * below[-1]), len(order) - 1)])


def mse(seen: Histogram, grid: Grid) -> Range:
    r"""The range of least :math:`\sum_v n_v (v - q(v))^2`, rounding and clipping together.

    Both ends are moved in together, then each by itself. Banner et al. 2019, arXiv:1810.05723, section 3.

    Example:
        >>> seen = Histogram()
        >>> seen.add(np.append(np.linspace(-1.0, 1.0, 100_000), 50.0))
        >>> low, high = mse(seen, Grid(bits=2))
        >>> high < 50.0
        True
    """
    return _best(seen, grid, lambda low, high: squared_error(seen, grid, low, high))


def squared_error(seen: Histogram, grid: Grid, low: float, high: float) -> float:
    """Sum over what was seen of its squared distance to the grid of ``[low, high]``.

    Example:
        >>> seen = Histogram()
        >>> seen.add(np.array([0.0, 1.0, 3.0]))
        >>> round(squared_error(seen, Grid(bits=8), 0.0, 1.0), 2)
        4.0
    """
    centres, counts = seen.present
    return float((counts * (centres - grid.nearest(centres, low, high)) ** 2).sum())


def entropy(seen: Histogram, grid: Grid) -> Range:
    r"""The range whose integers tell most of the values: least :math:`KL(P \| Q) = \sum_v P_v \log (P_v / Q_v)`.

    P is the histogram with what is clipped put at the ends; Q is what P is, before that, when each integer's share
    is spread evenly over the bins that round to it and that P has something in. Zeros are left out. Migacz 2017,
    "8-bit Inference with TensorRT", GTC San Jose, slides 19 to 40.

    Example:
        >>> seen = Histogram()
        >>> seen.add(np.append(np.linspace(0.0, 1.0, 100_000), 50.0))
        >>> entropy(seen, Grid(bits=8))[1] < 50.0
        True
    """
    centres, counts = seen.present
    if not len(centres):
        return seen.least, seen.most

    def divergence(low: float, high: float) -> float:
        inside = np.flatnonzero((centres >= low) & (centres <= high))
        if not len(inside):
            return np.inf
        first, last = inside[0], inside[-1]
        p = counts[first : last + 1].copy()
        # The clipped mass counts in P, not in Q: that is what clipping costs.
        integer = np.unique(grid.nearest(centres[first : last + 1], low, high), return_inverse=True)[1]
        q = (np.bincount(integer, p) / np.bincount(integer))[integer]
        p[0] += counts[:first].sum()
        p[-1] += counts[last + 1 :].sum()
        p, q = p / p.sum(), q / q.sum()
        return float((p * np.log(p / q)).sum())

    return _best(seen, grid, divergence)


def _best(seen: Histogram, grid: Grid, cost: Callable[[float, float], float]) -> Range:
    """The least cost among ranges with both ends moved in, then with each of them moved by itself."""
    low, high = seen.least, seen.most
    if grid.centered:
        reach = max(-low, high)
        best = float(min((reach * s for s in TRIED), key=lambda r: cost(-r, r)))
        return -best, best
    if not high > low:
        return low, high
    tried = [(low * s if low < 0 else low, high * s if high > 0 else high) for s in TRIED]
    low, high = min(tried, key=lambda ends: cost(*ends))
    if low < 0 < high:
        low = min((seen.least * s for s in TRIED), key=lambda end: cost(end, high))
        high = min((seen.most * s for s in TRIED), key=lambda end: cost(low, end))
    return float(low), float(high)


SEARCHES: dict[str, Callable[[Histogram, Grid], Range]] = {
    "percentile": percentile,
    "mse": mse,
    "entropy": entropy,
}
"""Name of a calibration that goes by a histogram -> (what was seen, grid) -> the two ends of the range."""

METHODS = ("minmax", "moving_average", *SEARCHES)
"""How calibration puts together what it sees."""

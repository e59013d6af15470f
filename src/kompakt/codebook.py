"""Where the values of a codebook start: NumPy, one dimension, everything on sorted values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kompakt.errors import InputError

Array = Any
SEEDED_FROM = 2**16
"""Values that k-means++ draws from; more are first put together in neighbouring groups of equal size."""


def starting_codebook(values: Array, k: int, start: str, *, pin_zero: bool = False, seed: int = 0) -> Array:
    """At most ``k`` values for ``values`` to share, all different, ascending.

    Fewer than ``k`` only where ``values`` holds fewer distinct ones: then it is those.

    Args:
        values: any shape, float. k: at least 2. start: a name of ``STARTS``. pin_zero: 0.0 is one of the ``k``.
        seed: for "kmeans++" and "random".

    Returns:
        (m,) float32, m <= k.

    Raises:
        InputError: a value is NaN or infinite.

    Example:
        >>> starting_codebook(np.array([0.0, 1.0, 2.0, 9.0]), 3, "linear").tolist()
        [0.0, 4.5, 9.0]
        >>> starting_codebook(np.array([1.0, 2.0]), 4, "linear", pin_zero=True).tolist()
        [0.0, 1.0, 2.0]
    """
    present, counts = np.unique(np.asarray(values, "float32").ravel(), return_counts=True)
    if not np.isfinite(present).all():
        raise InputError("values with NaN or infinities cannot be clustered: go back to weights from before them")
    fixed = np.zeros(1 if pin_zero else 0, "float32")
    if len(np.union1d(present, fixed)) <= k:
        return np.union1d(present, fixed)
    if pin_zero:
        present, counts = present[present != 0], counts[present != 0]
    free = k - len(fixed)
    book = np.union1d(STARTS[start](present.astype("float64"), counts, free, seed).astype("float32"), fixed)
    while len(book) < k:
        # Two met, or one met the pinned zero: the value that is worst served gets a centroid of its own.
        middle = (book[1:] + book[:-1]) / 2.0
        book = np.union1d(book, present[np.abs(present - book[np.searchsorted(middle, present)]).argmax()])
    return book


def linear(values: Array, _counts: Array, k: int, _seed: int) -> Array:
    """``k`` values evenly over the range (Han et al. 2016, arXiv:1510.00149, section 3.2)."""
    return np.linspace(values[0], values[-1], k)


def density(values: Array, counts: Array, k: int, _seed: int) -> Array:
    r"""The middles of ``k`` slices of equal mass: :math:`c_j = F^{-1}((j + 1/2) / k)`, F the distribution.

    Han et al. 2016, section 3.2, "density-based". A value that fills several slices is taken once.
    """
    return values[np.searchsorted(np.cumsum(counts), (np.arange(k) + 0.5) / k * counts.sum())]


def random(values: Array, counts: Array, k: int, seed: int) -> Array:
    """``k`` of the weights, drawn at random, no value twice (Han et al. 2016, section 3.2, "Forgy")."""
    return np.random.default_rng(seed).choice(values, k, replace=False, p=counts / counts.sum())


def kmeans(values: Array, counts: Array, k: int, seed: int) -> Array:
    r"""k-means from k-means++ seeds: the ``k`` means that Lloyd's iteration settles on.

    Between two centroids lies one midpoint, so over sorted values an iteration is a search for k - 1 of them
    and differences of running sums: :math:`O(k \log n)`, exact, however many values there are.

    Args:
        values: (n,) float64, ascending, distinct. counts: (n,) how often each is there.
    """
    centres = np.sort(_seeds(*_grouped(values, counts), k, np.random.default_rng(seed)))
    mass = np.concatenate([[0.0], np.cumsum(counts)])
    moment = np.concatenate([[0.0], np.cumsum(values * counts)])
    edges = None
    for _ in range(300):
        inner = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2.0, side="right")
        found = np.concatenate([[0], inner, [len(values)]])
        if edges is not None and (found == edges).all():
            break
        edges = found
        members = np.diff(mass[edges])
        centres = np.where(members > 0, np.diff(moment[edges]) / np.maximum(members, 1.0), centres)
    return centres


def _grouped(values: Array, counts: Array) -> tuple[Array, Array]:
    """At most ``SEEDED_FROM`` (mean, count) of neighbouring values."""
    if len(values) <= SEEDED_FROM:
        return values, counts
    starts = np.linspace(0, len(values), SEEDED_FROM, endpoint=False).astype(int)
    mass = np.add.reduceat(counts, starts)
    return np.add.reduceat(values * counts, starts) / mass, mass


def _seeds(values: Array, counts: Array, k: int, generator: np.random.Generator) -> Array:
    r"""k-means++ seeds: each next one drawn in proportion to :math:`D^2`, the best of a few draws kept.

    Arthur and Vassilvitskii 2007, "k-means++: the advantages of careful seeding", sections 2.2 and 6.
    """
    chosen = [generator.choice(values, p=counts / counts.sum())]
    squared = (values - chosen[0]) ** 2
    for _ in range(k - 1):
        running = np.cumsum(squared * counts)
        draws = np.searchsorted(running, generator.random(2 + int(np.log(k))) * running[-1], side="right")
        tried = [np.minimum(squared, (values - values[i]) ** 2) for i in np.minimum(draws, len(values) - 1)]
        best = int(np.argmin([(t * counts).sum() for t in tried]))
        chosen.append(values[min(draws[best], len(values) - 1)])
        squared = tried[best]
    return np.array(chosen)


STARTS: dict[str, Callable[[Array, Array, int, int], Array]] = {
    "linear": linear,
    "kmeans++": kmeans,
    "density": density,
    "random": random,
}
"""Name of a start -> (ascending distinct values, their counts, k, seed) -> k values, some perhaps equal."""

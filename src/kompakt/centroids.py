"""Values that weights share: pure functions of ``keras.ops``."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from keras import ops

from kompakt.axes import Tensor
from kompakt.compiled import compiled
from kompakt.numerics import SMALLEST_RANGE, incoming


def nearest_centroid(x: Tensor, centroids: Tensor) -> Tensor:
    r"""Index of the nearest of the ascending ``centroids``: the number of midpoints that lie below.

    Nearest in one dimension needs no all-pairs distance. At most ``AT_ONCE`` midpoints, evenly chosen, are
    compared with every value; where there are more, the interval found is halved until one is left, so the cost
    is :math:`O(n \log k)`. A value in the middle goes to the lower centroid.

    Args:
        x: float.
        centroids: (k, ...) float, ascending along the first axis; the others broadcast against ``x``, as
            :func:`along_channels` lays them out.

    Returns:
        int32 of the shape of ``x``, values 0..k-1.

    Example:
        >>> i = nearest_centroid(ops.array([-1.0, 0.4, 0.6]), ops.array([[0.0], [1.0]]))
        >>> ops.convert_to_numpy(i).tolist()
        [0, 0, 1]
    """
    k = int(centroids.shape[0])
    index = ops.zeros(x.shape, dtype="int32")
    if k == 1:
        return index
    middle = (centroids[1:] + centroids[:-1]) / 2.0
    stride = 1
    while (k - 1) // stride > AT_ONCE:
        stride *= 2
    for j in range(stride - 1, k - 1, stride):
        index += ops.cast(x > middle[j], "int32")
    index *= stride
    while stride > 1:
        stride //= 2
        probe = ops.minimum(index + stride, k - 1)
        beyond = ops.logical_and(x > _pick(middle, probe - 1), index + stride <= k - 1)
        index = ops.where(beyond, index + stride, index)
    return index


def _pick(table: Tensor, index: Tensor) -> Tensor:
    """``table[index]`` for each value, in its own channel; ``table`` is (k, ...) as for ``nearest_centroid``."""
    return ops.take(ops.reshape(table, (-1,)), _flat(table, index))


def _flat(table: Tensor, index: Tensor) -> Tensor:
    """``index`` into the flattened ``table``."""
    channels = int(np.prod(table.shape[1:], dtype=int))
    if channels == 1:
        return index
    return index * channels + ops.reshape(ops.arange(channels, dtype="int32"), table.shape[1:])


AT_ONCE = 15
"""Midpoints that are compared with every value: so many fit in registers and cost less than one look-up."""

LANES = 16
"""Running sums kept for one centroid side by side: adding to one, over and over, waits for the sum before."""


def share_values(x: Tensor, centroids: Tensor, *, mean: bool = True, turn: Tensor = 0, turns: int = 1) -> Tensor:
    r"""Each value replaced by the nearest centroid, :math:`y_i = c_{a(i)}`, exactly.

    The gradient of ``x`` is straight through; that of a centroid is the mean of its members',
    :math:`\frac{1}{|a^{-1}(j)|}\sum_{a(i)=j} g_i`, or, without ``mean``, their sum (Han et al. 2016,
    arXiv:1510.00149, section 3.3, equation (3)). Values that are not finite come out as NaN.

    Args:
        x, centroids: as for :func:`nearest_centroid`.
        turn, turns: take the means over one of ``turns`` blocks of rows alone (a row is along the last axis;
            their number is a multiple of ``turns``). For one codebook; sums are always over all.

    Example:
        >>> y = share_values(ops.array([-1.0, 0.4, 0.6]), ops.array([[0.0], [1.0]]))
        >>> ops.convert_to_numpy(y).tolist()
        [0.0, 0.0, 1.0]
    """

    def forward(x: Tensor, centroids: Tensor) -> Any:
        def backward(*args: Tensor, upstream: Tensor = None) -> tuple[Tensor, Tensor]:
            gradient = incoming(args, upstream)
            to_centroids = _member_means(turns) if mean else _member_sums
            return gradient, to_centroids(gradient, x, centroids, turn)

        return _nearest_value(x, centroids), backward

    # TensorFlow takes a variable that is read inside for one more input: read it here.
    return ops.custom_gradient(forward)(ops.cast(x, "float32"), ops.cast(centroids, "float32"))


@compiled
def _nearest_value(x: Tensor, centroids: Tensor) -> Tensor:
    k = int(centroids.shape[0])
    if k > AT_ONCE + 1:
        return _pick(centroids, nearest_centroid(x, centroids)) + (x - x)
    # Compilers make one loop over registers of this; an index and a look-up cost them three times as much.
    middle = (centroids[1:] + centroids[:-1]) / 2.0
    value = ops.broadcast_to(centroids[0], x.shape)
    for j in range(k - 1):
        value = ops.where(x > middle[j], centroids[j + 1], value)
    return value + (x - x)


@functools.cache
def _member_means(turns: int) -> Any:
    def means(values: Tensor, x: Tensor, centroids: Tensor, turn: Tensor) -> Tensor:
        table = centroids
        if turns > 1:
            values, x = (_block(t, turn, turns) for t in (values, x))
            table = ops.reshape(centroids, (centroids.shape[0], 1, 1))  # of the block's rank
        pairs = ops.stack([values, ops.ones_like(values)], axis=-1)  # sums and counts in one pass
        sums = _member_totals(pairs, x, table)
        return ops.reshape(sums[..., 0] / ops.maximum(sums[..., 1], 1.0), centroids.shape)

    return compiled(means)


@compiled
def _member_sums(values: Tensor, x: Tensor, centroids: Tensor, _turn: Tensor) -> Tensor:
    return _member_totals(ops.expand_dims(values, -1), x, centroids)[..., 0]


def _block(x: Tensor, turn: Tensor, turns: int) -> Tensor:
    """Block ``turn`` of ``turns`` blocks of rows: (rows / turns, x.shape[-1])."""
    width = int(x.shape[-1])
    rows = int(np.prod(x.shape, dtype=int)) // (turns * width)
    return ops.reshape(ops.slice(ops.reshape(x, (turns, rows, width)), (turn, 0, 0), (1, rows, width)), (rows, width))


def _member_totals(values: Tensor, x: Tensor, centroids: Tensor) -> Tensor:
    """``values`` (*x.shape, m) summed over the members of each centroid: (*centroids.shape, m)."""
    size = int(np.prod(centroids.shape, dtype=int))
    index = ops.reshape(_flat(centroids, nearest_centroid(x, centroids)), (-1,))
    lanes = LANES if int(centroids.shape[0]) == size else 1
    if lanes > 1:
        index = index * lanes + ops.arange(index.shape[0], dtype="int32") % lanes
    sums = ops.segment_sum(ops.reshape(values, (-1, values.shape[-1])), index, num_segments=size * lanes)
    return ops.reshape(ops.sum(ops.reshape(sums, (size, lanes, -1)), axis=1), (*centroids.shape, values.shape[-1]))


def attend_centroids(
    x: Tensor, centroids: Tensor, movable: Tensor, *, temperature: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:
    r"""Values mixed of centroids by attention, and the centroids as the means that it settles on.

    .. math::

        a_{ij} = softmax_j(-|x_i - c_j| / \tau), \quad c_j \leftarrow \frac{\sum_i a_{ij} x_i}{\sum_i a_{ij}},
        \quad y_i = \sum_j a_{ij} c_j

    The middle step is done ``iterations`` times, the others once more after it. Gradients go through all of it.
    Cho et al. 2022, "DKM: Differentiable k-Means Clustering Layer for Neural Network Compression",
    arXiv:2108.12659, section 3.2.

    Args:
        x: (channels, n). centroids: (channels, k). movable: (channels, k), 0 where a centroid stays as it is.
        temperature: (channels,), above 0.

    Returns:
        (y of the shape of ``x``, centroids); memory is iterations * channels * n * k floats.

    Example:
        >>> y, c = attend_centroids(
        ...     ops.array([[-1.0, 1.0, 3.0]]), ops.array([[-1.0, 1.0]]), ops.ones((1, 2)),
        ...     temperature=ops.array([0.01]), iterations=1)
        >>> ops.convert_to_numpy(ops.round(y)).tolist()
        [[-1.0, 2.0, 2.0]]
    """
    values = ops.expand_dims(x, -1)
    cool = ops.reshape(1.0 / ops.maximum(temperature, SMALLEST_RANGE), (-1, 1, 1))

    def attention(centroids: Tensor) -> Tensor:
        return ops.softmax(-ops.abs(values - ops.expand_dims(centroids, -2)) * cool, axis=-1)

    for _ in range(iterations):
        shares = attention(centroids)
        # A centroid that nobody attends to stays where it is.
        mass = ops.sum(shares, axis=-2) + SMALLEST_RANGE
        means = (ops.sum(shares * values, axis=-2) + SMALLEST_RANGE * centroids) / mass
        centroids = centroids + movable * (means - centroids)
    return ops.sum(attention(centroids) * ops.expand_dims(centroids, -2), axis=-1), centroids

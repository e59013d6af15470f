"""Pure functions of ``keras.ops``: the same numbers on TensorFlow, JAX and torch.

``scale`` always multiplies the integer. Tensors are float32 unless said otherwise. Where a function takes
an ``axis`` it is a tuple of the axes that keep their own value (the channels); () means one for the tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

Tensor = Any
SMALLEST_RANGE = 1e-8
"""A range narrower than this is widened to it: a dead channel must not divide by zero."""


def integer_limits(bits: int, *, symmetric: bool) -> tuple[int, int]:
    """Smallest and largest signed integer of a grid; a symmetric one leaves out the lowest.

    Example:
        >>> integer_limits(8, symmetric=False), integer_limits(8, symmetric=True)
        ((-128, 127), (-127, 127))
    """
    top = 2 ** (bits - 1) - 1
    return (-top, top) if symmetric else (-top - 1, top)


def clip_exact(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """``clip`` with gradient 1 inside the closed interval and 0 outside, the same on every backend."""
    inside = ops.cast(ops.logical_and(x >= low, x <= high), x.dtype)
    return ops.stop_gradient(ops.clip(x, low, high) - x * inside) + x * inside


def reduce_axes(rank: int, axis: Sequence[int]) -> tuple[int, ...]:
    """The axes that are not channels.

    Example:
        >>> reduce_axes(4, (-1,))
        (0, 1, 2)
    """
    kept = {a % rank for a in axis}
    return tuple(a for a in range(rank) if a not in kept)


def min_max(x: Tensor, axis: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """Smallest and largest value, kept as broadcastable tensors of the rank of ``x``."""
    reduced = reduce_axes(len(x.shape), axis)
    if not reduced:
        return x, x
    return ops.min(x, axis=reduced, keepdims=True), ops.max(x, axis=reduced, keepdims=True)


def live_reach(reach: Tensor) -> Tensor:
    """``reach`` (largest magnitude of each channel) with dead channels given one that a bias can live with.

    A bias is stored in 32 bits on the grid of step ``input scale * weight scale``: a channel of zeros, or
    next to zero, would have a step so small that the bias overflows. A channel of zeros takes the largest
    reach of the tensor, and none is less than a 65,536th of it; a tensor of zeros takes 1.

    Example:
        >>> ops.convert_to_numpy(live_reach(ops.array([0.0, 0.5, 2.0]))).tolist()
        [2.0, 0.5, 2.0]
    """
    largest = ops.max(reach)
    largest = ops.where(largest > 0, largest, ops.ones_like(largest))
    return ops.where(reach > 0, ops.maximum(reach, largest * 2.0**-16), largest)


def scale_from_range(low: Tensor, high: Tensor, bits: int, *, symmetric: bool) -> tuple[Tensor, Tensor]:
    r"""Scale and zero point of the grid that covers ``[low, high]`` and holds 0.0 exactly.

    Asymmetric: :math:`s = (max(h,0) - min(l,0)) / (2^b - 1)`, :math:`z = round(q_{min} - min(l,0)/s)`;
    symmetric: :math:`s = max(|l|, |h|) / (2^{b-1} - 1)`, :math:`z = 0`.
    Jacob et al. 2018, section 3 and appendix; narrow range after TensorFlow Lite's int8 specification.

    Args:
        low, high: float tensors of any one shape.
        bits: width, 2..16.
        symmetric: narrow symmetric grid.

    Returns:
        (scale, zero_point), float tensors of the shape of ``low``; the zero point holds whole numbers.

    Example:
        >>> s, z = scale_from_range(ops.array(0.0), ops.array(255.0), 8, symmetric=False)
        >>> float(s), float(z)
        (1.0, -128.0)
    """
    q_min, q_max = integer_limits(bits, symmetric=symmetric)
    if symmetric:
        reach = ops.maximum(ops.maximum(ops.abs(low), ops.abs(high)), SMALLEST_RANGE)
        return reach / q_max, ops.zeros_like(reach)
    low, high = ops.minimum(low, 0.0), ops.maximum(high, 0.0)
    scale = ops.maximum(high - low, SMALLEST_RANGE) / (q_max - q_min)
    return scale, ops.clip(ops.round(q_min - low / scale), q_min, q_max)


TIE = 2.0**-10
"""How near to a half counts as one: more than float32 loses in a mean, less than a mean of 500 can be off."""


def round_half_away(x: Tensor) -> Tensor:
    """Round half away from zero, as TFLite's integer average pooling divides.

    Example:
        >>> ops.convert_to_numpy(round_half_away(ops.array([0.5, -2.5, 1.2]))).tolist()
        [1.0, -3.0, 1.0]
    """
    return ops.sign(x) * ops.floor(ops.abs(x) + (0.5 + TIE))


def round_half_up(x: Tensor) -> Tensor:
    """Round half towards plus infinity, as XNNPACK's integer resizing does.

    Example:
        >>> ops.convert_to_numpy(round_half_up(ops.array([0.5, -2.5, 1.2]))).tolist()
        [1.0, -2.0, 1.0]
    """
    return ops.floor(x + (0.5 + TIE))


def quantize(x: Tensor, scale: Tensor, zero_point: Tensor, bits: int, *, symmetric: bool) -> Tensor:
    r"""Whole numbers :math:`q = clip(round(x / s + z), q_{min}, q_{max})`, as floats of the shape of ``x``.

    Halves are rounded to even, as XNNPACK's requantization does.

    Args:
        scale, zero_point: broadcast against ``x``.
    """
    q_min, q_max = integer_limits(bits, symmetric=symmetric)
    return ops.clip(ops.round(x / scale + zero_point), q_min, q_max)


def dequantize(q: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Real numbers ``scale * (q - zero_point)``."""
    return (q - zero_point) * scale


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, bits: int, *, symmetric: bool) -> Tensor:
    """``dequantize(quantize(x))``, straight through inside the grid's range, gradient zero outside it.

    ``scale`` and ``zero_point`` get no gradient.

    Example:
        >>> y = fake_quantize(ops.array([0.26, 9.0]), ops.array(0.5), ops.array(0.0), 4, symmetric=True)
        >>> ops.convert_to_numpy(y).tolist()
        [0.5, 3.5]
    """
    scale, zero_point = ops.stop_gradient(scale), ops.stop_gradient(zero_point)
    q_min, q_max = integer_limits(bits, symmetric=symmetric)
    # Half a step more on either side: what rounds onto the grid has not been clipped.
    clipped = clip_exact(x, (q_min - zero_point - 0.5) * scale, (q_max - zero_point + 0.5) * scale)
    integers = quantize(x, scale, zero_point, bits, symmetric=symmetric)
    on_grid = dequantize(integers, scale, zero_point)
    return ops.stop_gradient(on_grid - clipped) + clipped


def keep_topk(score: Tensor, k: int) -> Tensor:
    """Mask with exactly ``k`` ones, at the largest scores; ties go to the lower flat index.

    A ``score > threshold`` mask keeps too few or too many on ties (clustered weights). Masks are made between
    training steps, so the threshold is found on the host: a partial selection costs :math:`O(n)`, where a
    sort on every backend costs ten times as much at a million weights.

    Args:
        score: any shape. k: 0..size.

    Returns:
        float32 mask of the same shape.

    Example:
        >>> ops.convert_to_numpy(keep_topk(ops.array([1.0, 1.0, 1.0, 0.5]), 2)).tolist()
        [1.0, 1.0, 0.0, 0.0]
    """
    flat = ops.convert_to_numpy(score).ravel()
    if k <= 0:
        return ops.zeros(score.shape, "float32")
    threshold = np.partition(flat, flat.size - k)[flat.size - k]
    kept = flat > threshold
    kept[np.flatnonzero(flat == threshold)[: k - int(kept.sum())]] = True
    return ops.convert_to_tensor(kept.reshape(score.shape).astype("float32"))


def keep_topk_of_each(score: Tensor, k: int) -> Tensor:
    """Mask with exactly ``k`` ones in each row of the last axis; ties go to the lower index.

    Costs :math:`O(n m)` for rows of ``m``: meant for the short rows of N:M sparsity.

    Example:
        >>> ops.convert_to_numpy(keep_topk_of_each(ops.array([[1.0, 3.0, 3.0, 2.0]]), 1)).tolist()
        [[0.0, 1.0, 0.0, 0.0]]
    """
    size = int(score.shape[-1])
    mine, other = ops.expand_dims(score, -1), ops.expand_dims(score, -2)
    earlier = ops.expand_dims(ops.arange(size), 0) < ops.expand_dims(ops.arange(size), -1)
    ahead = ops.logical_or(other > mine, ops.logical_and(other == mine, earlier))
    return ops.cast(ops.sum(ops.cast(ahead, "int32"), axis=-1) < k, "float32")


def share_out(
    scores: Sequence[Any], sizes: Sequence[int], drop: int, limits: Sequence[tuple[int, int]]
) -> tuple[int, ...]:
    """How many groups each tensor drops where the lowest scores of all of them together go.

    Args:
        scores: one array a tensor, a score a group. sizes: values in a group of each tensor.
        drop: values to drop in all. limits: fewest and most groups that each tensor may drop.

    Returns:
        Groups to drop a tensor; their values come to ``drop``, or to the nearest count under it that whole
        groups and the limits admit.

    Example:
        >>> share_out([np.array([0.1, 0.2, 9.0]), np.array([0.3, 8.0])], [1, 1], 3, [(0, 3), (0, 2)])
        (2, 1)
    """
    order = [np.sort(np.asarray(ops.convert_to_numpy(s), "float64").ravel()) for s in scores]
    least = np.array([low for low, _ in limits])
    free = [s[low:high] for s, (low, high) in zip(order, limits, strict=True)]
    owner = np.repeat(np.arange(len(free)), [len(s) for s in free])
    cheapest = owner[np.argsort(np.concatenate(free), kind="stable")]
    spent = np.cumsum(np.asarray(sizes)[cheapest])
    within = int(np.searchsorted(spent, drop - int((least * np.asarray(sizes)).sum()), side="right"))
    counts = least + np.bincount(cheapest[:within], minlength=len(free))
    return tuple(int(n) for n in counts)


def nearest_centroid(x: Tensor, centroids: Tensor) -> Tensor:
    r"""Index of the nearest of the sorted ``centroids``, by binary search over the midpoints.

    Costs :math:`O(n \log k)`, not :math:`O(n k)`: nearest in one dimension needs no all-pairs distance.
    A value in the middle goes to the lower centroid.

    Args:
        x: (channels, n) float.
        centroids: (channels, k) float, ascending along the last axis.

    Returns:
        int32 (channels, n), values 0..k-1.

    Example:
        >>> i = nearest_centroid(ops.array([[-1.0, 0.4, 0.6]]), ops.array([[0.0, 1.0]]))
        >>> ops.convert_to_numpy(i).tolist()
        [[0, 0, 1]]
    """
    k = int(centroids.shape[-1])
    index = ops.zeros(x.shape, dtype="int32")
    if k == 1:
        return index
    middle = (centroids[:, 1:] + centroids[:, :-1]) / 2.0
    step = 2 ** ((k - 1).bit_length() - 1)
    while step:
        probe = ops.minimum(index + step, k - 1)
        beyond = x > ops.take_along_axis(middle, probe - 1, axis=-1)
        index = ops.where(ops.logical_and(beyond, index + step <= k - 1), index + step, index)
        step //= 2
    return index


def channels_first(x: Tensor, axis: Sequence[int]) -> Tensor:
    """(channels, values a channel) view of ``x``; one channel where ``axis`` is ()."""
    rank = len(x.shape)
    kept = tuple(a % rank for a in axis)
    size = 1
    for a in kept:
        size *= int(x.shape[a])
    return ops.reshape(ops.transpose(x, kept + reduce_axes(rank, kept)), (size, -1))


def channels_back(flat: Tensor, shape: Sequence[int], axis: Sequence[int]) -> Tensor:
    """Undo :func:`channels_first` for a tensor of ``shape``."""
    rank = len(shape)
    kept = tuple(a % rank for a in axis)
    order = kept + reduce_axes(rank, kept)
    moved = ops.reshape(flat, tuple(int(shape[a]) for a in order))
    back = ops.transpose(moved, tuple(order.index(a) for a in range(rank)))
    # Laid out in memory as any weight is: torch multiplies a transposed view in another order.
    return ops.reshape(ops.reshape(back, (-1,)), tuple(int(n) for n in shape))


def rows_of(x: Tensor, axis: Sequence[int]) -> Tensor:
    """(outputs, places, inputs) view of a kernel, TFLite's layout: ``inputs`` is the last axis that is no channel.

    Example:
        >>> tuple(rows_of(ops.zeros((3, 3, 4, 8)), (-1,)).shape)
        (8, 9, 4)
    """
    flat = channels_first(x, axis)
    rest = reduce_axes(len(x.shape), axis)
    inputs = int(x.shape[rest[-1]]) if rest else 1
    return ops.reshape(flat, (int(flat.shape[0]), -1, inputs))


def rows_back(rows: Tensor, shape: Sequence[int], axis: Sequence[int]) -> Tensor:
    """Undo :func:`rows_of` for a kernel of ``shape``."""
    return channels_back(ops.reshape(rows, (int(rows.shape[0]), -1)), shape, axis)


def along(scale: Any, shape: Sequence[int], axis: Sequence[int]) -> Any:
    """``scale``, an array of one value a channel, shaped to multiply a tensor of ``shape`` over its channel axes.

    Example:
        >>> along(ops.convert_to_numpy(ops.ones(4)), (3, 3, 2, 4), (-1,)).shape
        (1, 1, 1, 4)
    """
    kept = {a % len(shape) for a in axis}
    return scale.reshape([n if i in kept else 1 for i, n in enumerate(shape)])

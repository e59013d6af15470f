"""Views of a tensor by its channels: the same on TensorFlow, JAX and torch.

``axis`` is a tuple of the axes that keep their own value (the channels); () means one for the tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

Tensor = Any


def reduce_axes(rank: int, axis: Sequence[int]) -> tuple[int, ...]:
    """The axes that are not channels.

    Example:
        >>> reduce_axes(4, (-1,))
        (0, 1, 2)
    """
    kept = {a % rank for a in axis}
    return tuple(a for a in range(rank) if a not in kept)


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


def along_channels(rows: Tensor, shape: Sequence[int], axis: Sequence[int]) -> Tensor:
    """(m, channels) as (m, ...) that broadcasts against a tensor of ``shape`` whose channels are on ``axis``.

    The order of the channels is that of :func:`channels_first`.

    Example:
        >>> tuple(along_channels(ops.zeros((3, 8)), (5, 5, 2, 8), (-1,)).shape)
        (3, 1, 1, 1, 8)
    """
    rank = len(shape)
    kept = tuple(a % rank for a in axis)
    rows = ops.reshape(rows, (rows.shape[0], *(int(shape[a]) for a in kept)))
    if sorted(kept) != list(kept):
        rows = ops.transpose(rows, (0, *(1 + kept.index(a) for a in sorted(kept))))
    return ops.reshape(rows, (rows.shape[0], *(int(n) if a in kept else 1 for a, n in enumerate(shape))))

"""Masks with exactly so many ones, at the largest scores: pure functions of ``keras.ops``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from kompakt.axes import Tensor


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
    threshold = nth_smallest(flat, flat.size - k)
    kept = flat > threshold
    kept[np.flatnonzero(flat == threshold)[: k - int(kept.sum())]] = True
    return ops.convert_to_tensor(kept.reshape(score.shape).astype("float32"))


def nth_smallest(flat: Any, n: int) -> Any:
    """The value that would be at ``n`` if the one-dimensional NumPy array ``flat`` were sorted.

    Two values of a sample, evenly taken, nearly always lie around it; only what is between them is then
    selected from, a sixteenth of the array. Where they do not, all of it is.

    Example:
        >>> nth_smallest(np.array([3.0, 1.0, 2.0]), 1).item()
        2.0
    """
    if flat.size >= MANY:
        sample = np.sort(flat[:: flat.size // SAMPLE | 1])  # odd, so that it goes through all columns
        place = n * len(sample) // flat.size
        low, high = sample[max(0, place - SPREAD)], sample[min(len(sample) - 1, place + SPREAD)]
        below, between = np.count_nonzero(flat < low), flat[(flat >= low) & (flat <= high)]
        if 0 <= n - below < len(between):
            return np.partition(between, n - below)[n - below]
    return np.partition(flat, n)[n]


MANY, SAMPLE, SPREAD = 2**16, 2**12, 2**7
"""Values from which on a sample is worth its while, the values in it, and four standard errors of a rank in it."""


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

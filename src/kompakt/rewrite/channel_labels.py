"""Labels of channels: which positions of which axes of which tensors stay or go together.

Every axis of a tensor that has channels carries a label a position. Positions with labels that were joined go
together; a label that was fixed stays. Pure bookkeeping: nothing here knows a layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Labels = Any
"""An int64 array, one label a position of an axis; None where nothing on the axis can be removed."""

Axes = tuple[Labels, ...]
Shape = tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Traced:
    """A tensor of the graph: its ``shape``, batch first, and the labels of each of its axes."""

    shape: Shape
    axes: Axes


class Channels:
    """Which labels were joined, and which were fixed for what reason (a union-find).

    Example:
        >>> channels = Channels()
        >>> a, b = channels.new(3), channels.new(3)
        >>> channels.join(a, b, "added")
        >>> channels.fix(b[:1], "read by a Lambda")
        >>> [channels.reason(root) for root in channels.roots(a)]
        ['read by a Lambda', None, None]
    """

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._reasons: dict[int, str] = {}

    def new(self, count: int) -> Labels:
        """``count`` labels that were not seen before."""
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return np.arange(start, start + count)

    def join(self, a: Labels, b: Labels, reason: str) -> None:
        """Position by position they go together; where one side is None the other stays, for ``reason``."""
        if a is None or b is None:
            self.fix(a if b is None else b, reason)
            return
        for one, other in zip(a.tolist(), b.tolist(), strict=True):
            self._unite(one, other)

    def tie(self, rows: Labels) -> None:
        """The labels in each column of a matrix go together."""
        for row in rows[1:]:
            self.join(rows[0], row, "")

    def fix(self, labels: Labels, reason: str, *, above_all: bool = False) -> None:
        """They stay. The first reason is the one that is kept, unless another is ``above_all``."""
        for label in [] if labels is None else np.unique(labels).tolist():
            root = self._find(label)
            if above_all or root not in self._reasons:
                self._reasons[root] = reason

    def roots(self, labels: Labels) -> list[int]:
        """One label for all that go together."""
        return [self._find(label) for label in labels.tolist()]

    def reason(self, root: int) -> str | None:
        """Why the labels of ``root`` stay; None where they can go."""
        return self._reasons.get(root)

    def can_go(self, labels: Labels) -> bool:
        """Whether something on the axis can be removed, as far as is known yet."""
        return labels is not None and any(root not in self._reasons for root in self.roots(labels))

    def _find(self, label: int) -> int:
        parent = self._parent
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    def _unite(self, a: int, b: int) -> None:
        a, b = sorted((self._find(a), self._find(b)))
        if a == b:
            return
        self._parent[b] = a
        reason = self._reasons.pop(b, None)
        if reason is not None:
            self._reasons.setdefault(a, reason)


def broadcast(channels: Channels, tensors: Sequence[Traced], reason: str) -> Axes:
    """Axes of the elementwise result: axes are aligned from the last, and those of size 1 give way."""
    rank = max(len(tensor.shape) for tensor in tensors)
    return tuple(
        _aligned(channels, [_axis(tensor, place - rank) for tensor in tensors], reason) for place in range(rank)
    )


def _axis(tensor: Traced, axis: int) -> tuple[int | None, Labels]:
    return (tensor.shape[axis], tensor.axes[axis]) if -axis <= len(tensor.shape) else (1, None)


def _aligned(channels: Channels, axes: Sequence[tuple[int | None, Labels]], reason: str) -> Labels:
    full = [labels for size, labels in axes if size != 1] or [labels for _, labels in axes]
    known = [labels for labels in full if labels is not None]
    if not known:
        return None
    for labels in full:
        if labels is not known[0]:
            channels.join(known[0], labels, reason)
    return known[0]


def concatenate(channels: Channels, tensors: Sequence[Traced], axis: int, reason: str) -> Axes:
    """Axes of the tensors one after the other along ``axis``; their other axes go together."""
    rank = len(tensors[0].shape)
    rows = [[_axis(tensor, place - rank) for tensor in tensors] for place in range(rank)]
    return tuple(
        _end_to_end(channels, row, reason) if place == axis % rank else _aligned(channels, row, reason)
        for place, row in enumerate(rows)
    )


def _end_to_end(channels: Channels, axes: Sequence[tuple[int | None, Labels]], reason: str) -> Labels:
    if all(labels is None for _, labels in axes):
        return None
    parts = []
    for size, known in axes:
        labels = channels.new(size or 0) if known is None else known
        if known is None:
            channels.fix(labels, reason)
        parts.append(labels)
    return np.concatenate(parts)


def reshape(channels: Channels, tensor: Traced, shape: Shape, reason: str) -> Axes:
    """Axes of ``tensor`` after a reshape in row-major order.

    Axes are put into blocks of equal product. Where axes are merged the labels are repeated over the other
    axes; where one is split, the last new axis carries the channels and its copies go together: what is left
    after a removal must be a reshape of what is left before it.
    """
    old: list[Any] = list(tensor.shape)
    new: list[Any] = list(shape)
    axes: list[Labels] = [None] * len(new)
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        axes[head] = tensor.axes[head]
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail] is not None:
        tail += 1
        axes[-tail] = tensor.axes[-tail]
    middle = list(range(head, len(old) - tail)), list(range(head, len(new) - tail))
    sizes = [old[i] for i in middle[0]], [new[i] for i in middle[1]]
    if None in [*sizes[0], *sizes[1]] or math.prod(sizes[0]) != math.prod(sizes[1]):  # over axes of unknown size
        for i in middle[0]:
            channels.fix(tensor.axes[i], reason)
        return tuple(axes)
    for given, made in _blocks(old, new, *middle):
        flat = _merged(channels, [old[i] for i in given], [tensor.axes[i] for i in given], reason)
        for i, labels in zip(made, _split(channels, [new[i] for i in made], flat), strict=True):
            axes[i] = labels
    return tuple(axes)


def _blocks(old: list[Any], new: list[Any], given: list[int], made: list[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest runs of old and new axes that hold the same number of values."""
    blocks: list[tuple[list[int], list[int]]] = []
    left, right = list(given), list(made)
    while left or right:
        a, b = [left.pop(0)] if left else [], [right.pop(0)] if right else []
        while (sizes := (math.prod(old[i] for i in a), math.prod(new[i] for i in b)))[0] != sizes[1]:
            if sizes[0] < sizes[1]:
                a.append(left.pop(0))
            else:
                b.append(right.pop(0))
        blocks.append((a, b))
    return blocks


def _merged(channels: Channels, sizes: Sequence[int], axes: Sequence[Labels], reason: str) -> Labels:
    """Labels of axes that become one: one axis carries its channels, the others stay."""
    live = [i for i, labels in enumerate(axes) if channels.can_go(labels)]
    carrier = next(iter(live), next((i for i, labels in enumerate(axes) if labels is not None), None))
    if carrier is None:
        return None
    for i in live[1:]:
        channels.fix(axes[i], reason)
    around = [1] * len(sizes)
    around[carrier] = sizes[carrier]
    return np.broadcast_to(axes[carrier].reshape(around), sizes).reshape(-1)


def _split(channels: Channels, sizes: Sequence[int], labels: Labels) -> list[Labels]:
    """Labels of one axis that becomes several: the last that is more than one position carries the channels."""
    made: list[Labels] = [None] * len(sizes)
    if labels is None or not sizes:
        return made
    carrier = max((i for i, size in enumerate(sizes) if size > 1), default=len(sizes) - 1)
    rows = np.moveaxis(labels.reshape(sizes), carrier, -1).reshape(-1, sizes[carrier])
    channels.tie(rows)
    made[carrier] = rows[0]
    return made

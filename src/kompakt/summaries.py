"""What a transform tells of itself while a model trains: kinds of facts, and the numbers made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

BUCKETS = 256
"""Most that a histogram has: of a finer grid several integers share one."""


class Fact(ABC):
    """One thing that is told of a tensor at one moment.

    ``pooled`` says what is told of several tensors together: their "mean" (over all values), the "largest", or "".
    """

    pooled: ClassVar[str] = ""

    @abstractmethod
    def since(self, before: Fact | None) -> float | None:
        """The number to show; ``before`` is the same fact as it was told last, None the first time.

        Returns:
            None where there is nothing to show: yet, or as a number.
        """


@dataclass(frozen=True)
class Number(Fact):
    """A number that stands for one tensor alone, such as the end of a range; None: not known yet."""

    value: float | None

    def since(self, before: Fact | None) -> float | None:
        return None if self.value is None else float(self.value)


@dataclass(frozen=True)
class Share(Number):
    """A share of a tensor's values, 0..1."""

    pooled = "mean"


@dataclass(frozen=True)
class Count(Number):
    """How many of something a tensor has."""

    pooled = "largest"


@dataclass(frozen=True, eq=False)
class Assigned(Fact):
    """What each value is assigned to (kept or not, its cluster); shown is the share that has changed.

    Args:
        values: of a whole type or bool, one for each value of the tensor.

    Example:
        >>> Assigned(np.array([0, 1, 2, 2])).since(Assigned(np.array([0, 1, 1, 2])))
        0.25
    """

    values: np.ndarray
    pooled = "mean"

    def since(self, before: Fact | None) -> float | None:
        return float(np.mean(self.values != before.values)) if isinstance(before, Assigned) else None


@dataclass(frozen=True, eq=False)
class Moving(Fact):
    r"""Positive numbers that training moves, such as scales; shown is :math:`mean|v / v_{before} - 1|`.

    Example:
        >>> Moving(np.array([1.1, 2.0])).since(Moving(np.array([1.0, 2.0])))
        0.05...
    """

    values: np.ndarray

    def since(self, before: Fact | None) -> float | None:
        return float(np.mean(np.abs(self.values / before.values - 1.0))) if isinstance(before, Moving) else None


@dataclass(frozen=True, eq=False)
class Histogram(Fact):
    """How many values lie on each integer of a grid: ``counts[i]`` on ``least + i``."""

    least: int
    counts: np.ndarray

    def since(self, before: Fact | None) -> float | None:
        return None

    def buckets(self) -> np.ndarray:
        """(k, 3): left edge, right edge, count; a bucket is an integer, or as many as make no more than ``BUCKETS``.

        Example:
            >>> Histogram(-1, np.array([2, 0, 5])).buckets().tolist()
            [[-1.5, -0.5, 2.0], [-0.5, 0.5, 0.0], [0.5, 1.5, 5.0]]
        """
        width = -(-len(self.counts) // BUCKETS)
        counts = np.add.reduceat(self.counts, np.arange(0, len(self.counts), width)).astype(float)
        left = self.least - 0.5 + width * np.arange(len(counts))
        return np.stack([left, left + width, counts], axis=1)


def histogram(integers: Any) -> Histogram:
    """The histogram of whole numbers (an array of any type and shape), from the least to the largest of them.

    NaN and infinities are in none of its parts: a training that goes wrong is watched on.

    Example:
        >>> found = histogram(np.array([-1.0, 1.0, 1.0]))
        >>> found.least, found.counts.tolist()
        (-1, [1, 0, 2])
    """
    values = np.asarray(integers).ravel()
    whole = values[np.isfinite(values)].astype(np.int64)
    least = int(whole.min()) if whole.size else 0
    return Histogram(least, np.bincount(whole - least, minlength=1))


def pool(found: Sequence[tuple[str, float, int]]) -> float | None:
    """One number of several tensors': (how the fact is pooled, number, size of the tensor) of each.

    Example:
        >>> pool([("mean", 0.5, 100), ("mean", 0.0, 300)]), pool([("largest", 3.0, 9), ("largest", 4.0, 1)])
        (0.125, 4.0)
    """
    numbers = [value for _, value, _ in found]
    sizes = [size for _, _, size in found]
    how = {each for each, *_ in found}
    if how == {"largest"}:
        return max(numbers)
    if how == {"mean"} and any(sizes):
        return float(np.average(numbers, weights=sizes))
    return None


class LossTerms(ABC):
    """A model whose loss has terms that are worth watching one by one."""

    @abstractmethod
    def loss_terms(self, logs: Mapping[str, float]) -> dict[str, float]:
        """Name -> value now, of each term and of what it is weighted by; ``logs`` are those of ``fit``."""

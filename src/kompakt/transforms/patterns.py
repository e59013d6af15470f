"""Which weights go together: alone, N of M, in blocks, or a whole channel. Pure functions of scores."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from kompakt.axes import Tensor, rows_back, rows_of
from kompakt.errors import InputError
from kompakt.topk import keep_topk, keep_topk_of_each


class Pattern(ABC):
    r"""Groups of weights that are kept or masked together.

    A share :math:`s` of the :math:`G` groups is masked: :math:`\lfloor s G + 1/2 \rfloor` of them, exactly, those of
    the lowest score, but never all for a share below 1; the score of a group is the mean over its weights (of a
    ``MaxBlock`` the largest). Kernels are seen in TFLite's layout, (output channels, places, input channels).
    """

    along_inputs: ClassVar[bool] = False
    """Whether groups make sense along input channels alone, of which a depthwise kernel has one a channel."""

    rankable: ClassVar[bool] = True
    """Whether groups of several tensors can be ranked together."""

    @abstractmethod
    def group_scores(self, score: Tensor, axis: Sequence[int]) -> Tensor:
        """Score of each group, of any shape, from ``score``, one a weight; ``axis``: the channel axes."""

    @abstractmethod
    def spread(self, mask: Tensor, shape: Sequence[int], axis: Sequence[int]) -> Tensor:
        """A mask over groups as a mask over the weights of a tensor of ``shape``."""

    def mask(self, score: Tensor, sparsity: float, axis: Sequence[int]) -> Tensor:
        """Mask of the shape of ``score`` with the share ``sparsity`` of the groups at 0."""
        return self.keep(score, dropped(self.groups(score.shape, axis), sparsity), axis)

    def keep(self, score: Tensor, drop: int, axis: Sequence[int]) -> Tensor:
        """Mask of the shape of ``score`` with exactly ``drop`` groups at 0."""
        groups = self.group_scores(score, axis)
        return self.spread(keep_topk(groups, math.prod(groups.shape) - drop), score.shape, axis)

    def groups(self, shape: Sequence[int], axis: Sequence[int]) -> int:
        """Number of groups in a tensor of ``shape``."""
        return math.prod(self.group_scores(ops.zeros(shape), axis).shape)

    def unfit(self, shape: Sequence[int], axis: Sequence[int]) -> str | None:
        """Why a tensor of ``shape`` cannot have this pattern, or None."""
        return None if self.groups(shape, axis) > 1 else f"{self} makes one group of it, which is all or nothing"

    def natural(self) -> float | None:
        """The sparsity that the pattern's own name says, or None."""
        return None

    def to_config(self) -> dict[str, Any]:
        """Plain data that :func:`find_pattern` turns back into the pattern."""
        return {"name": type(self).__name__, **dataclasses.asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class Unstructured(Pattern):
    """Each weight by itself.

    Example:
        >>> ops.convert_to_numpy(Unstructured().mask(ops.array([[3.0, 1.0], [2.0, 4.0]]), 0.5, (-1,))).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    def group_scores(self, score: Tensor, axis: Sequence[int]) -> Tensor:
        return score

    def spread(self, mask: Tensor, shape: Sequence[int], axis: Sequence[int]) -> Tensor:
        return mask


@dataclass(frozen=True)
class NofM(Pattern):
    """``n`` of every ``m`` weights along the input channels are masked, the same count in each group of ``m``.

    Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks", arXiv:2104.08378, section 3 (there 2:4). On
    the way there under a schedule of sparsity ``s``, ``round(s m)`` of each ``m`` are masked.

    Example:
        >>> ops.convert_to_numpy(NofM(2, 4).mask(ops.array([[3.0], [1.0], [2.0], [4.0]]), 0.5, (-1,))).T.tolist()
        [[1.0, 0.0, 0.0, 1.0]]
    """

    n: int
    m: int
    along_inputs: ClassVar[bool] = True
    rankable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.n < self.m:
            raise InputError(f"NofM({self.n}, {self.m}): expected 0 < n < m, such as NofM(2, 4): 2 of every 4 are zero")

    def group_scores(self, score: Tensor, axis: Sequence[int]) -> Tensor:
        rows = rows_of(score, axis)
        return ops.reshape(rows, (int(rows.shape[0]), int(rows.shape[1]), -1, self.m))

    def spread(self, mask: Tensor, shape: Sequence[int], axis: Sequence[int]) -> Tensor:
        return rows_back(ops.reshape(mask, (int(mask.shape[0]), int(mask.shape[1]), -1)), shape, axis)

    def mask(self, score: Tensor, sparsity: float, axis: Sequence[int]) -> Tensor:
        kept = self.m - dropped(self.m, sparsity)
        return self.spread(keep_topk_of_each(self.group_scores(score, axis), kept), score.shape, axis)

    def unfit(self, shape: Sequence[int], axis: Sequence[int]) -> str | None:
        inputs = int(rows_of(ops.zeros(shape), axis).shape[-1])
        if inputs % self.m == 0:
            return None
        return f"{self.n}:{self.m} needs input channels in multiples of {self.m}, it has {inputs}"

    def natural(self) -> float:
        return self.n / self.m


@dataclass(frozen=True)
class Block(Pattern):
    """Blocks of ``rows`` output channels by ``columns`` input channels; those at the edge may be smaller.

    In a depthwise kernel the columns are those of the kernel.

    Narang, Undersander and Diamos 2017, "Block-Sparse Recurrent Neural Networks", arXiv:1711.02782, section 3.

    Example:
        >>> score = ops.array([[1.0, 9.0], [1.0, 9.0], [5.0, 2.0], [5.0, 2.0]])
        >>> ops.convert_to_numpy(Block(1, 2).mask(score, 0.5, (-1,))).tolist()
        [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]
    """

    rows: int
    columns: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise InputError(f"Block({self.rows}, {self.columns}): expected both 1 or more, such as Block(1, 16)")

    def group_scores(self, score: Tensor, axis: Sequence[int]) -> Tensor:
        rows = rows_of(score, axis)
        total, count = self._sums(rows), self._sums(ops.ones_like(rows))
        return total / count

    def _sums(self, rows: Tensor) -> Tensor:
        return ops.sum(self._tiles(rows, 0.0), axis=(1, 4))

    def _tiles(self, rows: Tensor, fill: float) -> Tensor:
        """(blocks down, rows, places, blocks right, columns); ``fill`` is where blocks at the edge are smaller."""
        outputs, places, inputs = (int(n) for n in rows.shape)
        down, right = -outputs % self.rows, -inputs % self.columns
        padded = ops.pad(rows, [(0, down), (0, 0), (0, right)], constant_values=fill)
        shape = ((outputs + down) // self.rows, self.rows, places, (inputs + right) // self.columns, self.columns)
        return ops.reshape(padded, shape)

    def spread(self, mask: Tensor, shape: Sequence[int], axis: Sequence[int]) -> Tensor:
        outputs, _, inputs = (int(n) for n in rows_of(ops.zeros(shape), axis).shape)
        wide = ops.repeat(ops.repeat(mask, self.rows, axis=0), self.columns, axis=2)
        return rows_back(wide[:outputs, :, :inputs], shape, axis)


@dataclass(frozen=True)
class MaxBlock(Block):
    """The blocks of :class:`Block`, each with the largest score of its weights: one that matters keeps its block.

    Narang, Undersander and Diamos 2017, arXiv:1711.02782, section 3.1.

    Example:
        >>> score = ops.array([[1.0, 9.0], [6.0, 0.0]])
        >>> ops.convert_to_numpy(MaxBlock(1, 2).mask(score, 0.5, (-1,))).tolist()
        [[0.0, 1.0], [0.0, 1.0]]
    """

    def group_scores(self, score: Tensor, axis: Sequence[int]) -> Tensor:
        return ops.max(self._tiles(rows_of(score, axis), -math.inf), axis=(1, 4))


@dataclass(frozen=True)
class Channels(Pattern):
    """Whole output channels; ``kompakt.shrink`` then takes them out of the model.

    Li et al. 2017, "Pruning Filters for Efficient ConvNets", arXiv:1608.08710, section 3.

    Example:
        >>> ops.convert_to_numpy(Channels().mask(ops.array([[3.0, 1.0], [2.0, 2.0]]), 0.5, (-1,))).tolist()
        [[1.0, 0.0], [1.0, 0.0]]
    """

    def group_scores(self, score: Tensor, axis: Sequence[int]) -> Tensor:
        return ops.mean(rows_of(score, axis), axis=(1, 2))

    def spread(self, mask: Tensor, shape: Sequence[int], axis: Sequence[int]) -> Tensor:
        rows = ops.broadcast_to(ops.reshape(mask, (-1, 1, 1)), rows_of(ops.zeros(shape), axis).shape)
        return rows_back(rows, shape, axis)

    def unfit(self, shape: Sequence[int], axis: Sequence[int]) -> str | None:
        return super().unfit(shape, axis) if axis else "it has no output channels"


PATTERNS: dict[str, type[Pattern]] = {kind.__name__: kind for kind in (Unstructured, NofM, Block, MaxBlock, Channels)}
"""Name in a recipe -> class. The contract tests run over every row."""


def find_pattern(pattern: Pattern | str | Mapping[str, Any] | None) -> Pattern:
    """A pattern as it is, by its short name ("2:4", "1x16", "channels"), from its config, or unstructured.

    Raises:
        InputError: none of these.

    Example:
        >>> find_pattern("2:4"), find_pattern("1x16"), find_pattern("channels"), find_pattern(None)
        (NofM(n=2, m=4), Block(rows=1, columns=16), Channels(), Unstructured())
    """
    if isinstance(pattern, Pattern):
        return pattern
    if pattern is None:
        return Unstructured()
    if isinstance(pattern, Mapping):
        return _from_config(pattern)
    for sign, kind in ((":", NofM), ("x", Block)):
        first, found, second = str(pattern).partition(sign)
        if found and first.isdigit() and second.isdigit():
            return kind(int(first), int(second))
    named = {name.lower(): kind for name, kind in PATTERNS.items() if kind in (Unstructured, Channels)}
    if str(pattern).lower() in named:
        return named[str(pattern).lower()]()
    raise InputError(f"pattern {pattern!r}: expected one like '2:4', '1x16', 'channels' or 'unstructured'")


def _from_config(config: Mapping[str, Any]) -> Pattern:
    values = dict(config)
    name = values.pop("name", None)
    if name not in PATTERNS:
        raise InputError(f"unknown pattern {name!r}; known: {', '.join(PATTERNS)}")
    try:
        return PATTERNS[name](**values)
    except TypeError as error:
        raise InputError(f"pattern {name}: {error}") from None


def dropped(groups: int, sparsity: float) -> int:
    """Whole groups that a share of them comes to, halves up; not all of them unless the share is 1.

    Example:
        >>> dropped(8, 0.75), dropped(8, 0.95), dropped(8, 1.0)
        (6, 7, 8)
    """
    return min(rounded(groups, sparsity), groups - (sparsity < 1.0))


def rounded(groups: int, sparsity: float) -> int:
    """The whole number nearest to a share of ``groups``, halves up."""
    return int(sparsity * groups + 0.5)

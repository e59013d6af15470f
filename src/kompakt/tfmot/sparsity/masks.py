"""The transform that ``prune_low_magnitude`` puts on weights: ``Prune``, told in tfmot's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from kompakt.errors import InputError
from kompakt.schedules import is_whole
from kompakt.tfmot.sparsity.schedules import read_called
from kompakt.transform import Tensor
from kompakt.transforms.patterns import Block, MaxBlock, NofM, Pattern, Unstructured
from kompakt.transforms.prune import Prune

POOLINGS = {"AVG": Block, "MAX": MaxBlock}


@keras.saving.register_keras_serializable(package="kompakt")
class ScheduledPrune(Prune):
    """A :class:`kompakt.transforms.Prune` that a user's PruningSchedule can drive.

    Blocks of an Embedding are rows by columns of its table, as those of a kernel.

    Example:
        >>> from kompakt.schedules import Constant
        >>> ScheduledPrune(schedule=Constant(0.5)).goal
        0.5
    """

    driver = "tfmot.sparsity.keras.UpdatePruningStep()"

    def __init__(self, sparsity: float | None = None, *, schedule: Any = None, **kwargs: Any) -> None:
        called = isinstance(schedule, Mapping) and "class_name" in schedule
        kwargs.setdefault("name", "prune")
        super().__init__(sparsity, schedule=read_called(schedule) if called else schedule, **kwargs)

    def prepare(self, value: Tensor, axis: Sequence[int]) -> None:
        super().prepare(value, self._columns(value.shape, axis))

    def unfit(self, shape: Sequence[int], axis: Sequence[int]) -> str | None:
        return super().unfit(shape, self._columns(shape, axis))

    def _columns(self, shape: Sequence[int], axis: Sequence[int]) -> Sequence[int]:
        table = isinstance(self.pattern, Block) and len(shape) > 1 and not axis
        return (-1,) if table else axis


def pattern_of(block_size: Any, block_pooling_type: str, sparsity_m_by_n: Any) -> Pattern:
    """kompakt's pattern for tfmot's three arguments.

    Raises:
        InputError: no two whole numbers, no such pooling, or both blocks and m by n.

    Example:
        >>> pattern_of((2, 3), "MAX", None), pattern_of((1, 1), "AVG", (2, 4))
        (MaxBlock(rows=3, columns=2), NofM(n=2, m=4))
    """
    if block_pooling_type not in POOLINGS:
        raise InputError(f"block_pooling_type {block_pooling_type!r}: expected 'AVG' or 'MAX'")
    height, width = _two(block_size, "block_size")
    if sparsity_m_by_n:
        if (height, width) != (1, 1):
            raise InputError("block_size and sparsity_m_by_n exclude each other: give one of the two")
        return NofM(*_two(sparsity_m_by_n, "sparsity_m_by_n"))
    if (height, width) == (1, 1):
        return Unstructured()
    # tfmot's height goes along a kernel's inputs; a Block has output channels first.
    return POOLINGS[block_pooling_type](width, height)


def _two(given: Any, name: str) -> tuple[int, int]:
    try:
        first, second = given
    except (TypeError, ValueError):
        first = second = None
    if not (is_whole(first) and is_whole(second)):
        raise InputError(f"{name} {given!r}: expected two whole numbers, such as (2, 4)")
    return int(first), int(second)

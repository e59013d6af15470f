"""TFLite's sparse storage of one tensor, as pure functions of numpy: which form is smallest, encode, decode.

A tensor is a tree with a level for each dimension, in any order (Kjolstad, Kamil, Chou, Lugato and
Amarasinghe 2017, "The Tensor Algebra Compiler", OOPSLA, section 3: its levels "dense" and "sparse"). A dense
level has every index; a sparse one lists those that hold something, child ``segments[i]:segments[i + 1]`` of
``indices`` for parent ``i``. Below the last level stands one value, or a small dense block of them.
In a file it is the ``SparsityParameters`` of TFLite's schema (tensorflow/lite/schema/schema.fbs).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

BLOCKS = (2, 4, 8, 16, 32)
"""Sizes of blocks that are tried, along one dimension or two."""

TABLE = 24
"""Bytes of a level's own table in the file, about."""

VECTOR = 12
"""Bytes of the table and the length of a vector in the file."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a tensor is laid out.

    Attributes:
        order: its dimensions, outermost level first. sparse: whether each level is. blocks: size a dimension, 1 for
            none.
    """

    order: tuple[int, ...]
    sparse: tuple[bool, ...]
    blocks: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Level:
    """One level: a dense one has ``size`` indices under each parent; a sparse one those listed, and ``size`` 0."""

    size: int = 0
    segments: np.ndarray | None = None
    indices: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Sparse:
    """A tensor of ``shape`` in sparse storage.

    Attributes:
        order: dimension of each level; dimension ``rank + i`` is the inside of block ``i``.
        block_map: the dimension that block ``i`` cuts up. levels: outermost first. values: of the leaves.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    block_map: tuple[int, ...]
    levels: tuple[Level, ...]
    values: np.ndarray


def encode(values: np.ndarray, form: Form) -> Sparse:
    """``values`` in sparse storage; every value that is not zero is kept, to the bit.

    Example:
        >>> found = encode(np.array([[0, 0, 7], [5, 0, 0]]), Form(order=(0, 1), sparse=(False, True), blocks=(1, 1)))
        >>> found.levels[1].segments.tolist(), found.levels[1].indices.tolist(), found.values.tolist()
        ([0, 1, 2], [2, 0], [7, 5])
    """
    leaves = _leaves(values, form)
    mask = _held(leaves != 0, axis=tuple(range(values.ndim, leaves.ndim)))
    places, levels = np.zeros(1, "int64"), []
    for depth, sparse in enumerate(form.sparse):
        size = mask.shape[depth]
        if sparse:
            held = mask.any(axis=tuple(range(depth + 1, mask.ndim))).reshape(-1, size)[places]
            parents, indices = held.nonzero()
            segments = np.concatenate([[0], held.sum(1).cumsum()])
            levels.append(Level(segments=_narrow(segments, held.sum()), indices=_narrow(indices, size - 1)))
            places = places[parents] * size + indices
        else:
            levels.append(Level(size=size))
            places = _children(levels[-1], places, size)
    cut = tuple(dim for dim, size in enumerate(form.blocks) if size > 1)
    return Sparse(
        shape=values.shape,
        order=(*form.order, *range(values.ndim, values.ndim + len(cut))),
        block_map=cut,
        levels=(*levels, *(Level(size=form.blocks[dim]) for dim in cut)),
        values=leaves.reshape(mask.size, -1)[places].ravel(),
    )


def decode(stored: Sparse) -> np.ndarray:
    """The dense tensor.

    Raises:
        ValueError: the levels contradict each other.

    Example:
        >>> form = Form(order=(1, 0), sparse=(True, False), blocks=(1, 1))
        >>> decode(encode(np.array([[0, 7], [0, 5]]), form)).tolist()
        [[0, 7], [0, 5]]
    """
    rank = len(stored.shape)
    blocks = dict(zip(stored.block_map, (level.size for level in stored.levels[rank:]), strict=True))
    outer = [stored.shape[dim] // blocks.get(dim, 1) for dim in stored.order[:rank]]
    cut = [blocks[stored.block_map[dim - rank]] for dim in stored.order[rank:]]
    places = np.zeros(1, "int64")
    for level, size in zip(stored.levels, outer, strict=False):
        places = _children(level, places, size)
    leaves = np.zeros((math.prod(outer), math.prod(cut)), stored.values.dtype)
    leaves[places] = stored.values.reshape(len(places), -1)
    axes = _axes(stored.order[:rank], stored.block_map)
    return leaves.reshape(*outer, *cut).transpose(np.argsort(axes)).reshape(stored.shape)


def _children(level: Level, places: np.ndarray, size: int) -> np.ndarray:
    """Where the nodes of a level are, in a dense tree, under parents at ``places``.

    Raises:
        ValueError: segments and indices do not fit them.
    """
    if level.segments is None or level.indices is None:
        return (places[:, None] * size + np.arange(size)).ravel()
    counts = np.diff(level.segments.astype("int64"))
    if len(counts) != len(places) or (counts < 0).any() or counts.sum() != len(level.indices):
        raise ValueError(f"{len(level.indices)} sparse indices do not fill the segments of {len(places)} parents")
    if (level.indices >= size).any():
        raise ValueError(f"sparse index {int(level.indices.max())} in a dimension of {size}")
    return np.repeat(places, counts) * size + level.indices


def smallest(values: np.ndarray) -> tuple[Form, int] | None:
    """The form that takes the fewest bytes, with their number; None where none takes fewer than the dense tensor.

    Sizes are computed from the counts of slices that hold something; nothing is encoded.

    Example:
        >>> w = np.zeros((64, 32), "int8"); w[::4, 3] = 1
        >>> form, size = smallest(w)
        >>> form.order, form.sparse, size < w.nbytes
        ((1, 0), (False, True), True)
    """
    best: tuple[Form, int] | None = None
    least = values.nbytes
    for blocks in _blockings(values.shape):
        leaves = _leaves(values, Form(order=tuple(range(values.ndim)), sparse=(), blocks=blocks))
        mask = _held(leaves != 0, axis=tuple(range(values.ndim, leaves.ndim)))
        counts = _counts(mask)
        for order, sparse in _layouts(values.ndim):
            size = _size(mask.shape, counts, order, sparse, math.prod(blocks) * values.itemsize)
            if size < least:
                best, least = (Form(order=order, sparse=sparse, blocks=blocks), size), size
    return best


def _leaves(values: np.ndarray, form: Form) -> np.ndarray:
    """``values`` with an axis a level, then one for the inside of each block."""
    cut = [dim for dim, size in enumerate(form.blocks) if size > 1]
    pairs = [(n // size, size) if size > 1 else (n,) for n, size in zip(values.shape, form.blocks, strict=True)]
    return values.reshape([n for pair in pairs for n in pair]).transpose(_axes(form.order, cut))


def _axes(order: Sequence[int], cut: Sequence[int]) -> list[int]:
    """Where the axes of :func:`_leaves` are in a tensor whose dimensions ``cut`` are split in two."""
    start = {dim: dim + sum(c < dim for c in cut) for dim in range(len(order))}
    return [start[dim] for dim in order] + [start[dim] + 1 for dim in cut]


def _held(mask: np.ndarray, axis: tuple[int, ...]) -> np.ndarray:
    """Which leaves hold something; one does always, since a file has no constant without a value."""
    held = np.asarray(mask.any(axis=axis))
    if not held.any():
        held.flat[0] = True
    return held


def _narrow(numbers: np.ndarray, largest: int) -> np.ndarray:
    return numbers.astype(_width(int(largest)))


def _width(largest: int) -> str:
    """The narrowest type of the schema's vectors."""
    return "uint8" if largest < 2**8 else "uint16" if largest < 2**16 else "int32"


def _counts(mask: np.ndarray) -> Mapping[frozenset[int], int]:
    """Set of dimensions -> how many of their index combinations hold something."""
    rank = mask.ndim
    masks = {frozenset(range(rank)): mask}
    for kept in range(rank - 1, 0, -1):
        for dims in map(frozenset, itertools.combinations(range(rank), kept)):
            dropped = min(set(range(rank)) - dims)
            masks[dims] = np.asarray(masks[dims | {dropped}].any(axis=dropped, keepdims=True))
    return {dims: int(each.sum()) for dims, each in masks.items()}


def _size(
    shape: Sequence[int],
    counts: Mapping[frozenset[int], int],
    order: Sequence[int],
    sparse: Sequence[bool],
    leaf: int,
) -> int:
    """Bytes of values, segments, indices and their tables."""
    total, places = 0, 1
    for depth, dim in enumerate(order):
        if sparse[depth]:
            held = counts[frozenset(order[: depth + 1])]
            total += _vector(places + 1, held) + _vector(held, shape[dim] - 1)
            places = held
        else:
            places *= shape[dim]
    return total + places * leaf + TABLE * len(order)


def _vector(length: int, largest: int) -> int:
    return VECTOR + -(-length * np.dtype(_width(largest)).itemsize // 4) * 4


@functools.cache
def _layouts(rank: int) -> list[tuple[tuple[int, ...], tuple[bool, ...]]]:
    """(order, sparse) of every layout with a sparse level; neighbouring dense levels ascend: any order is alike."""
    return [
        (order, sparse)
        for sparse in itertools.product((False, True), repeat=rank)
        for order in itertools.permutations(range(rank))
        if any(sparse) and all(sparse[i] or sparse[i + 1] or order[i] < order[i + 1] for i in range(rank - 1))
    ]


def _blockings(shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Block sizes a dimension: none, along one dimension, along two."""
    ones = (1,) * len(shape)
    fits = [[(dim, size) for size in BLOCKS if n % size == 0] for dim, n in enumerate(shape)]
    yield ones
    for count in (1, 2):
        for dims in itertools.combinations(fits, count):
            for chosen in itertools.product(*dims):
                sizes = dict(chosen)
                yield tuple(sizes.get(dim, 1) for dim in range(len(shape)))


VECTORS: dict[str, tuple[int, Any]] = {
    "uint8": (schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT),
    "uint16": (schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT),
    "int32": (schema.SparseIndexVector.Int32Vector, schema.Int32VectorT),
}
"""Type of numbers -> its vector in the schema."""


def to_schema(stored: Sparse) -> Any:
    """The ``SparsityParametersT`` of a tensor; its buffer holds ``stored.values``."""
    made = schema.SparsityParametersT()
    made.traversalOrder = np.asarray(stored.order, "int32")
    made.blockMap = np.asarray(stored.block_map, "int32") if stored.block_map else None
    made.dimMetadata = [_metadata(level) for level in stored.levels]
    return made


def _metadata(level: Level) -> Any:
    made = schema.DimensionMetadataT()
    if level.segments is None or level.indices is None:
        made.format, made.denseSize = schema.DimensionType.DENSE, level.size
        return made
    made.format = schema.DimensionType.SPARSE_CSR
    made.arraySegmentsType, segments = VECTORS[level.segments.dtype.name]
    made.arrayIndicesType, indices = VECTORS[level.indices.dtype.name]
    made.arraySegments, made.arrayIndices = segments(level.segments), indices(level.indices)
    return made


def from_schema(given: Any, shape: Sequence[int], values: np.ndarray) -> Sparse:
    """The tensor of ``shape`` that ``SparsityParametersT`` and the numbers in its buffer stand for."""
    return Sparse(
        shape=tuple(int(n) for n in shape),
        order=tuple(int(dim) for dim in given.traversalOrder),
        block_map=() if given.blockMap is None else tuple(int(dim) for dim in given.blockMap),
        levels=tuple(_level(each) for each in given.dimMetadata),
        values=values,
    )


def _level(given: Any) -> Level:
    if given.format == schema.DimensionType.DENSE:
        return Level(size=int(given.denseSize))
    segments, indices = np.asarray(given.arraySegments.values), np.asarray(given.arrayIndices.values)
    return Level(segments=segments, indices=indices)

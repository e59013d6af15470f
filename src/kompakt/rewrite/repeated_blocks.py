"""Which blocks of a model repeat, so that it can do with fewer of them.

A *block* maps a tensor to one of the same shape, and the identity can take its place: a residual sum whose one side
is its input, or a linear layer with what follows it (normalization, activation, dropout). Blocks of one kind in a
row are a *stage*, with the one before them that brings the shape about.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from kompakt.graph import Call, KerasTensor, as_functional, calls, users
from kompakt.sites import TABLE, is_graph

Layer = Any

SUMS = ("Add", "CustomScaleLayer")
"""Class names of layers and operations that add their inputs; the second is a + scale * b, of InceptionResNetV2."""

PLAIN = (
    *(kind for kind in TABLE if kind is not layers.Embedding),
    *(layers.RNN, layers.Bidirectional, layers.TimeDistributed),
)
"""Linear and recurrent layers, which make a block with what follows them."""

TAIL = frozenset(
    (
        *("Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "BatchNormalization", "LayerNormalization"),
        *("GroupNormalization", "RMSNormalization", "UnitNormalization", "Dropout", "AlphaDropout", "GaussianDropout"),
        *("GaussianNoise", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "Identity"),
        *("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Silu", "Softplus", "Softsign", "Sigmoid"),
        *("HardSigmoid", "HardSilu", "HardTanh", "Tanh"),
    )
)
"""Class names of layers and operations that belong to the block before them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """What the identity can take the place of.

    Attributes:
        layers: names of those in it, ``outer/inner`` in a nested model. source, result: the tensors between which
            it lies. calls: of its layers.
    """

    layers: tuple[str, ...]
    source: KerasTensor
    result: KerasTensor
    calls: tuple[Call, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """Blocks of the same kind and shape in a row.

    Attributes:
        blocks: those that could go. size: how many there are with the one that must stay: the block before them
            that changes the shape, else the first of them.
    """

    blocks: tuple[Block, ...]
    size: int


def find_stages(model: keras.Model) -> tuple[Stage, ...]:
    """The stages of ``model``, a functional or sequential one, and of those nested in it; one of size 1 has no blocks.

    Example:
        >>> wide = [keras.layers.Dense(4, name=name) for name in "abc"]
        >>> (stage,) = find_stages(keras.Sequential([keras.Input((2,)), *wide, keras.layers.Dense(1)]))
        >>> [block.layers for block in stage.blocks], stage.size
        ([('b',), ('c',)], 3)
    """
    return tuple(_stages(model, "", set()))


def _stages(model: keras.Model, prefix: str, seen: set[int]) -> Iterator[Stage]:
    flat = as_functional(model)
    own = _Reader(flat, prefix).stages()
    yield from own
    # Depth counts once: a nested model that is a block itself keeps what is in it.
    seen |= {id(call.layer) for stage in own if stage.size > 1 for block in stage.blocks for call in block.calls}
    for call in calls(flat):
        if is_graph(call.layer) and id(call.layer) not in seen:
            seen.add(id(call.layer))
            yield from _stages(call.layer, f"{prefix}{call.layer.name}/", seen)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Unit:
    """The smallest block: one sum or one linear layer. ``ends``: the result, and those after each layer that follows.

    ``outer`` are tensors that it reads besides its source.
    """

    source: KerasTensor
    calls: tuple[Call, ...]
    ends: tuple[KerasTensor, ...]
    tail: tuple[Call, ...]
    outer: frozenset[int]

    @property
    def plain(self) -> bool:
        """Whether it is one linear layer."""
        return len(self.calls) == 1

    @property
    def kind(self) -> Any:
        return self.source.shape, tuple(sorted(_types(self.calls))), self.outer


class _Reader:
    """Finds the stages of one flat graph."""

    def __init__(self, flat: keras.Model, prefix: str) -> None:
        self._prefix = prefix
        self._calls = list(calls(flat))
        self._users = users(flat)
        self._maker = {id(tensor): i for i, call in enumerate(self._calls) for tensor in call.outputs}
        # What a tensor comes from, one bit a call and one an input of the model.
        self._from = {id(tensor): 1 << len(self._calls) + i for i, tensor in enumerate(flat.inputs)}
        for i, call in enumerate(self._calls):
            above = _union(self._from[id(tensor)] for tensor in call.inputs) | 1 << i
            self._from |= {id(tensor): above for tensor in call.outputs}

    def stages(self) -> list[Stage]:
        units = [*_innermost([unit for call in self._calls for unit in self._residual(call)]), *self._plain()]
        following: dict[int, _Unit] = {}
        linked: set[int] = set()
        for unit in units:
            after = (u for end in unit.ends for u in units if u.source is end and id(u) not in linked)
            nearest = next(after, None)
            if nearest is not None:
                following[id(unit)] = nearest
                linked.add(id(nearest))
        found: list[Stage] = []
        for unit in units:
            if id(unit) not in linked:
                row = [unit]
                while id(row[-1]) in following:
                    row.append(following[id(row[-1])])
                found += self._split(row, units)
        return found

    def _residual(self, call: Call) -> Iterator[_Unit]:
        """``call`` as the sum of a block's input and what comes of it."""
        if _name(call.layer) not in SUMS:
            return
        for source in call.inputs:
            rest = [tensor for tensor in call.inputs if tensor is not source]
            inside = self._between(source, rest)
            made = {id(tensor) for each in inside for tensor in each.outputs}
            if not rest or any(id(tensor) not in made for tensor in rest) or source.shape != call.outputs[0].shape:
                continue
            last = {id(each.node) for each in (*inside, call)}
            private = all(user is not None and id(user.node) in last for key in made for user in self._users[key])
            outer = {id(t) for each in inside for t in each.inputs if id(t) not in made and t is not source}
            if private and any(_has_weights(each.layer) for each in inside):
                yield from self._unit(source, (*inside, call), outer)

    def _between(self, source: KerasTensor, results: Sequence[KerasTensor]) -> list[Call]:
        """The calls on the way from ``source`` to ``results``."""
        wanted = _union(self._from[id(tensor)] for tensor in results)
        found: list[Call] = []
        reached = {id(source)}
        for i, call in enumerate(self._calls):
            if wanted >> i & 1 and any(id(tensor) in reached for tensor in call.inputs):
                reached |= {id(tensor) for tensor in call.outputs}
                found.append(call)
        return found

    def _plain(self) -> Iterator[_Unit]:
        """Linear layers on a path of their own, from one tensor to another of its shape."""
        parallel = self._parallel()
        for i, call in enumerate(self._calls):
            alike = [t.shape for t in call.inputs] == [t.shape for t in call.outputs] and len(call.outputs) == 1
            if alike and not parallel >> i & 1 and _is_plain(call.layer):
                yield from self._unit(call.inputs[0], (call,), set())

    def _parallel(self) -> int:
        """The calls on one of several ways between two tensors, as bits."""
        found = 0
        for call in self._calls:
            above = [self._from[id(tensor)] for tensor in call.inputs]
            common = functools.reduce(operator.and_, above) if above else 0
            found |= _union(above) & ~common if common else 0
        return found

    def _unit(self, source: KerasTensor, inside: tuple[Call, ...], outer: set[int]) -> Iterator[_Unit]:
        """The unit, unless what it gives is an output of the model."""
        ends, tail = [inside[-1].outputs[0]], []
        if None in self._users[id(ends[0])]:
            return
        while (user := self._follower(ends[-1])) is not None:
            tail.append(user)
            ends.append(user.outputs[0])
        yield _Unit(source=source, calls=inside, ends=tuple(ends), tail=tuple(tail), outer=frozenset(outer))

    def _follower(self, tensor: KerasTensor) -> Call | None:
        """The one call that reads ``tensor``, where it belongs to the block before it."""
        reads = self._users[id(tensor)]
        if len(reads) != 1 or (call := reads[0]) is None or _name(call.layer) not in TAIL:
            return None
        (result,) = call.outputs
        return call if len(call.inputs) == 1 and None not in self._users[id(result)] else None

    def _split(self, row: list[_Unit], units: list[_Unit]) -> Iterator[Stage]:
        """``row`` as stages: where it repeats after some units, these together are the block."""
        start = 0
        while start < len(row):
            period, count, head = self._repeats(row[start:], units)
            blocks = []
            for first in range(start, start + period * count, period):
                after = row[first + period] if first + period < len(row) else None
                blocks.append(self._block(row[first : first + period], after))
            yield Stage(blocks=tuple(blocks if head else blocks[1:]), size=count + head)
            start += period * count

    def _repeats(self, row: list[_Unit], units: list[_Unit]) -> tuple[int, int, bool]:
        """(units a block, how often it comes, whether one that changes the shape comes before), the longest first."""
        kinds = [unit.kind for unit in row]
        found = [(1, 1, False)]
        for period in range(1, len(row) + 1):
            count = 1
            while kinds[count * period : (count + 1) * period] == kinds[:period]:
                count += 1
            head = self._has_head(row[:period], units)
            if count + head > 1:
                found.append((period, count, head))
        return max(found, key=lambda each: (each[0] * each[1] * (each[1] + each[2] > 1), -each[0]))

    def _has_head(self, block: list[_Unit], units: list[_Unit]) -> bool:
        """Whether a block of the same kind that changes the shape lies before ``block``."""
        if any(unit.outer for unit in block):
            return False
        if all(unit.plain for unit in block):
            return self._plain_before(block[0].source, len(block)) == [sorted(_types(unit.calls)) for unit in block]
        return self._before(block[0].source, units) >= _weighted([call for unit in block for call in unit.calls])

    def _before(self, source: KerasTensor, units: list[_Unit]) -> Counter[str]:
        """The layers with weights above ``source``, back to the next sums that can go."""
        upstream = above = self._from[id(source)]
        for unit in units:
            here = self._from[id(unit.ends[0])]
            if not unit.plain and here & ~upstream == 0:
                above &= ~here
        return _weighted([call for i, call in enumerate(self._calls) if above >> i & 1])

    def _plain_before(self, source: KerasTensor, count: int) -> list[list[str]]:
        """Types in the ``count`` linear layers that lie before ``source`` in a row, the last of its shape."""
        above = list(itertools.islice((call for call in self._row(source) if _is_plain(call.layer)), count))
        here = above and above[0].outputs[0].shape == source.shape  # not behind a pooling, which starts a stage
        return [sorted(_types([call])) for call in reversed(above)] if here else []

    def _row(self, tensor: KerasTensor) -> Iterator[Call]:
        """The calls of one input each that ``tensor`` comes from, the last first."""
        while id(tensor) in self._maker and len((call := self._calls[self._maker[id(tensor)]]).inputs) == 1:
            yield call
            (tensor,) = call.inputs

    def _block(self, parts: list[_Unit], after: _Unit | None) -> Block:
        last = parts[-1]
        cuts = [next(i for i, end in enumerate(a.ends) if end is b.source) for a, b in itertools.pairwise(parts)]
        cuts.append(last.ends.index(after.source) if after is not None else self._own_tail(last))
        inside = tuple(call for unit, cut in zip(parts, cuts, strict=True) for call in (*unit.calls, *unit.tail[:cut]))
        return Block(
            layers=tuple(dict.fromkeys(self._prefix + call.layer.name for call in inside)),
            source=parts[0].source,
            result=last.ends[cuts[-1]],
            calls=inside,
        )

    def _own_tail(self, unit: _Unit) -> int:
        """How much of what follows belongs to the block: as much as follows the block before it."""
        before = [_name(call.layer) for call in self._row(unit.source)][::-1]
        types = [_name(call.layer) for call in unit.tail]
        return next((n for n in range(len(types), 0, -1) if before[-n:] == types[:n]), 0)


def _innermost(units: list[_Unit]) -> list[_Unit]:
    """``units`` without those that hold another one."""
    sums = {id(unit.calls[-1].node) for unit in units}
    return [unit for unit in units if not any(id(call.node) in sums for call in unit.calls[:-1])]


def _union(bits: Any) -> int:
    return functools.reduce(operator.or_, bits, 0)


def _is_plain(layer: Layer) -> bool:
    return isinstance(layer, PLAIN) or (is_graph(layer) and _has_weights(layer))


def _has_weights(layer: Layer) -> bool:
    return bool(getattr(layer, "weights", None))


def _types(inside: Sequence[Call]) -> Iterator[str]:
    """The types of all layers, those of nested models included."""
    for call in inside:
        if is_graph(call.layer):
            yield from _types(list(calls(as_functional(call.layer))))
        else:
            yield _name(call.layer)


def _weighted(inside: Sequence[Call]) -> Counter[str]:
    """How many layers with weights there are of each type, those of nested models included."""
    found: Counter[str] = Counter()
    for call in inside:
        if is_graph(call.layer):
            found += _weighted(list(calls(as_functional(call.layer))))
        elif _has_weights(call.layer):
            found[_name(call.layer)] += 1
    return found


def _name(layer: Layer) -> str:
    return type(layer).__name__

"""Which channels of which layers must go together: the dependency graph of structured pruning.

After Fang et al. 2023, arXiv:2301.12900 (DepGraph), section 3, with labels a position in place of edges between layers:
a position of a tensor's axis carries a label, each call of a layer joins labels, and what is joined goes together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import tree

from kompakt.graph import Call, as_functional, walk
from kompakt.rewrite.channel_labels import Channels, Labels, Traced
from kompakt.rewrite.channel_rules import follow
from kompakt.rewrite.channel_scope import MAKES, READS, Scope, WeightAxis, fixed_axes
from kompakt.sites import is_graph

Layer = Any


@dataclass(frozen=True, kw_only=True)
class Member:
    """An axis of a tensor that channels of a group lie on.

    Attributes:
        layer: its name, ``outer/inner`` for one of a nested model. tensor: ``kernel``, ``query_dense/kernel``;
            ``output`` where the layer's config holds the size of it, ``input_0`` of a nested model.
        role: whether the tensor "makes" the channels, "carries" (scales or shifts) or "reads" them.
        positions: on the axis. channels: for each position, the channel of the group that lies there.
        width: values that a position is wide: the size of an attention head, else 1.
    """

    layer: str
    tensor: str
    axis: int
    role: str
    positions: tuple[int, ...]
    channels: tuple[int, ...]
    width: int = 1


@dataclass(frozen=True, kw_only=True)
class Group:
    """Channels that the same layers make: each can be removed, from all the members at once.

    Attributes:
        name: of the first layer that makes them; with "#2" and so on for further groups of that layer.
        size: number of channels. members: every axis of every tensor that holds them.
    """

    name: str
    size: int
    members: tuple[Member, ...]

    @property
    def makers(self) -> tuple[Member, ...]:
        """The weights that make the channels."""
        return tuple(member for member in self.members if member.role == MAKES)

    @property
    def width(self) -> int:
        """Output channels of a layer that one channel of the group stands for."""
        return min(member.width * len(member.positions) // self.size for member in self.makers)


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """Channels of a layer that cannot be removed.

    Attributes:
        layer: that makes them. channels: how many. reason: why.
    """

    layer: str
    channels: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ChannelGroups:
    """What can be removed from a model, and what cannot."""

    groups: tuple[Group, ...]
    fixed: tuple[Fixed, ...]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The groups of a model, with what its layers have to do with them.

    Attributes:
        layers: by name. outputs: the labels of each layer's output channels. home: (group, channel of it) of
            the labels that can be removed, by root.
    """

    found: ChannelGroups
    layers: dict[str, Layer]
    channels: Channels
    outputs: dict[str, Labels]
    home: dict[int, tuple[str, int]]

    def where(self, layer: str) -> list[tuple[str, int] | str]:
        """For each output channel of a layer, its group and place in it, or the reason why it stays."""
        roots = self.channels.roots(self.outputs[layer])
        return [self.home.get(root) or self.channels.reason(root) or NO_MAKER for root in roots]


OF_MODEL = "output of the model"
"""The reason that an output has to stay."""

NO_MAKER = "no layer makes them"


def channel_groups(model: keras.Model, *, layer_norms: bool = False) -> ChannelGroups:
    """The groups of channels of ``model`` that can be removed, and what stays for what reason.

    Args:
        model: functional, sequential or traceable; nested models are entered.
        layer_norms: whether channels that a LayerNormalization averages over can go too. What is left is then
            averaged by itself, which is not what the model computes with those channels at zero.

    Raises:
        InputError: a subclassed model's call cannot be followed.

    Example:
        >>> i = keras.Input((8, 8, 3))
        >>> a = keras.layers.Conv2D(4, 3, padding="same", name="a")(i)
        >>> b = keras.layers.Conv2D(4, 3, padding="same", name="b")(a)
        >>> found = channel_groups(keras.Model(i, keras.layers.Dense(2, name="d")(keras.layers.Add()([a, b]))))
        >>> [(group.name, group.size, [m.layer for m in group.makers]) for group in found.groups]
        [('a', 4, ['a', 'b'])]
        >>> found.fixed
        (Fixed(layer='d', channels=2, reason='output of the model'),)
    """
    return read_channels(model, layer_norms=layer_norms).found


def read_channels(model: keras.Model, *, layer_norms: bool = False) -> Reading:
    """:func:`channel_groups`, with the layers that the groups speak of."""
    trace = _Trace(layer_norms)
    trace.follow_model(as_functional(model))
    return _collect(trace)


class _Trace:
    """Follows every call of a model and its nested models."""

    def __init__(self, layer_norms: bool) -> None:
        self.channels = Channels()
        self.weights: dict[tuple[str, str], dict[int, WeightAxis]] = {}
        self.names: dict[int, tuple[Layer, str]] = {}
        self.outputs: dict[str, Labels] = {}
        self.closed: dict[str, str] = {}
        self._layer_norms = layer_norms
        self._prefix = ""

    def follow_model(self, model: keras.Model) -> None:
        given = {}
        for tensor in model.inputs:
            axes = fixed_axes(self.channels, tensor.shape, "input of the model")
            given[id(tensor)] = Traced(shape=tensor.shape, axes=axes)
        for output in tree.flatten(walk(model, given, self._visit)):
            for labels in output.axes:
                self.channels.fix(labels, OF_MODEL, above_all=True)

    def _visit(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        _, name = self.names.setdefault(id(call.layer), (call.layer, self._prefix + call.layer.name))
        if is_graph(call.layer):
            return self._nested(call.layer, name, args[0] if args else next(iter(kwargs.values())))
        scope = Scope(
            layer=call.layer,
            name=name,
            channels=self.channels,
            weights=self.weights,
            args=args,
            kwargs=kwargs,
            shapes=tuple(tensor.shape for tensor in call.outputs),
            closed=self.closed,
            layer_norms=self._layer_norms,
        )
        made = follow(scope)
        last = next((labels for labels in reversed(made[0]) if labels is not None), None)
        if last is not None:
            self.outputs.setdefault(name, last)
        return [Traced(shape=t.shape, axes=axes) for t, axes in zip(call.outputs, made, strict=True)]

    def _nested(self, model: keras.Model, name: str, given: Any) -> Any:
        """The calls inside; a nested model that is called twice has one size of input."""
        inner, before = as_functional(model), self._prefix
        inputs = {}
        for i, (tensor, outer) in enumerate(zip(inner.inputs, tree.flatten(given), strict=True)):
            inputs[id(tensor)] = outer
            self._sized(name, f"input_{i}", outer)
        self._prefix = f"{name}/"
        outputs = walk(inner, inputs, self._visit)
        self._prefix = before
        return outputs

    def _sized(self, name: str, tensor: str, outer: Traced) -> None:
        known = self.weights.setdefault((name, tensor), {})
        for axis, (labels, size) in enumerate(zip(outer.axes, outer.shape, strict=True)):
            if axis and size is not None and size > 1:
                start = self.channels.new(size) if labels is None else labels
                held = known.setdefault(axis, WeightAxis(labels=start, role=READS))
                self.channels.join(held.labels, labels, f"the model {name!r} is called on what stays")


def _collect(trace: _Trace) -> Reading:
    """Channels with the same makers are a group; one that would be all there is stays."""
    channels, axes = trace.channels, list(_axes(trace))
    makers: dict[int, dict[int, None]] = defaultdict(dict)
    for place, axis in enumerate(axes):
        if axis.held.role == MAKES:
            for root in axis.roots:
                makers[root][place] = None
    together: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for root, places in makers.items():
        if channels.reason(root) is None:
            together[tuple(places)].append(root)
    for roots in together.values():
        if len(roots) == 1:
            channels.fix(np.array(roots), "all that its makers have can only go together")
    kept = {makers_of: roots for makers_of, roots in together.items() if len(roots) > 1}
    groups = _groups(axes, kept)
    return Reading(
        found=ChannelGroups(groups=groups, fixed=(*_fixed(channels, axes), *_closed(trace, axes))),
        layers={name: layer for layer, name in trace.names.values()},
        channels=channels,
        outputs=trace.outputs,
        home={
            root: (group.name, i)
            for group, roots in zip(groups, kept.values(), strict=True)
            for i, root in enumerate(roots)
        },
    )


@dataclass(frozen=True)
class _Axis:
    layer: str
    tensor: str
    axis: int
    held: WeightAxis
    roots: list[int]


def _axes(trace: _Trace) -> Iterable[_Axis]:
    for (layer, tensor), held in trace.weights.items():
        for axis, each in sorted(held.items()):
            yield _Axis(layer, tensor, axis, each, trace.channels.roots(each.labels))


def _groups(axes: list[_Axis], together: dict[tuple[int, ...], list[int]]) -> tuple[Group, ...]:
    home = {root: (group, i) for group, roots in enumerate(together.values()) for i, root in enumerate(roots)}
    members: list[list[Member]] = [[] for _ in together]
    for axis in axes:
        found: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for position, root in enumerate(axis.roots):
            if root in home:
                group, channel = home[root]
                found[group].append((position, channel))
        for group, pairs in found.items():
            positions, channels = zip(*pairs, strict=True)
            members[group].append(_member(axis, positions, channels))
    groups: list[Group] = []
    count: dict[str, int] = defaultdict(int)
    for roots, held in zip(together.values(), members, strict=True):
        first = next(member.layer for member in held if member.role == MAKES)
        count[first] += 1
        name = first if count[first] == 1 else f"{first}#{count[first]}"
        groups.append(Group(name=name, size=len(roots), members=tuple(held)))
    return tuple(groups)


def _member(axis: _Axis, positions: tuple[int, ...], channels: tuple[int, ...]) -> Member:
    return Member(
        layer=axis.layer,
        tensor=axis.tensor,
        axis=axis.axis,
        role=axis.held.role,
        positions=positions,
        channels=channels,
        width=axis.held.width,
    )


def _fixed(channels: Channels, axes: list[_Axis]) -> Iterable[Fixed]:
    """A row for each layer that makes channels which stay, and for each reason."""
    seen: dict[tuple[str, str], int] = {}
    for axis in axes:
        if axis.held.role == MAKES:
            count: dict[str, int] = defaultdict(int)
            for root in axis.roots:
                reason = channels.reason(root)
                if reason is not None:
                    count[reason] += 1
            for reason, number in count.items():
                seen.setdefault((axis.layer, reason), number)
    return [Fixed(layer=layer, channels=number, reason=reason) for (layer, reason), number in seen.items()]


def _closed(trace: _Trace, axes: list[_Axis]) -> Iterable[Fixed]:
    """A row for each layer with weights that could not be followed, unless it has one for what it makes."""
    makers = {axis.layer for axis in axes if axis.held.role == MAKES}
    for layer, name in trace.names.values():
        if name in trace.closed and name not in makers and getattr(layer, "weights", None):
            yield Fixed(layer=name, channels=len(trace.outputs.get(name, ())), reason=trace.closed[name])

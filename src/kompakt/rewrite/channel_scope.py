"""One call of a layer, as the rules for channels see it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras import activations, tree

from kompakt.rewrite.channel_labels import Axes, Channels, Labels, Shape, Traced

Layer = Any

MAKES, CARRIES, READS = "makes", "carries", "reads"
"""What a weight does with the channels on its axis: makes them, scales or shifts them, reads them."""

OUTPUT = "output"
"""The tensor that stands for the size of a layer's output, where the layer's config holds it."""

NewShape = Callable[[str], tuple[int, ...]]
"""Name of a tensor of the layer -> the shape that it is to have."""


def variable_of(layer: Layer, tensor: str) -> Any:
    """The variable at the path ``tensor`` of a layer: ``kernel``, ``query_dense/kernel``."""
    return functools.reduce(getattr, tensor.split("/"), layer)


class NotFollowed(Exception):
    """A call that its rule cannot follow; the text says why."""


@dataclass(frozen=True, kw_only=True)
class WeightAxis:
    """The labels on one axis of a weight, what it does with them, and how many values wide a position is."""

    labels: Labels
    role: str
    width: int = 1


@dataclass(frozen=True, kw_only=True)
class Scope:
    """One call of a layer, as a rule sees it.

    Attributes:
        name: of the layer, with the nested models that it is in. weights: {(layer, tensor): {axis: labels}}, which
            a rule adds to. args, kwargs: of the call, with a Traced for each tensor. shapes: of its outputs.
        closed: {layer: reason} of those that could not be followed, which a rule adds to.
        inside: path to the layer from the one that is named, where that wraps it.
    """

    layer: Layer
    name: str
    channels: Channels
    weights: dict[tuple[str, str], dict[int, WeightAxis]]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shapes: tuple[Shape, ...]
    closed: dict[str, str]
    layer_norms: bool = False
    inside: str = field(default="")

    @property
    def who(self) -> str:
        """The layer in the text of a reason."""
        return f"{type(self.layer).__name__} {self.name!r}"

    @property
    def tensors(self) -> list[Traced]:
        """All tensors that the call takes."""
        return [leaf for leaf in tree.flatten((self.args, dict(self.kwargs))) if isinstance(leaf, Traced)]

    @property
    def x(self) -> Traced:
        """The one tensor that the call takes."""
        tensors = self.tensors
        if len(tensors) != 1:
            raise NotFollowed(f"it takes {len(tensors)} tensors")
        return tensors[0]

    def weight(self, name: str, axis: int, role: str, width: int = 1) -> Labels:
        """The labels of an axis of a weight, the same in every call of the layer; None where it has no such weight."""
        variable = variable_of(self.layer, name)
        if variable is None:
            return None
        size, axis = variable.shape[axis], axis % len(variable.shape)
        return self._axis(name, axis, size, role, width)

    def reads(self, name: str, axis: int, labels: Labels) -> None:
        """The channels with these labels are read along an axis of a weight."""
        self._follows(name, axis, labels, READS)

    def carries(self, name: str, axis: int, labels: Labels) -> None:
        """The channels with these labels are scaled or shifted along an axis of a weight."""
        self._follows(name, axis, labels, CARRIES)

    def sized(self, axes: Axes) -> Axes:
        """``axes`` of the output, whose sizes the layer's config holds: the same in every call of it."""
        for axis, (labels, size) in enumerate(zip(axes, self.shapes[0], strict=True)):
            if size is not None and size > 1 and axis:
                known = self._axis(OUTPUT, axis, size, READS, 1)
                self.channels.join(known, labels, f"{self.who} joins them with what stays")
        return axes

    def alone(self, x: Traced, axis: int) -> Labels:
        """The labels of one axis of ``x``; its other axes stay, since the layer works across them."""
        for place, labels in enumerate(x.axes):
            if place != axis % len(x.axes):
                self.channels.fix(labels, f"{self.who} works across them")
        return x.axes[axis]

    def fix(self, labels: Labels, verb: str) -> None:
        """The channels stay: the layer ``verb`` them."""
        self.channels.fix(labels, f"{self.who} {verb}")

    def close(self, why: str) -> list[Axes]:
        """Nothing that goes in or comes out can be removed."""
        reason = f"{self.who}: {why}"
        self.closed.setdefault(self.name, reason)
        for tensor in self.tensors:
            for labels in tensor.axes:
                self.channels.fix(labels, reason)
        for (layer, _), axes in self.weights.items():
            if layer == self.name:
                for axis in axes.values():
                    self.channels.fix(axis.labels, reason)
        return [fixed_axes(self.channels, shape, reason) for shape in self.shapes]

    def within(self, path: str, args: tuple[Any, ...], shapes: tuple[Shape, ...]) -> Scope:
        """The call of the layer at ``path`` of this one, which wraps it."""
        return Scope(
            layer=getattr(self.layer, path),
            name=self.name,
            channels=self.channels,
            weights=self.weights,
            args=args,
            kwargs={},
            shapes=shapes,
            closed=self.closed,
            layer_norms=self.layer_norms,
            inside=f"{self.inside}{path}/",
        )

    def _follows(self, name: str, axis: int, labels: Labels, role: str) -> None:
        known = self.weight(name, axis, role)
        if known is not None:
            self.channels.join(known, labels, f"{self.who} joins them with what stays")

    def _axis(self, name: str, axis: int, size: int, role: str, width: int) -> Labels:
        axes = self.weights.setdefault((self.name, self.inside + name), {})
        if axis not in axes:
            axes[axis] = WeightAxis(labels=self.channels.new(size), role=role, width=width)
        return axes[axis].labels


def fixed_axes(channels: Channels, shape: Shape, reason: str) -> Axes:
    """Axes of a tensor on which every position stays, for ``reason``."""
    axes: list[Labels] = [None]
    for size in shape[1:]:
        labels = channels.new(size) if size is not None and size > 1 else None
        channels.fix(labels, reason)
        axes.append(labels)
    return tuple(axes[: len(shape)])


def at(rank: int, axis: int, labels: Labels) -> Axes:
    """Axes of which one has labels."""
    return tuple(labels if place == axis % rank else None for place in range(rank))


def channel_axis(scope: Scope, rank: int) -> int:
    """Where the layer has its channels."""
    return 1 if getattr(scope.layer, "data_format", None) == "channels_first" else rank - 1


ELEMENTWISE = frozenset(
    id(getattr(activations, name))
    for name in (
        *("relu", "leaky_relu", "relu6", "celu", "elu", "selu", "softplus", "softsign", "squareplus", "soft_shrink"),
        *("sparse_plus", "silu", "gelu", "tanh", "tanh_shrink", "threshold", "sigmoid", "exponential"),
        *("hard_sigmoid", "hard_silu", "hard_tanh", "hard_shrink", "linear", "mish", "log_sigmoid"),
    )
)
"""Activations that work on each value by itself."""


def activated(scope: Scope, axes: Axes) -> Axes:
    """``axes`` behind the layer's activation."""
    activation = scope.layer.activation
    if activation is None or id(activation) in ELEMENTWISE:
        return axes
    name = getattr(activation, "__name__", type(activation).__name__)
    mixes = activation in (activations.softmax, activations.log_softmax, activations.sparsemax)
    verb = f"has the activation {name}, which " + ("mixes them" if mixes else "is not known to leave them apart")
    for labels in axes[-1:] if mixes else axes:
        scope.fix(labels, verb)
    return axes if mixes else fixed_axes(scope.channels, scope.shapes[0], f"{scope.who} {verb}")

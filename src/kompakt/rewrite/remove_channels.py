"""Remove channels: a smaller plain model. And mask them: the model of the same size that computes the same."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops, tree

from kompakt.copies import copy_layer, copy_state
from kompakt.errors import InputError, first_line
from kompakt.graph import Call, as_functional, calls, map_layers, symbolic_inputs, walk
from kompakt.rewrite.channel_groups import Group, Member, Reading, read_channels
from kompakt.rewrite.channel_rules import resized_config
from kompakt.rewrite.channel_scope import OUTPUT, variable_of
from kompakt.sites import is_graph
from kompakt.spelling import nearest

Layer = Any
Masks = Mapping[str, Sequence[bool] | np.ndarray]
"""Name of a group or of a layer -> which of its channels to keep."""

Gone = dict[str, dict[str, dict[int, list[int]]]]
"""Layer -> tensor -> axis -> the positions that go."""


def remove_channels(model: keras.Model, masks: Masks, *, layer_norms: bool = False) -> keras.Model:
    """A model of the same structure without the channels that ``masks`` leave out.

    Its outputs equal, to float rounding, those of :func:`mask_channels`.

    Args:
        model: not changed. Sequential and nested models stay what they are; a subclassed one becomes functional.
        masks: bool arrays, by group (see ``channel_groups``) or by layer with one value an output channel.
        layer_norms: as for ``channel_groups``.

    Raises:
        InputError: a name that is not known, a mask of another length, or one that takes a channel which stays,
            all channels of a group, or part of what goes together.

    Example:
        >>> keep = [True, False, True, False]
        >>> m = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="a"), keras.layers.Dense(2)])
        >>> [tuple(w.shape) for w in remove_channels(m, {"a": keep}).weights]
        [(3, 2), (2,), (2, 2), (2,)]
    """
    graph = model if is_graph(model) else as_functional(model)
    reading = read_channels(graph, layer_norms=layer_norms)
    gone = gone_positions(reading.found.groups, masks_by_group(reading, masks))
    smaller = _Smaller(reading, gone)
    made = smaller.model(graph)
    smaller.fill()
    return made


def mask_channels(model: keras.Model, masks: Masks, *, layer_norms: bool = False) -> keras.Model:
    """A copy of ``model`` in which the channels that ``masks`` leave out are zero, and are not read.

    Everything that ``remove_channels`` would remove from the weights is zero instead: the slices of kernels,
    biases, scales, offsets and moving statistics that make a channel, and those that read it. The latter matters only
    behind a function that is not zero at zero, such as a sigmoid.

    Args:
        model: not changed. masks, layer_norms: as for ``remove_channels``.

    Raises:
        InputError: as ``remove_channels``.

    Example:
        >>> m = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="a"), keras.layers.Dense(2)])
        >>> w = mask_channels(m, {"a": [True, False]}).get_weights()
        >>> bool((w[0][:, 1] == 0).all() and (w[2][1] == 0).all())
        True
    """
    graph = model if is_graph(model) else as_functional(model)
    reading = read_channels(graph, layer_norms=layer_norms)
    gone = gone_positions(reading.found.groups, masks_by_group(reading, masks))
    names = {id(layer): name for name, layer in reading.layers.items()}
    return map_layers(graph, lambda layer: _masked(layer, gone.get(names.get(id(layer), ""), {})))


def masks_by_group(reading: Reading, masks: Masks) -> dict[str, np.ndarray]:
    """``masks`` as one bool array for each group that they speak of.

    Raises:
        InputError: see ``remove_channels``.
    """
    sizes = {group.name: group.size for group in reading.found.groups}
    found: dict[str, np.ndarray] = {}
    for name, mask in masks.items():
        keep = np.asarray(mask)
        if keep.dtype != bool or keep.ndim != 1:
            raise InputError(f"the mask of {name!r}: expected one True or False for each channel, True to keep it")
        parts = {name: keep} if sizes.get(name) == len(keep) else _of_layer(reading, sizes, name, keep)
        for group, part in parts.items():
            if group in found and (found[group] != part).any():
                raise InputError(
                    f"the mask of {name!r} and another disagree about channels that go together; give one of them"
                )
            found[group] = part
    for group, part in found.items():
        if not part.any():
            raise InputError(f"the mask of {group!r} keeps no channel; keep at least one")
    return found


def _of_layer(reading: Reading, sizes: Mapping[str, int], name: str, keep: np.ndarray) -> dict[str, np.ndarray]:
    """What a mask over the output channels of one layer says about groups."""
    if name not in reading.outputs:
        raise InputError(f"the mask of {name!r}: no layer of that name has channels{nearest(name, reading.outputs)}")
    where = reading.where(name)
    if len(keep) != len(where):
        raise InputError(f"the mask of {name!r} has {len(keep)} values, expected {len(where)}, one for each channel")
    parts: dict[str, np.ndarray] = {}
    known: dict[tuple[str, int], bool] = {}
    for place, kept in zip(where, keep.tolist(), strict=True):
        if isinstance(place, str):
            if not kept:
                raise InputError(f"the mask of {name!r} takes channels that stay ({place}); keep them")
            continue
        if known.setdefault(place, kept) != kept:
            raise InputError(f"the mask of {name!r} takes some of the channels that go together; take all or none")
        group, channel = place
        parts.setdefault(group, np.ones(sizes[group], bool))[channel] = kept
    return parts


def gone_positions(groups: Iterable[Group], masks: Mapping[str, np.ndarray]) -> Gone:
    """Which positions of which axes go."""
    gone: Gone = {}
    for group in groups:
        keep = masks.get(group.name)
        if keep is None or keep.all():
            continue
        for member in group.members:
            out = np.array(member.positions)[~keep[np.array(member.channels)]].tolist()
            axes = gone.setdefault(member.layer, {}).setdefault(member.tensor, {})
            axes[member.axis] = sorted([*axes.get(member.axis, []), *out])
    return gone


def resized(shape: Sequence[Any], axes: Mapping[int, Sequence[int]]) -> tuple[Any, ...]:
    """A shape without the positions that go."""
    return tuple(n - len(axes[axis]) if axis in axes else n for axis, n in enumerate(shape))


class _Smaller:
    """Rebuilds a model and its nested models with smaller layers."""

    def __init__(self, reading: Reading, gone: Gone) -> None:
        self._names = {id(layer): name for name, layer in reading.layers.items()}
        self._gone = gone
        self._made: dict[int, tuple[Layer, Layer]] = {}

    def model(self, model: keras.Model, name: str = "") -> keras.Model:
        flat, inputs = as_functional(model), self._inputs(model, name)
        if isinstance(model, keras.Sequential):
            made = keras.Sequential([inputs], name=model.name)
            for call in calls(flat):
                with _built(call.layer):
                    made.add(self._layer(call))
            return made
        leaves = {id(old): new for old, new in zip(flat.inputs, tree.flatten(inputs), strict=True)}
        outputs = walk(flat, leaves, self._call)
        return keras.Model(inputs, outputs, name=model.name)

    def fill(self) -> None:
        """Give every new layer what is left of the weights of the old one."""
        for old, new in self._made.values():
            gone = {
                id(variable_of(old, tensor)): axes
                for tensor, axes in self._gone.get(self._names[id(old)], {}).items()
                if _is_variable(tensor)
            }
            if gone:
                copy_state(old, new, functools.partial(_left_of, gone))

    def _call(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer = self._layer(call)
        with _built(call.layer):
            return layer(*args, **kwargs)

    def _layer(self, call: Call) -> Layer:
        layer = call.layer
        if id(layer) not in self._made:
            self._made[id(layer)] = (layer, self._make(call, self._names[id(layer)]))
        return self._made[id(layer)][1]

    def _make(self, call: Call, name: str) -> Layer:
        layer, gone = call.layer, self._gone.get(name, {})
        if is_graph(layer):
            return self.model(layer, name)
        if not gone:
            return copy_layer(layer)

        def shape(tensor: str) -> tuple[Any, ...]:
            old = variable_of(layer, tensor).shape if _is_variable(tensor) else call.outputs[0].shape
            return resized(old, gone.get(tensor, {}))

        return layer.__class__.from_config(resized_config(layer, shape))

    def _inputs(self, model: keras.Model, name: str) -> Any:
        gone = self._gone.get(name, {})
        count = itertools.count()

        def smaller(tensor: Any) -> Any:
            shape = resized(tensor.shape, gone.get(f"input_{next(count)}", {}))
            return keras.Input(batch_shape=shape, dtype=tensor.dtype, name=tensor.name)

        return tree.map_structure(smaller, symbolic_inputs(model))


@contextlib.contextmanager
def _built(layer: Layer) -> Iterator[None]:
    """A scope in which the smaller ``layer`` is built."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"the layer {layer.name!r} cannot be built with fewer channels ({first_line(error)}): an initializer or "
            "option of it has their number; keep its channels (skip=, or no mask for it)"
        ) from error


def is_weight(member: Member) -> bool:
    """Whether the tensor of a member is a variable, not an output or input that has a size."""
    return _is_variable(member.tensor)


def _is_variable(tensor: str) -> bool:
    return tensor != OUTPUT and not tensor.startswith("input_")


def _left_of(gone: Mapping[int, Mapping[int, Sequence[int]]], variable: Any, value: np.ndarray) -> np.ndarray:
    for axis, positions in gone.get(id(variable), {}).items():
        value = np.delete(value, positions, axis)
    return value


def _masked(layer: Layer, gone: Mapping[str, Mapping[int, Sequence[int]]]) -> Layer:
    """A copy of ``layer`` with zeros for what goes."""
    copy = copy_layer(layer)
    for tensor, axes in gone.items():
        if not _is_variable(tensor):
            continue
        variable = variable_of(copy, tensor)
        value = np.array(ops.convert_to_numpy(variable))
        for axis, positions in axes.items():
            np.moveaxis(value, axis, 0)[list(positions)] = 0
        variable.assign(value)
    if isinstance(layer, layers.LayerNormalization) and gone:
        ((_, positions),) = gone[OUTPUT].items()
        return _masked_norm(copy, positions)
    return copy


def _masked_norm(norm: Any, gone: Sequence[int]) -> Any:
    masked = MaskedLayerNormalization(gone=list(gone), **norm.get_config())
    masked.build_from_config(norm.get_build_config())
    copy_state(norm, masked)
    return masked


@keras.saving.register_keras_serializable(package="kompakt")
class MaskedLayerNormalization(layers.LayerNormalization):  # type: ignore[misc]
    r"""A LayerNormalization that leaves the channels ``gone`` out of its mean and variance.

    .. math:: y = \gamma \frac{x - m}{\sqrt{v + \epsilon}} + \beta, \quad
        m = \frac{\sum k x}{\sum k}, \quad v = \frac{\sum k (x - m)^2}{\sum k}

    with :math:`k` 0 for the channels that are gone and 1 for the others: it computes what one without them does.
    """

    def __init__(self, *, gone: Sequence[int], **config: Any) -> None:
        super().__init__(**config)
        self.gone = list(gone)

    def call(self, inputs: Any) -> Any:
        (axis,) = self.axis
        shape = [1] * len(inputs.shape)
        shape[axis] = inputs.shape[axis]
        kept = np.ones(shape[axis], "float32")
        kept[self.gone] = 0.0
        keep = ops.reshape(ops.convert_to_tensor(kept), shape)
        x = ops.cast(inputs, "float32")
        mean = ops.sum(x * keep, axis=axis, keepdims=True) / kept.sum()
        variance = ops.sum(keep * ops.square(x - mean), axis=axis, keepdims=True) / kept.sum()
        y = (x - mean) * ops.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            y = y * ops.reshape(self.gamma, shape)
        if self.beta is not None:
            y = y + ops.reshape(self.beta, shape)
        return ops.cast(y, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gone": self.gone}
